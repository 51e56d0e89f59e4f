"""Is one group of runs better than another? Samples and seeds both vary, and both count.

A model is measured by several runs (seeds), all on the same n test samples. Its score is the mean over seeds of the
score of each seed's pooled counts, which is what tables show; where the score is a mean over samples (accuracy), that
is the same as averaging each sample over the seeds first. A difference between two such means has two sources of
chance: other test samples, and other seeds of the same recipes. Ignoring the second calls two identical recipes
different as soon as the test set is large.

How much each source contributes is read from the two-way table seeds × samples of jackknife pseudo-values

    Y_si = n θ_s - (n - 1) θ_s(-i)        (θ_s(-i): the score of seed s without sample i)

whose mean over i is θ_s up to a bias of order 1/n, and which are the samples' own 0 and 1 for an accuracy. With M_x
the variance of θ_s over the S seeds of x, I_x the residual mean square of its table over n (what the seeds disagree on
sample by sample), and V the variance over samples of the difference of seed means, over n,

    variance = M_a / S_a + M_b / S_b + max(0, V - I_a / S_a - I_b / S_b),        with M_x at least I_x

so that what belongs to both sources is counted once. The test is Student's with Satterthwaite's degrees of freedom.
This is the analysis of multi-reader, multi-case studies of diagnostic imaging (Dorfman, Berbaum and Metz 1992; Hillis
2007), with seeds as readers that each belong to one model.

Evaluation seeds are not paired, though equal ones draw equal training samples: what they share makes the test a
little too careful, while three paired differences leave two degrees of freedom, which is too few to find anything, or
too few to be right.

The other candidate was a hierarchical bootstrap (seeds drawn with replacement, then samples). With the three to five
seeds that people can afford it sees (S - 1) / S of the variance between seeds and knows no heavy tails: of two equal
recipes it calls up to a fifth different at p < 0.05 where seeds dominate (`tests/unit/test_stats_groups.py` measures
both). Its p-values also end at 2 / (draws + 1), which a correction for many tests then multiplies above 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rsfm.stats.bootstrap import Statistic

SeedKind = Literal["model seeds", "evaluation seeds"]


def seeds_text(kind: str, fewest: int, most: int | None = None) -> str:
    """What was averaged over: "1 evaluation seed", "1 to 3 model seeds"."""
    most = fewest if most is None else most
    name = kind.removesuffix("s") if most == 1 else kind
    return f"{fewest} {name}" if fewest == most else f"{fewest} to {most} {name}"


@dataclass(frozen=True)
class Measured:
    """One model on one test set.

    Attributes:
        scores: (S,) of each seed; values: (S, n) pseudo-values of each seed and sample.
        seeds, seed_kind: what S counts. Model seeds where there are two or more (evaluation seeds are then averaged
            within each), else evaluation seeds.
    """

    scores: np.ndarray
    values: np.ndarray
    seeds: tuple[int, ...]
    seed_kind: SeedKind

    @property
    def mean(self) -> float:
        return float(self.scores.mean())


@dataclass(frozen=True)
class GroupDifference:
    """Mean of a - mean of b, its standard error, interval and two-sided p-value of no difference."""

    mean_a: float
    mean_b: float
    difference: float
    standard_error: float
    degrees_of_freedom: float
    ci_low: float
    ci_high: float
    p_value: float
    n: int


def jackknife(counts: np.ndarray, statistic: Statistic) -> tuple[float, np.ndarray]:
    """The score of pooled counts (n, k), and the pseudo-value (n,) of each sample."""
    total = counts.sum(axis=0)
    score, n = float(statistic(total)), len(counts)
    return score, n * score - (n - 1) * statistic(total - counts)


def fold(found: Mapping[tuple[int, int], tuple[float, np.ndarray]]) -> Measured:
    """One model from what `jackknife` gives for each of its runs: (model seed, evaluation seed) -> score and values."""
    if len({len(values) for _, values in found.values()}) != 1:
        raise ValueError("the runs of a model need the same samples, and there must be one run at least")
    models = {model for model, _ in found}
    kind: SeedKind = "model seeds" if len(models) > 1 else "evaluation seeds"
    level = 0 if kind == "model seeds" else 1
    units = tuple(sorted({seeds[level] for seeds in found}))
    members = [[part for seeds, part in found.items() if seeds[level] == unit] for unit in units]
    scores = np.array([np.mean([score for score, _ in parts]) for parts in members])
    values = np.stack([np.mean([value for _, value in parts], axis=0) for parts in members])
    return Measured(scores, values, units, kind)


def measure(counts: Mapping[tuple[int, int], np.ndarray], statistic: Statistic) -> Measured:
    """One model from the counts of its runs.

    Args:
        counts: (model seed, evaluation seed) -> (n, k) of each sample, samples in the same order.
        statistic: pooled counts (..., k) to scores (...), e.g. `rsfm.metrics.METRICS["f1"].function`.
    """
    return fold({seeds: jackknife(np.asarray(c, np.float64), statistic) for seeds, c in counts.items()})


def _between_seeds(x: Measured) -> tuple[float, float, int]:
    """Variance of one seed's score between seeds (M), the part of it that is noise on single samples (I), and M's
    degrees of freedom."""
    seeds, n = x.values.shape
    rest = x.values - x.values.mean(axis=0) - x.values.mean(axis=1, keepdims=True) + x.values.mean()
    noise = float((rest**2).sum()) / ((seeds - 1) * (n - 1)) / n
    between = float(x.scores.var(ddof=1))
    # At its floor the variance rests on n samples, but how often few seeds lie at the floor by chance matters too:
    # (S - 1)³ (1 for two seeds, 8 for three) was chosen by simulation; n - 1 would call too many equal pairs different.
    return max(between, noise), noise, seeds - 1 if between > noise else min(n - 1, (seeds - 1) ** 3)


def group_difference(a: Measured, b: Measured, *, level: float = 0.95) -> GroupDifference:
    """Compare two models on the same samples; see the module's text.

    A model with a single seed gets the spread of the other's seeds; with one seed each, only samples vary, and the
    result is about these two runs, not about the recipes behind them.

    Returns:
        NaN for interval and p-value where a score is undefined, with or without some sample, or with one sample only.
        The p-value is at least 2^(1 - n): n samples cannot say more.
    """
    if a.values.shape[1] != b.values.shape[1]:
        raise ValueError(f"paired samples need equal numbers, got {a.values.shape[1]} and {b.values.shape[1]}")
    n, difference = a.values.shape[1], a.mean - b.mean
    per_sample = a.values.mean(axis=0) - b.values.mean(axis=0)
    if n < 2 or not np.isfinite(per_sample).all():
        return GroupDifference(a.mean, b.mean, difference, *(math.nan,) * 5, n)
    of_samples = float(per_sample.var(ddof=1)) / n
    known = [(x, _between_seeds(x)) for x in (a, b) if len(x.seeds) > 1]
    parts: list[tuple[float, float]] = []  # (variance, its degrees of freedom)
    for x, (between, noise, freedom) in known:
        share = 1 / len(x.seeds) if len(known) == 2 else 1 / len(a.seeds) + 1 / len(b.seeds)
        parts.append((between * share, freedom))
        of_samples -= noise * share
    parts.append((max(0.0, of_samples), n - 1))
    variance = sum(v for v, _ in parts)
    if variance == 0:
        p_value = 1.0 if difference == 0 else 2.0 ** (1 - n)
        return GroupDifference(a.mean, b.mean, difference, 0.0, math.inf, difference, difference, p_value, n)
    from scipy.special import stdtr, stdtrit  # a third of a second: not at import, for pages start with this module

    freedom = variance**2 / sum(v**2 / f for v, f in parts if v > 0)
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    p_value = min(1.0, max(2 * float(stdtr(freedom, -abs(difference) / error)), 2.0 ** (1 - n)))
    ends = difference - half, difference + half
    return GroupDifference(a.mean, b.mean, difference, error, freedom, *ends, p_value, n)


def mean_difference_p(parts: Sequence[GroupDifference], weights: Sequence[float]) -> float:
    """Two-sided p-value of no difference between two models on average over independent test sets.

    Student's test of Σ w d with the variance Σ w² s² and Satterthwaite's degrees of freedom.

    Args:
        parts: the difference on each test set; weights: of each.

    Returns:
        NaN where one of the differences has no standard error.
    """
    total = sum(w * d.difference for w, d in zip(weights, parts, strict=True))
    variances = [(w * d.standard_error) ** 2 for w, d in zip(weights, parts, strict=True)]
    if not parts or not all(map(math.isfinite, (*variances, total))):
        return math.nan
    variance = sum(variances)
    if variance == 0:
        return 1.0 if total == 0 else 2.0 ** (1 - sum(d.n for d in parts))
    from scipy.special import stdtr  # not at import, as above

    freedom = variance**2 / sum(v**2 / d.degrees_of_freedom for v, d in zip(variances, parts, strict=True) if v > 0)
    return min(1.0, 2 * float(stdtr(freedom, -abs(total) / math.sqrt(variance))))
