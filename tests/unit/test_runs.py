"""Run folders and the small files in them survive what kills do to them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec, pretrain_spec
from rsfm.store.files import append_jsonl, read_json, read_jsonl, write_json
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import RunFolder, create_run, is_run_id, list_runs, open_run
from rsfm.workspace import Workspace

JSON = st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda x: st.lists(x, max_size=3), max_leaves=4)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(JSON, max_size=6), cut=st.integers(0, 40), more=st.lists(JSON, min_size=1, max_size=3))
def test_a_half_written_line_loses_only_itself(tmp_path_factory: pytest.TempPathFactory, rows, cut, more) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "x.jsonl"
    for row in rows:
        append_jsonl(path, row)
    half = json.dumps({"half": "x" * 40}).encode()[: cut + 1]
    with path.open("ab") as file:
        file.write(half)
    before, offset, bad = read_jsonl(path)
    assert before == rows
    assert bad == 0, "a line without its end is not read yet"
    append_jsonl(path, *more)
    after, _, bad = read_jsonl(path, offset)
    assert after[-len(more) :] == more
    assert len(after) + bad == len(more) + 1


def test_write_json_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_read_json_of_a_half_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    assert read_json(tmp_path / "x.json") is None
    assert read_json(tmp_path / "missing.json") is None


def test_a_created_run_is_queued_complete_and_listed(workspace: Workspace) -> None:
    first = create_run(workspace, pretrain_spec("mae", "pack", "smoke", seed=3), tags=["t"])
    second = create_run(workspace, EvaluateSpec(model=first.id, dataset="pack"), after=[first.id], priority=2)
    assert is_run_id(first.id)
    assert first.state() == "queued"
    assert first.attempt() == 0
    assert first.spec().seed == 3
    assert second.envelope()["after"] == [first.id]
    assert [r.id for r in list_runs(workspace)] == sorted([first.id, second.id])
    assert not list(workspace.runs.glob(".*"))


def test_two_runs_of_one_second_never_share_an_id(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr("rsfm.store.runs.secrets.token_hex", lambda _: next(ends))
    monkeypatch.setattr("rsfm.store.runs.datetime", Frozen)
    made = [create_run(workspace, EvaluateSpec(model="band-stats", dataset="p", knn_k=k)) for k in (1, 2)]
    assert [run.id[-4:] for run in made] == ["aaaa", "bbbb"]
    assert [run.spec().knn_k for run in made] == [1, 2]


class Frozen(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return datetime(2026, 11, 21, 9, 30, 45, tzinfo=UTC)


def test_evaluations_of_two_seeds_share_a_group(workspace: Workspace) -> None:
    groups = set()
    for seed in (0, 1):
        trained = create_run(workspace, pretrain_spec("mae", "pack", "smoke", seed=seed))
        groups.add(create_run(workspace, EvaluateSpec(model=trained.id, dataset="p")).envelope()["group"])
    other = create_run(workspace, pretrain_spec("mae", "pack", "smoke", ["mask_ratio=0.5"]))
    assert len(groups) == 1
    assert create_run(workspace, EvaluateSpec(model=other.id, dataset="p")).envelope()["group"] not in groups


def test_waiting_for_a_run_that_is_not_there_is_refused(workspace: Workspace) -> None:
    with pytest.raises(RsfmError, match="none with that id"):
        create_run(workspace, EvaluateSpec(model="band-stats", dataset="p"), after=["20260101-000000-a-b"])
    assert list(workspace.runs.iterdir()) == []


@pytest.mark.parametrize("text", ["../x", "", "20260101-000000-../../x", "20260101-000000-a/b", "x-y-z-w", "."])
def test_paths_are_no_run_ids(workspace: Workspace, text: str) -> None:
    workspace.runs.mkdir(parents=True)
    with pytest.raises(RsfmError, match="no run"):
        open_run(workspace, text)


def test_state_is_the_last_one_written(workspace: Workspace) -> None:
    run = create_run(workspace, pretrain_spec("mae", "pack", "smoke"))
    run.add_event(state="starting", attempt=1)
    run.add_event(state="running", attempt=1)
    run.add_event(message="still fine")
    assert run.state() == "running"
    run.add_event(state="starting", attempt=2)
    assert run.attempt() == 2


def test_log_tail_shows_whole_lines_and_the_last_state_of_a_bar(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "log.txt").write_bytes(b"first\n 10%\r 50%\r100%\nlast\n")
    assert run.log_tail() == "first\n100%\nlast\n"
    assert run.log_tail(max_bytes=9) == "last\n"


def test_a_job_reports_and_obeys_a_stop(workspace: Workspace) -> None:
    run = create_run(workspace, pretrain_spec("mae", "pack", "smoke"))
    job = JobContext(workspace, run, attempt=1)
    job.metrics(step=1, samples=32, values={"loss": 1.5})
    job.progress(32, 64, unit="samples", step=1, force=True)
    job.check_stop()
    run.request("stop")
    with pytest.raises(Stopped):
        job.check_stop()
    assert read_jsonl(run.path / "metrics.jsonl")[0][0]["values"] == {"loss": 1.5}
    assert run.progress()["done"] == 32


def test_execute_reports_bad_specs_in_one_line(workspace: Workspace) -> None:
    run = create_run(workspace, EvaluateSpec(model="band-stats", dataset="nothing-here"))
    done = subprocess.run(
        [sys.executable, "-m", "rsfm.execute", str(run.path), "--attempt", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: No pack at")
    assert "Traceback" not in done.stderr
