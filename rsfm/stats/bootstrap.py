"""Bootstrap over test samples, of scores of pooled counts (`rsfm.metrics`).

Tiles of one image have its light, its place and its annotator in common: they are no independent samples, and are
drawn together, with the image that they are a part of (`per_scene`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rsfm.wording import samples_text

Statistic = Callable[[np.ndarray], np.ndarray]  # pooled counts (..., k) -> scores (...)

#: Of fewer, percentile intervals are too narrow: those of an F1, which should hold it in 95 %, do so in about 75 of 6
#: samples, 86 of 9 and 90 of 20 (simulated).
FEW_SCENES = 20
_CHUNK = 1_000_000  # resampled values held at once


def few_scenes(n: int, scenes: int) -> str:
    """What should be known of results on fewer than `FEW_SCENES`."""
    what = samples_text(n, scenes)
    if scenes == 1:
        return f"{what}: that says nothing about others, and there are no intervals or tests."
    return f"{what}: so few say little about others, and intervals may be too narrow."


def per_scene(counts: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """Counts (n, ...) of samples, summed to (scenes, ...): the parts of a score that are independent of each other.

    Args:
        scenes: (n,) number of the scene that each sample is a part of: 0, 1, ... without gaps.
    """
    n = int(scenes.max()) + 1
    if n == len(counts):  # each is its own; in the order of their numbers
        return counts if (np.diff(scenes) > 0).all() else counts[np.argsort(scenes)]
    order = np.argsort(scenes, kind="stable")
    return np.add.reduceat(counts[order], np.searchsorted(scenes[order], np.arange(n)), axis=0)


def _resamples(n: int, draws: int, seed: int, width: int = 1) -> Iterator[np.ndarray]:
    """How often each of n samples was drawn, in pieces (some draws, n); depends on n, draws and seed only.

    Args:
        width: values per sample that are held besides.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // (n * width))
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
        (draws,) or (draws, m); NaN where the score of a resample is undefined, or where there is one sample only,
        which says nothing about others.
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim not in (2, 3) or len(counts) == 0:
        raise ValueError(f"counts have the shape (n, k) or (n, m, k) with at least one sample, got {counts.shape}")
    if len(counts) == 1:
        return np.full((draws, *counts.shape[1:-1]), np.nan)
    flat = counts.reshape(len(counts), -1)
    parts = [
        statistic((times @ flat).reshape(len(times), *counts.shape[1:]))
        for times in _resamples(len(counts), draws, seed)
    ]
    return np.concatenate(parts)


def bootstrap_weighted(
    scenes: np.ndarray, statistic: Statistic, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of a score that comes from all samples at once, such as a mean average precision.

    Args:
        scenes: (n,) see `per_scene`; at least one sample.
        statistic: how often each sample counts (d, n) to scores (d,). The draws are those of `bootstrap_pooled`.

    Returns:
        low and high, each of shape (); resamples whose score is undefined are left out.
    """
    n = int(scenes.max()) + 1
    if n == 1:  # another test set of one scene could be anything
        return np.array(np.nan), np.array(np.nan)
    pieces = _resamples(n, draws, seed, width=-(-len(scenes) // n))
    return _interval(np.concatenate([statistic(times[:, scenes]) for times in pieces]), level)


def bootstrap_pooled(
    counts: np.ndarray, statistic: Statistic, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of a score of pooled counts, e.g. the F1 over all pixels of a test set.

    Whole samples are drawn, each with all its counts, so that what its pixels share is in the interval. Resamples
    whose score is undefined are left out.

    Args:
        counts, statistic: see `pooled_draws`; of tiles, summed `per_scene`. Intervals of several models on one test set
            rest on the same resamples.

    Returns:
        low and high, each of shape () or (m,); NaN where there is one sample only, which says nothing of others.
    """
    return _interval(pooled_draws(counts, statistic, draws=draws, seed=seed), level)
