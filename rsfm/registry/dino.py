"""DINO: settings and presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rsfm.registry.augmentation import AugmentParams
from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.specs import Params


class DINOParams(Params):
    """Self-distillation between views (arXiv 2104.14294)."""

    prototypes: int = Field(4096, ge=2, title="Prototypes", description="K: length of the head's output.")
    head_hidden: int = Field(2048, ge=8, title="Head width", description="Of the head's two hidden layers.")
    bottleneck: int = Field(
        256, ge=4, title="Bottleneck", description="Length of the unit vectors that are compared with prototypes."
    )
    free_gain: bool = Field(
        False, title="Learn the prototypes' gains",
        description="Off: outputs are cosines (stabler). On: faster for small networks.",
    )  # fmt: skip
    global_crops: int = Field(
        2, ge=2, le=8, title="Global crops", description="Large views; the teacher sees only these."
    )
    global_min_scale: float = Field(
        0.32, gt=0, le=1, title="Smallest global crop", description="Area share; the largest is the whole image."
    )
    local_crops: int = Field(4, ge=0, le=32, title="Local crops", description="Small views, for the student only.")
    local_size: int = Field(32, ge=4, title="Local size", description="Pixels per side; divisible by the patch size.")
    local_min_scale: float = Field(0.05, gt=0, le=1, title="Smallest local crop", description="Area share.")
    local_max_scale: float = Field(0.25, gt=0, le=1, title="Largest local crop", description="Area share.")
    equal_scale: bool = Field(
        False, title="Equal-scale global crops",
        description="All global crops have the size of the first on the ground: the same pixel size in metres.",
    )  # fmt: skip
    shared_flip: bool = Field(
        False, title="One flip per image", description="All views of an image are flipped and turned alike."
    )
    blur_p_first: float = Field(1.0, ge=0, le=1, title="Blur, first global crop", description="Probability.")
    blur_p_second: float = Field(0.1, ge=0, le=1, title="Blur, other global crops", description="Probability.")
    blur_p_local: float = Field(0.5, ge=0, le=1, title="Blur, local crops", description="Probability.")
    solarize_p: float = Field(
        0.2, ge=0, le=1, title="Solarise, other global crops", description="Probability; 8-bit colour images only."
    )
    view_degrade_p: float = Field(
        0.0, ge=0, le=1, title="Degraded views",
        description="Chance that a view is made coarser, with the filter of the resolution benchmark.",
    )  # fmt: skip
    view_degrade_factor: float = Field(
        8.0, gt=1, le=64, title="Strongest degradation", description="The factor is log-uniform from 1 to this."
    )
    view_degrade_of: Literal["student", "all"] = Field(
        "student", title="Who sees degraded views", description="The student only, or teacher and student alike."
    )
    student_temperature: float = Field(0.1, gt=0, title="Student temperature")
    teacher_temperature_start: float = Field(
        0.04, gt=0, title="First teacher temperature", description="Lower: sharper targets."
    )
    teacher_temperature: float = Field(
        0.07, gt=0, title="Teacher temperature", description="After the warm-up. Too high: uniform collapse."
    )
    temperature_warmup_samples: int = Field(
        1000, ge=0, title="Temperature warm-up samples", description="Linear rise of the teacher's temperatures."
    )
    centring: Literal["centre", "sinkhorn"] = Field(
        "centre", title="Centring",
        description="Subtract the running mean of the teacher's outputs, or balance each batch (Sinkhorn-Knopp).",
    )  # fmt: skip
    centre_momentum: float = Field(0.9, ge=0, lt=1, title="Centre momentum", description="Of the running mean.")
    ema_start: float = Field(
        0.996, ge=0, le=1, title="Teacher momentum", description="At the start; a half-life of ln 2 / (1 − m) steps."
    )
    ema_end: float = Field(1.0, ge=0, le=1, title="Final teacher momentum", description="Where a cosine takes it.")
    freeze_prototypes_samples: int = Field(
        0, ge=0, title="Frozen prototypes (samples)", description="The last layer of the head stays for so long."
    )
    backbone_init: Literal["xavier", "normal"] = Field(
        "xavier", title="First weights",
        description="xavier: scaled to the width, for small networks; normal: σ = 0.02, as published for ViT-S and up.",
    )  # fmt: skip
    augment: AugmentParams = Field(
        AugmentParams(), title="Views", description="Flips, radiometry and colour of all views."
    )

    @model_validator(mode="after")
    def _order(self) -> DINOParams:
        if self.local_min_scale > self.local_max_scale:
            raise ValueError(f"local_min_scale {self.local_min_scale} is above local_max_scale {self.local_max_scale}")
        return self


#: What the presets of DINO and iBOT have in common.
SMOKE: dict[str, Any] = {
    "encoder": {"patch_size": 8, "width": 64, "depth": 2, "heads": 2, "pooling": "class", "drop_path": 0.1},
    "optim": {
        "samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 2e-3, "beta2": 0.999, "weight_decay": 0.04,
        "weight_decay_end": 0.4, "grad_clip": 3.0, "clip_norm": "tensor",
    },
    "method_params": {
        "prototypes": 256, "head_hidden": 128, "bottleneck": 64, "local_crops": 2, "local_size": 16,
        "temperature_warmup_samples": 128, "freeze_prototypes_samples": 64, "ema_start": 0.99,
    },
    "runtime": SMOKE_RUNTIME,
}  # fmt: skip
CPU: dict[str, Any] = {
    # Patches of 16: every view is seen whole and twice, so fewer tokens buy four times the steps in the same minutes.
    "encoder": {"patch_size": 16, "width": 192, "depth": 4, "heads": 3, "pooling": "class", "drop_path": 0.1},
    "optim": {
        "samples": 38_400, "batch_size": 64, "warmup_samples": 3_840, "base_lr": 3e-3, "min_lr": 1e-6,
        "beta2": 0.999, "weight_decay": 0.04, "weight_decay_end": 0.4, "grad_clip": 3.0, "clip_norm": "tensor",
    },
    # So few steps are too short for a running centre and for a teacher that slows down: the batch is balanced by
    # Sinkhorn-Knopp, and the teacher keeps its pace.
    "method_params": {
        "prototypes": 256, "head_hidden": 256, "bottleneck": 128, "local_crops": 2, "local_size": 32,
        "centring": "sinkhorn", "teacher_temperature": 0.04, "temperature_warmup_samples": 0,
        "freeze_prototypes_samples": 320, "ema_start": 0.99, "ema_end": 0.99,
    },
    "runtime": CPU_RUNTIME,
}  # fmt: skip


def vit(
    size: Literal["s", "b"], *, samples: int, warmup: int, base_lr: float, clip: float, min_lr: float = 1e-6,
    accumulate: int = 1, **method_params: Any,
) -> dict[str, Any]:  # fmt: skip
    """A ViT with patches of 16 at 224 pixels and a batch of 1024, as both papers train it."""
    shape = {"s": {"width": 384, "heads": 6}, "b": {"width": 768, "heads": 12}}[size]
    return {
        "image_size": 224,
        "encoder": {
            "patch_size": 16, "depth": 12, **shape, "positions": "learned", "pooling": "class", "drop_path": 0.1
        },
        "optim": {
            "samples": samples, "batch_size": 1024, "accumulate": accumulate, "warmup_samples": warmup,
            "base_lr": base_lr, "min_lr": min_lr, "beta2": 0.999, "weight_decay": 0.04, "weight_decay_end": 0.4,
            "grad_clip": clip, "clip_norm": "tensor",
        },
        "method_params": {"local_crops": 10, "local_size": 96, "backbone_init": "normal", **method_params},
        "runtime": GPU_RUNTIME,
    }  # fmt: skip


HEALTHY = (
    "The loss is no sign of progress, and a rise is no failure: it falls while the prototypes are frozen, jumps when "
    "they are released, and drifts as the teacher's temperature and momentum change. Judge by kNN accuracy, RankMe "
    "and the teacher's entropy, which falls from its start and then holds well above zero and below ln K. "
    "A loss that sits at exactly ln K is uniform collapse, one that drops to zero within an epoch is constant collapse."
)

ENTRY = MethodEntry(
    name="dino",
    title="DINO",
    label="DINO",
    family="self-distillation",
    paper="Caron et al. 2021, arXiv 2104.14294",
    inputs="single images, any number of bands",
    summary="A student matches, from other and smaller crops, what its own moving average says of the large ones.",
    target="rsfm.methods.dino:DINO",
    params=DINOParams,
    healthy=HEALTHY,
    presets={
        "smoke": Preset("Smoke (seconds on a CPU)", SMOKE),
        "cpu": Preset("CPU (minutes on two cores)", CPU),
        "vit-s": Preset(
            "ViT-S/16 (in the manner of the paper: batch 1024, 300 epochs of ImageNet-1k's size)",
            vit(
                "s", samples=384_000_000, warmup=12_800_000, base_lr=5e-4, clip=3.0, accumulate=4, prototypes=65_536,
                global_min_scale=0.25, temperature_warmup_samples=38_400_000, freeze_prototypes_samples=1_280_000,
                augment={"flips": "horizontal"},
            ),
        ),
        "vit-b": Preset(
            "ViT-B/16 (in the manner of the paper: batch 1024, 400 epochs of ImageNet-1k's size)",
            vit(
                "b", samples=512_000_000, warmup=12_800_000, base_lr=7.5e-4, clip=0.3, min_lr=2e-6, accumulate=8,
                prototypes=65_536, global_min_scale=0.25, temperature_warmup_samples=64_000_000,
                freeze_prototypes_samples=3_840_000, augment={"flips": "horizontal"},
            ),
        ),
    },
)  # fmt: skip
