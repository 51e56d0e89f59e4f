"""The area under a resolution curve, and what makes one curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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


#: What makes one curve in a compare frame, where present.
CURVE_KEYS = (
    "model", "model_title", "model_group", "dataset", "pack_hash", "synthetic", "split", "task", "adaptation", "bands",
    "operator", "degrade_target", "train_degrade", "metric",
)  # fmt: skip
