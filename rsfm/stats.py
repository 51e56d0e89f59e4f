"""Uncertainty and curve summaries: bootstrap, paired tests, area under a resolution curve. numpy and pandas only.

Throughout, a *score* is in 0..1, larger is better, and a severity is a coarsening factor f (1 = native).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

_CHUNK = 1_000_000  # resampled values held at once


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(n, k) values to (draws, k): the mean of n values drawn with replacement, the same draw for every column."""
    n = len(values)
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    means = []
    for start in range(0, draws, step):
        count = min(step, draws - start)
        drawn = rng.integers(0, n, (count, n))
        # How often each sample was drawn: then all columns are one matrix product.
        times = np.bincount((drawn + n * np.arange(count)[:, None]).ravel(), minlength=count * n).reshape(count, n)
        means.append(times @ values / n)
    return np.concatenate(means)


def bootstrap_ci(
    values: np.ndarray, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over samples.

    Args:
        values: (n,) or (n, k), e.g. 1.0 where a prediction is right; the columns share the draws, which depend on n
            and the seed only: intervals of several models on one test set rest on the same resamples.

    Returns:
        low and high, each of shape () or (k,).
    """
    values = np.asarray(values, np.float64)
    if len(values) == 0:
        raise ValueError("bootstrap_ci needs at least one sample")
    means = _resampled_means(values.reshape(len(values), -1), draws, seed)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the same samples, its interval, and the two-sided bootstrap p-value of no difference."""

    mean: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, *, draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Compare two models on the same samples.

    Args:
        a, b: (n,) scores per sample, in the same order.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"paired samples need equal shapes (n,), got {a.shape} and {b.shape}")
    difference = a - b
    means = _resampled_means(difference[:, None], draws, seed)[:, 0]
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    # Twice the smaller share on one side of zero, never exactly 0: the observed sample counts as one draw.
    smaller = min((means <= 0).sum(), (means >= 0).sum())
    p_value = min(1.0, 2 * (smaller + 1) / (draws + 1))
    return PairedDifference(float(difference.mean()), float(low), float(high), float(p_value), len(a))


@dataclass(frozen=True)
class McNemar:
    """Samples that only a (only b) has right, and the exact two-sided p-value."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar_exact(a_correct: np.ndarray, b_correct: np.ndarray) -> McNemar:
    """Exact McNemar test: are the disagreements of two classifiers on the same samples a fair coin?

    Args:
        a_correct, b_correct: (n,) booleans.
    """
    a, b = np.asarray(a_correct, bool), np.asarray(b_correct, bool)
    if a.shape != b.shape:
        raise ValueError(f"paired samples need equal shapes, got {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n = only_a + only_b
    # log C(n, i) - n log 2, summed up to the smaller count: exact also where C(n, i) overflows.
    i = np.arange(min(only_a, only_b) + 1)
    steps = np.log((n - i[:-1]) / (i[:-1] + 1.0))
    logs = np.concatenate([[0.0], np.cumsum(steps)]) - n * math.log(2)
    return McNemar(only_a, only_b, min(1.0, 2 * float(np.exp(logs).sum())))


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
