"""What killed supervisors, runners and resumes leave behind is taken up rightly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import jobs_world as world
import pytest
from jobs_world import queue

from jobs import client
from jobs.processes import alive, created
from rsfm.store.files import append_jsonl, write_json
from rsfm.store.runs import RunFolder, create_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def counting_supervisor(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from world.counting_only(workspace, monkeypatch, slots=1)


def leave_as(workspace: Workspace, *events: dict, heartbeat: dict | None = None) -> RunFolder:
    """A run folder as a killed supervisor left it."""
    folder = create_run(workspace, world.spec(steps=2))
    append_jsonl(folder.path / "events.jsonl", *events)
    if heartbeat is not None:
        write_json(folder.path / "heartbeat.json", heartbeat)
    return folder


def test_a_reused_process_id_is_not_adopted(workspace: Workspace) -> None:
    """The id in the heartbeat lives, but as another process: it is neither adopted nor touched."""
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        born = created(bystander.pid)
        beat = {"attempt": 1, "runner_pid": bystander.pid, "runner_created": born - 5, "pid": bystander.pid}
        folder = leave_as(
            workspace,
            {"time": "2026-01-01T00:00:00+00:00", "state": "running", "attempt": 1, "slot": "cpu-0"},
            heartbeat={**beat, "created": born - 5, "next": "2999-01-01T00:00:00+00:00"},
        )
        client.ensure_supervisor(workspace)
        world.wait_state(folder, "lost")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_killed_between_the_event_and_the_start(workspace: Workspace) -> None:
    """The attempt never began: the run is still queued, and a new supervisor starts it."""
    folder = leave_as(
        workspace, {"time": "2026-01-01T00:00:00+00:00", "state": "starting", "attempt": 1, "slot": "cpu-0"}
    )
    client.ensure_supervisor(workspace)
    world.wait_state(folder, "succeeded")
    assert world.events(folder, "state")[:3] == ["starting", "queued", "starting"]
    assert folder.attempt() == 2


def test_killed_between_the_start_and_the_handle(workspace: Workspace) -> None:
    """A runner that no event names is found by its marks, and adopted: never a second one in the same folder."""
    from jobs.backends.local import LocalBackend
    from jobs.protocol import Slot, Task

    folder = create_run(workspace, world.spec(steps=60))
    folder.add_event(state="starting", attempt=1, slot="cpu-0")
    command = world.count_command(folder, 1, 1, "cpu")
    handle = LocalBackend().submit(Task(folder, 1, Slot("cpu-0", "cpu", 1), 1, command))
    client.ensure_supervisor(workspace)
    world.wait_state(folder, "succeeded")
    assert folder.attempt() == 1
    assert folder.heartbeat()["runner_pid"] == handle["runner_pid"]
    assert world.folded_steps(folder) == list(range(1, 61))


def test_follow_is_not_fooled_by_a_resume_under_way(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request vanishes just when the former end was read: the run goes on, and so does following it."""
    folder = leave_as(workspace, {"time": "2026-01-01T00:00:00+00:00", "state": "failed", "attempt": 1})
    folder.request("resume")
    plain = RunFolder.state

    def state(self: RunFolder) -> str:
        answer = plain(self)
        if self.requested("resume"):
            self.add_event(state="queued", attempt=1)
            self.clear_request("resume")
        return answer

    monkeypatch.setattr(RunFolder, "state", state)
    assert client.follow(workspace, folder.id) == "succeeded"


def test_killed_within_a_resume(workspace: Workspace) -> None:
    """A request that was carried out but not removed does not resume the run once more."""
    folder = leave_as(
        workspace,
        {"time": "2026-01-01T00:00:00+00:00", "state": "failed", "attempt": 1},
        {"time": "2026-01-01T00:00:01+00:00", "state": "queued", "attempt": 1},
    )
    folder.request("resume")
    client.ensure_supervisor(workspace)
    assert client.follow(workspace, folder.id) == "succeeded"
    assert not folder.requested("resume")
    assert folder.attempt() == 2


def test_a_second_runner_is_refused(workspace: Workspace) -> None:
    from jobs.backends.local import LocalBackend
    from jobs.protocol import Slot, Task

    folder = queue(workspace, steps=1500, pause=0.01)
    world.wait_state(folder, "running")
    beat = folder.heartbeat()
    command = world.count_command(folder, 2, 1, "cpu")
    second = LocalBackend().submit(Task(folder, 2, Slot("cpu-1", "cpu", 1), 1, command))
    world.wait_for(lambda: not alive(second["runner_pid"], second["runner_created"]), what="the refusal")
    assert "another runner holds" in folder.log_tail()
    assert folder.heartbeat()["pid"] == beat["pid"]
    assert not [p for p in world.processes_of(folder.path) if p.environ().get("RSFM_ATTEMPT") == "2"]


def test_unreadable_folders_are_skipped(workspace: Workspace) -> None:
    (workspace.runs / "20260101-000000-broken-aaaa").mkdir(parents=True)
    (workspace.runs / "20260101-000001-broken-bbbb").mkdir()
    (workspace.runs / "20260101-000001-broken-bbbb" / "spec.json").write_text('{"spec": {')
    finished = leave_as(workspace, {"time": "2026-01-01T00:00:00+00:00", "state": "succeeded", "attempt": 1})
    (finished.path / "spec.json").write_text("garbage")
    (finished.path / "events.jsonl").open("ab").write(b"\xff\xfe half a li")
    folder = queue(workspace, steps=2)
    world.wait_state(folder, "succeeded")
    problems = client.supervisor_status(workspace)["problems"]
    assert [p["path"] for p in problems] == ["runs/20260101-000000-broken-aaaa", "runs/20260101-000001-broken-bbbb"]
    assert finished.state() == "succeeded"
