"""What a curve of scores over severities amounts to in a few numbers, and what makes one curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class CurveSummary:
    """A curve in a few numbers; each is NaN where it is not defined, or a score that it needs is missing.

    Attributes:
        auc: `scale_auc`; auc_norm: `auc_normalised`. Defined where severities are coarsening factors.
        mean: over the severities.
        retention: the score at the strongest severity over that on images as they are.
    """

    auc: float
    auc_norm: float
    mean: float
    retention: float


def summarise(
    severities: Sequence[float], scores: Sequence[float], *, identity: float | None, factors: bool
) -> CurveSummary:
    """The numbers of one curve.

    Args:
        severities: distinct, in any order; scores: one of each, NaN where it is missing.
        identity: the severity that leaves images as they are, where it is known.
        factors: whether severities are coarsening factors.
    """
    at = dict(sorted(zip(map(float, severities), map(float, scores), strict=True)))
    area = factors and min(at) > 0
    native = math.nan if identity is None else at.get(float(identity), math.nan)
    return CurveSummary(
        auc=scale_auc(list(at), list(at.values())) if area else math.nan,
        auc_norm=auc_normalised(list(at), list(at.values())) if area else math.nan,
        mean=float(np.mean(list(at.values()))),
        retention=at[max(at)] / native if native > 0 else math.nan,
    )


#: What makes one curve in a compare frame, where present.
CURVE_KEYS = (
    "model", "model_title", "model_group", "dataset", "pack_hash", "synthetic", "split", "task", "adaptation", "bands",
    "operator", "degrade_target", "train_degrade", "metric",
)  # fmt: skip
