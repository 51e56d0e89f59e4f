"""Scores of pooled counts under resampling, the correction for many tests, tiers, and means over datasets."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from rsfm import stats
from rsfm.metrics import METRICS
from rsfm.stats import bootstrap
from rsfm.stats.student import standard_errors

F1, ACCURACY = METRICS["f1"].function, METRICS["accuracy"].function
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(np.array)


def tiles(n: int, seed: int = 0, hit: float = 0.7) -> np.ndarray:
    """[tp, fp, fn, tn] of n tiles, a third of them with change."""
    rng = np.random.default_rng(seed)
    change = np.where(rng.random(n) < 0.35, rng.gamma(2, 100, n), 0).astype(int)
    tp, fp = rng.binomial(change, hit), rng.poisson(20, n)
    return np.stack([tp, fp, change - tp, 2000 - change - fp], axis=1).astype(float)


# -- pooled bootstrap -----------------------------------------------------------------------------------------------
def test_pooled_draws_are_scores_of_drawn_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tiles(12)
    rng = np.random.default_rng(3)
    by_hand = [F1(counts[rng.integers(0, 12, 12)].sum(axis=0)) for _ in range(7)]
    assert np.allclose(bootstrap.pooled_draws(counts, F1, draws=7, seed=3), by_hand)
    columns = np.stack([counts, tiles(12, seed=1)], axis=1)
    both = bootstrap.pooled_draws(columns, F1, draws=7, seed=3)
    assert both.shape == (7, 2) and np.allclose(both[:, 0], by_hand), "columns share the draws"
    monkeypatch.setattr(bootstrap, "_CHUNK", 30)
    assert np.allclose(bootstrap.pooled_draws(columns, F1, draws=7, seed=3), both)


def test_pooled_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = float(F1(tiles(200_000).sum(axis=0)))
    covered = 0
    for seed in range(150):
        low, high = stats.bootstrap_pooled(tiles(120, seed + 1), F1, draws=300)
        covered += low <= truth <= high
    assert 0.88 <= covered / 150 <= 0.99


def test_draws_without_a_score_are_left_out() -> None:
    counts = np.zeros((6, 4))
    counts[:, 3] = 9
    assert np.isnan(stats.bootstrap_pooled(counts, F1)).all()
    counts[0, :3] = 3, 1, 1
    low, high = stats.bootstrap_pooled(np.stack([counts, counts * 2], axis=1), F1, draws=50)
    assert low == pytest.approx([0.75, 0.75]) and high == pytest.approx([0.75, 0.75])
    for bad in (np.zeros((0, 4)), np.zeros(4)):
        with pytest.raises(ValueError, match="at least one sample"):
            stats.bootstrap_pooled(bad, F1)


# -- corrections ----------------------------------------------------------------------------------------------------
def test_corrections_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert stats.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert stats.holm(np.array([])).tolist() == []


@settings(deadline=None, max_examples=60)
@given(p=P_VALUES, data=st.data())
def test_properties_of_corrections(p: np.ndarray, data: st.DataObject) -> None:
    holm = stats.holm(p)
    assert (p <= holm + 1e-12).all()
    assert (holm <= np.minimum(1, p * len(p)) + 1e-12).all(), "never more than Bonferroni"
    order = np.argsort(p, kind="stable")
    assert (np.diff(holm[order]) >= 0).all()
    shuffle = np.array(data.draw(st.permutations(range(len(p)))))
    assert stats.holm(p[shuffle]) == pytest.approx(holm[shuffle])
    # A test that was not possible changes nothing.
    assert stats.holm(np.append(p, np.nan)) == pytest.approx(np.append(holm, np.nan), nan_ok=True)


def test_holm_rarely_errs_at_all() -> None:
    """Ten true null hypotheses, correlated: some p-value below 0.05 in a fifth of the cases, corrected in one of 20."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 10)) * 0.8 + rng.normal(size=(2000, 1)) * 0.6
    p = 2 * norm.sf(abs(z))
    assert (p < 0.05).any(axis=1).mean() > 0.2
    assert np.mean([(stats.holm(row) < 0.05).any() for row in p]) < 0.06


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [[0.1]]])
def test_what_is_no_probability_is_refused(bad: list) -> None:
    with pytest.raises(ValueError, match="p-values"):
        stats.holm(np.array(bad))


# -- tiers ----------------------------------------------------------------------------------------------------------
def p_table(m: int, **pairs: float) -> np.ndarray:
    """Ones but for pairs such as ac=0.01."""
    p = np.ones((m, m))
    for (i, j), value in pairs.items():
        p["abcdef".index(i), "abcdef".index(j)] = p["abcdef".index(j), "abcdef".index(i)] = value
    return p


def test_tiers_compare_with_the_best_only() -> None:
    """A ~ B and B ~ C, but A > C: B shares A's tier, C opens its own."""
    assert stats.tiers([0.9, 0.88, 0.86], p_table(3, ac=0.001)) == [1, 1, 2]
    assert stats.tiers([0.86, 0.9, 0.88], p_table(3, ab=0.001)) == [2, 1, 1], "whatever their order in the table"
    # A noisy model below one that was told from the best: it may still be as good as the best.
    assert stats.tiers([0.9, 0.8, 0.79], p_table(3, ab=0.001)) == [1, 2, 1]
    assert stats.tiers([0.9, 0.8, 0.7], p_table(3, ab=0.001, ac=0.001, bc=0.001)) == [1, 2, 3]
    assert stats.tiers([0.9, 0.8], p_table(2, ab=math.nan)) == [1, 1]
    assert stats.tiers([0.5], np.ones((1, 1))) == [1] and stats.tiers([], np.ones((0, 0))) == []
    # Holm among the comparisons with the best: 0.03 alone would do, among two it does not.
    assert stats.tiers([0.9, 0.8], p_table(2, ab=0.03)) == [1, 2]
    assert stats.tiers([0.9, 0.8, 0.7], p_table(3, ab=0.03, ac=0.9)) == [1, 1, 1]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 7))
