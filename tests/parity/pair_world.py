"""Small methods that compare views, batches for them, and two processes to run in."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from rsfm.data.source import Batch, LayerInput
from rsfm.methods.base import Method, Progress
from rsfm.model_info import ModelBand
from rsfm.registry import METHODS, load
from rsfm.specs import PretrainSpec

TINY = {"patch_size": 8, "width": 32, "depth": 2, "heads": 2}


def wave(n: int, d: int, a: float, b: float, phi: Callable[[Tensor], Tensor] = torch.sin) -> Tensor:
    """φ(a (i d + j) + b) in float64: the input of the recorded values."""
    return phi(a * torch.arange(n * d, dtype=torch.float64).view(n, d) + b)


Z1, Z2 = wave(4, 8, 0.7, 0.1), wave(4, 8, 0.5, 0.2, torch.cos)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(bands: int = 4, size: int = 32) -> LayerInput:
    described = [ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit="dn", mean=0, std=1) for i in range(bands)]
    return LayerInput("image", described, size, size)


def spec_of(method: str, *, seed: int = 0, encoder: dict | None = None, optim: dict | None = None, **params: Any):
    size = 32
    optim = {"samples": 256, "batch_size": 16, "warmup_samples": 0, **(optim or {})}
    return PretrainSpec(
        method=method, dataset="x", seed=seed, image_size=size, encoder=TINY if encoder is None else encoder,
        optim=optim, method_params=params,
    )  # fmt: skip


def build(method: str, *, bands: int = 4, **settings: Any) -> Method:
    """A tiny method on `bands` bands of 32 × 32 pixels; settings as in `spec_of`."""
    spec = spec_of(method, **settings)
    return load(METHODS[method].target).build(spec, {"image": layer(bands)})


def smooth_images(count: int, bands: int = 4, size: int = 32, seed: int = 0) -> Tensor:
    """Images that can be told apart after cropping: smooth, each with its own mean."""
    coarse = torch.randn(count, bands, 3, 3, generator=generator(seed))
    own = 2 * torch.randn(count, bands, 1, 1, generator=generator(seed + 1))
    return own + F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)


def views_of(method: Method, images: Tensor, seed: int = 0, step: int = 0, steps: int = 100) -> dict[str, Tensor]:
    batch = Batch({"image": images}, torch.arange(len(images)))
    return dict(method.views(batch, generator(seed), Progress(step, steps, 0)))


def train(method: Method, images: Tensor, steps: int, lr: float, *, fixed_views: bool = False) -> list[float]:
    """Losses of some steps of AdamW on one batch."""
    optimiser = torch.optim.AdamW([p for g in method.parameter_groups() for p in g.parameters], lr=lr)
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        loss = method.loss(views_of(method, images, 0 if fixed_views else step, step, steps)).total
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            method.after_step(Progress(step + 1, steps, 0))
        method.pending.clear()
        losses.append(loss.item())
    return losses


def check_overfit(method: Method, losses: list[float], images: Tensor, start: float | None = None) -> None:
    """The loss has fallen by more than 30 %, and the features are not all alike."""
    assert np.mean(losses[-10:]) < 0.7 * (np.mean(losses[:3]) if start is None else start)
    method.eval()
    with torch.no_grad():
        features = F.normalize(method.encoder.features(images), dim=1)
    assert features.std(dim=0).mean() > 0.3 / math.sqrt(features.shape[1])


# -- two processes -----------------------------------------------------------------------------------------------------
def _process(rank: int, function: Callable[..., Any], folder: str, arguments: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        torch.save(function(rank, *arguments), f"{folder}/result{rank}.pt")
    finally:
        dist.destroy_process_group()


def in_two_processes(function: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """What `function(rank, *arguments)` gives in each of two processes that know each other."""
    torch.multiprocessing.spawn(_process, (function, str(folder), arguments), nprocs=2)
    return [torch.load(folder / f"result{rank}.pt") for rank in range(2)]
