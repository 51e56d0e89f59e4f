"""Small DINO and iBOT methods, and batches for them."""

from __future__ import annotations

from typing import Any

import torch

from rsfm.data.source import Batch, LayerInput
from rsfm.methods.base import Progress
from rsfm.methods.dino import DINO
from rsfm.model_info import ModelBand
from rsfm.registry import load
from rsfm.registry import method as entry
from rsfm.specs import PretrainSpec

ENCODER = {"patch_size": 8, "width": 32, "depth": 2, "heads": 2, "pooling": "class"}
PARAMS = {
    "prototypes": 64, "head_hidden": 32, "bottleneck": 16, "local_crops": 2, "local_size": 16, "ema_start": 0.9,
    "teacher_temperature_start": 0.04, "temperature_warmup_samples": 100,
}  # fmt: skip
#: Views that differ from the stored image in their crop only.
PLAIN = {"flips": "none", "jitter_p": 0.0, "grayscale_p": 0.0}
START = Progress(0, 10, 0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bands(count: int) -> list[ModelBand]:
    return [ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit="dn", mean=0, std=1) for i in range(count)]


def make(
    method: str, count: int = 4, size: int = 32, *, seed: int = 0, encoder: dict[str, Any] | None = None, **params: Any
) -> DINO:
    """A tiny method on `count` bands and images of `size` pixels."""
    spec = PretrainSpec(
        dataset="x", method=method, seed=seed, image_size=size, encoder={**ENCODER, **(encoder or {})},
        method_params={**PARAMS, **params},
    )  # fmt: skip
    return load(entry(method).target).build(spec, {"image": LayerInput("image", bands(count), size, size)})


def batch(method: DINO, count: int = 6, seed: int = 0, size: int | None = None) -> Batch:
    side = size or method.encoder.image_size
    coarse = torch.randn(count, method.encoder.in_chans, side // 4, side // 4, generator=generator(seed))
    images = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic", align_corners=False)
    return Batch({"image": images}, torch.arange(count))


def views(method: DINO, count: int = 6, seed: int = 0, progress: Progress = START) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return dict(method.views(batch(method, count, seed), generator(seed), progress))


def part(found: dict[str, torch.Tensor], images: slice | torch.Tensor) -> dict[str, torch.Tensor]:
    """The views of some images of a batch."""
    alone = {"overlap": 0}
    return {k: v if not v.ndim else (v[images] if k in alone else v[:, images]) for k, v in found.items()}