def test_properties_of_tiers(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    scores, p = rng.random(m), rng.random((m, m)) ** 4
    p = np.triu(p, 1) + np.triu(p, 1).T + np.eye(m)
    found = stats.tiers(scores, p)
    assert sorted(set(found)) == list(range(1, max(found) + 1)) and found[int(scores.argmax())] == 1
    openers = {t: max((i for i in range(m) if found[i] == t), key=lambda i: scores[i]) for t in set(found)}
    for i, tier in enumerate(found):
        for above in range(1, tier):
            assert p[i, openers[above]] < 0.05, "told from the best of every tier above"
            assert scores[openers[above]] > scores[i]
    order = rng.permutation(m)
    assert stats.tiers(scores[order], p[np.ix_(order, order)]) == [found[i] for i in order]
    with pytest.raises(ValueError, match="table of p-values"):
        stats.tiers(scores, p[:, 1:])


# -- one number over datasets ---------------------------------------------------------------------------------------
def test_normalised_mean_by_hand() -> None:
    of = partial(stats.normalised_mean, [np.array([0.7]), np.array([0.9])], [0.1, 0.5], [(0.1, 0.09), (0.05, 0.02)])
    result = of()
    assert result.parts == pytest.approx((0.6 / 0.9, 0.4 / 0.5))
    assert result.mean == pytest.approx(np.mean(result.parts))
    ends = (result.mean - result.ci_low, result.ci_high - result.mean)
    assert ends == pytest.approx((math.hypot(0.1 / 0.9, 0.1) / 2, math.hypot(0.1, 0.04) / 2))
    together = of(test_sets=["a", "a"])
    assert together.ci_high - together.mean == pytest.approx((0.1 + 0.04) / 2), "the same samples err together"
    assert of(test_sets=["a", "b"]) == result
    assert stats.normalised_mean([np.array([0.2])], [0.5], [(0, 0)]).mean == pytest.approx(-0.6)
    assert stats.normalised_mean([np.array([1.0])], [0.5], [(0, 0)]).mean == 1
    unknown = stats.normalised_mean([np.array([0.7])] * 2, [0, 0], [(0.1, 0.1), (math.nan, math.nan)])
    assert math.isnan(unknown.ci_low) and math.isnan(unknown.ci_high), "of one scene"
    for bad in (([], [], []), ([np.array([0.5])], [1.0], [(0, 0)]), ([np.array([0.5])], [], [])):
        with pytest.raises(ValueError, match=r"one dataset|floor"):
            stats.normalised_mean(*bad)


def test_the_spread_of_seeds_widens_the_mean_over_datasets() -> None:
    calm = stats.normalised_mean([np.array([0.7, 0.7])] * 2, [0.0, 0.0], [(0.02, 0.02)] * 2)
    wild = stats.normalised_mean([np.array([0.65, 0.75])] * 2, [0.0, 0.0], [(0.02, 0.02)] * 2)
    assert calm.mean == wild.mean == pytest.approx(0.7)
    assert calm.ci_high - calm.mean == pytest.approx(0.02 / math.sqrt(2)), "two datasets, independent"
    seeds = student.ppf(0.975, 1) * np.std([0.65, 0.75], ddof=1) / math.sqrt(2)  # of each dataset
    assert wild.ci_high - wild.mean == pytest.approx(math.hypot(0.02, seeds) / math.sqrt(2), rel=1e-6)


def test_model_seeds_are_folded_over_datasets_first() -> None:
    of = lambda second, seeds: stats.normalised_mean(  # noqa: E731
        [np.array([0.65, 0.75]), np.array(second)], [0.0, 0.0], [(0, 0)] * 2, model_seeds=[(0, 1), seeds]
    )
    half = student.ppf(0.975, 1) * np.std([0.65, 0.75], ddof=1) / math.sqrt(2)
    assert of([0.65, 0.75], (0, 1)).ci_high - 0.7 == pytest.approx(half, rel=1e-3), "two datasets say no more than one"
    assert of([0.65, 0.75], (1, 0)).ci_high == pytest.approx(0.7), "on average these models are equal"
    assert math.isnan(of([0.65, 0.75], (1, 2)).ci_low) and of([0.65, 0.75], (1, 2)).mean == pytest.approx(0.7)
    assert math.isnan(of([0.7], ()).ci_high)
    assert stats.folded_error([{0: 1.0, 1: 2.0, 2: 9.0}, {1: 4.0, 0: 3.0}], [0.5, 0.5]) == (pytest.approx(0.5), 2)


def test_the_quantiles_of_few_seeds_are_students() -> None:
    exact = [student.ppf(0.975, seeds - 1) for seeds in range(2, 122)]
    assert [standard_errors(seeds) for seeds in range(2, 122)] == pytest.approx(exact, abs=2e-6)
    assert standard_errors(1000) == standard_errors(121) == pytest.approx(1.96, rel=0.011)


@settings(deadline=None, max_examples=40)
@given(score=st.floats(0, 1), floor=st.floats(0, 0.9), ceiling=st.floats(0.95, 1))
def test_rescaling_keeps_floor_and_ceiling(score: float, floor: float, ceiling: float) -> None:
    of = lambda s: stats.normalised_mean([np.array([s])], [floor], [(0, 0)], ceilings=[ceiling]).mean  # noqa: E731
    assert of(floor) == pytest.approx(0) and of(ceiling) == pytest.approx(1)
    assume(abs(score - floor) > 1e-6)
    assert (of(score) > 0) == (score > floor)
