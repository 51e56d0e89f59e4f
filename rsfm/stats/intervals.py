"""The interval of a score on one test set: of proportions an exact one, of all others the bootstrap's.

The share of images that are classified right can be 1, and then every resample of the test set has it too: the
bootstrap's interval has no width, though 30 right images leave room for one error in nine. With one or two errors it
is still far too narrow. Binomial intervals need no resampling. That of Clopper and Pearson (1934) holds the truth in
95 % of all cases or more, whatever the share.

Where samples are parts of scenes, it takes an effective number of them, after Korn and Graubard (1998): as many
independent samples as would leave a share as uncertain as these are, by how much scenes differ. That is estimated from
the scenes with both outcomes at hand, and says nothing where there are few of the rarer one. So the number is drawn
towards that of scenes, which it cannot be below: all the way where one outcome does not occur, and not at all where ten
scenes have the rarer one. Scenes of different sizes count as the number of equal ones that are worth as much (Kish
1965): 200 tiles of one scene and 190 of nineteen others are worth fewer than four.
"""

from __future__ import annotations

import numpy as np

from rsfm.metrics import METRICS
from rsfm.stats.bootstrap import bootstrap_pooled
from rsfm.stats.student import Z_95, standard_errors

#: Scenes with the rarer outcome from which on the spread between scenes is taken as it was found.
_ENOUGH = 10


def is_proportion(metric: str) -> bool:
    """Whether a metric is the share of samples that have something, so that its interval is `proportion_interval`."""
    return METRICS[metric].layout == "right"


def score_interval(
    metric: str, counts: np.ndarray, *, draws: int = 1000, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of a metric of pooled counts, in its own layout.

    Args:
        counts: (scenes, k), or (scenes, m, k) for m columns, summed `per_scene`.
        draws: of the bootstrap, for metrics that are no proportion. All intervals rest on the same resamples.

    Returns:
        low and high, each of shape () or (m,); NaN where there is one scene only, which says nothing of others.
    """
    if is_proportion(metric):
        return proportion_interval(counts, level=level)
    return bootstrap_pooled(counts, METRICS[metric].of, draws=draws, level=level)


def proportion_interval(counts: np.ndarray, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's interval of a share, for an effective number of samples; see the module's text.

    Args:
        counts: (scenes, 2), or (scenes, m, 2): how many samples of a scene have it, and how many there are. Of single
            samples (each its own scene) the interval is the exact binomial one.

    Returns:
        low and high, each of shape () or (m,); NaN where there is one scene only, or nothing was counted.
    """
    from scipy.special import betaincinv  # a third of a second: not at import, for pages start with this package

    counts = np.asarray(counts, np.float64)
    has, all_ = counts[..., 0], counts[..., 1]
    scenes = len(counts)
    if scenes == 1:
        return np.full(has.shape[1:], np.nan), np.full(has.shape[1:], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = has.sum(axis=0) / all_.sum(axis=0)
        n = _effective(has, all_, share)
        tail = (1 - level) / 2
        low = np.where(share > 0, betaincinv(share * n, (1 - share) * n + 1, tail), 0.0)
        high = np.where(share < 1, betaincinv(share * n + 1, (1 - share) * n, 1 - tail), 1.0)
    return np.where(np.isnan(share), np.nan, low), np.where(np.isnan(share), np.nan, high)


def equal_scenes(sizes: np.ndarray) -> np.ndarray:
    """How many scenes of one size are worth as much as those of these sizes (scenes, ...): Kish's number."""
    return sizes.sum(axis=0) ** 2 / (sizes**2).sum(axis=0)


def _effective(has: np.ndarray, all_: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The number of independent samples that say as much as these scenes do."""
    scenes, n = len(has), all_.sum(axis=0)
    worth = np.where(n > 0, np.maximum(2, equal_scenes(all_)), 2)
    # Of the share: its variance between scenes (of a ratio), and what independent samples would have.
    found = ((has - share * all_) ** 2).sum(axis=0) * scenes / (scenes - 1) / n**2
    independent = share * (1 - share) / (n - 1)
    # From few scenes, so that it may be too small.
    estimated = (Z_95 / np.vectorize(standard_errors)(np.floor(worth).astype(int))) ** 2
    whole = np.clip(n * estimated / np.maximum(found / independent, 1), worth, n)
    rarer = np.minimum((has > 0).sum(axis=0), (has < all_).sum(axis=0))
    trusted = np.minimum(1, rarer / _ENOUGH)
    return np.where(rarer == 0, worth, 1 / ((1 - trusted) / worth + trusted / whole))
