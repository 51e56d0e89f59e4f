"""Masked autoencoder with contrast: settings and presets."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from rsfm.registry.augmentation import AugmentParams
from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.registry.mae import ReconstructionParams


class MAEContrastiveParams(ReconstructionParams):
    """Masked reconstruction and contrast of the same masked views, after CAN (arXiv 2210.16870)."""

    mask_ratio: float = Field(
        0.5, ge=0, lt=1, title="Mask ratio", description="Share of tokens hidden from the encoder, in every view."
    )
    view_count: int = Field(
        2, ge=1, le=2, title="Views", description="1 leaves the masked autoencoder (its contrastive weight must be 0)."
    )
    reconstruction_weight: float = Field(1.0, ge=0, title="Reconstruction weight")
    contrastive_weight: float = Field(0.05, ge=0, title="Contrastive weight")
    denoising_weight: float = Field(
        0.0, ge=0, title="Denoising weight",
        description="Predict noise that is added to the input, on visible patches. 0: no noise. CAN has it: try 0.45.",
    )  # fmt: skip
    noise_max: float = Field(
        0.05, gt=0, title="Most noise", description="Its deviation is uniform up to this, in the data's deviations."
    )
    temperature: float = Field(0.1, gt=0, title="Temperature", description="Of the similarities.")
    projector_layers: int = Field(3, ge=2, le=4, title="Projector layers")
    projector_width: int | None = Field(
        4096, ge=16, title="Projector width", description="Of the layers between; empty: as wide as the features."
    )
    projection_dim: int = Field(256, ge=8, title="Projection", description="Length of the vectors that are compared.")
    gradients_every_steps: int = Field(
        0, ge=0, title="Compare gradients every (steps)",
        description="Norm of each task's gradient on the last block, their ratio and cosine; costs a part of a "
        "backward pass on these steps. 0: never.",
    )  # fmt: skip
    crop_min_scale: float = Field(
        0.2, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop."
    )
    blur_p: float = Field(0.5, ge=0, le=1, title="Blur probability")
    augment: AugmentParams = AugmentParams(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)

    @model_validator(mode="after")
    def _tasks(self) -> Self:
        if self.contrastive_weight and self.view_count == 1:
            raise ValueError("view_count=1 has no second view to contrast with: set contrastive_weight=0")
        if not (self.contrastive_weight or self.reconstruction_weight or self.denoising_weight):
            raise ValueError(
                "reconstruction_weight, contrastive_weight and denoising_weight are all 0: nothing to learn"
            )
        return self


def _paper(width: int, heads: int, batch_size: int, accumulate: int) -> dict[str, Any]:
    return {
        "image_size": 224,
        "encoder": {"patch_size": 16, "width": width, "depth": 12, "heads": heads},
        "optim": {
            "samples": 1_024_000_000, "batch_size": batch_size, "accumulate": accumulate,
            "warmup_samples": 51_200_000, "base_lr": 1.5e-4,
        },
        "method_params": {
            "decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16, "gradients_every_steps": 50,
        },
        "runtime": GPU_RUNTIME,
    }  # fmt: skip


ENTRY = MethodEntry(
    name="mae_contrastive",
    title="Masked autoencoder with contrast",
    label="MAE + contrast",
    family="masked image modelling",
    paper="after CAN, Mishra et al. 2022, arXiv 2210.16870",
    inputs="single images, any number of bands",
    summary="Reconstruct the hidden half of two views, and recognise them as one image: CAN-style, without noise "
    "prediction unless it is switched on.",
    target="rsfm.methods.mae_contrastive:MAEContrastive",
    params=MAEContrastiveParams,
    healthy=(
        "Both parts of the loss fall: reconstruction_error from between 1 and 2 to below 1, nt_xent from near "
        "ln(2N − 1) with N images per pass. grad_ratio, contrast over reconstruction on the last "
        "block, stays between 0.1 and 1 in long trainings: raise contrastive_weight if RankMe stalls, lower "
        "it if reconstruction_error stays above 0.95. The CPU preset lets the contrast lead (ratios up to 4): in "
        "minutes it teaches more than reconstruction. "
        "A negative grad_cosine means that the tasks pull apart. kNN accuracy, where there are labels, is the sign of "
        "progress."
    ),
    presets={
        "smoke": Preset(
            "Smoke (seconds on a CPU)",
            {
                "encoder": {"patch_size": 8, "width": 64, "depth": 2, "heads": 2},
                "optim": {"samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 1e-3},
                "method_params": {
                    "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2, "projector_width": 64,
                    "projection_dim": 32, "gradients_every_steps": 4,
                },
                "runtime": SMOKE_RUNTIME,
            },
        ),
        "cpu": Preset(
            "CPU (minutes on two cores)",
            {
                "encoder": {"patch_size": 8, "width": 192, "depth": 4, "heads": 3},
                "optim": {
                    "samples": 28_000, "batch_size": 128, "warmup_samples": 2_800, "base_lr": 1.5e-3,
                    "grad_clip": 3.0,
                },
                "method_params": {
                    "decoder_width": 96, "decoder_depth": 1, "decoder_heads": 3, "projector_width": 512,
                    "projection_dim": 128, "temperature": 0.2, "contrastive_weight": 0.2, "gradients_every_steps": 50,
                },
                "runtime": CPU_RUNTIME,
            },
        ),
        "vit-s": Preset(
            "ViT-S/16 (batch 1024 in passes of 512, 800 epochs of ImageNet-1k's size)", _paper(384, 6, 1024, 2)
        ),
        "vit-b": Preset(
            "ViT-B/16 (batch 4096 in passes of 512, 800 epochs of ImageNet-1k's size)", _paper(768, 12, 4096, 8)
        ),
    },
)  # fmt: skip
