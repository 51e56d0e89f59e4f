"""The frames that pages and the command line get: folding over seeds, thinning, filters, what the clock decides."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from scipy.stats import t as student
from store_world import begin, evaluate, finish, indexed, log, pretrain, score, small_lab

from rsfm.errors import RsfmError
from rsfm.store import queries
from rsfm.store.files import write_json
from rsfm.store.live import live, may_change
from rsfm.store.runs import RunFolder
from rsfm.store.view import Store
from rsfm.workspace import Workspace

COMPARE = [
    "model", "model_title", "model_group", "dataset", "synthetic", "task", "adaptation", "operator", "severity",
    "gsd_m", "metric", "mean", "std", "ci_low", "ci_high", "n", "scenes", "seeds", "seed_kind", "pack_hash",
]  # fmt: skip


def scored(workspace: Workspace, *rows: dict) -> Store:
    begin(evaluate(workspace)).scores(list(rows))
    store = indexed(workspace)
    return store


def test_one_seed_keeps_its_own_interval_and_has_no_spread(workspace: Workspace) -> None:
    row = scored(workspace, score(value=0.5, ci_low=0.41, ci_high=0.62)).compare().iloc[0]
    assert list(row[["mean", "ci_low", "ci_high", "seeds", "seed_kind", "n"]]) == [
        0.5, 0.41, 0.62, 1, "evaluation seeds", 100,
    ]  # fmt: skip
    assert math.isnan(row["std"])


def test_evaluation_seeds_fold_into_mean_spread_and_interval(workspace: Workspace) -> None:
    values = [0.5, 0.6, 0.7]
    store = scored(
        workspace, *(score(eval_seed=i, value=v, ci_low=v - 0.03, ci_high=v + 0.04) for i, v in enumerate(values))
    )
    row = store.compare().iloc[0]
    spread = student.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert row["mean"] == pytest.approx(0.6)
    assert row["std"] == pytest.approx(0.1)
    assert row["ci_low"] == pytest.approx(0.6 - math.hypot(0.03, spread))
    assert row["ci_high"] == pytest.approx(0.6 + math.hypot(0.04, spread))
    assert (row["seeds"], row["seed_kind"]) == (3, "evaluation seeds")


def test_model_seeds_come_before_evaluation_seeds(workspace: Workspace) -> None:
    values = {0: [0.5, 0.7], 1: [0.8, 0.8, 0.8]}
    rows = [score(model_seed=m, eval_seed=e, value=v) for m, many in values.items() for e, v in enumerate(many)]
    row = scored(workspace, *rows).compare().iloc[0]
    assert row["mean"] == pytest.approx(0.7), "each model seed weighs the same"
    assert row["std"] == pytest.approx(np.std([0.6, 0.8], ddof=1))
    assert (row["seeds"], row["seed_kind"]) == (2, "model seeds")


def test_an_interval_ends_at_one(workspace: Workspace) -> None:
    rows = [score(eval_seed=i, value=v, ci_low=v, ci_high=1.0) for i, v in enumerate([0.9, 1.0])]
    row = scored(workspace, *rows).compare().iloc[0]
    assert row["ci_high"] == 1.0
    assert row["ci_low"] == pytest.approx(0.95 - student.ppf(0.975, 1) * np.std([0.9, 1.0], ddof=1) / math.sqrt(2))


def test_no_interval_where_a_seed_has_none_however_alike_the_seeds_are(workspace: Workspace) -> None:
    none = {"ci_low": None, "ci_high": None}
    lacking = {2: (0, 1, 2), 4: (1,), 8: ()}
    rows = [
        score(severity=s, eval_seed=i, value=0.4 + i / 10, **(none if i in seeds else {}))
        for s, seeds in lacking.items()
        for i in range(3)
    ]
    one, two, four, eight = scored(workspace, score(severity=1, **none), *rows).compare().itertuples()
    for point in (one, two, four):
        assert math.isnan(point.ci_low) and math.isnan(point.ci_high)
    assert two.std == pytest.approx(0.1) and two.mean == pytest.approx(0.5) and 0 < eight.ci_low < 0.5 < eight.ci_high
    models = [score(severity=1, model_seed=i, **(none if i else {})) for i in range(2)]
    (point,) = scored(workspace, *models).compare(dataset="pack").query("severity == 1").itertuples()
    assert math.isnan(point.ci_low) and point.seeds == 2


def test_compare_has_the_promised_columns_filters_and_only_the_newest_pack(workspace: Workspace) -> None:
    store = scored(
        workspace,
        score(pack_hash="old", value=0.9, time="2026-01-01T00:00:00+00:00"),
        score(pack_hash="new", value=0.3, severity=2, gsd_m=20.0, time="2026-01-02T00:00:00+00:00"),
        score(dataset="other", synthetic=True, adaptation="linear", time="2026-01-01T00:00:00+00:00"),
    )
    frame = store.compare()
    assert list(frame.columns)[: len(COMPARE)] == COMPARE
    assert frame[["dataset", "severity", "mean", "synthetic"]].values.tolist() == [
        ["other", 1.0, 0.5, True], ["pack", 2.0, 0.3, False],
    ]  # fmt: skip
    assert store.compare(dataset="pack", adaptation="knn", task="classification", metric="accuracy")[
        "mean"
    ].tolist() == [0.3]
    assert store.compare(adaptation="linear")["dataset"].tolist() == ["other"]
    assert store.compare(dataset="'; DROP TABLE runs; --").empty
    assert list(store.compare(dataset="none").columns) == list(frame.columns)
    assert store.lint()["rule"].tolist() == ["older-pack"]


def test_one_run_is_compared_by_its_own_scores_alone(workspace: Workspace) -> None:
    first, second = evaluate(workspace), evaluate(workspace)
    mine = [
        score(eval_seed=i, value=v, pack_hash="old", time="2026-01-01T00:00:00+00:00") for i, v in enumerate([0.5, 0.7])
    ]
    job = begin(first)
    job.scores(mine)
    job.scores([score(eval_seed=1, value=0.9, pack_hash="old", time="2026-01-01T00:01:00+00:00")])
    begin(second).scores([score(eval_seed=i, value=0.1, time="2026-01-02T00:00:00+00:00") for i in (0, 1)])
    store = indexed(workspace)
    row = store.compare(run_id=first.id).iloc[0]
    assert (row["mean"], row["seeds"], row["pack_hash"]) == (pytest.approx(0.7), 2, "old"), "its newest rows, no others"
    assert store.compare()["mean"].tolist() == [pytest.approx(0.1)]
    assert store.compare(run_id="none").empty
    with pytest.raises(ValueError, match="leave the other arguments out"):
        store.compare(run_id=first.id, dataset="pack")
    with pytest.raises(ValueError, match="leave newest_content out"):
        store.scores(run_id=first.id, newest_content=True)


def test_lint_marks_what_is_below_the_floor_or_did_not_react(workspace: Workspace) -> None:
    floor = {"model_group": "band-stats", "model_title": "Band statistics"}
    rows = [
        *(score(severity=s, value=v, **floor) for s, v in ((1, 0.5), (2, 0.45))),
        *(score(severity=s, value=0.47) for s in (1, 2)),
        *(score(severity=s, value=1.0, model_group="perfect") for s in (1, 2)),
    ]
    lint = scored(workspace, *rows).lint()
    assert lint["rule"].tolist() == ["below-floor", "identical-scores"]
    assert "0.470 against 0.500" in lint.loc[0, "message"]


def test_thinning_is_even_and_keeps_both_ends(workspace: Workspace) -> None:
    run = pretrain(workspace)
    job = begin(run)
    counts = (1, 2, 3, 7, 40, 41, 300)
    for count in counts:
        log(job, range(0, count * 3, 3), f"of {count}")
    store = indexed(workspace)
    for points in (2, 3, 7, 40, 299, 1000):
        frame = store.metrics([run.id], max_points=points)
        for count in counts:
            steps = frame.loc[frame["name"] == f"of {count}", "step"].to_numpy()
            assert len(steps) == min(count, points)
            assert steps[0] == 0 and steps[-1] == (count - 1) * 3
            gaps = np.diff(steps)
            assert not len(gaps) or gaps.max() - gaps.min() <= 3, "no gap is more than one point wider than another"


def test_metrics_of_many_runs_names_and_none(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [pretrain(workspace, seed=i) for i in range(3)]
    for run in runs:
        log(begin(run), range(10))
    store = indexed(workspace)
    two = store.metrics([runs[0].id, runs[2].id, "20260101-000000-no-0000"], ["loss"])
    assert two.groupby("run_id").size().to_dict() == {runs[0].id: 10, runs[2].id: 10}
    columns = ["run_id", "name", "attempt", "step", "samples", "time", "value"]
    for empty in (store.metrics([]), store.metrics(runs[0].id, []), store.metrics(runs[0].id, ["'; --"])):
        assert empty.empty and list(empty.columns) == columns
    monkeypatch.setattr(queries, "_MOST_BRANCHES", 1)
    store._frames.clear()
    assert store.metrics([runs[0].id, runs[2].id], ["loss"]).equals(two)
    assert str(two["time"].dtype) == "datetime64[us, UTC]"
    assert store.metric_names(runs[0].id)["name"].tolist() == ["loss", "lr"]


def test_runs_are_filtered_searched_and_paged(workspace: Workspace) -> None:
    runs = small_lab(workspace)
    store = indexed(workspace)
    assert store.runs()["run_id"].tolist() == [r.id for r in reversed(runs)]
    assert set(store.runs(kind="evaluate")["run_id"]) == {runs[3].id}
    assert len(store.runs(states=["succeeded"])) == 4 and store.runs(states=[]).empty
    assert len(store.runs(search="LAB")) == 3 and store.runs(search="100%").empty
    assert store.runs(limit=1, offset=1)["run_id"].tolist() == [runs[2].id]
    assert store.run_counts().values.tolist() == [["succeeded", 4]]
    row = store.runs(kind="pretrain").iloc[0]
    assert (row["method"], row["dataset"], row["seed"], row["done"], row["tags"]) == ("mae", "pack", 2, 400, "lab")
    assert row["loss"] == pytest.approx(1.399) and row["model"] is None
    more = store.run(runs[0].id).iloc[0]
    assert '"kind":"pretrain"' in more["spec"] and (more["slot"], more["device"]) == ("cpu-0", "cpu")
    assert store.run("20260101-000000-no-0000").empty


def test_the_clock_decides_duration_and_stall(workspace: Workspace) -> None:
    run, waiting = pretrain(workspace), pretrain(workspace, seed=1)
    now = datetime.now(UTC)
    at = lambda seconds: (now + timedelta(seconds=seconds)).isoformat()  # noqa: E731
    events = [("starting", 1, -100), ("running", 1, -99), ("failed", 1, -70), ("queued", 1, -65), ("starting", 2, -10)]
    for state, attempt, seconds in events:
        run.add_event(state=state, attempt=attempt, time=at(seconds))
    write_json(run.path / "heartbeat.json", {"attempt": 2, "next": at(-1)})
    store = indexed(workspace)
    frame = store.runs().set_index("run_id")
    assert 40 <= frame.loc[run.id, "duration_s"] < 60
    assert frame.loc[run.id, "stalled"]
    assert live(workspace, run.id)["stalled"]
    assert math.isnan(frame.loc[waiting.id, "duration_s"]) and not frame.loc[waiting.id, "stalled"]
    assert store.attempts(run.id)["state"].tolist() == ["failed", "starting"]
    # A promise of the attempt before says nothing about this one.
    write_json(run.path / "heartbeat.json", {"attempt": 1, "next": at(-1)})
    store.refresh_if_stale(0)
    assert not store.runs().set_index("run_id").loc[run.id, "stalled"]
    assert not live(workspace, run.id)["stalled"]


def test_ended_runs_come_in_the_order_of_their_end(workspace: Workspace) -> None:
    runs = [pretrain(workspace, seed=seed) for seed in range(4)]
    for run, minutes in zip(runs, (5, 90, 1), strict=False):  # the first one queued is not the first to end
        begin(run)
        when = datetime.now(UTC) - timedelta(minutes=minutes)
        run.add_event(state="failed" if minutes == 90 else "succeeded", attempt=1, time=when.isoformat())
    store = indexed(workspace)
    assert list(store.latest()["run_id"]) == [runs[2].id, runs[0].id, runs[1].id]
    assert len(store.latest(limit=1)) == 1
    counts = store.ended_since(datetime.now(UTC) - timedelta(hours=1))
    assert dict(zip(counts["state"], counts["n"], strict=True)) == {"succeeded": 2}
    assert set(store.ended_since(datetime.now(UTC) - timedelta(hours=2))["state"]) == {"succeeded", "failed"}


def test_alarms_are_those_that_stood_last(workspace: Workspace) -> None:
    over, standing = pretrain(workspace), pretrain(workspace, seed=1)
    for run, values in ((over, (1.0, 0.0)), (standing, (0.0, 1.0))):
        job = begin(run)
        for step, value in enumerate(values, 1):
            job.metrics(step=step, samples=8 * step, values={"alarm/constant-collapse": value, "loss": 1.0})
    found = indexed(workspace).alarms()
    assert found[["run_id", "name"]].to_numpy().tolist() == [[standing.id, "alarm/constant-collapse"]]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_live_sees_a_request_to_resume_or_the_state_that_followed_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    run = pretrain(workspace)
    finish(run, "cancelled")
    run.request("resume")
    read = RunFolder.events

    def take_up(folder: RunFolder) -> None:  # as the supervisor does: first the state, then the request
        folder.add_event(state="queued", message="Asked to resume.")
        folder.clear_request("resume")

    def events(folder: RunFolder) -> list[dict]:
        if moment == "before":
            take_up(folder)
        found = read(folder)
        if moment == "after":
            take_up(folder)
        return found

    monkeypatch.setattr(RunFolder, "events", events)
    now = live(workspace, run.id)
    assert now["resume_requested"] or now["state"] == "queued"


def test_a_frame_is_the_callers_own(workspace: Workspace) -> None:
    pretrain(workspace)
    store = indexed(workspace)
    first = store.runs()
    first["kind"] = "spoiled"
    del first["state"]
    assert store.runs()["kind"].tolist() == ["pretrain"]


def test_a_place_without_a_workspace_is_empty_and_stays_untouched(tmp_path: Path) -> None:
    store = Store(Workspace(tmp_path / "nowhere"))
    store.refresh_if_stale(0)
    assert store.runs().empty and store.compare().empty and store.notice is None
    assert not (tmp_path / "nowhere").exists()
    Workspace(tmp_path / "nowhere").runs.mkdir(parents=True)
    pretrain(store.workspace)
    assert len(store.runs()) == 1


def test_packs_and_models_are_listed_with_what_is_wrong_with_them(workspace: Workspace) -> None:
    from rsfm.model_info import ModelInfo

    (workspace.packs / "half").mkdir(parents=True)
    (workspace.packs / ".tmp-x").mkdir()
    good, bad = workspace.models / "good", workspace.models / "bad"
    for folder in (good, bad):
        folder.mkdir(parents=True)
    info = ModelInfo(
        name="good", architecture="vit", encoder={"width": 8}, image_size=8, feature_dim=8, bands=[], group="g",
        weights_hash="w", created="2026-01-01T00:00:00+00:00", run_id="r",
    )  # fmt: skip
    (good / "model.json").write_text(info.model_dump_json())
    save_file({"w": np.zeros((3, 4), np.float32)}, good / "model.safetensors")
    (bad / "model.json").write_text("{}")
    store = indexed(workspace)
    models = store.models().set_index("name")
    assert models.loc["good", ["group_id", "problem", "parameters"]].tolist() == ["g", None, 12]
    assert "not a readable model" in models.loc["bad", "problem"]
    assert store.datasets()["name"].tolist() == ["half"]
    assert sorted(store.problems()["path"]) == ["models/bad", "packs/half"]
    (good / "model.safetensors").write_bytes(b"")
    store.refresh_if_stale(0)
    assert "missing or empty" in store.models().set_index("name").loc["good", "problem"]
    (good / "model.safetensors").write_bytes(b"no tensors")
    store.refresh_if_stale(0)
    assert "not a whole safetensors file" in store.models().set_index("name").loc["good", "problem"]


def test_live_reads_the_folder(workspace: Workspace) -> None:
    run = pretrain(workspace)
    job = begin(run)
    job.progress(3, 10, unit="samples", force=True)
    (run.path / "log.txt").write_text("one\ntwo\n")
    previews = run.path / "artifacts" / "previews"
    previews.mkdir()
    for name in ("views-00000000.png", "reconstruction-00000050.png", "views-00000050.png", "other.txt"):
        (previews / name).touch()
    run.request("stop")
    seen = live(workspace, run.id)
    assert (seen["state"], seen["attempt"], seen["log"], seen["stop_requested"]) == ("running", 1, "one\ntwo\n", True)
    assert seen["progress"]["done"] == 3 and seen["heartbeat"] is None and not seen["stalled"]
    assert [(p["what"], p["step"]) for p in seen["previews"]] == [("views", 0), ("reconstruction", 50), ("views", 50)]
    finish(run)
    assert live(workspace, run.id)["message"] == "succeeded."
    with pytest.raises(RsfmError, match="There is no run"):
        live(workspace, "../secret")


def test_a_run_may_change_until_the_index_has_read_its_end(workspace: Workspace) -> None:
    run = pretrain(workspace)
    begin(run)
    store = indexed(workspace)

    def row() -> dict:
        return store.run(run.id).to_dict("records")[0]

    assert may_change(live(workspace, run.id), row()), "it goes on"
    finish(run)
    now, before = live(workspace, run.id), row()
    assert may_change(now, before) and may_change(now, {}), "the index still says running"
    store.refresh_if_stale(0)
    assert not may_change(now, row())
    run.request("resume")
    assert may_change(live(workspace, run.id), row())
    run.clear_request("resume")
    begin(run, attempt=2)
    finish(run, attempt=2)
    assert may_change(live(workspace, run.id), row()), "the index knows the end of the first attempt only"
    store.refresh_if_stale(0)
    assert not may_change(live(workspace, run.id), row())
    waiting = pretrain(workspace)
    waiting.add_event(state="cancelled", message="Before it began.")
    store.refresh_if_stale(0)
    assert not may_change(live(workspace, waiting.id), store.run(waiting.id).to_dict("records")[0])


def test_refresh_waits_for_max_age(workspace: Workspace) -> None:
    pretrain(workspace)
    store = Store(workspace)
    store.refresh_if_stale()
    assert len(store.runs()) == 1
    pretrain(workspace, seed=1)
    store.refresh_if_stale(60)
    assert len(store.runs()) == 1
    store.refresh_if_stale(0)
    assert len(store.runs()) == 2
    assert isinstance(store.runs(), pd.DataFrame)
