"""Many models, read from run folders: tiers, and one number over packs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from comparison_world import curve, evaluated
from store_world import indexed

from rsfm import comparison
from rsfm.comparison import counts
from rsfm.workspace import Workspace

N = 300


def test_tiers_in_one_cell_and_in_all(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(N)
    for group, better in (("best", 0.02), ("close", 0.0), ("far", -0.3), ("farther", -0.6)):
        shares = {s: 0.75 + better for s in (1.0, 2.0)}
        evaluated(workspace, group, curve(rng, N, shares, seeds=3, difficulty=hard))
    evaluated(workspace, "best", curve(rng, N, {1.0: 0.5}), operator="area")
    store = indexed(workspace)
    frame = comparison.tiers_of(store, "pack", adaptation="knn", where={"severity": [1], "operator": ["bilinear"]})
    assert frame[["model_group", "tier"]].values.tolist() == [["best", 1], ["close", 1], ["far", 2], ["farther", 3]]
    assert frame["mean"].is_monotonic_decreasing and frame.loc[0, "p_best"] == 1 and frame.loc[1, "p_best"] > 0.05
    both = comparison.tiers_of(store, "pack", adaptation="knn")
    assert len(both) == 9 and both.groupby(["operator", "severity"])["tier"].max().tolist() == [1, 3, 3]
    assert comparison.tiers_of(store, "pack", where={"severity": [64]}).empty


def test_curves_tiers_and_means_agree_on_the_newest_content(workspace: Workspace) -> None:
    """Also where two contents were measured in one moment: one of them counts, everywhere the same."""
    rng, labels = np.random.default_rng(0), np.arange(N) % 2
    for pack in range(6):
        for group in "ab":
            moment = {"pack_hash": group, "time": "2026-01-01T00:00:00+00:00"}
            evaluated(workspace, group, curve(rng, N, {1.0: 0.6}), dataset=f"p{pack}", labels=labels, **moment)
    store = indexed(workspace)
    chosen = dict(store.compare()[["dataset", "pack_hash"]].itertuples(index=False))
    assert len(chosen) == 6 and len(store.scores()) == 12
    for frame in (store.scores(newest_content=True), comparison.tiers_of(store)):
        assert dict(frame[["dataset", "pack_hash"]].itertuples(index=False)) == chosen and len(frame) == 6
    parts = comparison.normalised(store).set_index("model_group")["parts"]
    assert {group: names.split(", ") for group, names in parts.items()} == {
        group: sorted(pack for pack, content in chosen.items() if content == group) for group in set(chosen.values())
    }


def test_tiers_read_the_predictions_that_they_are_about(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    wanted = {evaluated(workspace, group, curve(rng, N, {1.0: 0.6})).id for group in ("a", "b")}
    evaluated(workspace, "c", curve(rng, N, {1.0: 0.9}))
    evaluated(workspace, "a", curve(rng, N, {1.0: 0.6}, adaptation="linear"))
    evaluated(workspace, "b", curve(rng, N, {1.0: 0.6}), degrade_target="pre")
    store, read = indexed(workspace), []
    real = counts._read
    monkeypatch.setattr(counts, "_read", lambda store, run_id: read.append(run_id) or real(store, run_id))
    where = {"model_group": ["a", "b"], "adaptation": ["knn"], "degrade_target": ["single"]}
    frame = comparison.tiers_of(store, "pack", where=where)
    assert set(read) == wanted and len(read) == 2
    assert frame["model_group"].tolist() in (["a", "b"], ["b", "a"])
    assert set(frame["tier"]) == {1}, "c, which is better, is not asked about"


def test_one_number_over_packs(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 5
    draw = lambda share: curve(rng, N, {1.0: share}, seeds=2)  # noqa: E731
    for pack in ("one", "two"):
        for group, share in (("a", 0.8), ("b", 0.5)):
            evaluated(workspace, group, draw(share), dataset=pack, labels=labels)
    maps = {("knn", 1.0, 0): np.stack([np.full(50, v) for v in (60.0, 20, 20, 900)], axis=1)}
    evaluated(workspace, "a", maps, dataset="change", metric="f1", task="change")
    store = indexed(workspace)
    frame = comparison.normalised(store)
    assert frame[["model_group", "datasets", "parts"]].values.tolist() == [
        ["a", 3, "change, one, two"], ["b", 2, "one, two"],
    ]  # fmt: skip
    means = store.compare().query("model_group == 'b'")["mean"]
    assert frame.loc[1, "mean"] == pytest.approx(((means - 0.2) / 0.8).mean()), "the floor is the commonest class"
    everything = 2 * 80 / (2 * 80 + 920)
    mine = store.compare().query("model_group == 'a' and dataset != 'change'")["mean"]
    expected = [*((mine - 0.2) / 0.8), (0.75 - everything) / (1 - everything)]
    assert frame.loc[0, "mean"] == pytest.approx(np.mean(expected))
    assert (frame["ci_low"] < frame["mean"]).all() and (frame["mean"] < frame["ci_high"]).all()
    evaluated(workspace, "unrelated", draw(0.99), dataset="one", labels=labels)
    store.refresh_if_stale(0)
    again = comparison.normalised(store)
    pd.testing.assert_frame_equal(again[again["model_group"] != "unrelated"].reset_index(drop=True), frame)


def test_packs_of_one_size_are_resampled_independently(workspace: Workspace) -> None:
    """The same results on two packs: the mean is known better by √2 than each."""
    counts, labels = curve(np.random.default_rng(0), N, {1.0: 0.6}), np.arange(N) % 5
    for group, packs in (("a", ["one"]), ("b", ["one", "two"])):
        for pack in packs:
            evaluated(workspace, group, counts, dataset=pack, labels=labels)
    frame = comparison.normalised(indexed(workspace)).set_index("model_group")
    width = frame["ci_high"] - frame["ci_low"]
    assert frame.loc["a", "mean"] == pytest.approx(frame.loc["b", "mean"])
    assert width["a"] / width["b"] == pytest.approx(2**0.5, rel=0.1)


def test_one_number_names_its_parts_and_what_it_cannot_use(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 5
    for bands in ("B02", "B08"):
        evaluated(workspace, "a", curve(rng, N, {1.0: 0.6}), labels=labels, bands=bands)
    evaluated(workspace, "a", curve(rng, N, {1.0: 0.6}), dataset="no-labels")
    evaluated(workspace, "a", curve(rng, N, {1.0: 0.6}), dataset="one-class", labels=labels * 0)
    frame = comparison.normalised(indexed(workspace))
    assert frame[["parts", "datasets"]].values.tolist() == [["pack [B02], pack [B08]", 1]]
    assert [line.partition(":")[0] for line in frame.attrs["left_out"]] == ["no-labels", "one-class"]
    assert comparison.normalised(indexed(workspace), "elsewhere").empty
