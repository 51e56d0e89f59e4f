"""Small packs with maps, pairs and several labels, and evaluations of them that take seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rsfm.bands import Band
from rsfm.evaluation.evaluate import run_job
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext
from rsfm.store.runs import RunFolder, create_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

SIZE = 32
RGB8 = [Band("red", 650, 1, "uint8"), Band("green", 550, 1, "uint8"), Band("blue", 470, 1, "uint8")]
FIT = {"epochs": 8, "batch_size": 4, "lr": 2e-3, "decoder_width": 16, "pool_width": 16, "flips": "dihedral"}
#: Small enough for seconds, large enough to learn a colour.
QUICK: dict[str, Any] = {"eval_seeds": [0], "bootstrap": 100, "fit": FIT, "device": "cpu"}


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of (N, 3, S, S) with a bright red square, and maps that are 1 inside."""
    rng = np.random.default_rng(seed)
    images = rng.normal(90, 15, (count, 3, SIZE, SIZE))
    maps = np.zeros((count, 1, SIZE, SIZE), np.uint8)
    for i in range(count):
        top, left = rng.integers(0, SIZE - 12, 2)
        images[i, 0, top : top + 12, left : left + 12] += 90
        maps[i, 0, top : top + 12, left : left + 12] = 1
    return images.clip(0, 255).astype(np.uint8), maps


def segmentation_pack(workspace: Workspace, *, ignore: bool = False, counts: tuple[int, int] = (24, 12)) -> Pack:
    images, masks = {}, {}
    for number, (split, count) in enumerate(zip(("train", "test"), counts, strict=True)):
        images[split], masks[split] = blobs(count, number)
        if ignore:
            masks[split][:, :, :4] = 255
    return write_arrays(
        workspace, "fields", images, RGB8, masks=masks, classes=["land", "roof"], ignore_value=255, gsd_m=1.0
    )


def change_pack(workspace: Workspace) -> Pack:
    before, after, masks = {}, {}, {}
    for number, (split, count) in enumerate((("train", 24), ("val", 8), ("test", 12))):
        rng = np.random.default_rng(100 + number)
        before[split] = rng.normal(90, 15, (count, 3, SIZE, SIZE)).clip(0, 255).astype(np.uint8)
        after[split], masks[split] = blobs(count, number)
    return write_arrays(
        workspace, "pairs", before, RGB8, later=after, masks=masks, classes=["no change", "change"], gsd_m=1.0
    )


def multilabel_pack(workspace: Workspace, val: int = 0, signal: float = 60) -> Pack:
    images, labels = {}, {}
    for number, (split, count) in enumerate((("train", 90), ("test", 60), *([("val", val)] if val else []))):
        rng = np.random.default_rng(number)
        flags = rng.random((count, 3)) < 0.4
        flags[~flags.any(axis=1), 0] = True
        images[split] = (rng.normal(90, 10, (count, 3, SIZE, SIZE)) + signal * flags[:, :, None, None]).clip(0, 255)
        images[split] = images[split].astype(np.uint8)
        labels[split] = [
            [name for name, on in zip(("blue", "green", "red"), row[::-1], strict=True) if on] for row in flags
        ]
    return write_arrays(workspace, "several", images, RGB8, labels=labels)


def request(workspace: Workspace, model: str, pack: str, **settings: Any) -> EvaluateSpec:
    """With as much of `QUICK` as means anything on that pack."""
    spec = EvaluateSpec(model=model, dataset=pack, **{**QUICK, **settings})
    return spec.only_used(TASKS[Pack.named(workspace, pack).info.task])


def evaluate(workspace: Workspace, model: str, pack: str, **settings: Any) -> tuple[pd.DataFrame, RunFolder]:
    spec = request(workspace, model, pack, **settings)
    run = create_run(workspace, spec)
    run_job(spec, JobContext(workspace, run, 1))
    return pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0]), run


def value(scores: pd.DataFrame, severity: float, metric: str) -> float:
    return float(scores.query("severity == @severity and metric == @metric")["value"].mean())
