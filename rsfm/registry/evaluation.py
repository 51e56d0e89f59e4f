"""Named settings of evaluations, as published benchmarks have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EvaluationPreset:
    """A named starting point: the part of an `EvaluateSpec` that it fixes.

    Attributes:
        tasks: of packs that it is for.
    """

    title: str
    tasks: tuple[str, ...]
    values: dict[str, Any]


_DSTNSP: dict[str, Any] = {"operator": "bilinear", "severities": [1, 2, 4, 8], "train_fraction": 1.0}

#: The settings of arXiv 2510.17014, as far as its authors' code shows them.
EVALUATION_PRESETS: dict[str, EvaluationPreset] = {
    "dstnsp-change": EvaluationPreset(
        "Change detection as in arXiv 2510.17014 (200 epochs)",
        ("change",),
        {
            **_DSTNSP,
            "adaptations": ["finetune"],
            "fit": {
                "epochs": 200, "batch_size": 32, "lr": 6e-5, "warmup": 0.05, "weight_decay": 0.05, "layer_decay": 1.0,
                "fusion": "diff", "decoder_width": 256, "pool_width": 512, "jitter": 0.2, "select": "best",
                "precision": "fp32",
            },
        },
    ),
    "dstnsp-scenes": EvaluationPreset(
        "Scene classification as in arXiv 2510.17014 (linear probe; fine-tuning for 100 epochs)",
        ("classification",),
        {
            **_DSTNSP,
            "adaptations": ["linear", "finetune"],
            "fit": {
                "epochs": 100, "batch_size": 32, "lr": 1e-4, "min_lr": 1e-5, "warmup": 0.2, "weight_decay": 0.05,
                "layer_decay": 1.0, "precision": "fp32",
            },
        },
    ),
}  # fmt: skip


def evaluation_values(preset: str) -> dict[str, Any]:
    """What a preset fixes; nothing for the empty name.

    Raises:
        ValueError: there is no such preset.
    """
    if not preset:
        return {}
    if preset not in EVALUATION_PRESETS:
        raise ValueError(f"unknown preset {preset!r}; known: {', '.join(EVALUATION_PRESETS)}")
    return EVALUATION_PRESETS[preset].values
