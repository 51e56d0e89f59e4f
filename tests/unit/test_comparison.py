"""Model A against model B, read from run folders: what is matched, what is refused, what it amounts to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from comparison_world import SEVERITIES, curve, evaluated, judged
from scipy.stats import binomtest
from store_world import indexed

from rsfm import comparison, stats
from rsfm.comparison.counts import matching
from rsfm.comparison.models import places_of, rows_of
from rsfm.errors import RsfmError
from rsfm.metrics import METRICS
from rsfm.store.view import Store
from rsfm.workspace import Workspace

N = 300
GOOD, BAD = ({s: share - 0.1 * i for i, s in enumerate(SEVERITIES)} for share in (0.8, 0.6))


def two_models(workspace: Workspace, seeds: int = 3) -> Store:
    """A is better than B everywhere."""
    rng = np.random.default_rng(0)
    hard = rng.random(N)
    evaluated(workspace, "a", curve(rng, N, GOOD, seeds=seeds, difficulty=hard), title="MAE")
    evaluated(workspace, "b", curve(rng, N, BAD, seeds=seeds, difficulty=hard), title="Random")
    return indexed(workspace)


# -- one row per cell -----------------------------------------------------------------------------------------------
def test_a_comparison_has_a_row_per_cell(workspace: Workspace) -> None:
    store = two_models(workspace)
    frame = comparison.paired(store, "a", "b")
    assert list(frame.columns) == list(comparison.COLUMNS)
    assert frame["severity"].tolist() == list(SEVERITIES) and (frame["n"] == N).all()
    shown = store.compare().set_index(["model_group", "severity"])["mean"]
    for row in frame.itertuples():
        assert (row.mean_a, row.mean_b) == pytest.approx((shown["a", row.severity], shown["b", row.severity]))
        assert row.difference == pytest.approx(row.mean_a - row.mean_b)
        assert row.ci_low < row.difference < row.ci_high and row.p_value <= row.p_adjusted
    assert np.allclose(frame["p_adjusted"], stats.holm(frame["p_value"].to_numpy()))
    assert (frame["seeds_a"] == 3).all() and (frame["seed_kind_b"] == "evaluation seeds").all()
    assert frame["verdict"].tolist() == ["a"] * 4
    assert (frame.attrs["a"], frame.attrs["b"], frame.attrs["left_out"]) == ("MAE", "Random", [])
    mirrored = comparison.paired(store, "b", "a")
    assert mirrored["verdict"].tolist() == ["b"] * 4
    assert np.allclose(mirrored["difference"], -frame["difference"])
    assert np.allclose(mirrored["p_value"], frame["p_value"])


def test_one_run_of_each_is_tested_by_mcnemar(workspace: Workspace) -> None:
    store = two_models(workspace, seeds=1)
    frame = comparison.paired(store, "a", "b")
    runs = [workspace.runs / run / "artifacts" / "predictions.parquet" for run in store.runs()["run_id"][::-1]]
    tables = [pd.read_parquet(file) for file in runs]
    for row in frame.itertuples():
        a, b = (np.stack(t.loc[t["severity"] == row.severity, "counts"])[:, 0] for t in tables)
        only_a, only_b = int((a > b).sum()), int((b > a).sum())
        assert row.p_value == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    assert comparison.verdict(frame).remarks[0].startswith("One run of each:")


def test_samples_are_matched_by_their_ids(workspace: Workspace) -> None:
    rng = np.random.default_rng(1)
    hard, ids = rng.random(N), np.array([f"x{i}" for i in range(N)])
    a, b = (curve(rng, N, shares, seeds=2, difficulty=hard) for shares in (GOOD, BAD))
    order = rng.permutation(N)
    evaluated(workspace, "a", a, ids=ids)
    evaluated(workspace, "b", b, ids=ids)
    evaluated(workspace, "shuffled", {k: c[order] for k, c in b.items()}, ids=ids[order])
    store = indexed(workspace)
    same, moved = comparison.paired(store, "a", "b"), comparison.paired(store, "a", "shuffled")
    columns = ["difference", "ci_low", "p_value"]
    assert np.allclose(same[columns], moved[columns])
    assert (comparison.paired(store, "b", "shuffled")["p_value"] == 1).all()


def test_other_samples_are_refused_with_their_number(workspace: Workspace) -> None:
    rng = np.random.default_rng(1)
    ids = np.array([f"x{i}" for i in range(N)])
    evaluated(workspace, "a", curve(rng, N, GOOD), ids=ids)
    evaluated(workspace, "b", curve(rng, N, BAD), ids=np.char.replace(ids, "x1", "y1"))
    evaluated(workspace, "c", curve(rng, N - 5, BAD), ids=ids[5:])
    store = indexed(workspace)
    with pytest.raises(RsfmError, match=r"A and B on pack \(test\) .* 111 of 300 are only in the first, 111 of 300"):
        comparison.paired(store, "a", "b")
    with pytest.raises(RsfmError, match="5 of 300 are only in the first, 0 of 295"):
        comparison.paired(store, "a", "c")
    assert matching(np.array(["a", "b"]), np.array(["b", "a"]), "").tolist() == [1, 0]


def test_pooled_scores_of_maps(workspace: Workspace) -> None:
    """F1 of the change class over all pixels; another score that follows from the counts; one that does not."""
    rng = np.random.default_rng(0)
    change = np.where(rng.random(80) < 0.4, rng.integers(50, 500, 80), 0)

    def counts(hit: float) -> dict[tuple[str, float, int], np.ndarray]:
        found = {}
        for seed in range(3):
            tp, fp = rng.binomial(change, hit), rng.poisson(30, 80)
            found["decoder", 1.0, seed] = np.stack([tp, fp, change - tp, 4096 - change - fp], axis=1).astype(float)
        return found

    shared = {"metric": "f1", "task": "change", "degrade_target": "post"}
    models = {"a": counts(0.9), "b": counts(0.7)}
    for group, found in models.items():
        evaluated(workspace, group, found, **shared)
    store = indexed(workspace)
    row = comparison.paired(store, "a", "b").iloc[0]
    expected = [np.mean([METRICS["f1"].of(c.sum(axis=0)) for c in found.values()]) for found in models.values()]
    assert (row["mean_a"], row["mean_b"]) == pytest.approx(tuple(expected))
    assert (row["metric"], row["verdict"], row["degrade_target"]) == ("f1", "a", "post")
    with pytest.raises(RsfmError, match="cannot be compared"):
        comparison.paired(store, "a", "b", metric="recall")  # it has no scores of that name
    with pytest.raises(RsfmError, match="binary counts do not determine confusion counts"):
        comparison.paired(store, "a", "b", metric="mean_iou")


def test_old_predictions_are_read_by_what_their_scores_say(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(N)
    models = {"a": curve(rng, N, GOOD, difficulty=hard), "b": curve(rng, N, BAD, difficulty=hard)}
    named = {g: {("knn (knn_k=5)", s, e): v for (_, s, e), v in c.items()} for g, c in models.items()}
    for group, found in named.items():
        evaluated(workspace, group, found, old=True)
        evaluated(workspace, f"new-{group}", found)
    store = indexed(workspace)
    old, new = comparison.paired(store, "a", "b"), comparison.paired(store, "new-a", "new-b")
    assert set(old["adaptation"]) == {"knn (knn_k=5)"} and set(old["operator"]) == {"bilinear"}
    pd.testing.assert_frame_equal(old, new)
    assert (comparison.paired(store, "a", "new-a")["p_value"] == 1).all()


# -- what is compared with what ---------------------------------------------------------------------------------------
def test_only_equal_protocols_meet_and_the_rest_is_named(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(N)
    draw = lambda shares, **more: curve(rng, N, shares, difficulty=hard, **more)  # noqa: E731
    evaluated(workspace, "a", draw(GOOD) | draw(GOOD, adaptation="linear"))
    evaluated(workspace, "b", draw({1.0: 0.6, 2.0: 0.5}))
    evaluated(workspace, "a", draw({1.0: 0.7}), train_degrade="uniform")
    evaluated(workspace, "a", draw({1.0: 0.7}), operator="area")
    evaluated(workspace, "a", draw({1.0: 0.7}), dataset="other")
    evaluated(workspace, "b", draw({1.0: 0.7}), dataset="third", pack_hash="x")
    evaluated(workspace, "a", draw({1.0: 0.7}), dataset="third", pack_hash="y")
    frame = comparison.paired(indexed(workspace), "a", "b")
    assert frame[["severity", "operator", "train_degrade"]].values.tolist() == [
        [1.0, "bilinear", "none"], [2.0, "bilinear", "none"],
    ]  # fmt: skip
    assert frame.attrs["left_out"] == [
        "other: only A was measured.",
        "third: the two were measured on different contents of this pack.",
        "pack (knn, area, single, none, accuracy, 1×): only A was measured.",
        "pack (knn, bilinear, single, none, accuracy, 4×, 8×): only A was measured.",
        "pack (knn, bilinear, single, uniform, accuracy, 1×): only A was measured.",
        "pack (linear, bilinear, single, none, accuracy, 1×, 2×, 4×, 8×): only A was measured.",
    ]


def test_the_newest_common_content_counts(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    for day, content, groups in ((1, "old", "ab"), (2, "new", "ab"), (3, "newest", "a")):
        for group in groups:
            share = {1.0: 0.5 + day / 10}
            evaluated(workspace, group, curve(rng, N, share), pack_hash=content, time=f"2026-01-0{day}T00:00:00+00:00")
    assert comparison.paired(indexed(workspace), "a", "b")["pack_hash"].tolist() == ["new"]


def test_models_of_different_bands_are_compared_and_say_so(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    for group, bands in (("a", "B02"), ("b", "B02,B03"), ("many", "B02"), ("many", "B08")):
        evaluated(workspace, group, curve(rng, N, {1.0: 0.6}), bands=bands)
    store = indexed(workspace)
    frame = comparison.paired(store, "a", "b")
    assert frame[["bands_a", "bands_b"]].values.tolist() == [["B02", "B02,B03"]]
    assert "The two see different bands." in comparison.verdict(frame).remarks
    assert comparison.paired(store, "a", "many")["bands_b"].tolist() == ["B02"], "the common ones, where there are any"
    assert comparison.paired(store, "b", "many")["bands_b"].tolist() == ["B02", "B08"]


def test_measured_again_counts_once(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    early = {"time": "2026-01-01T00:00:00+00:00"}
    evaluated(workspace, "a", curve(rng, N, {1.0: 0.2}, seeds=2), **early)
    evaluated(workspace, "b", curve(rng, N, {1.0: 0.5}, seeds=2), **early)
    evaluated(workspace, "a", curve(rng, N, {1.0: 0.8}, seeds=2))
    row = comparison.paired(indexed(workspace), "a", "b").iloc[0]
    assert row["mean_a"] > 0.7 and row["seeds_a"] == 2


def test_predictions_that_cannot_be_used_are_left_out_and_named(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    draw = lambda: curve(rng, N, {1.0: 0.6})  # noqa: E731
    runs = {
        name: evaluated(workspace, "a", draw(), dataset=name) for name in ("gone", "broken", "stale", "twice", "odd")
    }
    for name in runs:
        evaluated(workspace, "b", draw(), dataset=name)
    evaluated(workspace, "a", draw())
    evaluated(workspace, "b", draw())
    path = lambda name: runs[name].path / "artifacts" / "predictions.parquet"  # noqa: E731
    store = indexed(workspace)
    path("gone").unlink()
    path("broken").write_bytes(b"PAR1 no table")
    stale = pd.read_parquet(path("stale"))
    stale["counts"] = [np.array([0.0, 1.0])] * N
    stale.to_parquet(path("stale"))
    twice = pd.read_parquet(path("twice"))
    twice["sample_id"] = "x"
    twice.to_parquet(path("twice"))
    odd = pd.read_parquet(path("odd"))
    odd["metric"] = "elegance"
    odd.to_parquet(path("odd"))
    frame = comparison.paired(store, "a", "b")
    assert frame["dataset"].tolist() == ["pack"]
    text = "\n".join(frame.attrs["left_out"])
    for name, words in (
        ("gone", "cannot be read"), ("broken", "cannot be read"), ("stale", "give 0.0000 where its score is 0."),
        ("twice", "hold a sample twice"), ("odd", "'elegance', which is not known"),
    ):  # fmt: skip
        line = next(x for x in text.splitlines() if x.startswith(f"{name}: evaluation {runs[name].id} of A"))
        assert words in line, line
    with pytest.raises(RsfmError, match=r"A and B cannot be compared\. stale: evaluation"):
        comparison.paired(store, "a", "b", "stale")


# -- names ----------------------------------------------------------------------------------------------------------
def test_models_are_found_by_every_name_they_have(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    seeds = [
        evaluated(workspace, "952a", curve(rng, N, {1.0: 0.6}), title="MAE", model=f"run-{i}", model_seed=i)
        for i in range(3)
    ]
    evaluated(workspace, "band-stats", curve(rng, N, {1.0: 0.4}), title="Band statistics")
    evaluated(workspace, "77ff", curve(rng, N, {1.0: 0.4}), title="Twin")
    evaluated(workspace, "88ff", curve(rng, N, {1.0: 0.4}), title="Twin")
    store = indexed(workspace)
    scores = store.scores()
    assert len(rows_of(scores, "952a")) == len(rows_of(scores, "mae")) == 3
    assert len(rows_of(scores, "run-1")) == len(rows_of(scores, seeds[1].id)) == 1
    group = comparison.paired(store, "MAE", "band-stats").iloc[0]
    assert (group["seeds_a"], group["seed_kind_a"], group["seeds_b"]) == (3, "model seeds", 1)
    pair = comparison.paired(store, "run-0", "run-1")
    assert pair["seeds_a"].tolist() == [1] and (pair.attrs["a"], pair.attrs["b"]) == ("MAE (run-0)", "MAE (run-1)")
    for a, b, words in (
        (
            "nothing",
            "952a",
            r"No results of a model 'nothing'. There are: Band statistics \(band-stats\), MAE \(952a\)",
        ),
        ("952a", "Twin", "2 models are called 'Twin': name one by its group, 77ff, 88ff"),
        ("952a", "MAE", "share results"),
        ("952a", "run-1", "share results"),
    ):
        with pytest.raises(RsfmError, match=words):
            comparison.paired(store, a, b)
    assert comparison.paired(store, "77ff", "88ff").attrs["a"] == "Twin (77ff)"
    with pytest.raises(RsfmError, match="no results yet"):
        comparison.paired(store, "a", "b", "nowhere")


def test_only_places_that_were_asked_for_are_compared(workspace: Workspace) -> None:
    """Each task by an adaptation of its own: the other combinations were measured too, and do not count."""
    rng = np.random.default_rng(0)
    for group in "ab":
        for adaptation in ("knn", "linear"):
            evaluated(workspace, group, curve(rng, N, {1.0: 0.6, 2.0: 0.5}, adaptation=adaptation))
            maps = {(adaptation, 1.0, 0): rng.integers(1, 50, (N, 4)).astype(float)}
            evaluated(workspace, group, maps, metric="f1", task="change", dataset="pairs", degrade_target="post")
    store = indexed(workspace)
    shown = store.compare()
    shown = shown[(shown["adaptation"] == "knn") == (shown["dataset"] == "pack")]
    columns = ["dataset", "adaptation", "severity"]
    found = comparison.paired(store, "a", "b", places=places_of(shown))
    assert len(comparison.paired(store, "a", "b")) == 6
    assert found[columns].values.tolist() == [["pack", "knn", 1.0], ["pack", "knn", 2.0], ["pairs", "linear", 1.0]]
    assert found.attrs["left_out"] == [] and "all 3 cells" in comparison.verdict(found).text


# -- the verdict ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("verdicts", "name", "text", "exceptions"),
    [
        ("aaa", "consistent improvement", "Consistent improvement: MAE is better than iBOT in all 3 cells.", []),
        ("a", "consistent improvement", "Consistent improvement: MAE is better than iBOT in the only cell.", []),
        ("ana", "sometimes better", "MAE is never worse than iBOT, and better in 2 of 3 cells.", [1]),
        ("abn", "mixed", "Mixed: MAE is better than iBOT in 1 of 3 cells and worse in 1.", [1]),
        ("nn", "no difference",
         "No difference between MAE and iBOT beyond noise in all 2 cells (95 % intervals are about ± 0.020).", []),
        ("bnb", "sometimes worse", "MAE is never better than iBOT, and worse in 2 of 3 cells.", [1]),
        ("bb", "consistently worse", "Consistently worse: MAE is worse than iBOT in all 2 cells.", []),
    ],
)  # fmt: skip
def test_verdicts(verdicts: str, name: str, text: str, exceptions: list[int]) -> None:
    words = [{"n": "no difference"}.get(v, v) for v in verdicts]
    found = comparison.verdict(judged(*words))
    assert (found.name, found.text, found.exceptions.index.tolist()) == (name, text, exceptions)
    assert (found.better, found.worse, found.equal) == tuple(verdicts.count(v) for v in "abn")
    assert found.remarks == ()


def test_a_verdict_says_what_must_be_known_besides() -> None:
    remarks = lambda **columns: comparison.verdict(judged("a", "a", **columns)).remarks  # noqa: E731
    assert remarks(seeds_a=1, seeds_b=1) == (
        "One run of each: this is about these runs, not about the recipes behind them.",
    )
    assert "in 1 of 2 cells" in remarks(seeds_a=[1, 3], seeds_b=[1, 3])[0]
    assert "fewer than three seeds" in remarks(seeds_b=2)[0]
    assert remarks(synthetic=[True, False], dataset=["s", "r"]) == ("Synthetic data: s.",)
    assert remarks(n=40, scenes=[30, 4], dataset=["s", "r"]) == (
        "On r, 40 test samples of 4 scenes: so few say little about others, and intervals may be too narrow.",
    )
    assert remarks(n=12, scenes=12)[0].startswith("On p, 12 test samples: so few")
    assert "of 1 scene: that says nothing about others" in remarks(n=12, scenes=1)[0]
    assert remarks(p_value=[np.nan, 0.1]) == ("No test was possible in 1 of 2 cells.",)
    with pytest.raises(ValueError, match="at least one row"):
        comparison.verdict(judged())
