"""An exact test of two classifiers, and a correction for many tests at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


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


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusted p-values (n,) after Holm (1979): calling those ≤ α keeps the chance of *any* false call ≤ α.

    Holds whatever the dependence between the tests. The i-th smallest of m is multiplied by m - i + 1, and none is
    smaller than the one before it. NaN (no test was possible) stays NaN and does not count.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise ValueError(f"p-values are a list of numbers in 0..1, got {p}")
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: int((~np.isnan(p)).sum())]  # NaN sort last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted
