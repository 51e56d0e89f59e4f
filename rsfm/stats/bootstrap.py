"""Bootstrap over test samples: of means, and of scores of pooled counts (`rsfm.metrics`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]  # pooled counts (..., k) -> scores (...)

_CHUNK = 1_000_000  # resampled values held at once


def _resamples(n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of n samples was drawn, in pieces (some draws, n); depends on n, draws and seed only."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n)
    for start in range(0, draws, step):
        count = min(step, draws - start)
        drawn = rng.integers(0, n, (count, n))
        yield np.bincount((drawn + n * np.arange(count)[:, None]).ravel(), minlength=count * n).reshape(count, n)


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(n, k) values to (draws, k): the mean of n values drawn with replacement, the same draw for every column."""
    # As counts of draws, all columns are one matrix product.
    return np.concatenate([times @ values / len(values) for times in _resamples(len(values), draws, seed)])


def _interval(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles of (draws, ...) without the draws that are NaN; NaN where all are."""
    tail = (1 - level) / 2
    shape = values.shape[1:]
    columns = values.reshape(len(values), -1)
    low, high = np.full((2, columns.shape[1]), np.nan)
    whole = ~np.isnan(columns).any(axis=0)
    low[whole], high[whole] = np.quantile(columns[:, whole], [tail, 1 - tail], axis=0)
    for i in np.flatnonzero(~whole):
        defined = columns[~np.isnan(columns[:, i]), i]
        if len(defined):
            low[i], high[i] = np.quantile(defined, [tail, 1 - tail])
    return low.reshape(shape), high.reshape(shape)


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
    low, high = _interval(means, level)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def pooled_draws(counts: np.ndarray, statistic: Statistic, *, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """A score of pooled counts under resampling of the samples.

    Args:
        counts: (n, k), or (n, m, k): m columns that share the draws, which depend on n and the seed only.
        statistic: pooled counts (..., k) to scores (...).

    Returns:
        (draws,) or (draws, m); NaN where the score of a resample is undefined.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim not in (2, 3) or len(counts) == 0:
        raise ValueError(f"counts have the shape (n, k) or (n, m, k) with at least one sample, got {counts.shape}")
    flat = counts.reshape(len(counts), -1)
    parts = [
        statistic((times @ flat).reshape(len(times), *counts.shape[1:]))
        for times in _resamples(len(counts), draws, seed)
    ]
    return np.concatenate(parts)


def bootstrap_pooled(
    counts: np.ndarray, statistic: Statistic, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of a score of pooled counts, e.g. the F1 over all pixels of a test set.

    Whole samples (images, tiles) are drawn, each with all its counts, so that what pixels of one sample share is in
    the interval. Resamples whose score is undefined are left out.

    Args:
        counts, statistic: see `pooled_draws`. With n, draws and seed equal, and [right, 1] as counts, the interval is
            that of `bootstrap_ci`.

    Returns:
        low and high, each of shape () or (m,).
    """
    return _interval(pooled_draws(counts, statistic, draws=draws, seed=seed), level)


@dataclass(frozen=True)
class PairedDifference:
    """a - b over the same samples, its interval, and the two-sided bootstrap p-value of no difference."""

    mean: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int


def _paired(difference: float, draws: np.ndarray, level: float, n: int) -> PairedDifference:
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return PairedDifference(difference, np.nan, np.nan, np.nan, n)
    low, high = _interval(draws, level)
    # Twice the smaller share on one side of zero, never exactly 0: the observed sample counts as one draw.
    smaller = min((draws <= 0).sum(), (draws >= 0).sum())
    p_value = min(1.0, 2 * (smaller + 1) / (len(draws) + 1))
    return PairedDifference(difference, float(low), float(high), float(p_value), n)


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, *, draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> PairedDifference:
    """Compare two models on the same samples by the mean of their scores per sample.

    Args:
        a, b: (n,) scores per sample, in the same order.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(f"paired samples need equal shapes (n,), got {a.shape} and {b.shape}")
    difference = a - b
    means = _resampled_means(difference[:, None], draws, seed)[:, 0]
    return _paired(float(difference.mean()), means, level, len(a))


def paired_bootstrap_pooled(
    a_counts: np.ndarray, b_counts: np.ndarray, statistic: Statistic, *,
    draws: int = 10_000, level: float = 0.95, seed: int = 0,
) -> PairedDifference:  # fmt: skip
    """Compare two models on the same samples by a score of their pooled counts.

    Every draw takes the same samples of both. The p-value cannot fall below 2 / (draws + 1): under a correction for
    many tests, `rsfm.stats.group_difference` has no such floor.

    Args:
        a_counts, b_counts: (n, k), in the same order.
    """
    a, b = np.asarray(a_counts, np.float64), np.asarray(b_counts, np.float64)
    if a.shape != b.shape or a.ndim != 2 or len(a) == 0:
        raise ValueError(f"paired counts need equal shapes (n, k), got {a.shape} and {b.shape}")
    both = pooled_draws(np.stack([a, b], axis=1), statistic, draws=draws, seed=seed)
    observed = statistic(a.sum(axis=0)) - statistic(b.sum(axis=0))
    return _paired(float(observed), both[:, 0] - both[:, 1], level, len(a))
