"""Small methods that predict tokens, with a tokenizer that was never trained, and images for them."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from rsfm.data.source import Batch, LayerInput
from rsfm.methods.base import Progress
from rsfm.methods.beit_vq import BEiTVQ
from rsfm.methods.mim_kmeans import KMeansMIM
from rsfm.methods.token_mim import TokenMIM
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models.tokenizer import VQTokenizer, build_tokenizer
from rsfm.models.vit import patchify
from rsfm.specs import PretrainSpec, TokenizerParams

TINY = {"patch_size": 8, "width": 32, "depth": 2, "heads": 2, "positions": "relative", "layer_scale": 0.1}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bands_of(count: int, unit: str = "dn", mean: float = 0.0, std: float = 1.0) -> list[ModelBand]:
    return [
        ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit=unit, mean=mean + i, std=std)  # type: ignore[arg-type]
        for i in range(count)
    ]


def layer_of(bands: int | list[ModelBand] = 3, size: int = 32) -> LayerInput:
    return LayerInput("image", bands_of(bands) if isinstance(bands, int) else bands, size, size)


def spec_of(
    size: int = 32, seed: int = 0, encoder: dict | None = None, method: str = "beit_vq", **params
) -> PretrainSpec:
    return PretrainSpec(
        method=method, dataset="x", seed=seed, image_size=size, encoder=encoder or TINY, method_params=params
    )


def tokenizer_of(bands: list[ModelBand], size: int = 32, codes: int = 16) -> tuple[VQTokenizer, ModelInfo]:
    network = build_tokenizer(TokenizerParams(width=8, codes=codes, code_dim=8), len(bands), size, seed=1)
    # Random codes are far from all vectors: these are where vectors of noise are.
    vectors = network.encode(torch.randn(8, len(bands), size, size, generator=generator(9))).flatten(0, 1)
    network.codebook.copy_(vectors[torch.randperm(len(vectors), generator=generator(9))[:codes]].detach())
    info = ModelInfo(
        name="20260101-000000-t", architecture="vq_tokenizer", encoder=network.config(), image_size=size,
        feature_dim=8, bands=bands, group="g", method="vq_tokenizer", weights_hash="abc", created="now",
    )  # fmt: skip
    return network, info


def beit(
    bands: int = 3, size: int = 32, seed: int = 0, encoder: dict | None = None, codes: int = 16, **params
) -> BEiTVQ:
    spec, layer = spec_of(size, seed, encoder, **params), layer_of(bands, size)
    patch = (encoder or TINY)["patch_size"]
    return BEiTVQ.build(spec, {"image": layer}, tokenizer=tokenizer_of(layer.bands, size // patch * 8, codes))


def images_of(count: int, bands: int = 3, size: int = 32, seed: int = 0, coarse: int = 4) -> torch.Tensor:
    values = torch.randn(count, bands, coarse, coarse, generator=generator(seed))
    return F.interpolate(values, size=size, mode="bicubic", align_corners=False)


def views_of(method: TokenMIM, count: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    images = images_of(count, method.encoder.in_chans, method.encoder.image_size, seed)
    return dict(method.views(Batch({"image": images}, torch.arange(count)), generator(seed), Progress(0, 1, 0)))


def patches_of(count: int = 600, bands: int = 2) -> torch.Tensor:
    return patchify(images_of(count // 16, bands), 8).flatten(0, 1)[:count]


def kmeans(bands: int = 3, **params) -> KMeansMIM:
    spec = spec_of(method="mim_kmeans", **{"codes": 8, "components": 6, "sample_patches": 600, **params})
    return KMeansMIM.build(spec, {"image": layer_of(bands)}, patches=patches_of(bands=bands))
