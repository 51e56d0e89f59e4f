"""MoCo v3: settings and presets."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rsfm.registry.augmentation import AugmentParams
from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.specs import Params


class MoCoV3Params(Params):
    """Queries against the keys of the same batch, both ways (arXiv 2104.02057)."""

    temperature: float = Field(0.2, gt=0, title="Temperature", description="Of the similarities.")
    key_momentum: float = Field(
        0.99,
        ge=0,
        le=1,
        title="Key momentum",
        description="Of the key encoder's moving average; rises to 1 in a cosine.",
    )
    projector_layers: int = Field(3, ge=2, le=4, title="Projector layers")
    projector_width: int = Field(
        4096, ge=16, title="Head width", description="Of the layers between, in projector and predictor."
    )
    projection_dim: int = Field(256, ge=8, title="Projection", description="Length of queries and keys.")
    freeze_patch_projection: bool = Field(
        True, title="Frozen patch projection",
        description="It stays at its random start, which cures the instability that the paper traces to it.",
    )  # fmt: skip
    crop_min_scale: float = Field(
        0.08, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop."
    )
    blur_p_1: float = Field(1.0, ge=0, le=1, title="Blur probability, view 1")
    blur_p_2: float = Field(0.1, ge=0, le=1, title="Blur probability, view 2")
    solarize_p_1: float = Field(0.0, ge=0, le=1, title="Solarise, view 1", description="8-bit colour images only.")
    solarize_p_2: float = Field(0.2, ge=0, le=1, title="Solarise, view 2", description="8-bit colour images only.")
    augment: AugmentParams = AugmentParams(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)


def _paper(width: int, heads: int, accumulate: int) -> dict[str, Any]:
    return {
        "image_size": 224,
        "encoder": {"patch_size": 16, "width": width, "depth": 12, "heads": heads, "pooling": "class"},
        "optim": {
            "samples": 384_000_000, "batch_size": 4096, "accumulate": accumulate, "warmup_samples": 51_200_000,
            "base_lr": 1.5e-4, "weight_decay": 0.1, "beta2": 0.999,
        },
        "method_params": {"augment": {"flips": "horizontal"}},
        "runtime": GPU_RUNTIME,
    }  # fmt: skip


ENTRY = MethodEntry(
    name="moco_v3",
    title="MoCo v3",
    label="MoCo v3",
    family="contrastive",
    paper="Chen et al. 2021, arXiv 2104.02057",
    inputs="single images, any number of bands",
    summary="Recognise the other view of an image among the batch's keys; a Vision Transformer with a moving average.",
    target="rsfm.methods.moco_v3:MoCoV3",
    params=MoCoV3Params,
    healthy=(
        "The loss starts near 4τ ln N with N images per pass (3.9 for τ 0.2 and 128) and falls; contrastive_top1, the "
        "share of queries that find their key first, rises from 1/N. Alignment and uniformity both near 0 are "
        "collapse. Sudden dips of kNN accuracy together with spikes "
        "of grad_norm are the instability that the frozen patch projection is there to cure: lower the learning rate "
        "if they come all the same. kNN accuracy, where there are labels, is the sign of progress."
    ),
    presets={
        "smoke": Preset(
            "Smoke (seconds on a CPU)",
            {
                "encoder": {"patch_size": 8, "width": 64, "depth": 2, "heads": 2},
                "optim": {"samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 2e-3},
                "method_params": {"projector_width": 128, "projection_dim": 32, "crop_min_scale": 0.2},
                "runtime": SMOKE_RUNTIME,
            },
        ),
        "cpu": Preset(
            "CPU (minutes on two cores)",
            {
                "encoder": {"patch_size": 8, "width": 192, "depth": 4, "heads": 3},
                "optim": {
                    "samples": 19_200, "batch_size": 128, "warmup_samples": 1_920, "base_lr": 1.5e-3,
                    "grad_clip": 3.0, "beta2": 0.999,
                },
                "method_params": {"projector_width": 512, "projection_dim": 128, "crop_min_scale": 0.2},
                "runtime": CPU_RUNTIME,
            },
        ),
        "vit-s": Preset(
            "ViT-S/16 with 12 heads (the paper's settings, 300 epochs of ImageNet-1k's size; 4096 in passes of 512)",
            _paper(384, 12, 8),
        ),
        "vit-b": Preset(
            "ViT-B/16 (the paper's settings, 300 epochs of ImageNet-1k's size; batch 4096 in passes of 256)",
            _paper(768, 12, 16),
        ),
    },
)  # fmt: skip
