"""Tiers instead of ranks, and one number over several datasets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rsfm.stats.significance import holm
from rsfm.stats.student import standard_errors


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
    sides: Sequence[tuple[float, float]],
    *,
    model_seeds: Sequence[Sequence[int]] | None = None,
    ceilings: Sequence[float] | None = None,
    test_sets: Sequence[Hashable] | None = None,
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
        sides: for each dataset how far the interval of the score reaches below and above it, by its samples alone
            (`score_interval`, on average over the seeds).
        model_seeds: for each dataset which models the scores are of, none where they are of one model. The same models
            are measured on all datasets, so their spread is that of their means over the datasets. Left out, seeds are
            of evaluations: drawn anew for each dataset.
        ceilings: for each dataset; 1 where left out.
        test_sets: for each dataset what its samples are, where some have the same ones: these err together. Left out,
            all are different.

    Returns:
        An interval that joins all sources of error in quadrature, each side by itself: the samples of each dataset,
        which are independent of those of others; and the seeds, as their standard errors times Student's t. Of model
        seeds it is that of their means over the datasets, of evaluation seeds there is one for each dataset. The ends
        are NaN where there are model seeds and fewer than two are common to all datasets: their spread is not known;
        and where a dataset has one scene only.
    """
    if not len(scores) == len(floors) == len(sides) or not len(scores):
        raise ValueError("a mean over datasets needs scores, a floor and sides of each, and one dataset at least")
    floor = np.asarray(floors, np.float64)
    span = (np.ones(len(floor)) if ceilings is None else np.asarray(ceilings, np.float64)) - floor
    if not (span > 0).all():
        raise ValueError(f"every ceiling must lie above its floor, got spans {span}")
    parts = (np.array([np.mean(s) for s in scores]) - floor) / span
    weights = 1 / span / len(parts)
    mean = float(parts.mean())
    if model_seeds is not None and any(model_seeds):
        of_seeds = [
            dict(zip(seeds, s / w, strict=True)) if seeds else {}
            for seeds, s, w in zip(model_seeds, scores, span, strict=True)
        ]
        error, common = folded_error(of_seeds, np.full(len(parts), 1 / len(parts)))
        spread = standard_errors(common) * error if common > 1 else math.nan
    else:
        spread = math.hypot(
            *(w * standard_errors(len(s)) * float(np.std(s, ddof=1)) / math.sqrt(len(s))
              for s, w in zip(scores, weights, strict=True) if len(s) > 1)
        )  # fmt: skip
    of_samples: dict[Hashable, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for i, (w, ends) in enumerate(zip(weights, sides, strict=True)):
        of_samples[i if test_sets is None else test_sets[i]] += w * np.asarray(ends, np.float64)
    below, above = (math.hypot(spread, *ends) for ends in np.stack(list(of_samples.values()), axis=1))
    return NormalisedMean(mean, mean - below, mean + above, tuple(parts.tolist()))
