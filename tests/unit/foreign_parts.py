"""Packs and tiny networks for the tests of encoders of others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torchgeo.models import get_weight
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from rsfm.bands import SENSORS, Band
from rsfm.models.baselines import resolve
from rsfm.models.export import standardise
from rsfm.models.foreign import networks, published
from rsfm.models.foreign.model import ForeignModel
from rsfm.pack_arrays import write_arrays
from rsfm.packs import BandInfo, BandStatistics, LayerInfo, Pack, PackInfo
from rsfm.specs import EvaluateSpec
from rsfm.workspace import Workspace

S1, S2, RGB = (SENSORS[name].bands for name in ("sentinel-1", "sentinel-2", "rgb"))
S2_ORDER = [3, 8, 0, 12, 1, 10, 2, 9, 4, 11, 7, 5, 6]  # some order of a file
NORMAL = partial(nn.LayerNorm, eps=1e-6)


def stay_offline(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """One thread, caches in `folder`, and nothing that could reach a network."""
    torch.set_num_threads(1)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder / "hub"))
    monkeypatch.delenv("RSFM_WEIGHTS", raising=False)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("tried to download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


# -- packs -------------------------------------------------------------------------------------------------------------
def described(
    bands: Sequence[Band], *, sensor: str | None = None, dataset: str = "tiles", gsd_m: float | None = 10.0
) -> Pack:
    """A pack without arrays, which is all that matching and scaling look at."""
    statistics = BandStatistics(mean=0.3, std=0.05, min=0, max=1, p2=0.1, p98=0.4, count=9)
    layer = LayerInfo(
        sensor=sensor, dtype="float32", shape=(len(bands), 8, 8), gsd_m=gsd_m,
        bands=[BandInfo(**vars(b), statistics=statistics) for b in bands],
    )  # fmt: skip
    info = PackInfo(
        name="tiles", dataset=dataset, title="", layers=[layer], splits={}, content_hash="", request_hash="", created=""
    )
    return Pack(Path("nowhere"), info)


def stored(bands: Sequence[Band], order: Sequence[int] | None = None) -> list[Band]:
    """The bands as a file holds them: reflectance × 10 000, all else as it is."""
    scale = {"reflectance": 1e-4}
    return [Band(b.name, b.wavelength_nm, b.gsd_m, b.unit, scale.get(b.unit, 1.0)) for b in
            (bands[i] for i in (order or range(len(bands))))]  # fmt: skip


def raw_images(bands: Sequence[Band], side: int, count: int = 2) -> np.ndarray:
    random = np.random.default_rng(3)
    high = {"reflectance": 95, "uint8": 250, "db": 20, "dn": 12000}[bands[0].unit]
    images = random.integers(1, high, (count, len(bands), side, side))
    if bands[0].unit == "reflectance":  # some very bright, as clouds are
        images = images**2
    images += np.arange(len(bands))[None, :, None, None] % 3
    return -images.astype(np.float32) if bands[0].unit == "db" else images.astype(np.uint16)


def s2_pack(workspace: Workspace, side: int = 32, bands: Sequence[Band] = S2, order: Sequence[int] = S2_ORDER) -> Pack:
    bands = stored(bands, order)
    labels = {"train": ["a", "b"]}
    return write_arrays(
        workspace, "tiles", {"train": raw_images(bands, side)}, bands, labels=labels, gsd_m=10, sensor="sentinel-2"
    )


def reaching(model: ForeignModel, pack: Pack) -> Tensor:
    """What the network gets from the pack's training images."""
    return model.as_trained(standardise(values_of(model, pack), model.mean, model.std))


def values_of(model: ForeignModel, pack: Pack) -> Tensor:
    """(N, C, H, W) in the bands' units, in the model's order."""
    by_name = {b.name: (i, b) for i, b in enumerate(pack.bands())}
    array = pack.array("train")
    chosen = [by_name[b.name] for b in model.bands]
    return torch.from_numpy(np.stack([band.to_unit(array[:, i]) for i, band in chosen], axis=1))


def raw_of(pack: Pack, names: Sequence[str]) -> Tensor:
    """The stored numbers of the bands named."""
    position = {b.name: i for i, b in enumerate(pack.bands())}
    return torch.from_numpy(pack.array("train")[:, [position[n] for n in names]].astype(np.float32))


# -- tiny networks, built by the libraries themselves, with random weights ---------------------------------------------
def randomised(network: nn.Module) -> nn.Module:
    """Every parameter and running statistic is random, so that one that is not loaded shows."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and name != "attn_bias":
            noise = torch.randn(tensor.shape, generator=generator) * 0.2
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise + (tensor.ndim == 1) * 0.5)
    return network.eval()


TINY_VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
TINY_SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 3, 6], "stochastic_depth_prob": 0.2}
TINY_DOFA = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}
TINY_CROMA = {"encoder_dim": 32, "encoder_depth": 4, "num_heads": 16}
TINY_MAE = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}


def vit(in_chans: int) -> nn.Module:
    return timm.create_model("vit_small_patch16_224", in_chans=in_chans, num_classes=0, **TINY_VIT)


def swin(in_chans: int) -> nn.Module:
    network = SwinTransformer(
        patch_size=[4, 4], window_size=[8, 8], block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2,
        **TINY_SWIN,
    )  # fmt: skip
    network.features[0][0] = nn.Conv2d(in_chans, 24, 4, 4)
    network.head = nn.Identity()
    return network


def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small architectures in place of the published sizes."""
    for kind in ("ViTSmall16_Weights",):
        monkeypatch.setitem(published.TIMM, kind, ("vit_small_patch16_224", TINY_VIT))
    softcon = ("vit_small_patch14_dinov2", {"img_size": 224, **TINY_VIT})
    monkeypatch.setitem(published.TIMM, "ViTSmall14_DINOv2_Weights", softcon)
    monkeypatch.setitem(published.TIMM, "ResNet50_Weights", ("resnet10t", {}))
    for kind, config in {
        "Swin_V2_T_Weights": TINY_SWIN, "DOFABase16_Weights": TINY_DOFA, "CROMABase_Weights": TINY_CROMA,
        "ScaleMAELarge16_Weights": TINY_MAE, "EarthLoc_Weights": {"desc_dim": 64, "backbone": "resnet50"},
    }.items():  # fmt: skip
        monkeypatch.setitem(published.SIZES, kind, config)
    # Panopticon's ViT is fixed in torchgeo: make the one that it asks timm for smaller.
    module = __import__("torchgeo.models.panopticon", fromlist=["timm"])
    create = timm.create_model

    class SmallTimm:
        @staticmethod
        def create_model(name: str) -> nn.Module:
            return create(name, **TINY_VIT)

    monkeypatch.setattr(module, "timm", SmallTimm)
    original = networks.Panopticon
    monkeypatch.setattr(networks, "Panopticon", partial(original, attn_dim=96, embed_dim=48))


def put(workspace: Workspace, name: str, state: dict[str, Any]) -> Path:
    """Weights where a user would put what torchgeo publishes."""
    workspace.weights.mkdir(parents=True, exist_ok=True)
    file = workspace.weights / get_weight(name).url.rpartition("/")[2]
    torch.save(state, file)
    return file


def load(name: str, pack: Pack, workspace: Workspace, **more: Any) -> ForeignModel:
    model = resolve(EvaluateSpec(model=f"torchgeo:{name}", dataset="tiles", **more), pack, workspace)
    assert isinstance(model, ForeignModel)
    return model
