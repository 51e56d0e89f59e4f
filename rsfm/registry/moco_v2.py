"""MoCo v2: settings and presets."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rsfm.registry.augmentation import AugmentParams
from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.specs import Params, ResNetParams


class MoCoV2Params(Params):
    """A query against its key and a queue of earlier keys (arXiv 1911.05722, 2003.04297)."""

    temperature: float = Field(0.2, gt=0, title="Temperature", description="Of the similarities (v1: 0.07).")
    queue_size: int = Field(
        65_536, ge=2, title="Queue", description="Earlier keys that serve as negatives; a multiple of the batch size."
    )
    key_momentum: float = Field(
        0.999, ge=0, le=1, title="Key momentum",
        description="The key encoder is a moving average of the query encoder; short runs need less (0.99).",
    )  # fmt: skip
    projection_dim: int = Field(128, ge=8, title="Projection", description="Length of queries and keys.")
    batchnorm_groups: int = Field(
        8, ge=1, title="BatchNorm groups",
        description="A batch passes in so many groups, shuffled for the keys, so that BatchNorm cannot give away "
        "which images belong together. The paper has one group per GPU: 8.",
    )  # fmt: skip
    crop_min_scale: float = Field(
        0.2, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop."
    )
    blur_p: float = Field(0.5, ge=0, le=1, title="Blur probability")
    augment: AugmentParams = AugmentParams(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def _paper(epochs: int) -> dict[str, Any]:
    return {
        "image_size": 224,
        "encoder": {"layers": "resnet50", "stem": "imagenet"},
        "optim": {
            "optimizer": "sgd", "samples": epochs * 1_280_000, "batch_size": 256, "warmup_samples": 0,
            "base_lr": 0.03, "beta1": 0.9, "weight_decay": 1e-4,
        },
        "method_params": {"augment": {"flips": "horizontal"}},
        "runtime": {**GPU_RUNTIME, "monitor_every_steps": 2000, "checkpoint_every_steps": 2000},
    }  # fmt: skip


ENTRY = MethodEntry(
    name="moco_v2",
    title="MoCo v2",
    label="MoCo v2",
    family="contrastive",
    paper="Chen et al. 2020, arXiv 2003.04297",
    inputs="single images, any number of bands",
    summary="Recognise the other view of an image among a long queue of earlier images; a convolutional network.",
    target="rsfm.methods.moco_v2:MoCoV2",
    params=MoCoV2Params,
    encoder=ResNetParams,
    healthy=(
        "The loss starts low, because the queue is random (6.2 at the paper's settings), rises towards ln(K + 1) while "
        "real keys fill it (11.1 for 65536), and then falls. contrastive_top1, the share of queries that find their "
        "key among all K + 1, follows. 100 % early is a leak, usually through BatchNorm: use "
        "more groups. Alignment and uniformity both near 0 are collapse. kNN accuracy, where there are labels, is the "
        "sign of progress."
    ),
    presets={
        "smoke": Preset(
            "Smoke (seconds on a CPU)",
            {
                "encoder": {"layers": "resnet18", "stem": "imagenet"},
                "optim": {
                    "optimizer": "sgd", "samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 0.2,
                    "weight_decay": 1e-4,
                },
                "method_params": {
                    "queue_size": 128, "key_momentum": 0.9, "projection_dim": 32, "batchnorm_groups": 2,
                },
                "runtime": SMOKE_RUNTIME,
            },
        ),
        "cpu": Preset(
            "CPU (minutes on two cores)",
            {
                "encoder": {"layers": "resnet18", "stem": "imagenet"},
                "optim": {
                    "optimizer": "sgd", "samples": 28_160, "batch_size": 128, "warmup_samples": 1_280,
                    "base_lr": 0.12, "weight_decay": 1e-4,
                },
                "method_params": {"queue_size": 2_048, "key_momentum": 0.99, "batchnorm_groups": 4},
                "runtime": CPU_RUNTIME,
            },
        ),
        "resnet50": Preset("ResNet-50 (the paper's settings, 200 epochs of ImageNet-1k's size)", _paper(200)),
        "resnet50-800": Preset("ResNet-50 (the paper's settings, 800 epochs of ImageNet-1k's size)", _paper(800)),
    },
)  # fmt: skip
