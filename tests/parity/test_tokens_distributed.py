"""Two processes equal one, for the methods with tokens: loss, gradients, codebook and token counts."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from rsfm.data.source import LayerInput
from rsfm.methods.base import Method, Progress
from rsfm.methods.mim_kmeans import KMeansMIM
from rsfm.methods.vq_tokenizer import VQTokenizerTraining
from rsfm.model_info import ModelBand
from rsfm.specs import PretrainSpec

_BANDS = [ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit="dn", mean=0, std=1) for i in range(2)]
_LAYER = {"image": LayerInput("image", _BANDS, 32, 32)}
_VIT = {"patch_size": 8, "width": 32, "depth": 1, "heads": 2, "positions": "relative"}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _methods() -> list[Method]:
    spec = {"dataset": "x", "image_size": 32}
    tokenizer = PretrainSpec(method="vq_tokenizer", encoder={"width": 8, "codes": 16, "code_dim": 8}, **spec)
    params = {"codes": 8, "components": 4, "sample_patches": 200}
    mim = PretrainSpec(method="mim_kmeans", encoder=_VIT, method_params=params, **spec)
    patches = torch.randn(200, 128, generator=_generator(1))
    return [VQTokenizerTraining.build(tokenizer, _LAYER, images=10), KMeansMIM.build(mim, _LAYER, patches=patches)]


def _views() -> list[dict[str, Tensor]]:
    """Of eight images. The first four hide two patches each, the others twelve: a mean of means would differ."""
    images = torch.randn(8, 2, 32, 32, generator=_generator(2))
    hidden = torch.zeros(8, 16, dtype=torch.bool)
    hidden[:4, :2] = True
    hidden[4:, :12] = True
    tokens = torch.randint(8, (8, 16), generator=_generator(3))
    flat = torch.zeros_like(hidden)
    flat[0, 0] = True
    return [{"image": images}, {"image": images, "hidden": hidden, "flat": flat, "tokens": tokens}]


def _step(method: Method, views: dict[str, Tensor]) -> Tensor:
    total = method.loss(views).total
    total.backward()
    with torch.no_grad():
        method.after_step(Progress(1, 10, 8))
    return total.detach()


def _gradients(method: Method) -> list[Tensor]:
    return [p.grad for p in method.parameters() if p.grad is not None]


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = []
    for method, views in zip(_methods(), _views(), strict=True):
        loss = _step(method, {name: value.chunk(2)[rank] for name, value in views.items()})
        values = [loss, *_gradients(method)]
        for value in values:
            dist.all_reduce(value)
        found.append({"means": [value / 2 for value in values], "state": dict(method.state_dict())})
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path):
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for number, (method, views) in enumerate(zip(_methods(), _views(), strict=True)):
        loss = _step(method, views)
        for found in ranks:
            for theirs, ours in zip(found[number]["means"], [loss, *_gradients(method)], strict=True):
                torch.testing.assert_close(theirs, ours)
            for name, value in method.state_dict().items():
                torch.testing.assert_close(found[number]["state"][name], value, msg=name)
