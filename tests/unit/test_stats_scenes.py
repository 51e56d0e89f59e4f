"""Tiles of one image are no independent samples: sums, intervals and tests by scene."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from comparison_world import evaluated
from hypothesis import given, settings
from hypothesis import strategies as st
from store_world import indexed

from app.components.measures import size_text
from rsfm import comparison, stats
from rsfm.evaluation.scores import mean_ap
from rsfm.metrics import METRICS
from rsfm.packs import scene_numbers
from rsfm.wording import samples_text
from rsfm.workspace import Workspace

F1 = partial(METRICS["f1"].of, layout=METRICS["f1"].layout)


def tiles(rng: np.random.Generator, scene: np.ndarray, skill: np.ndarray, pixels: int = 200) -> np.ndarray:
    """(n, 4) counts of tp, fp, fn, tn: pixels are right with a chance that a scene's tiles share."""
    changed = rng.integers(pixels // 4, pixels // 2, len(scene))
    share = 1 / (1 + np.exp(-(0.8 + skill[scene] + rng.normal(0, 0.3, len(scene)))))
    found = rng.binomial(changed, share)
    false = rng.binomial(pixels - changed, (1 - share) / 2)
    return np.stack([found, false, changed - found, pixels - changed - false], axis=1).astype(np.float64)


# -- sums ----------------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=50)
@given(names=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=20))
def test_counts_are_summed_by_scene(names: list[str | None]) -> None:
    samples = pd.DataFrame({"id": [f"{i}" for i in range(len(names))], "scene": pd.Series(names, dtype=object)})
    numbers = scene_numbers(samples)
    counts = np.arange(3.0 * len(names)).reshape(-1, 3)
    named = [name or f"alone {i}" for i, name in enumerate(names)]
    expected = [sum(c for c, n in zip(counts, named, strict=True) if n == name) for name in dict.fromkeys(named)]
    assert np.array_equal(stats.per_scene(counts, numbers), np.stack(expected)), "in the order in which they come"


def test_an_id_is_never_taken_for_a_scene() -> None:
    samples = pd.DataFrame({"id": ["x", "y", "z"], "scene": ["z", "z", None]})
    assert scene_numbers(samples).tolist() == [0, 0, 1]


# -- intervals -----------------------------------------------------------------------------------------------------
def test_an_interval_over_scenes_holds_what_one_over_tiles_does_not() -> None:
    """20 scenes of 15 tiles whose skill differs by 0.6 logit: the interval of F1 should hold the truth in 95 %."""
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(20), 15)
    many = np.arange(4000)
    truth = float(F1(tiles(rng, np.repeat(many, 15), rng.normal(0, 0.6, 4000)).sum(axis=0)))
    held = {"tiles": 0, "scenes": 0}
    for seed in range(150):
        counts = tiles(rng, scene, rng.normal(0, 0.6, 20))
        for name, part in (("tiles", counts), ("scenes", stats.per_scene(counts, scene))):
            low, high = stats.bootstrap_pooled(part, F1, draws=200, seed=seed)
            held[name] += bool(low <= truth <= high)
    assert held["scenes"] >= 0.85 * 150 > 0.6 * 150 > held["tiles"], held


def test_how_many_scenes_there_are_has_one_phrasing() -> None:
    assert samples_text(55, 5) == "55 test samples of 5 scenes" and samples_text(12000, None) == "12,000 test samples"
    assert samples_text(40, 1, "test pairs") == "40 test pairs of 1 scene" and samples_text(1, 1) == "1 test sample"
    for n, scenes in ((40, 4), (6, 6)):
        assert stats.few_scenes(n, scenes).startswith(f"{samples_text(n, scenes)}: so few")
    assert "40 test samples of 1 scene: that says nothing" in stats.few_scenes(40, 1)
    assert size_text({"n": 55, "scenes": 5, "task": "change"}) == samples_text(55, 5, "test pairs")


def test_a_single_scene_has_no_interval() -> None:
    counts = np.array([[5.0, 1.0, 2.0, 9.0]])
    assert np.isnan(stats.bootstrap_pooled(counts, F1, draws=20)).all()
    scores, labels = np.array([[0.9], [0.2], [0.4]]), np.array([[True], [False], [True]])
    value, low, high = mean_ap(scores, labels, np.zeros(3, np.int64), draws=20)
    assert value > 0.5 and np.isnan([low, high]).all()


def test_mean_average_precision_draws_scenes() -> None:
    """Scenes that hold the same samples twice: the interval is that of the samples once."""
    rng = np.random.default_rng(1)
    labels = rng.random((60, 3)) < 0.4
    scores = labels + rng.normal(size=(60, 3))
    once = mean_ap(scores, labels, np.arange(60), draws=100)
    twice = mean_ap(np.repeat(scores, 2, axis=0), np.repeat(labels, 2, axis=0), np.repeat(np.arange(60), 2), draws=100)
    assert twice == pytest.approx(once)


# -- tests ---------------------------------------------------------------------------------------------------------
def test_equal_models_are_not_told_apart_by_tiles_of_few_scenes() -> None:
    """Two models that are equal on average over scenes, each better on some: p < 0.05 in about one of twenty."""
    rng = np.random.default_rng(2)
    scene = np.repeat(np.arange(12), 20)
    told = {"tiles": 0, "scenes": 0}
    repeats = 150
    for _ in range(repeats):
        measured: dict[str, list[stats.Measured]] = {"tiles": [], "scenes": []}
        for _model in "ab":
            skill = rng.normal(0, 0.25, 12)
            counts = {(seed, 0): tiles(rng, scene, skill) for seed in range(3)}
            measured["tiles"].append(stats.measure(counts, F1))
            measured["scenes"].append(stats.measure({k: stats.per_scene(c, scene) for k, c in counts.items()}, F1))
        for name, (a, b) in measured.items():
            told[name] += stats.group_difference(a, b).p_value < 0.05
    assert told["scenes"] <= 0.09 * repeats < 0.2 * repeats < told["tiles"], told


def test_comparisons_count_scenes(workspace: Workspace) -> None:
    """As predictions say it, whatever the order of their samples; a remark says that they are few."""
    rng = np.random.default_rng(3)
    scene = np.repeat(np.arange(6), 10)
    names = np.array([f"image {i}" for i in scene])
    ids = np.array([f"s{i}" for i in range(60)])
    mixed = rng.permutation(60)
    counts = {g: tiles(rng, scene, rng.normal(0, 0.2, 6)) for g in "ab"}
    shared = {"metric": "f1", "task": "change", "adaptation": "decoder"}
    evaluated(workspace, "a", {("decoder", 1.0, 0): counts["a"]}, ids=ids, scenes=names, **shared)
    evaluated(
        workspace, "b", {("decoder", 1.0, 0): counts["b"][mixed]}, ids=ids[mixed], scenes=names[mixed], **shared
    )  # fmt: skip
    frame = comparison.paired(indexed(workspace), "a", "b")
    summed = [stats.measure({(0, 0): stats.per_scene(counts[g], scene)}, F1) for g in "ab"]
    expected = stats.group_difference(*summed)
    assert frame.loc[0, ["n", "scenes"]].tolist() == [60, 6]
    assert frame.loc[0, "p_value"] == pytest.approx(expected.p_value)
    assert frame.loc[0, "ci_low"] == pytest.approx(expected.ci_low)
    remarks = comparison.verdict(frame).remarks
    assert any("60 test samples of 6 scenes: so few say little" in r for r in remarks), remarks
