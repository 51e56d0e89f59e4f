"""SimCLR: settings and presets."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rsfm.registry.augmentation import AugmentParams
from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.specs import Params


class SimCLRParams(Params):
    """Contrast between all views of a batch (arXiv 2002.05709)."""

    temperature: float = Field(
        0.1, gt=0, title="Temperature", description="Of the similarities; 0.1 for large batches, up to 0.5 for small."
    )
    projector_layers: int = Field(
        3, ge=2, le=4, title="Projector layers", description="2 in the first paper, 3 in the second (arXiv 2006.10029)."
    )
    projector_width: int | None = Field(
        None, ge=16, title="Projector width", description="Of the layers between; empty: as wide as the features."
    )
    projection_dim: int = Field(128, ge=8, title="Projection", description="Length of the vectors that are compared.")
    crop_min_scale: float = Field(
        0.2, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop."
    )
    blur_p: float = Field(0.5, ge=0, le=1, title="Blur probability")
    #: The paper's jitter at strength 0.5; grayscale and blur as there.
    augment: AugmentParams = AugmentParams(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def _vit(width: int, heads: int, *, batch_size: int, accumulate: int) -> dict[str, Any]:
    return {
        "image_size": 224,
        "encoder": {"patch_size": 16, "width": width, "depth": 12, "heads": heads},
        "optim": {
            "samples": 384_000_000, "batch_size": batch_size, "accumulate": accumulate, "warmup_samples": 12_800_000,
            "base_lr": 1.5e-4, "weight_decay": 0.1, "beta2": 0.999,
        },
        "runtime": GPU_RUNTIME,
    }  # fmt: skip


ENTRY = MethodEntry(
    name="simclr",
    title="SimCLR",
    label="SimCLR",
    family="contrastive",
    paper="Chen et al. 2020, arXiv 2002.05709",
    inputs="single images, any number of bands",
    summary="Recognise the other view of an image among all views of the batch.",
    target="rsfm.methods.simclr:SimCLR",
    params=SimCLRParams,
    healthy=(
        "The loss starts near ln(2N − 1) with N images per pass (5.5 for 128) and falls steadily; contrastive_top1, "
        "the share of views that find their partner first, rises from 1/(2N − 1). Alignment falls, uniformity becomes "
        "more negative; both near 0 is collapse. contrastive_top1 near 1 early means that the views are too easy "
        "(crops too large, too little jitter). kNN accuracy, where there are labels, is the sign of progress: losses "
        "compare only at equal batch and temperature."
    ),
    presets={
        "smoke": Preset(
            "Smoke (seconds on a CPU)",
            {
                "encoder": {"patch_size": 8, "width": 64, "depth": 2, "heads": 2},
                "optim": {"samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 2e-3},
                "method_params": {"temperature": 0.2, "projection_dim": 32, "projector_layers": 2},
                "runtime": SMOKE_RUNTIME,
            },
        ),
        "cpu": Preset(
            "CPU (minutes on two cores)",
            {
                "encoder": {"patch_size": 8, "width": 192, "depth": 4, "heads": 3},
                "optim": {
                    "samples": 24_000, "batch_size": 128, "warmup_samples": 2_400, "base_lr": 1.5e-3,
                    "grad_clip": 3.0, "beta2": 0.999,
                },
                "method_params": {"temperature": 0.2},
                "runtime": CPU_RUNTIME,
            },
        ),
        "vit-s": Preset(
            "ViT-S/16 (one GPU; 300 epochs of ImageNet-1k's size, batch 1024 in passes of 256)",
            _vit(384, 6, batch_size=1024, accumulate=4),
        ),
        "vit-b": Preset(
            "ViT-B/16 (batch 4096 in passes of 256, 300 epochs of ImageNet-1k's size)",
            _vit(768, 12, batch_size=4096, accumulate=16),
        ),
    },
)  # fmt: skip
