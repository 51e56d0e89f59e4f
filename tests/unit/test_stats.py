"""Uncertainty and areas under curves against published tables, closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from rsfm import stats
from rsfm.metrics import METRICS
from rsfm.stats import bootstrap

FACTORS = [1, 2, 4, 8]

# Scores in % at 1×, 2×, 4×, 8× and the area that the authors of arXiv 2510.17014 give for them.
CHANGE_ROWS = [
    ((90.9, 88.2, 54.6, 2.6), 66.36),
    ((90.7, 87.9, 51.8, 5.4), 66.03),
    ((90.6, 89.0, 75.7, 5.0), 70.84),
    ((88.7, 86.6, 57.8, 12.5), 67.05),
    ((90.6, 87.9, 51.9, 3.7), 65.81),
    ((89.8, 89.7, 89.2, 87.5), 83.75),
    ((97.1, 96.3, 87.7, 75.7), 86.29),
    ((97.1, 96.6, 90.5, 79.0), 87.34),
    ((96.2, 95.2, 90.3, 83.7), 87.14),
    ((96.9, 95.9, 87.2, 76.2), 86.06),
]
# Scene classification: areas printed with one decimal.
SCENE_ROWS = [
    ((91.59, 89.44, 74.7, 40.3), 75.5),
    ((93.75, 83.73, 42.84, 15.97), 64.9),
    ((94.67, 92.29, 66.68, 25.37), 74.0),
    ((93.22, 83.44, 40.52, 16.68), 64.3),
    ((81.75, 65.59, 31.14, 15.06), 52.8),
    ((96.05, 88.49, 50.7, 19.17), 69.1),
    ((91.1, 83.6, 64.52, 34.73), 70.6),
    ((95.46, 88.4, 61.83, 20.35), 71.2),
    ((97.62, 97.38, 90.95, 67.38), 86.4),
    ((98.33, 97.38, 91.19, 58.57), 85.5),
    ((99.52, 99.52, 73.33, 30.71), 79.8),
    ((99.76, 99.29, 76.43, 41.19), 81.7),
    ((95.0, 86.43, 65.48, 36.67), 73.0),
    ((99.05, 99.05, 90.95, 57.14), 86.1),
    ((95.71, 93.81, 84.29, 47.38), 80.8),
    ((98.81, 97.62, 92.86, 68.57), 87.3),
]
SCORES = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@pytest.mark.parametrize(("scores", "area"), CHANGE_ROWS)
def test_area_of_published_curves(scores: tuple[float, ...], area: float) -> None:
    assert stats.scale_auc(FACTORS, np.array(scores) / 100) == pytest.approx(area, abs=0.01)


@pytest.mark.parametrize(("scores", "area"), SCENE_ROWS)
def test_area_of_published_curves_with_one_decimal(scores: tuple[float, ...], area: float) -> None:
    assert stats.scale_auc(FACTORS, np.array(scores) / 100) == pytest.approx(area, abs=0.0501)


def test_area_of_a_perfect_model() -> None:
    assert stats.scale_auc(FACTORS, [1, 1, 1, 1]) == 93.75
    assert stats.auc_normalised(FACTORS, [1, 1, 1, 1]) == 1.0
    assert stats.scale_auc([1], [1]) == 50.0


@settings(deadline=None, max_examples=50)
@given(scores=SCORES, order=st.permutations(range(4)))
def test_area_does_not_depend_on_the_order_of_the_points(scores: list[float], order: list[int]) -> None:
    shuffled = stats.scale_auc([FACTORS[i] for i in order], [scores[i] for i in order])
    assert shuffled == pytest.approx(stats.scale_auc(FACTORS, scores), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(scores=SCORES, scale=st.floats(0.01, 1))
def test_area_is_linear_and_bounded(scores: list[float], scale: float) -> None:
    area = stats.scale_auc(FACTORS, scores)
    assert 0 <= area <= 93.75 + 1e-9
    assert stats.scale_auc(FACTORS, np.array(scores) * scale) == pytest.approx(area * scale, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(level=st.floats(0, 1), factors=st.sets(st.integers(1, 64), min_size=1, max_size=6))
def test_normalised_area_of_a_flat_curve_is_its_level_on_any_grid(level: float, factors: set[int]) -> None:
    assert stats.auc_normalised(sorted(factors), [level] * len(factors)) == pytest.approx(level, abs=1e-9)


@pytest.mark.parametrize(("scores", "area"), CHANGE_ROWS)
def test_the_summary_of_published_curves(scores: tuple[float, ...], area: float) -> None:
    found = stats.summarise(FACTORS, np.array(scores) / 100, identity=1, factors=True)
    assert found.auc == pytest.approx(area, abs=0.01) and found.auc_norm == pytest.approx(area / 93.75, abs=1e-4)
    assert found.mean == pytest.approx(sum(scores) / 400) and found.retention == pytest.approx(scores[3] / scores[0])
    assert stats.summarise(FACTORS[::-1], np.array(scores[::-1]) / 100, identity=1, factors=True) == found


def test_a_summary_has_only_what_is_defined() -> None:
    blurred = stats.summarise([0, 1, 4], [0.8, 0.6, 0.2], identity=0, factors=False)
    assert math.isnan(blurred.auc) and math.isnan(blurred.auc_norm)
    assert (blurred.mean, blurred.retention) == pytest.approx((1.6 / 3, 0.25))
    without = stats.summarise([2, 4], [0.6, 0.2], identity=1, factors=True)
    assert without.auc == pytest.approx(100 * (0.4 * 0.25 + 0.1 * 0.25)) and math.isnan(without.retention)
    gap = stats.summarise([1, 2, 4], [0.8, math.nan, 0.4], identity=1, factors=True)
    assert math.isnan(gap.auc) and math.isnan(gap.auc_norm) and math.isnan(gap.mean) and gap.retention == 0.5
    assert math.isnan(stats.summarise([1, 2], [0, 0], identity=1, factors=True).retention), "nothing to keep"
    assert math.isnan(stats.summarise([0, 3], [0.9, 0.8], identity=None, factors=False).retention)


@pytest.mark.parametrize(("factors", "scores"), [([], []), ([1, 2], [0.5]), ([1, 1], [0.5, 0.5]), ([0, 1], [0.5, 1])])
def test_impossible_curves_are_refused(factors: list[float], scores: list[float]) -> None:
    with pytest.raises(ValueError, match="factor"):
        stats.scale_auc(factors, scores)


def interval(right: np.ndarray, **options: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the accuracy of (n,) or (n, m) values in 0..1: the mean of each column."""
    counts = np.stack([right, np.ones_like(right)], axis=-1)
    return stats.bootstrap_pooled(counts, METRICS["accuracy"].of, **options)


