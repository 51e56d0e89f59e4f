"""Tiers instead of ranks, and one number over several datasets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rsfm.stats.significance import holm


def tiers(scores: Sequence[float], p_values: np.ndarray, *, alpha: float = 0.05) -> list[int]:
    """Which models cannot be told apart: a tier for each, 1 is the best.

    "Not told apart" is not transitive (A ~ B and B ~ C, but A > C), so tiers by neighbours would depend on who else is
    in the table. Here every model is compared with the *best of its tier* only: the highest score opens tier 1; all
    models that cannot be told from it join, wherever they stand; the highest of the others opens tier 2, and so on.
    So each model was told from the best of every tier above its own. Within a tier, nothing is said about order. A
    model measured with much noise may stand in a higher tier than one with a higher score: it could be as good.

    Each tier's comparisons with its best are corrected for their number (Holm).

    Args:
        scores: (m,), larger is better.
        p_values: (m, m) of the paired comparisons, symmetric; NaN where none was possible: not told apart.
    """
    y, p = np.asarray(scores, np.float64), np.asarray(p_values, np.float64)
    if p.shape != (len(y), len(y)) or np.isnan(y).any():
        raise ValueError(f"{len(y)} scores without NaN need a {len(y)} x {len(y)} table of p-values, got {p.shape}")
    if not np.array_equal(p, p.T, equal_nan=True):
        raise ValueError("the table of p-values must be symmetric")
    found = np.zeros(len(y), int)
    left = list(np.argsort(-y, kind="stable"))
    tier = 0
    while left:
        tier += 1
        best, *others = left
        told = dict(zip(others, holm(p[best, others]) < alpha, strict=True))
        members = [best, *(i for i in others if not told[i])]
        found[members] = tier
        left = [i for i in others if told[i]]
    return found.tolist()


def folded_error(parts: Sequence[Mapping[int, float]], weights: Sequence[float] | np.ndarray) -> tuple[float, int]:
    """Standard error of a weighted sum of scores that comes from model seeds, and how many seeds it rests on.

    Args:
        parts: seed -> score, of each term.

    Returns:
        NaN where fewer than two seeds are common to all terms.
    """
    common = sorted(set.intersection(*map(set, parts)))
    if len(common) < 2:
        return math.nan, len(common)
    folded = [sum(w * part[seed] for w, part in zip(weights, parts, strict=True)) for seed in common]
    return float(np.std(folded, ddof=1)) / math.sqrt(len(common)), len(common)


@dataclass(frozen=True)
class NormalisedMean:
    """Mean over datasets of rescaled scores, its interval, and the rescaled score of each dataset."""

    mean: float
    ci_low: float
    ci_high: float
    parts: tuple[float, ...]


def normalised_mean(
    scores: Sequence[np.ndarray],
    floors: Sequence[float],
    draws: Sequence[np.ndarray],
    *,
    model_seeds: Sequence[Sequence[int]] | None = None,
    ceilings: Sequence[float] | None = None,
    level: float = 0.95,
) -> NormalisedMean:
    """One number over datasets of different difficulty and metric.

    Each dataset's score is rescaled to (score - floor) / (ceiling - floor) and all datasets weigh the same. The floor
    is what needs no model (the best constant prediction, `rsfm.metrics.constant_floor`), the ceiling a perfect score:
    both belong to the dataset, so a model's number does not change when another model is added, as it would between
    the worst and the best model so far. 0 means no better than a constant, 1 perfect; below the floor it is negative.
    Means over different datasets must not be compared.

    Args:
        scores: for each dataset (S,), the score of each seed.
        floors: for each dataset.
        draws: for each dataset (draws,), the seeds' mean score under resampling of its samples (`pooled_draws`).
        model_seeds: for each dataset which models the scores are of, none where they are of one model. The same models
            are measured on all datasets, so their spread is that of their means over the datasets. Left out, seeds are
            of evaluations: drawn anew for each dataset.
        ceilings: for each dataset; 1 where left out.

    Returns:
        An interval that joins both sources of error in quadrature, each side by itself: percentiles of the resampled
        mean, every dataset drawn by itself, and the standard error of the seeds times Student's t. Its degrees of
        freedom are the number of model seeds less one, for evaluation seeds Satterthwaite's. The ends are NaN where
        there are model seeds and fewer than two are common to all datasets: their spread is not known; and where a
        dataset has one scene only.
    """
    if not len(scores) == len(floors) == len(draws) or not len(scores):
        raise ValueError("a mean over datasets needs scores, a floor and draws of each, and one dataset at least")
    floor = np.asarray(floors, np.float64)
    span = (np.ones(len(floor)) if ceilings is None else np.asarray(ceilings, np.float64)) - floor
    if not (span > 0).all():
        raise ValueError(f"every ceiling must lie above its floor, got spans {span}")
    parts = (np.array([np.mean(s) for s in scores]) - floor) / span
    resampled = ((np.stack(draws) - floor[:, None]) / span[:, None]).mean(axis=0)
    mean, tail = float(parts.mean()), (1 - level) / 2
    if np.isnan(resampled).all():
        return NormalisedMean(mean, math.nan, math.nan, tuple(parts.tolist()))
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    if model_seeds is not None and any(model_seeds):
        of_seeds = [
            dict(zip(seeds, s / w, strict=True)) if seeds else {}
            for seeds, s, w in zip(model_seeds, scores, span, strict=True)
        ]
        error, common = folded_error(of_seeds, np.full(len(parts), 1 / len(parts)))
        freedom = common - 1.0
    else:
        many = [(np.var(s, ddof=1) / len(s) / w**2, len(s)) for s, w in zip(scores, span, strict=True) if len(s) > 1]
        variance, rest = sum(v for v, _ in many), sum(v**2 / (n - 1) for v, n in many)
        error, freedom = math.sqrt(variance) / len(parts), variance**2 / rest if rest else math.inf
    spread = error
    if error > 0:
        from scipy.special import stdtrit  # a third of a second: not at import, for pages start with this module

        spread *= float(stdtrit(freedom, (1 + level) / 2))
    below, above = math.hypot(max(0.0, mean - low), spread), math.hypot(max(0.0, high - mean), spread)
    return NormalisedMean(mean, mean - below, mean + above, tuple(parts.tolist()))
