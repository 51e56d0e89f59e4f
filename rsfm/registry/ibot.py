"""iBOT: settings and presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rsfm.registry.dino import CPU, HEALTHY, SMOKE, DINOParams, vit
from rsfm.registry.entry import MethodEntry, Preset


class IBOTParams(DINOParams):
    """Self-distillation between views and on hidden patches (arXiv 2111.07832)."""

    lambda_class: float = Field(1.0, ge=0, title="Weight of the views' loss")
    lambda_patch: float = Field(1.0, ge=0, title="Weight of the patches' loss")
    shared_head: bool = Field(
        True, title="Shared prototypes", description="The same prototypes for images and for patches."
    )
    mask_kind: Literal["random", "block"] = Field(
        "random", title="Masks", description="Scattered patches, or rectangles of them."
    )
    mask_ratios: list[float] = Field(
        [0.0, 0.3], min_length=1, title="Mask ratios",
        description="Shares of hidden patches; each view of each image draws one of these.",
    )  # fmt: skip
    mask_spreads: list[float] = Field(
        [0.0, 0.2], min_length=1, title="Spreads of the mask ratios",
        description="As many as ratios: each is uniform within ratio ± spread.",
    )  # fmt: skip
    patch_temperature_start: float = Field(
        0.04, gt=0, title="First patch temperature", description="Of the teacher, on patches."
    )
    patch_temperature: float = Field(
        0.07, gt=0, title="Patch temperature", description="Of the teacher, on patches, after the warm-up."
    )
    patch_centre: Literal["all", "hidden"] = Field(
        "all", title="Patches that are centred",
        description="The running mean is over all patches (iBOT) or over the hidden ones (DINOv2).",
    )  # fmt: skip
    lambda_overlap: float = Field(
        0.0, ge=0, title="Weight of the overlap loss",
        description="Segment, in the first global crop, where the second one lies (two more passes per step).",
    )  # fmt: skip
    overlap_width: int = Field(256, ge=8, title="Overlap decoder width")
    overlap_pool_width: int = Field(512, ge=8, title="Overlap decoder pooling width")

    @model_validator(mode="after")
    def _masks(self) -> IBOTParams:
        if len(self.mask_ratios) != len(self.mask_spreads):
            raise ValueError(
                f"mask_ratios has {len(self.mask_ratios)} entries, mask_spreads {len(self.mask_spreads)}: give one "
                "spread for each ratio"
            )
        for ratio, spread in zip(self.mask_ratios, self.mask_spreads, strict=True):
            if spread < 0 or not 0 <= ratio - spread <= ratio + spread <= 1:
                raise ValueError(f"mask ratio {ratio} ± {spread} is not within 0 and 1")
        if not self.lambda_class + self.lambda_patch + self.lambda_overlap:
            raise ValueError("lambda_class, lambda_patch and lambda_overlap are all 0: nothing to learn from")
        return self


def _with(base: dict[str, Any], **method_params: Any) -> dict[str, Any]:
    return {**base, "method_params": {**base["method_params"], **method_params}}


#: The MillionAID recipe (arXiv 2510.17014's pretraining): equal-scale crops, one flip, scattered masks, a strong clip.
_MILLIONAID = vit(
    "b", samples=200_000_000, warmup=5_000_000, base_lr=2.5e-4, clip=0.3, min_lr=2e-6, accumulate=8, prototypes=8192,
    global_min_scale=0.32, temperature_warmup_samples=6_000_000, freeze_prototypes_samples=3_000_000,
    mask_kind="random", mask_ratios=[0.0, 0.7], mask_spreads=[0.0, 0.05], equal_scale=True, shared_flip=True,
    augment={"flips": "horizontal"},
)  # fmt: skip

ENTRY = MethodEntry(
    name="ibot",
    title="iBOT",
    label="iBOT",
    family="self-distillation",
    paper="Zhou et al. 2021, arXiv 2111.07832",
    inputs="single images, any number of bands",
    summary="DINO, and the student also matches on hidden patches what the teacher says of them.",
    target="rsfm.methods.ibot:IBOT",
    params=IBOTParams,
    healthy=HEALTHY + " Views that hide nothing count as zero in the patch loss, so with half of them it starts near "
    "half of a cross-entropy (4.5 for 8192 prototypes).",
    presets={
        "smoke": Preset("Smoke (seconds on a CPU)", SMOKE),
        "cpu": Preset("CPU (minutes on two cores)", _with(CPU, patch_temperature=0.04)),
        "vit-s": Preset(
            "ViT-S/16 (the authors' settings: batch 1024, 800 epochs of ImageNet-1k's size)",
            vit(
                "s", samples=1_024_000_000, warmup=12_800_000, base_lr=5e-4, clip=3.0, accumulate=4, prototypes=8192,
                global_min_scale=0.25, temperature_warmup_samples=38_400_000, freeze_prototypes_samples=1_280_000,
                mask_kind="block", mask_ratios=[0.0, 0.3], mask_spreads=[0.0, 0.2], free_gain=True,
                augment={"flips": "horizontal"},
            ),
        ),
        "vit-b": Preset(
            "ViT-B/16 (in the manner of the paper: batch 1024, 400 epochs of ImageNet-1k's size)",
            vit(
                "b", samples=512_000_000, warmup=12_800_000, base_lr=7.5e-4, clip=0.3, min_lr=2e-6, accumulate=8,
                prototypes=8192, global_min_scale=0.32, local_max_scale=0.32, temperature_warmup_samples=64_000_000,
                freeze_prototypes_samples=3_840_000, mask_kind="block", mask_ratios=[0.0, 0.3],
                mask_spreads=[0.0, 0.2], augment={"flips": "horizontal"},
            ),
        ),
        "millionaid": Preset(
            "ViT-B/16, MillionAID recipe without the overlap loss (batch 1024, 200 epochs of a million scenes)",
            _MILLIONAID,
        ),
        "millionaid-overlap": Preset(
            "ViT-B/16, MillionAID recipe with the overlap loss (batch 1024, 200 epochs of a million scenes)",
            _with(_MILLIONAID, lambda_overlap=1.0),
        ),
        "scale-aug": Preset(
            "ViT-B/16, MillionAID recipe with degraded student views (our reading of scale augmentation)",
            _with(_MILLIONAID, view_degrade_p=0.5, view_degrade_of="student"),
        ),
    },
)  # fmt: skip