def test_bootstrap_interval_of_a_share() -> None:
    """Percentiles of the resampled mean of 0/1 values are those of a binomial."""
    low, high = interval(np.r_[np.ones(350), np.zeros(150)], draws=20_000, seed=1)
    spread = 1.96 * math.sqrt(0.7 * 0.3 / 500)
    assert low == pytest.approx(0.7 - spread, abs=0.004)
    assert high == pytest.approx(0.7 + spread, abs=0.004)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    data = (rng.random((200, 400)) < 0.8).astype(float)  # 400 test sets of 200 samples
    low, high = interval(data, draws=500, seed=0)
    assert 0.90 <= ((low <= 0.8) & (high >= 0.8)).mean() <= 0.98


def test_bootstrap_columns_are_what_single_calls_give() -> None:
    data = np.random.default_rng(3).random((50, 4))
    low, high = interval(data, draws=300, seed=7)
    single = [interval(data[:, i], draws=300, seed=7) for i in range(4)]
    assert np.allclose(low, [s[0] for s in single])
    assert np.allclose(high, [s[1] for s in single])
    assert not np.allclose(low, interval(data, draws=300, seed=8)[0])


def test_bootstrap_in_chunks_equals_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).random(50)
    whole = interval(values, draws=101)
    monkeypatch.setattr(bootstrap, "_CHUNK", 500)
    assert np.allclose(interval(values, draws=101), whole, rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_bootstrap_interval_lies_within_the_values(values: list[float]) -> None:
    low, high = interval(np.array(values), draws=100)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


@settings(deadline=None, max_examples=50)
@given(only_a=st.integers(0, 60), only_b=st.integers(0, 60), both=st.integers(0, 10))
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int, both: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True] * both)
    b = np.array([False] * only_a + [True] * only_b + [True] * both)
    result = stats.mcnemar_exact(a, b)
    assert (result.only_a, result.only_b) == (only_a, only_b)
    expected = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert result.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_with_many_disagreements() -> None:
    a = np.arange(30_000) < 15_400
    assert stats.mcnemar_exact(a, ~a).p_value == pytest.approx(binomtest(15_400, 30_000).pvalue, rel=1e-6)
