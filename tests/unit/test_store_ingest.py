"""What the index takes from the folders: the same by small steps as in one go, whatever killed writers left."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_world import (
    append_raw,
    begin,
    content,
    evaluate,
    finish,
    folder_content,
    index_content,
    indexed,
    log,
    pretrain,
    score,
)

from rsfm.store import schema
from rsfm.store.database import Memory
from rsfm.store.files import append_jsonl, write_json
from rsfm.store.index import fill
from rsfm.store.ingest import Ingest
from rsfm.store.runs import RunFolder
from rsfm.workspace import Workspace

NAMES = st.sampled_from(["loss", "knn", "lr", "ä"])
NUMBERS = st.one_of(st.floats(-10, 10), st.integers(-3, 3), st.just(math.nan), st.just(math.inf), st.none())
TIMES = st.sampled_from(["2026-01-01T00:00:00.000+00:00", "2026-01-01T02:00:00+02:00", "never", None])
METRIC = st.fixed_dictionaries(
    {
        "attempt": st.integers(1, 4), "step": st.integers(0, 12), "samples": st.integers(0, 99), "time": TIMES,
        "values": st.dictionaries(NAMES, NUMBERS, max_size=3),
    }
)  # fmt: skip
EVENT = st.fixed_dictionaries(
    {"time": TIMES, "attempt": st.integers(1, 4)},
    optional={
        "state": st.sampled_from(["queued", "starting", "running", "failed", "succeeded", "what"]),
        "message": st.text(max_size=5), "start_step": st.integers(0, 12), "stalled": st.booleans(),
    },
)  # fmt: skip
SCORE = st.builds(
    lambda value, seed, time: score(value=value, eval_seed=seed) | {"attempt": 1, "time": time},
    st.sampled_from([0.1, 0.2, None, math.nan]), st.integers(0, 1), TIMES,
)  # fmt: skip
ARTIFACT = st.fixed_dictionaries(
    {
        "attempt": st.integers(1, 2), "time": TIMES, "kind": st.sampled_from(["figure", "table", ""]),
        "path": st.sampled_from(["artifacts/a.json", "artifacts/none.png", "../x", "spec.json"]),
    }
)  # fmt: skip
JUNK = st.one_of(
    st.binary(max_size=6), st.sampled_from([b"{}\n", b"[]\n", b"null\n", b'{"step":', b"\x00\x00", b"\n\n"])
)
FILES = {"metrics.jsonl": METRIC, "events.jsonl": EVENT, "scores.jsonl": SCORE, "artifacts.jsonl": ARTIFACT}
ACTIONS = st.one_of(
    *(st.tuples(st.just("add"), st.just(n), st.lists(s, min_size=1, max_size=4)) for n, s in FILES.items()),
    st.tuples(st.just("junk"), st.sampled_from(list(FILES)), JUNK),
    st.tuples(st.just("half"), st.just("metrics.jsonl"), METRIC, st.integers(1, 40)),
    st.tuples(st.just("cut"), st.sampled_from(list(FILES)), st.integers(0, 60)),
    st.tuples(st.just("progress"), st.integers(0, 9)),
    st.tuples(st.just("spec"), st.booleans()),
    st.tuples(st.just("refresh")),
)


def act(run: RunFolder, envelope: dict, action: tuple) -> None:
    what = action[0]
    if what == "add":
        append_jsonl(run.path / action[1], *action[2])
    elif what == "junk":
        append_raw(run.path / action[1], action[2])
    elif what == "half":
        append_raw(run.path / action[1], json.dumps(action[2]).encode()[: action[3]])
    elif what == "cut" and (run.path / action[1]).exists():
        os.truncate(run.path / action[1], min(action[2], (run.path / action[1]).stat().st_size))
    elif what == "progress":
        write_json(run.path / "progress.json", {"done": action[1], "total": 9, "attempt": 1})
    elif what == "spec":
        write_json(run.path / "spec.json", envelope if action[1] else {"broken": True})


def counting_rows(path: Path, start_steps: dict[int, int]) -> set[tuple]:
    """The rule in plain words: of a step written twice the last counts; a later attempt voids all from its first on."""
    rows: dict[tuple, float] = {}
    first = dict(start_steps)
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            row = json.loads(line.decode())
        except ValueError:
            continue
        if not isinstance(row, dict) or not row.get("values") or not isinstance(row.get("step"), int):
            continue
        first[row["attempt"]] = min(row["step"], first.get(row["attempt"], row["step"]))
        for name, value in row["values"].items():
            rows[row["attempt"], row["step"], name] = math.nan if value is None else float(value)
    return {
        (attempt, step, name, repr(value))
        for (attempt, step, name), value in rows.items()
        if not any(later > attempt and begin <= step for later, begin in first.items())
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(actions=st.lists(ACTIONS, max_size=14))
def test_small_steps_lead_to_what_one_reading_of_the_folders_gives(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple]
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("lab"))
    run = pretrain(workspace)
    other = pretrain(workspace, seed=1)
    (run.path / "artifacts" / "a.json").write_text("{}")
    envelope = run.envelope()
    memory, ingest = Memory(), Ingest(workspace)
    with memory.attached() as con:
        schema.create(con)
        for action in actions:
            if action[0] == "refresh":
                fill(ingest, con, None)
            else:
                act(run, envelope, action)
        append_jsonl(
            other.path / "scores.jsonl", score(value=0.3) | {"attempt": 1, "time": "2025-01-01T00:00:00+00:00"}
        )
        fill(ingest, con, None)
        found = content(con)
        assert found == folder_content(workspace)
        assert not ingest.watch.changed(), "nothing is new any more"
        rows = con.execute("SELECT m.attempt, m.step, m.name, m.value FROM metrics m JOIN runs USING (run)").fetchall()
    steps = [(step, name) for _, step, name, _ in rows]
    assert len(steps) == len(set(steps)), "the index shows no step twice"
    if any("broken" in row for row in found["problems"]) or "left out" in repr(found["problems"]):
        assert not rows
        return
    starts: dict[int, int] = {}
    for event in run.events():
        if isinstance(event, dict) and "start_step" in event:
            starts[event["attempt"]] = min(event["start_step"], starts.get(event["attempt"], 99))
    expected = counting_rows(run.path / "metrics.jsonl", starts)
    assert {(a, s, n, repr(v)) for a, s, n, v in rows} == expected


def test_a_new_attempt_supersedes_what_it_does_again(workspace: Workspace) -> None:
    run = pretrain(workspace)
    log(begin(run), range(0, 70, 5))
    store = indexed(workspace)
    assert store.metrics(run.id, ["loss"])["step"].tolist() == list(range(0, 70, 5))
    finish(run, "lost")
    log(begin(run, 2), range(50, 90, 5))
    store.refresh_if_stale(0)
    points = store.metrics(run.id, ["loss"])
    assert points["step"].tolist() == list(range(0, 90, 5))
    assert points["attempt"].tolist() == [1] * 10 + [2] * 8
    attempts = store.attempts(run.id)
    assert attempts["start_step"].tolist() == [0, 50]
    assert attempts["state"].tolist() == ["lost", "running"]
    assert store.runs().loc[0, "loss"] == pytest.approx(2.085)
    # A writer of the first attempt that nobody could reach wakes up: too late.
    append_jsonl(run.path / "metrics.jsonl", {"attempt": 1, "step": 70, "samples": 1, "values": {"loss": 9.0}})
    store.refresh_if_stale(0)
    assert 9.0 not in store.metrics(run.id)["value"].tolist()


def test_a_step_that_is_written_again_counts_as_written_last(workspace: Workspace) -> None:
    run = pretrain(workspace)
    log(begin(run), range(5))
    store = indexed(workspace)
    append_raw(run.path / "metrics.jsonl", {"attempt": 1, "step": 3, "samples": 1, "values": {"loss": 7.0, "new": 1.0}})
    append_raw(run.path / "metrics.jsonl", {"attempt": 1, "step": 3, "samples": 1, "values": {"loss": 8.0}})
    store.refresh_if_stale(0)
    points = store.metrics(run.id).set_index(["name", "step"])["value"]
    assert points["loss"].tolist() == pytest.approx([1.0, 1.001, 1.002, 8.0, 1.004])
    assert points["new"].to_dict() == {3: 1.0} and len(points["lr"]) == 5
    assert index_content(workspace) == folder_content(workspace)


def test_a_half_line_waits_for_its_end(workspace: Workspace) -> None:
    run = pretrain(workspace)
    row = json.dumps({"attempt": 1, "step": 1, "samples": 1, "time": None, "values": {"loss": 0.5}}).encode()
    append_raw(run.path / "metrics.jsonl", row[:20])
    store = indexed(workspace)
    assert store.metrics(run.id).empty
    append_raw(run.path / "metrics.jsonl", row[20:] + b"\n")
    store.refresh_if_stale(0)
    assert store.metrics(run.id)["value"].tolist() == [0.5]
    assert store.lint().empty


def test_lines_that_are_no_rows_are_counted_and_cost_nothing_else(workspace: Workspace) -> None:
    run = pretrain(workspace)
    for junk in (b"\xff\xfe\n", b'{"step": 1}\n', b"[1]\n", b"[" * 100_000 + b"\n", b'{"step":1e400,"values":{}}\n'):
        append_raw(run.path / "metrics.jsonl", junk)
    append_raw(run.path / "metrics.jsonl", {"attempt": 1, "step": 3, "samples": None, "values": {"loss": 1, "x": "y"}})
    append_raw(run.path / "scores.jsonl", score(value=None))
    store = indexed(workspace)
    assert store.metrics(run.id)[["step", "name", "value"]].values.tolist() == [[3, "loss", 1.0]]
    assert store.lint()["message"].str.split(" could").str[0].tolist() == [
        "metrics.jsonl: 6 lines",
        "scores.jsonl: 1 line",
    ]


def test_a_loss_that_is_no_number_any_more_shows_as_such(workspace: Workspace) -> None:
    run = pretrain(workspace)
    job = begin(run)
    for step, loss in enumerate([2.0, 1.0, math.nan, math.inf]):
        job.metrics(step=step, samples=step, values={"loss": loss})
    job.metrics(step=9, samples=9, values={"loss": math.nan})
    store = indexed(workspace)
    assert math.isnan(store.runs().loc[0, "loss"])
    names = store.metric_names(run.id)
    assert names[["n", "best_min", "best_max"]].values.tolist() == [[5, 1.0, 2.0]]


@pytest.mark.parametrize("how", ["shorter", "another beginning", "gone", "other events"])
def test_a_file_that_did_not_only_grow_is_read_from_scratch(workspace: Workspace, how: str) -> None:
    run = pretrain(workspace)
    job = begin(run)
    log(job, range(50))
    job.scores([score()])
    store = indexed(workspace)
    path = run.path / "metrics.jsonl"
    data = path.read_bytes()
    if how == "shorter":
        path.write_bytes(b"".join(data.splitlines(keepends=True)[:10]))
    elif how == "another beginning":
        path.write_bytes(data.replace(b'"attempt":1,"step":0,', b'"attempt":1,"step":7,', 1))
    elif how == "gone":
        path.unlink()
    else:
        events = run.path / "events.jsonl"
        events.write_bytes(events.read_bytes().replace(b"starting", b"stopping"))
    store.refresh_if_stale(0)
    steps = store.metrics(run.id, ["loss"])["step"].tolist()
    expected = {"shorter": range(10), "another beginning": range(1, 50), "gone": range(0), "other events": range(50)}
    assert steps == list(expected[how])
    assert index_content(workspace) == folder_content(workspace)


def test_a_broken_run_is_left_out_shown_and_comes_back(workspace: Workspace) -> None:
    good, bad = pretrain(workspace), pretrain(workspace, seed=1)
    envelope = bad.envelope()
    log(begin(bad), range(5))
    (bad.path / "spec.json").write_bytes(b'{"kind": ')
    (workspace.runs / "2026-not-a-run").mkdir()
    store = indexed(workspace)
    assert store.runs()["run_id"].tolist() == [good.id]
    problems = store.problems()
    assert problems["path"].tolist() == ["runs/2026-not-a-run", f"runs/{bad.id}"]
    assert problems.loc[1, "problem"] == "left out: spec.json is missing or unreadable"
    write_json(bad.path / "spec.json", envelope)
    (workspace.runs / "2026-not-a-run").rmdir()
    store.refresh_if_stale(0)
    assert set(store.runs()["run_id"]) == {good.id, bad.id}
    assert len(store.metrics(bad.id, ["loss"])) == 5
    assert store.problems().empty


def test_one_unreadable_file_costs_only_itself(workspace: Workspace) -> None:
    run = pretrain(workspace)
    (run.path / "metrics.jsonl").mkdir()
    begin(run)
    store = indexed(workspace)
    assert store.runs()["state"].tolist() == ["running"]
    assert store.problems()["path"].tolist() == [f"runs/{run.id}/metrics.jsonl"]
    assert "directory" in store.problems().loc[0, "problem"].lower()


def test_a_deleted_run_leaves_the_index(workspace: Workspace) -> None:
    import shutil

    kept, gone = evaluate(workspace), evaluate(workspace)
    begin(kept).scores([score(value=0.2, time="2026-01-01T00:00:00+00:00")])
    begin(gone).scores([score(value=0.9, time="2026-01-02T00:00:00+00:00")])
    store = indexed(workspace)
    assert store.scores()["value"].tolist() == [0.9]
    shutil.rmtree(gone.path)
    store.refresh_if_stale(0)
    assert store.runs()["run_id"].tolist() == [kept.id]
    assert store.scores()["value"].tolist() == [0.2], "the older measurement counts again"
    assert index_content(workspace) == folder_content(workspace)


def test_equal_keys_are_kept_the_newest_counts_and_the_lint_says_so(workspace: Workspace) -> None:
    first, second = evaluate(workspace), evaluate(workspace)
    day = "2026-01-0{}T00:00:00+00:00".format
    begin(first).scores([score(value=0.5, time=day(1)), score(severity=2, value=0.4, time=day(1))])
    begin(second).scores([score(value=0.6, time=day(2)), score(severity=2, value=0.4, time=day(2))])
    store = indexed(workspace)
    scores = store.scores()
    assert scores[["severity", "value", "run_id"]].values.tolist() == [[1, 0.6, second.id], [2, 0.4, second.id]]
    assert store.scores(run_id=first.id)["value"].tolist() == [0.5, 0.4]
    lint = store.lint()
    assert lint["rule"].tolist() == ["duplicate-key"]
    assert "0.5000, 0.6000" in lint.loc[0, "message"]
    # A second attempt of the first run measures anew, and is the newest.
    begin(first, 2).scores([score(value=0.7, time=day(3))])
    store.refresh_if_stale(0)
    assert store.scores()["value"].tolist() == [0.7, 0.4]
    assert len(store.scores(run_id=first.id)) == 2


def test_artifacts_are_checked_when_they_are_registered(workspace: Workspace) -> None:
    run = pretrain(workspace)
    job = begin(run)
    folder = run.path / "artifacts"
    pd.DataFrame({"sample_id": ["a"], "correct": [True]}).to_parquet(folder / "predictions.parquet")
    (folder / "broken.parquet").write_bytes((folder / "predictions.parquet").read_bytes()[:40])
    (folder / "empty.json").touch()
    (folder / "no.png").write_bytes(b"GIF89a")
    for name in ("predictions.parquet", "broken.parquet", "empty.json", "no.png", "absent.json"):
        job.artifact(folder / name, kind="predictions", step=4)
    append_raw(run.path / "artifacts.jsonl", {"path": "../../index.duckdb", "kind": "figure"})
    store = indexed(workspace)
    found = store.artifacts(run.id).set_index("path")
    assert found["ok"].sum() == 1 and found.loc["artifacts/predictions.parquet", "ok"]
    assert found.loc["artifacts/predictions.parquet", "step"] == 4
    assert found.loc["artifacts/predictions.parquet", "problem"] is None
    assert found.loc["artifacts/broken.parquet", "problem"].startswith("cannot be read")
    assert found.loc["artifacts/empty.json", "problem"] == "is empty"
    assert found.loc["artifacts/absent.json", "problem"] == "does not exist"
    assert found.loc["../../index.duckdb", "problem"] == "lies outside of its run's folder"
    # Registered once more: another file under the same path, so another address.
    job.artifact(folder / "predictions.parquet", kind="predictions")
    store.refresh_if_stale(0)
    again = store.artifacts(run.id, kind="predictions").set_index("path")
    assert len(again) == len(found) - 1
    assert (
        again.loc["artifacts/predictions.parquet", "artifact_id"]
        != found.loc["artifacts/predictions.parquet", "artifact_id"]
    )


def test_a_finished_run_that_is_resumed_is_seen(workspace: Workspace) -> None:
    run = pretrain(workspace)
    log(begin(run), range(5))
    finish(run, "failed")
    for file in run.path.iterdir():
        os.utime(file, (1, 1))  # long ago: only its events are watched
    store = indexed(workspace)
    log(begin(run, 2), range(5, 9))
    store.refresh_if_stale(0)
    assert store.runs().loc[0, ["state", "attempt"]].tolist() == ["running", 2]
    assert len(store.metrics(run.id, ["loss"])) == 9


def test_a_change_by_hand_in_a_finished_run_is_found_by_the_sweep(workspace: Workspace) -> None:
    from rsfm.store.scan import SWEEP

    run = pretrain(workspace)
    log(begin(run), range(5))
    finish(run)
    for file in run.path.iterdir():
        os.utime(file, (1, 1))
    ingest, memory = Ingest(workspace), Memory()
    with memory.attached() as con:
        schema.create(con)
        fill(ingest, con, None)
        (run.path / "metrics.jsonl").write_bytes(b"")
        assert any(ingest.watch.changed() == [f"runs/{run.id}"] for _ in range(SWEEP))


def test_a_long_file_comes_in_parts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from rsfm.store import ingest

    monkeypatch.setattr(ingest, "BATCH_BYTES", 500)
    run = pretrain(workspace)
    log(begin(run), range(200))
    append_jsonl(run.path / "metrics.jsonl", {"attempt": 1, "step": 200, "values": {"n" * 2000: 1.0}})
    log(begin(run, 2), range(150, 160))
    store = indexed(workspace)
    assert store.metrics(run.id, ["loss"])["step"].tolist() == list(range(160))
