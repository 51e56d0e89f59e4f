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

so that what belongs to both sources is counted once. The test is Student's with Satterthwaite's degrees of freedom,
those of V as many as there are samples that decide it (`_freedom`).
This is the analysis of multi-reader, multi-case studies of diagnostic imaging (Dorfman, Berbaum and Metz 1992; Hillis
2007), with seeds as readers that each belong to one model.

A mean over several test sets, Σ w θ, has independent samples in each, but the same models: what a model seed has drawn
is in its score on every test set and does not average out over them. So θ_s is folded over the test sets first, M_x is
the variance of these numbers, and only what samples contribute adds up. Evaluation seeds are drawn anew on each test
set: their variances add up.

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
from rsfm.wording import counted

SeedKind = Literal["model seeds", "evaluation seeds"]


def seeds_text(kind: str, fewest: int, most: int | None = None) -> str:
    """What was averaged over: "1 evaluation seed", "1 to 3 model seeds"."""
    most = fewest if most is None else most
    return counted(most, kind) if fewest == most else f"{fewest} to {counted(most, kind)}"


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


def common_seeds(parts: Sequence[Measured]) -> tuple[int, ...]:
    """The model seeds with which one model was measured on all of some test sets; none where it has only one."""
    if not all(map(_has_model_seeds, parts)):
        return ()
    return tuple(sorted(set.intersection(*(set(p.seeds) for p in parts))))


def uneven(parts: Sequence[Measured]) -> bool:
    """Whether a model was measured with several model seeds, of which fewer than two are common to all test sets: how
    far its mean would vary with other seeds is then not known."""
    return any(map(_has_model_seeds, parts)) and len(common_seeds(parts)) < 2


def _has_model_seeds(x: Measured) -> bool:
    return x.seed_kind == "model seeds" and len(x.seeds) > 1


def _noise(x: Measured) -> float:
    """The part (I) of the variance between seeds that is noise on single samples."""
    seeds, n = x.values.shape
    rest = x.values - x.values.mean(axis=0) - x.values.mean(axis=1, keepdims=True) + x.values.mean()
    return float((rest**2).sum()) / ((seeds - 1) * (n - 1)) / n


def _freedom(values: np.ndarray) -> float:
    """Degrees of freedom of the variance of (n,) pseudo-values: at most n - 1.

    Fewer where some of them decide, because few samples differ at all, or scenes are of different sizes: with m values
    apart from the rest it rests on m, not on n. (Σ d²)² / Σ d⁴ counts them, and is n / 3 for normal values.
    """
    squares = (values - values.mean()) ** 2
    if not squares.any():
        return len(values) - 1
    return max(1.0, min(len(values) - 1, 3 * float(squares.sum() ** 2 / (squares**2).sum()) - 1))


def _between_seeds(parts: Sequence[Measured], weights: Sequence[float], seeds: Sequence[int]) -> tuple[float, int]:
    """Variance of one seed's weighted sum over test sets between these seeds (M), and its degrees of freedom."""
    folded = sum(w * x.scores[[x.seeds.index(s) for s in seeds]] for w, x in zip(weights, parts, strict=True))
    noise = sum(w**2 * _noise(x) for w, x in zip(weights, parts, strict=True))
    between = float(np.var(folded, ddof=1))
    # At its floor the variance rests on n samples, but how often few seeds lie at the floor by chance matters too:
    # (S - 1)³ (1 for two seeds, 8 for three) was chosen by simulation; n - 1 would call too many equal pairs different.
    samples = sum(x.values.shape[1] - 1 for x in parts)
    return max(between, noise), len(seeds) - 1 if between > noise else min(samples, (len(seeds) - 1) ** 3)


def group_difference(a: Measured, b: Measured, *, level: float = 0.95) -> GroupDifference:
    """Compare two models on the same samples; see the module's text and `mean_difference`."""
    return mean_difference([a], [b], [1.0], level=level)


def mean_difference(
    a: Sequence[Measured], b: Sequence[Measured], weights: Sequence[float], *, level: float = 0.95
) -> GroupDifference:
    """Compare the weighted sums of two models over test sets, each on the same samples; see the module's text.

    A model with a single seed gets the spread of the other's seeds; with one seed each, only samples vary, and the
    result is about these two runs, not about the recipes behind them.

    Args:
        a, b: on each test set; weights: of each.

    Returns:
        NaN for interval and p-value where a score is undefined, with or without some sample, with one sample only, or
        where a model's seeds differ too much between test sets (`uneven`). The p-value is at least 2^(1 - n): n samples
        cannot say more. `n` is the number of samples of all test sets.
    """
    sizes = [(x.values.shape[1], y.values.shape[1]) for x, y in zip(a, b, strict=True)]
    for one, other in sizes:
        if one != other:
            raise ValueError(f"paired samples need equal numbers, got {one} and {other}")
    n = sum(one for one, _ in sizes)
    means = [sum(w * x.mean for w, x in zip(weights, side, strict=True)) for side in (a, b)]
    difference = means[0] - means[1]
    per_sample = [x.values.mean(axis=0) - y.values.mean(axis=0) for x, y in zip(a, b, strict=True)]
    known = all(len(d) > 1 and np.isfinite(d).all() for d in per_sample)
    if not known or uneven(a) or uneven(b):
        return GroupDifference(*means, difference, *(math.nan,) * 5, n)
    of_samples = [w**2 * float(d.var(ddof=1)) / len(d) for w, d in zip(weights, per_sample, strict=True)]
    parts: list[tuple[float, float]] = []  # (variance, its degrees of freedom)
    for x, other in ((a, b), (b, a)):
        for tests, seeds in _sources(x):
            between, freedom = _between_seeds([x[t] for t in tests], [weights[t] for t in tests], seeds)
            single = [t for t in tests if len(other[t].seeds) == 1]
            lent, least = 0.0, freedom
            if single:
                lent, least = _between_seeds([x[t] for t in single], [weights[t] for t in single], seeds)
            parts.append((between / len(seeds) + lent, min(freedom, least)))
            for t in tests:
                of_samples[t] -= weights[t] ** 2 * _noise(x[t]) * (1 / len(x[t].seeds) + (t in single))
    parts += [(max(0.0, v), _freedom(d)) for v, d in zip(of_samples, per_sample, strict=True)]
    variance = sum(v for v, _ in parts)
    if variance == 0:
        p_value = 1.0 if difference == 0 else 2.0 ** (1 - n)
        # All samples agree, which says how rare others are, not that there are none (Clopper and Pearson's bound).
        half = sum(abs(w) * (1 - ((1 - level) / 2) ** (1 / len(d))) for w, d in zip(weights, per_sample, strict=True))
        return GroupDifference(*means, difference, 0.0, math.inf, difference - half, difference + half, p_value, n)
    from scipy.special import stdtr, stdtrit  # a third of a second: not at import, for pages start with this module

    freedom = variance**2 / sum(v**2 / f for v, f in parts if v > 0)
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    p_value = min(1.0, max(2 * float(stdtr(freedom, -abs(difference) / error)), 2.0 ** (1 - n)))
    return GroupDifference(*means, difference, error, freedom, difference - half, difference + half, p_value, n)


def _sources(x: Sequence[Measured]) -> list[tuple[list[int], tuple[int, ...]]]:
    """Test sets (their positions) over which the same seeds of a model vary, and these seeds: of model seeds all,
    of evaluation seeds each by itself."""
    if seeds := common_seeds(x):
        return [(list(range(len(x))), seeds)]
    return [([t], m.seeds) for t, m in enumerate(x) if len(m.seeds) > 1]
