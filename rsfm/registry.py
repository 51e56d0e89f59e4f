"""Names, papers, inputs, presets and "module:object" of everything that can be chosen. No heavy import to list them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rsfm.errors import RsfmError
from rsfm.specs import MAEParams, Params


@dataclass(frozen=True)
class Preset:
    """A named starting point: the part of a `PretrainSpec` that it fixes."""

    title: str
    values: dict[str, Any]


@dataclass(frozen=True)
class MethodEntry:
    """One pretraining objective."""

    name: str
    title: str
    family: str
    paper: str
    inputs: str
    summary: str
    target: str  # "module:Class", imported in a job process only
    params: type[Params]
    presets: dict[str, Preset] = field(default_factory=dict)
    healthy: str = ""  # what a healthy run looks like, shown beside its curves


METHODS: dict[str, MethodEntry] = {
    m.name: m
    for m in (
        MethodEntry(
            name="mae",
            title="Masked autoencoder (MAE)",
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
                "then holds; a steady fall is an alarm."
            ),
            presets={
                "smoke": Preset(
                    "Smoke (seconds on a CPU)",
                    {
                        "encoder": {"patch_size": 8, "width": 64, "depth": 2, "heads": 2},
                        "optim": {"samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 1e-3},
                        "method_params": {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2},
                        "runtime": {"log_every_steps": 1, "monitor_every_steps": 8, "checkpoint_every_steps": 8},
                    },
                ),
                "cpu": Preset(
                    "CPU (minutes on two cores)",
                    {
                        "encoder": {"patch_size": 8, "width": 192, "depth": 4, "heads": 3},
                        "optim": {
                            "samples": 40_000, "batch_size": 128, "warmup_samples": 4_000, "base_lr": 1.5e-3,
                            "grad_clip": 3.0,
                        },
                        "method_params": {"decoder_width": 96, "decoder_depth": 1, "decoder_heads": 3},
                        "runtime": {"log_every_steps": 5, "monitor_every_steps": 50, "checkpoint_every_steps": 50},
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
                        "runtime": {
                            "workers": 4, "log_every_steps": 20, "monitor_every_steps": 1000,
                            "checkpoint_every_steps": 1000,
                        },
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
                        "method_params": {"decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16},
                        "runtime": {
                            "workers": 8, "log_every_steps": 20, "monitor_every_steps": 1000,
                            "checkpoint_every_steps": 1000,
                        },
                    },
                ),
            },
        ),
    )
}  # fmt: skip

#: ViT sizes that can be named without a run (`random:<name>`): width, depth, heads, patch size.
ENCODERS: dict[str, dict[str, int]] = {
    "vit-nano": {"width": 192, "depth": 4, "heads": 3, "patch_size": 8},
    "vit-ti": {"width": 192, "depth": 12, "heads": 3, "patch_size": 16},
    "vit-s": {"width": 384, "depth": 12, "heads": 6, "patch_size": 16},
    "vit-b": {"width": 768, "depth": 12, "heads": 12, "patch_size": 16},
    "vit-l": {"width": 1024, "depth": 24, "heads": 16, "patch_size": 16},
}

#: Baselines without a run. `timm:<name>` and `random:<encoder>` are families; the rest are whole names.
BASELINES: dict[str, str] = {
    "band-stats": "Mean and standard deviation of each band: the floor that every model must beat.",
    "efficientnet-lite0": "EfficientNet-Lite0 trained on ImageNet: general-purpose, on red, green and blue.",
    "random:<encoder>": f"A ViT at random initialisation: {', '.join(ENCODERS)}, or random:<run id> for its own.",
    "timm:<name>": "Any timm encoder whose weights can be had on this machine.",
}

#: Who executes a job of each kind, in the job's own process: (spec, JobContext) -> None.
JOB_TARGETS: dict[str, str] = {
    "prepare": "data_catalog.prepare:run_job",
    "pretrain": "rsfm.train.pretrain:run_job",
    "evaluate": "rsfm.evaluation.evaluate:run_job",
}

#: What a dry run calls before a job is queued: (spec, Workspace) -> list[str] of remarks; raises RsfmError to refuse.
DRY_RUN_TARGETS: dict[str, str] = {
    "prepare": "data_catalog.prepare:dry_run",
    "pretrain": "rsfm.train.pretrain:dry_run",
    "evaluate": "rsfm.evaluation.evaluate:dry_run",
}


def method(name: str) -> MethodEntry:
    """Look a method up by name."""
    try:
        return METHODS[name]
    except KeyError:
        raise RsfmError(f"Unknown method {name!r}; known: {', '.join(METHODS)}.") from None


def load(target: str) -> Callable[..., Any]:
    """The object behind `"module:object"`; this is where the heavy import happens."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
