"""Intervals of shares hold the truth as often as they say, at 1 as well, and whether or not samples share scenes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import binomtest

from rsfm import stats
from rsfm.metrics import METRICS


def images(right: int, n: int) -> np.ndarray:
    """[right, counted] of n images, each its own scene."""
    return np.stack([np.arange(n) < right, np.ones(n)], axis=-1).astype(float)


@pytest.mark.parametrize(("right", "n"), [(30, 30), (0, 30), (29, 30), (15, 30), (200, 200), (3, 200), (2, 2)])
def test_single_images_have_the_exact_binomial_interval(right: int, n: int) -> None:
    low, high = stats.proportion_interval(images(right, n))
    exact = binomtest(right, n).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_columns_stand_for_themselves() -> None:
    counts = np.stack([images(30, 30), images(12, 30), images(0, 30)], axis=1)
    low, high = stats.proportion_interval(counts)
    single = [stats.proportion_interval(counts[:, i]) for i in range(3)]
    assert np.allclose(low, [s[0] for s in single]) and np.allclose(high, [s[1] for s in single])
    assert high[0] == 1 and low[2] == 0 and low[0] == pytest.approx(1 - high[2])
    assert np.isnan(stats.proportion_interval(images(1, 1))).all(), "one scene says nothing of others"
    assert np.isnan(stats.proportion_interval(np.zeros((5, 2)))).all(), "nothing was counted"


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98, 1.0])
def test_intervals_of_single_images_hold_the_truth(share: float, n: int) -> None:
    rng = np.random.default_rng(0)
    right = rng.random((n, 2000)) < share
    low, high = stats.proportion_interval(np.stack([right, np.ones_like(right)], axis=-1))
    assert ((low <= share) & (share <= high)).mean() >= 0.94
    assert (high > low).all(), "also where all are right"


@pytest.mark.parametrize(("scenes", "tiles"), [(20, 10), (60, 16), (100, 4)])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("alike", [0.05, 0.3, 0.9])
def test_intervals_of_tiles_hold_the_truth(scenes: int, tiles: int, share: float, alike: float) -> None:
    """Tiles of a scene are right or wrong together, more or less (intraclass correlation)."""
    rng = np.random.default_rng(1)
    of_scene = rng.beta(share * (1 / alike - 1), (1 - share) * (1 / alike - 1), (scenes, 1500))
    right = rng.binomial(tiles, of_scene)
    low, high = stats.proportion_interval(np.stack([right, np.full_like(right, tiles)], axis=-1))
    assert ((low <= share) & (share <= high)).mean() >= 0.93
    if alike == 0.05 and share < 0.98:
        one_each = stats.proportion_interval(images(round(share * scenes), scenes))
        assert (high - low).mean() < 0.7 * (one_each[1] - one_each[0]), "tiles that differ are worth more than scenes"


@pytest.mark.parametrize(
    ("sizes", "least"), [([200] + 19 * [10], 0.97), (list(range(1, 41)), 0.92), (3 * [200] + 27 * [5], 0.75)]
)
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("alike", [0.05, 0.3, 0.9])
def test_scenes_of_different_sizes_are_worth_fewer(sizes: list[int], least: float, share: float, alike: float) -> None:
    """Taken for as many scenes as there are, the first of these hold the truth in 44 to 83 %."""
    rng = np.random.default_rng(3)
    of_scene = rng.beta(share * (1 / alike - 1), (1 - share) * (1 / alike - 1), (len(sizes), 1500))
    all_ = np.broadcast_to(np.array(sizes)[:, None], of_scene.shape)
    low, high = stats.proportion_interval(np.stack([rng.binomial(all_, of_scene), all_], axis=-1))
    assert ((low <= share) & (share <= high)).mean() >= least


def test_equal_scenes() -> None:
    assert stats.equal_scenes(np.full(12, 7)) == pytest.approx(12)
    assert stats.equal_scenes(np.array([200] + 19 * [10])) == pytest.approx(390**2 / (200**2 + 19 * 10**2))


def test_where_no_tile_is_wrong_there_are_as_many_samples_as_scenes() -> None:
    tiles = np.full((20, 2), 16.0)
    assert np.allclose(stats.proportion_interval(tiles), stats.proportion_interval(images(20, 20)))
    one = tiles.copy()
    one[0, 0] -= 1
    assert abs(stats.proportion_interval(one)[0] - stats.proportion_interval(tiles)[0]) < 0.02, "one error, no leap"


def test_copies_of_an_image_add_nothing() -> None:
    single = images(18, 30)
    assert np.allclose(stats.proportion_interval(8 * single), stats.proportion_interval(single))


def test_a_metric_has_the_interval_of_its_kind() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 50, (40, 4)).astype(float)
    assert np.array_equal(
        stats.score_interval("f1", pixels, draws=200), stats.bootstrap_pooled(pixels, METRICS["f1"].of, draws=200)
    )
    found = stats.score_interval("accuracy", images(40, 40))
    assert np.array_equal(found, stats.proportion_interval(images(40, 40))) and stats.is_proportion("accuracy")
    assert not any(stats.is_proportion(name) for name in METRICS if name != "accuracy")
    assert stats.score_interval("accuracy", images(20, 40), level=0.5)[0] > stats.proportion_interval(images(20, 40))[0]


def test_two_models_that_never_differ_may_do_so_elsewhere() -> None:
    """As surely as both are right on all images, not more; and the difference of a model that always wins alike."""
    same = stats.measure({(0, 0): images(30, 30)}, METRICS["accuracy"].of)
    found = stats.group_difference(same, same)
    half = 1 - stats.proportion_interval(images(30, 30))[0]
    assert (found.ci_low, found.ci_high) == pytest.approx((-half, half)) and found.p_value == 1
    never = stats.measure({(0, 0): images(0, 30)}, METRICS["accuracy"].of)
    won = stats.group_difference(same, never)
    assert (won.difference, won.ci_low) == pytest.approx((1, 1 - half)) and won.p_value < 1e-6


def test_coverage_of_differences_where_models_rarely_differ() -> None:
    rng = np.random.default_rng(2)
    right = partial(METRICS["accuracy"].of)
    covered = 0
    for _ in range(300):
        a, b = (rng.random((2, 60)) < 0.99).astype(float)
        one, other = (stats.measure({(0, 0): np.stack([x, np.ones(60)], axis=-1)}, right) for x in (a, b))
        found = stats.group_difference(one, other)
        covered += found.ci_low <= 0 <= found.ci_high
    assert covered >= 0.95 * 300
