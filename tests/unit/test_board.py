"""The leaderboard: which tests count, who has a number, and who cannot be told apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from comparison_world import curve, evaluated, right
from scipy.stats import t as student
from store_world import indexed

from rsfm import comparison
from rsfm.comparison.board import Column, board, columns_of
from rsfm.comparison.board_tiers import UNEVEN, with_tiers
from rsfm.comparison.floors import floor_of
from rsfm.store.view import Store
from rsfm.workspace import Workspace

N = 120
LABELS = np.arange(N) % 4
SHARES = {1.0: 0.9, 2.0: 0.8, 4.0: 0.6}


def made(workspace: Workspace, packs: dict[str, dict[str, float]], *, seeds: int = 3) -> Store:
    """Pack -> model -> how much better it is than `SHARES`; on one pack all models agree on what is hard."""
    rng = np.random.default_rng(0)
    for pack, models in packs.items():
        hard = rng.random(N)
        for group, better in models.items():
            shares = {s: share + better for s, share in SHARES.items()}
            counts = curve(rng, N, shares, seeds=seeds, difficulty=hard)
            evaluated(workspace, group, counts, labels=LABELS, dataset=pack, pack_hash=f"h-{pack}")
    return indexed(workspace)


def columns(store: Store, band: str = "mean") -> list[Column]:
    return [replace(c, floor=floor_of(store, c)) for c in columns_of(store.compare(), band)]  # type: ignore[arg-type]


def test_a_model_has_a_number_only_where_it_was_measured_on_every_pack(workspace: Workspace) -> None:
    store = made(workspace, {"p": {"a": 0.0, "b": -0.3, "c": 0.05}, "q": {"a": 0.0, "b": -0.2}})
    found = columns(store)
    assert [c["dataset"] for c in found] == ["p", "q"] and [c.models for c in found] == [3, 2]
    assert all(c.severities == (1.0, 2.0, 4.0) and c.floor == 0.25 for c in found)
    rows = board(store.compare(), found)
    assert [r.entrant[0] for r in rows] == ["a", "b", "c"], "c would be the best by its only pack"
    assert rows[2].score is None and [p[0] for p in rows[2].lacks] == ["q"] and rows[2].lacks[0] == found[1].place
    means = store.compare().groupby(["model_group", "dataset"])["mean"].mean()
    expected = np.mean([(means["a", pack] - 0.25) / 0.75 for pack in "pq"])
    assert rows[0].score is not None and rows[0].score.mean == pytest.approx(expected)
    assert rows[0].values[found[0].place].mean == pytest.approx(means["a", "p"]), "columns show scores as they are"
    plain = board(store.compare(), found, normalised=False)
    assert plain[0].score is not None and plain[0].score.mean == pytest.approx(means["a"].mean())
    one = board(store.compare(), found[:1])
    assert one[0].entrant[0] == "c" and all(r.score for r in one), "of one pack all have a number"


def test_intervals_of_packs_join_in_quadrature(workspace: Workspace) -> None:
    store = made(workspace, {"p": {"a": 0.0}, "q": {"a": -0.1}})
    frame = store.compare().assign(ci_low=lambda f: f["mean"] - 0.03, ci_high=lambda f: f["mean"] + 0.06)
    (row,) = board(frame, columns(store))
    assert row.score is not None
    half = np.hypot(0.03, 0.03) / 2 / 0.75
    assert (row.score.mean - row.score.low, row.score.high - row.score.mean) == pytest.approx((half, 2 * half))
    frame.loc[frame["dataset"] == "q", "ci_low"] = np.nan
    (row,) = board(frame, columns(store))
    assert row.score is not None and math.isnan(row.score.low) and not math.isnan(row.score.high)


def test_severities_are_those_that_most_models_have(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    for group, severities in {"a": (1, 2, 4), "b": (1, 2, 4), "c": (1, 2, 4, 8), "d": (1, 8)}.items():
        evaluated(workspace, group, curve(rng, 30, {float(s): 0.8 for s in severities}), labels=LABELS[:30])
    store = indexed(workspace)
    of = {band: columns(store, band)[0] for band in ("native", "mean", "strongest")}
    assert {b: c.severities for b, c in of.items()} == {"native": (1.0,), "mean": (1.0, 2.0, 4.0), "strongest": (4.0,)}
    assert {b: c.models for b, c in of.items()} == {"native": 4, "mean": 3, "strongest": 3}
    names = [r.entrant[0] for r in board(store.compare(), [of["mean"]])]
    assert sorted(names) == ["a", "b", "c"], "d was not measured at 2× and 4×: no mean over the rest"
    frame = store.compare()
    frame.loc[(frame["model_group"] == "c") & (frame["severity"] == 2), "mean"] = np.nan
    assert "c" not in [r.entrant[0] for r in board(frame, [of["mean"]])]


def test_models_measured_at_one_severity_only_change_nothing_for_the_others(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    ladders = {"a": (1, 2, 4), "b": (1, 2, 4), "c": (1, 2), "d": (1,), "e": (1,), "f": (1,)}
    for group, severities in ladders.items():
        evaluated(workspace, group, curve(rng, 30, {float(s): 0.8 for s in severities}), labels=LABELS[:30])
    store = indexed(workspace)
    for band, severities in (("native", (1.0,)), ("mean", (1.0, 2.0, 4.0)), ("strongest", (4.0,))):
        (found,) = columns(store, band)
        assert (found.severities, found.models) == (severities, 6 if band == "native" else 2)
    frame = store.compare()
    assert columns_of(frame[frame["severity"] == 1], "mean")[0].severities == (1.0,), "there is nothing else"


def test_packs_that_are_not_counted_change_nothing(workspace: Workspace) -> None:
    """Two band sets on p, which the others do not have: they split the model only where p counts."""
    rng = np.random.default_rng(0)
    for pack, sets in {"p": ("R,G,B", "R,G,B,N"), "q": ("b1",), "r": ("x1",)}.items():
        for bands in sets:
            counts = curve(rng, 30, {1.0: 0.9})
            evaluated(workspace, "m", counts, labels=LABELS[:30], dataset=pack, pack_hash=pack, bands=bands)
    store = indexed(workspace)
    found = {c["dataset"]: c for c in columns(store)}
    (row,) = board(store.compare(), [found["q"], found["r"]])
    assert row.entrant == ("m", "none", "") and row.score is not None
    both = board(store.compare(), list(found.values()))
    assert sorted(r.entrant[2] for r in both) == ["R,G,B", "R,G,B,N"] and all(r.score for r in both)
    assert {r.bands[found["p"].place] for r in both} == {"R,G,B", "R,G,B,N"}
    assert {r.bands[found["q"].place] for r in both} == {"b1"}
    rows, left_out = with_tiers(store, both, list(found.values()))
    assert left_out == [] and [r.tier for r in rows] == [1, 1]
    # A set that tells models apart is that model's alone.
    evaluated(workspace, "m", curve(rng, 30, {1.0: 0.9}), labels=LABELS[:30], dataset="s", pack_hash="s", bands="R,G,B")
    store.refresh_if_stale(0)
    tests = [c for c in columns(store) if c["dataset"] in "ps"]
    assert {r.entrant[2]: r.score is None for r in board(store.compare(), tests)} == {"R,G,B": False, "R,G,B,N": True}


def test_the_interval_of_a_mean_has_the_spread_of_models_once(workspace: Workspace) -> None:
    """Model seeds that are better or worse on every pack do not average out; those that are better on one and worse on
    another do."""
    rng = np.random.default_rng(0)
    for group, of_q in (("same", (10, 20, 30)), ("turned", (30, 20, 10)), ("other", (10, 20, None))):
        for pack, wrong in (("p", (10, 20, 30)), ("q", of_q)):
            for seed, few in enumerate(wrong):
                number = (seed if few is not None else 9, 20 if few is None else few)
                counts = {("knn", s, 0): right(rng.permutation(N) >= number[1]) for s in (1.0, 2.0)}
                evaluated(workspace, group, counts, labels=LABELS, dataset=pack, pack_hash=pack, model_seed=number[0])
    for pack in "pq":
        evaluated(workspace, "alone", curve(rng, N, {1.0: 0.9, 2.0: 0.9}), labels=LABELS, dataset=pack, pack_hash=pack)
    store = indexed(workspace)
    frame = store.compare()
    frame[["ci_low", "ci_high"]] = np.column_stack([frame["mean"] - 0.5, frame["mean"] + 0.5])
    spread = (student.ppf(0.975, frame["seeds"] - 1) * frame["std"]) ** 2 / frame["seeds"]
    samples = np.where(frame["seeds"] > 1, np.sqrt(0.25 - spread), 0.5)
    assert np.allclose(samples, samples[0], atol=0.05)
    scores = store.scores(newest_content=True)
    rows = {r.entrant[0]: r for r in board(frame, columns(store), normalised=False, scores=scores)}
    half = {name: row.score.high - row.score.mean for name, row in rows.items() if row.score}
    error = student.ppf(0.975, 2) * (10 / N) / math.sqrt(3)
    calm = half["turned"]
    assert calm == pytest.approx(np.sqrt(0.25 - error**2) / math.sqrt(2), abs=1e-3)
    assert half["same"] == pytest.approx(math.hypot(calm, error), abs=1e-6)
    assert math.isnan(rows["other"].score.low) is False, "two of its seeds are common to both packs"
    assert half["alone"] == pytest.approx(0.5 / math.sqrt(2)) and not any(r.uneven for r in rows.values())
    ended = frame.assign(ci_high=frame["ci_high"].clip(upper=1))
    cut = {r.entrant[0]: r.score for r in board(ended, columns(store), normalised=False, scores=scores)}["turned"]
    assert cut.high - cut.mean == pytest.approx(calm), "an end at 1 says nothing of the samples: the other one does"
    perfect = frame.assign(mean=1.0, std=0.0, ci_low=0.9, ci_high=1.0)
    equal = scores.assign(value=1.0)
    whole = {r.entrant[0]: r.score for r in board(perfect, columns(store), normalised=False, scores=equal)}["turned"]
    assert (whole.high, whole.low) == pytest.approx((1, 1 - 0.1 / math.sqrt(2))), "nothing lies above"
    without = {r.entrant[0]: r for r in board(frame, columns(store), normalised=False)}
    assert math.isnan(without["same"].score.low) and not without["same"].uneven
    kept = scores[~((scores["model_group"] == "same") & (scores["dataset"] == "q") & (scores["model_seed"] > 0))]
    uneven = {r.entrant[0]: r for r in board(frame, columns(store), normalised=False, scores=kept)}["same"]
    assert uneven.uneven and math.isnan(uneven.score.high) and uneven.score.mean == rows["same"].score.mean


def test_models_differ_by_training_and_by_bands_of_one_test(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    counts = curve(rng, 30, {1.0: 0.8})
    evaluated(workspace, "a", counts, bands="B1")
    evaluated(workspace, "a", counts, bands="B1,B2")
    evaluated(workspace, "a", counts, bands="B1", train_degrade="bilinear")
    evaluated(workspace, "b", counts, bands="B1")
    evaluated(workspace, "b", counts, bands="red", dataset="other")
    store = indexed(workspace)
    rows = board(store.compare(), columns_of(store.compare(), "native"), normalised=False)
    assert {r.entrant for r in rows} == {
        ("a", "none", "B1"), ("a", "none", "B1,B2"), ("a", "bilinear", ""), ("b", "none", ""),
    }  # fmt: skip
    assert rows[0].entrant[0] == "b", "bands that differ from pack to pack are the same model"


def test_published_numbers_come_last_whatever_they_are(workspace: Workspace) -> None:
    store = made(workspace, {"p": {"a": -0.3}})
    published = store.compare().assign(model_group="reference:x:M", mean=0.99, pack_hash=None)
    rows = board(store.compare(), columns(store), published=published)
    assert [r.published for r in rows] == [False, True]
    assert rows[1].score is not None and rows[1].score.mean > 0.9
    tiered, _ = with_tiers(store, rows, columns(store))
    assert [r.tier for r in tiered] == [1, None]


# -- floors ----------------------------------------------------------------------------------------------------------
def test_the_floor_is_the_commonest_class_or_nothing(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 60 + [1] * 30 + [2] * 30)
    evaluated(workspace, "a", curve(rng, N, {1.0: 0.5}), labels=labels)
    evaluated(workspace, "a", curve(rng, N, {1.0: 0.5}), dataset="unlabelled")
    store = indexed(workspace)
    found = {c["dataset"]: c.floor for c in columns(store)}
    assert found["pack"] == 0.5 and math.isnan(found["unlabelled"])
    rows = board(store.compare(), columns(store))
    assert rows[0].score is None and not rows[0].lacks, "no mean without the floor"
    assert board(store.compare(), columns(store), normalised=False)[0].score is not None


def test_the_floor_of_maps_follows_from_any_predictions(workspace: Workspace) -> None:
    counts = np.tile([[30.0, 10, 20, 40]], (10, 1))
    evaluated(workspace, "a", {("decoder", 1.0, 0): counts}, metric="f1", task="change", degrade_target="post")
    store = indexed(workspace)
    assert columns(store)[0].floor == pytest.approx(2 * 50 / (2 * 50 + 50)), "all is change"


# -- tiers -----------------------------------------------------------------------------------------------------------
def test_tiers_are_of_the_mean_over_all_packs(workspace: Workspace) -> None:
    packs = {"p": {"a": 0.0, "b": -0.01, "c": -0.4}, "q": {"a": 0.0, "b": 0.01, "c": -0.4}, "r": {"a": 0.0}}
    store = made(workspace, packs)
    found = columns(store)[:2]
    rows, left_out = with_tiers(store, board(store.compare(), found), found)
    assert left_out == [] and {r.entrant[0]: r.tier for r in rows} == {"a": 1, "b": 1, "c": 2}
    for file in workspace.runs.glob("*-b-*/artifacts/predictions.parquet"):
        file.unlink()
    rows, left_out = with_tiers(indexed(workspace), board(store.compare(), found), found)
    assert {r.entrant[0]: r.tier for r in rows} == {"a": 1, "b": None, "c": 2}
    assert left_out[0] == "B: no usable predictions of 3 of its 3 seed(s) on p."
    assert len(left_out) == 3 and all("of B left" in line for line in left_out[1:])


def test_a_tier_is_of_the_seeds_that_the_number_is_of(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    lost = evaluated(workspace, "a", curve(rng, N, {1.0: 0.2}), labels=LABELS, model_seed=0)
    for group, seeds in (("a", (1, 2)), ("b", (0, 1, 2)), ("c", (0, 1, 2))):
        for seed in seeds:
            evaluated(workspace, group, curve(rng, N, {1.0: 0.8}), labels=LABELS, model_seed=seed)
    (lost.path / "artifacts" / "predictions.parquet").unlink()
    store = indexed(workspace)
    found = columns(store)
    rows, left_out = with_tiers(store, board(store.compare(), found), found)
    assert {r.entrant[0]: r.tier for r in rows} == {"a": None, "b": 1, "c": 1}
    assert left_out[0] == "A: no usable predictions of 1 of its 3 seed(s) on pack."


def test_seeds_that_differ_between_severities_give_no_tier(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    for group in "ab":
        counts = curve(rng, N, {1.0: 0.9, 4.0: 0.6}, seeds=3)
        if group == "a":
            del counts["knn", 4.0, 2]
        evaluated(workspace, group, counts, labels=LABELS)
    store = indexed(workspace)
    rows, left_out = with_tiers(store, board(store.compare(), columns(store)), columns(store))
    assert {r.entrant[0]: r.tier for r in rows} == {"a": None, "b": 1}
    assert left_out == ["A: it was measured with other seeds at one severity than at another on pack."]


def test_single_runs_on_one_pack_are_told_apart_as_elsewhere(workspace: Workspace) -> None:
    """Exact McNemar, as in `paired`: of 12 samples 5 differ, all in favour of one; Student's test is surer."""
    for group, wrong in (("a", 0), ("b", 5)):
        correct = np.arange(12) >= wrong
        evaluated(workspace, group, {("knn", 1.0, 0): right(correct)}, labels=LABELS[:12])
    store = indexed(workspace)
    rows, _ = with_tiers(store, board(store.compare(), columns(store)), columns(store))
    assert [r.tier for r in rows] == [1, 1] and comparison.paired(store, "a", "b")["p_value"][0] == 2 * 0.5**5
    rows, _ = with_tiers(store, rows, columns(store), alpha=0.07)
    assert [r.tier for r in rows] == [1, 2]


def test_a_model_whose_seeds_differ_between_packs_has_no_tier(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    for group, of_q in (("a", (0, 1, 2)), ("b", (2, 3, 4)), ("c", (1, 2, 3)), ("d", (0,))):
        for pack, seeds in (("p", (0, 1, 2)), ("q", of_q)):
            for seed in seeds:
                counts = curve(rng, N, {1.0: 0.8})
                evaluated(workspace, group, counts, labels=LABELS, dataset=pack, model_seed=seed, pack_hash=pack)
    store = indexed(workspace)
    rows, left_out = with_tiers(store, board(store.compare(), columns(store)), columns(store))
    assert {r.entrant[0]: r.tier for r in rows} == {"a": 1, "b": None, "c": 1, "d": None}
    assert sorted(left_out) == [f"{name}: {UNEVEN}." for name in "BD"]
