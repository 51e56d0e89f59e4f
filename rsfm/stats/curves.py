"""Summaries of a resolution curve: area, mean, retention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd


def _curve(factors: Sequence[float], scores: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    f, y = np.asarray(factors, np.float64), np.asarray(scores, np.float64)
    if f.shape != y.shape or f.ndim != 1 or len(f) == 0:
        raise ValueError(f"a curve needs one score per factor, got {f.shape} and {y.shape}")
    if (f <= 0).any() or len(np.unique(f)) != len(f):
        raise ValueError(f"factors must be positive and distinct, got {list(factors)}")
    order = np.argsort(-f)
    return f[order], y[order]


def scale_auc(factors: Sequence[float], scores: Sequence[float]) -> float:
    """Area under the score over x = 1/f by the trapezoid rule, with y(0) := 0, × 100 (arXiv 2510.17014).

    On the factors 1, 2, 4, 8 a perfect model has 93.75, and half of the area lies between 1× and 2×. Works on any
    grid; areas of different grids must not be compared (`auc_normalised` may).
    """
    f, y = _curve(factors, scores)
    return float(100 * np.trapezoid(np.concatenate([[0.0], y]), np.concatenate([[0.0], 1 / f])))


def auc_normalised(factors: Sequence[float], scores: Sequence[float]) -> float:
    """`scale_auc` as a share of a perfect model's on the same factors: 0..1."""
    return scale_auc(factors, scores) / scale_auc(factors, np.ones(len(factors)))


def retention(factors: Sequence[float], scores: Sequence[float], factor: float) -> float:
    """y(factor) / y(1); NaN where the curve lacks either point or y(1) is 0."""
    points = dict(zip(map(float, factors), map(float, scores), strict=True))
    native = points.get(1.0, math.nan)
    return points.get(float(factor), math.nan) / native if native else math.nan


#: What makes one curve in a compare frame, where present.
CURVE_KEYS = (
    "model", "model_title", "model_group", "dataset", "pack_hash", "synthetic", "split", "task", "adaptation", "bands",
    "operator", "degrade_target", "train_degrade", "metric",
)  # fmt: skip


def curve_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per curve of a compare frame (columns `severity` and `mean`, and those of `CURVE_KEYS`).

    Returns:
        The curve's keys, `factors` ("1,2,4,8"), `auc` (0..100), `auc_norm` (0..1), `mean` (over the severities,
        unweighted), `coarsest` (factor) and `retention` (y(coarsest) / y(1)); best `auc_norm` first.
    """
    keys = [k for k in CURVE_KEYS if k in frame.columns]
    columns = [*keys, "factors", "auc", "auc_norm", "mean", "coarsest", "retention"]
    rows = []
    for values, curve in frame.groupby(keys, dropna=False, sort=True):
        curve = curve.sort_values("severity")
        f, y = curve["severity"].to_numpy(np.float64), curve["mean"].to_numpy(np.float64)
        rows.append(
            (
                *values, ",".join(f"{x:g}" for x in f), scale_auc(f, y), auc_normalised(f, y), float(y.mean()),
                f[-1], retention(f, y, f[-1]),
            )
        )  # fmt: skip
    summary = pd.DataFrame(rows, columns=columns)
    return summary.sort_values("auc_norm", ascending=False, kind="stable").reset_index(drop=True)
