"""Bootstrap over test samples, of scores of pooled counts (`rsfm.metrics`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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


def bootstrap_weighted(
    n: int, statistic: Statistic, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of a score that comes from all samples at once, such as a mean average precision.

    Args:
        n: number of samples, at least one.
        statistic: how often each sample counts (d, n) to scores (d,). The draws are those of `bootstrap_pooled`.

    Returns:
        low and high, each of shape (); resamples whose score is undefined are left out.
    """
    return _interval(np.concatenate([statistic(times) for times in _resamples(n, draws, seed)]), level)


def bootstrap_pooled(
    counts: np.ndarray, statistic: Statistic, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of a score of pooled counts, e.g. the F1 over all pixels of a test set.

    Whole samples (images, tiles) are drawn, each with all its counts, so that what pixels of one sample share is in
    the interval. Resamples whose score is undefined are left out.

    Args:
        counts, statistic: see `pooled_draws`. Intervals of several models on one test set rest on the same resamples.

    Returns:
        low and high, each of shape () or (m,).
    """
    return _interval(pooled_draws(counts, statistic, draws=draws, seed=seed), level)
