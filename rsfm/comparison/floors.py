"""What needs no model: the score of the best constant prediction on a test set."""

from __future__ import annotations

import math

import numpy as np

from rsfm.comparison.board import Column
from rsfm.comparison.counts import prediction_files, units
from rsfm.comparison.models import narrowed
from rsfm.errors import RsfmError
from rsfm.metrics import METRICS, constant_floor
from rsfm.packs import Pack
from rsfm.store.view import Store


def floor_of(store: Store, column: Column) -> float:
    """The floor of a column of the leaderboard (`rsfm.metrics.constant_floor`).

    It follows from the labels alone: those of the pack where it has one class per sample, otherwise those behind any
    evaluation's predictions.

    Returns:
        NaN where neither is there, or the metric comes from no counts.
    """
    if column["metric"] not in METRICS or METRICS[column["metric"]].layout is None:
        return math.nan
    if column["task"] == "classification" and (labels := _labels(store, column)) is not None:
        return constant_floor(column["metric"], np.empty((0, 2)), labels)
    names = ("dataset", "pack_hash", "split", "task")
    scores = narrowed(store.scores(dataset=column["dataset"]), {name: [column[name]] for name in names})
    scores = narrowed(scores, {"metric": [column["metric"]]})
    for run_id in scores["run_id"].unique()[::-1]:
        if not prediction_files(store, run_id):
            continue
        for run in units(store, scores[scores["run_id"] == run_id], [], metric=column["metric"]):
            for unit in run[:1]:
                layout = METRICS[unit.primary].layout
                assert layout is not None
                if METRICS[column["metric"]].layout == layout and (layout != "right" or unit.labels is not None):
                    return constant_floor(column["metric"], unit.counts, unit.labels)
    return math.nan


def why_not_rescaled(column: Column) -> str | None:
    """Why scores of a column, whose floor was asked for, cannot be rescaled; None where they can."""
    name, floor = column["metric"], column.floor
    if floor < 1:
        return None
    if name not in METRICS or METRICS[name].layout is None:
        return "no constant prediction has a score by this metric"
    if floor >= 1:
        return "a constant prediction has a perfect score by this metric already"
    return "the best constant prediction is not known, because neither the pack nor predictions on it are there"


def _labels(store: Store, column: Column) -> np.ndarray | None:
    """The class indices of the test set, of the very content that was measured."""
    try:
        pack = Pack.named(store.workspace, column["dataset"])
        if pack.info.content_hash != column["pack_hash"]:
            return None
        labels = pack.label_indices(column["split"])
    except RsfmError:  # the results outlive the pack they were measured on
        return None
    return labels if len(labels) else None
