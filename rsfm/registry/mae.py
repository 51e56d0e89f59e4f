"""Masked autoencoder: settings and presets."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.specs import Params


class ReconstructionParams(Params):
    """Hiding patches and predicting their pixels."""

    mask_ratio: float = Field(
        0.75, gt=0, lt=1, title="Mask ratio", description="Share of tokens hidden from the encoder."
    )
    norm_pix: bool = Field(
        True, title="Normalise target patches", description="Predict each patch standardised by itself."
    )
    decoder_width: int = Field(128, ge=16, title="Decoder width")
    decoder_depth: int = Field(2, ge=1, title="Decoder depth")
    decoder_heads: int = Field(4, ge=1, title="Decoder heads")
    flat_patch_variance: float = Field(
        1e-4, ge=0, title="Flat-patch threshold",
        description="Patches with less than this share of the data's variance, within bands, do not count in the loss.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_width {self.decoder_width} is not divisible by decoder_heads {self.decoder_heads}"
            )
        if self.decoder_width % 4:
            raise ValueError(f"decoder_width {self.decoder_width} is not divisible by 4, as its positions need")
        return self


class MAEParams(ReconstructionParams):
    """Masked autoencoder (arXiv 2111.06377)."""

    crop_min_scale: float = Field(
        0.2, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop."
    )
    flips: Literal["none", "horizontal", "dihedral"] = Field(
        "dihedral",
        title="Flips",
        description="dihedral: all 8 flips and quarter turns (nadir imagery has no up).",
    )


ENTRY = MethodEntry(
    name="mae",
    title="Masked autoencoder (MAE)",
    label="MAE",
    family="masked image modelling",
    paper="He et al. 2021, arXiv 2111.06377",
    inputs="single images, any number of bands",
    summary="Hide most patches, encode the rest, reconstruct the hidden pixels.",
    target="rsfm.methods.mae:MAE",
    params=MAEParams,
    healthy=(
        "The loss starts between 1 and 2 (near 1.8 at the paper's decoder size) and falls below 1, which is "
        "what predicting zero gives with normalised patches; then it flattens slowly. kNN accuracy, where "
        "there are labels, is the sign of progress. RankMe drops from its value at random initialisation and "
        "then holds; a steady fall is a bad sign."
    ),
    presets={
        "smoke": Preset(
            "Smoke (seconds on a CPU)",
            {
                "encoder": {"patch_size": 8, "width": 64, "depth": 2, "heads": 2},
                "optim": {"samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 1e-3},
                "method_params": {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
                "runtime": SMOKE_RUNTIME,
            },
        ),
        "cpu": Preset(
            "CPU (minutes on two cores)",
            {
                # Patches of 16: a quarter of the tokens buys three times the images in the same minutes.
                "encoder": {"patch_size": 16, "width": 192, "depth": 4, "heads": 3},
                "optim": {
                    "samples": 120_000, "batch_size": 128, "warmup_samples": 4_000, "base_lr": 1.5e-3,
                    "grad_clip": 3.0,
                },
                "method_params": {"decoder_width": 96, "decoder_depth": 1, "decoder_heads": 3},
                "runtime": CPU_RUNTIME,
            },
        ),
        "vit-s": Preset(
            "ViT-S/16 (one GPU)",
            {
                "image_size": 224,
                "encoder": {"patch_size": 16, "width": 384, "depth": 12, "heads": 6},
                "optim": {
                    "samples": 80_000_000, "batch_size": 1024, "warmup_samples": 4_000_000, "base_lr": 1.5e-4,
                },
                "method_params": {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16},
                "runtime": {**GPU_RUNTIME, "workers": 4},
            },
        ),
        "vit-b": Preset(
            "ViT-B/16 (the paper's settings: batch 4096, 800 epochs of ImageNet-1k's size)",
            {
                "image_size": 224,
                "encoder": {"patch_size": 16, "width": 768, "depth": 12, "heads": 12},
                "optim": {
                    "samples": 1_024_000_000, "batch_size": 4096, "warmup_samples": 51_200_000,
                    "base_lr": 1.5e-4, "accumulate": 8,
                },
                "method_params": {
                    "decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16, "flips": "horizontal",
                },
                "runtime": GPU_RUNTIME,
            },
        ),
    },
)  # fmt: skip
