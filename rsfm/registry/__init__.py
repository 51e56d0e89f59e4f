"""Names, papers, inputs, presets and "module:object" of everything that can be chosen. No heavy import to list them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from rsfm.errors import RsfmError
from rsfm.registry import (
    beit_vq,
    dino,
    ibot,
    mae,
    mae_contrastive,
    mim_kmeans,
    moco_v2,
    moco_v3,
    simclr,
    vq_tokenizer,
)
from rsfm.registry.entry import MethodEntry
from rsfm.registry.entry import Preset as Preset

METHODS: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        mae.ENTRY,
        dino.ENTRY,
        ibot.ENTRY,
        vq_tokenizer.ENTRY,
        beit_vq.ENTRY,
        mim_kmeans.ENTRY,
        simclr.ENTRY,
        moco_v2.ENTRY,
        moco_v3.ENTRY,
        mae_contrastive.ENTRY,
    )
}

#: ViT sizes that can be named without a run (`random:<name>`): width, depth, heads, patch size.
ENCODERS: dict[str, dict[str, int]] = {
    "vit-nano": {"width": 192, "depth": 4, "heads": 3, "patch_size": 8},
    "vit-ti": {"width": 192, "depth": 12, "heads": 3, "patch_size": 16},
    "vit-s": {"width": 384, "depth": 12, "heads": 6, "patch_size": 16},
    "vit-b": {"width": 768, "depth": 12, "heads": 12, "patch_size": 16},
    "vit-l": {"width": 1024, "depth": 24, "heads": 16, "patch_size": 16},
}

#: Models without a run. Names with <…> are families; the rest are whole names.
BASELINES: dict[str, str] = {
    "band-stats": "Mean and standard deviation of each band: the floor that every model must beat.",
    "efficientnet-lite0": (
        "EfficientNet-Lite0 trained on ImageNet: general-purpose, on red, green and blue; 8-bit images as they are, "
        "other units stretched over the pack's 2nd to 98th percentile."
    ),
    "random:<encoder>": f"A ViT at random initialisation: {', '.join(ENCODERS)}, or random:<run id> for its own.",
    "timm:<name>": (
        "Any timm encoder whose weights are on this machine: general-purpose, on red, green and blue, fed as "
        "efficientnet-lite0 is."
    ),
    "torchgeo:<weights>": (
        "Remote-sensing encoders published with torchgeo, each fed with the bands, units and size that it was trained "
        "on: SSL4EO-S12, SSL4EO-L, SoftCon, DeCUR, FG-MAE, DOFA, CROMA, Panopticon, Scale-MAE, SatlasPretrain, GASSL, "
        "SeCo. For example torchgeo:ViTSmall16_Weights.SENTINEL2_ALL_DINO."
    ),
    "file:<name>": "Weights of your own for a timm architecture: <name>.safetensors with <name>.json beside it.",
}

#: Who executes a job of each kind, in the job's own process: (spec, JobContext) -> None.
JOB_TARGETS: dict[str, str] = {
    "prepare": "data_catalog.prepare:run_job",
    "predict": "rsfm.inference.predict:run_job",
    "pretrain": "rsfm.train.pretrain:run_job",
    "evaluate": "rsfm.evaluation.evaluate:run_job",
    "embed": "rsfm.embed.job:run_job",
}

#: What a dry run calls before a job is queued: (spec, Workspace) -> list[str] of remarks; raises RsfmError to refuse.
DRY_RUN_TARGETS: dict[str, str] = {
    "prepare": "data_catalog.prepare:dry_run",
    "predict": "rsfm.inference.predict:dry_run",
    "pretrain": "rsfm.train.trial:dry_run",
    "evaluate": "rsfm.evaluation.evaluate:dry_run",
    "embed": "rsfm.embed.job:dry_run",
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
