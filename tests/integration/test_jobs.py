"""Supervisor, runner and client on real processes, with a job that counts instead of training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jobs_world as world
import pytest
from jobs_world import kill_supervisor, pid, queue

from jobs import client
from jobs.processes import alive, created
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec
from rsfm.store.files import read_json, write_json
from rsfm.store.runs import create_run, open_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def counting_supervisor(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from world.counting_only(workspace, monkeypatch, slots=1)


def test_submit_and_follow(workspace: Workspace) -> None:
    run_id = client.submit(workspace, world.spec(steps=12, print="höhe: 12 m"))
    seen: list[dict] = []
    log: list[str] = []
    assert client.follow(workspace, run_id, seen.append, log.append, poll_s=0.02) == "succeeded"
    folder = open_run(workspace, run_id)
    assert [s for s in world.events(folder, "state")] == ["starting", "running", "succeeded"]
    assert seen[-1]["done"] == seen[-1]["total"] == 12
    assert seen[-1]["state"] == "succeeded"
    assert len(seen) > 3
    assert "höhe: 12 m" in "".join(log)
    ended = folder.exit()
    assert (ended["attempt"], ended["code"], ended["signal"], ended["traceback"]) == (1, 0, None, None)
    assert ended["peak_memory_bytes"] > 1e6
    assert world.events(folder, "slot") == ["cpu-0"]
    assert world.folded_steps(folder) == list(range(1, 13))


def test_supervisor_leaves_by_itself_and_is_started_again(workspace: Workspace) -> None:
    first = queue(workspace, steps=1)
    world.wait_state(first, "succeeded")
    old = pid(workspace)
    born = created(old)
    world.wait_for(lambda: not alive(old, born), what="the idle supervisor to leave")
    assert client.supervisor_status(workspace) is None
    second = queue(workspace, steps=1)
    world.wait_state(second, "succeeded")
    assert pid(workspace) != old


def test_only_one_supervisor(workspace: Workspace) -> None:
    queue(workspace, steps=10_000)  # keeps it
    old = pid(workspace)
    others = [subprocess.Popen(world.supervisor_command(workspace)) for _ in range(3)]
    assert [p.wait(timeout=20) for p in others] == [0, 0, 0]
    assert pid(workspace) == old


def test_failure_names_the_reason_and_resumes(workspace: Workspace) -> None:
    folder = queue(workspace, steps=12, crash_at=8, save_every=3)
    assert client.follow(workspace, folder.id) == "failed"
    last = folder.events()[-1]
    assert last["message"] == "ValueError: cannot count to 8"
    assert last["code"] == 1
    ended = folder.exit()
    assert ended["traceback"].startswith("Traceback (most recent call last):")
    assert ended["traceback"].endswith("ValueError: cannot count to 8")
    client.resume(workspace, folder.id)
    assert client.follow(workspace, folder.id) == "succeeded"
    assert folder.attempt() == 2
    assert world.folded_steps(folder) == list(range(1, 13))
    with pytest.raises(RsfmError, match="cannot be resumed: it has succeeded"):
        client.resume(workspace, folder.id)


def test_stop_saves_and_resume_goes_on(workspace: Workspace) -> None:
    folder = queue(workspace, steps=400, pause=0.02, save_every=1000)
    world.wait_for(lambda: (folder.progress() or {}).get("done", 0) >= 3, what="three steps")
    with pytest.raises(RsfmError, match="it is running"):
        client.resume(workspace, folder.id)
    client.stop(workspace, folder.id)
    assert client.follow(workspace, folder.id) == "cancelled"
    assert world.events(folder, "rung") == ["request"]
    assert not folder.requested("stop")
    saved = read_json(folder.path / "counter.json")["step"]
    assert 3 <= saved < 400
    # Make the rest short: the counter is what the job goes on from.
    write_json(folder.path / "counter.json", {"step": 395})
    client.resume(workspace, folder.id)
    assert client.follow(workspace, folder.id) == "succeeded"
    rows = world.folded_steps(folder)
    assert rows == [*range(1, saved + 1), *range(396, 401)]
    with pytest.raises(RsfmError, match="has ended already"):
        client.stop(workspace, folder.id)


@pytest.mark.parametrize(
    ("options", "rungs", "ended_by"),
    [
        ({"deaf_to_stop": True}, ["request", "terminate"], "SIGTERM"),
        ({"deaf_to_stop": True, "deaf_to_term": True, "child": True}, ["request", "terminate", "kill"], "SIGKILL"),
    ],
)
def test_cancel_ladder(workspace: Workspace, options: dict, rungs: list[str], ended_by: str) -> None:
    folder = queue(workspace, steps=10_000, **options)
    world.wait_for(lambda: (folder.progress() or {}).get("done", 0) >= 2, what="two steps")
    client.stop(workspace, folder.id)
    assert client.follow(workspace, folder.id) == "cancelled"
    assert world.events(folder, "rung") == rungs
    assert all(e.get("message") for e in folder.events() if "rung" in e)
    assert folder.exit()["signal"] == ended_by
    world.wait_for(lambda: not world.processes_of(folder.path), 5, "the end of all its processes")


def test_ladder_reaches_a_frozen_runner(workspace: Workspace) -> None:
    """A runner that cannot report is ended with its job, and the run still becomes cancelled."""
    folder = queue(workspace, steps=10_000, deaf_to_stop=True)
    world.wait_state(folder, "running")
    os.kill(folder.heartbeat()["runner_pid"], signal.SIGSTOP)
    os.kill(folder.heartbeat()["pid"], signal.SIGSTOP)
    client.stop(workspace, folder.id)
    assert client.follow(workspace, folder.id) == "cancelled"
    assert world.events(folder, "rung") == ["request", "terminate", "kill", "sweep"]
    world.wait_for(lambda: not world.processes_of(folder.path), 5, "the end of all its processes")


def test_ladder_goes_on_under_a_new_supervisor(workspace: Workspace) -> None:
    folder = queue(workspace, steps=10_000, deaf_to_stop=True, deaf_to_term=True)
    world.wait_for(lambda: (folder.progress() or {}).get("done", 0) >= 2, what="two steps")
    client.stop(workspace, folder.id)
    world.wait_for(lambda: "request" in world.events(folder, "rung"), what="the first rung")
    kill_supervisor(workspace)
    assert client.follow(workspace, folder.id) == "cancelled"
    assert world.events(folder, "rung") == ["request", "terminate", "kill"]


def test_stop_of_a_queued_run_cancels_it_at_once(workspace: Workspace) -> None:
    first = queue(workspace, steps=10_000)
    second = queue(workspace, steps=3)
    world.wait_state(first, "running")
    status = world.wait_for(lambda: (client.supervisor_status(workspace) or {}).get("queue"), what="a queue")
    assert status[0]["run_id"] == second.id
    assert status[0]["why"] == "It waits for a free CPU slot."
    client.stop(workspace, second.id)
    world.wait_state(second, "cancelled")
    assert second.attempt() == 0
    client.resume(workspace, second.id)
    world.wait_state(second, "queued")
    client.stop(workspace, first.id)
    world.wait_state(second, "succeeded")


def test_dependencies_and_priority(workspace: Workspace) -> None:
    blocker = queue(workspace, steps=40)
    world.wait_state(blocker, "running")
    low = client.submit(workspace, world.spec(steps=2))
    high = client.submit(workspace, world.spec(steps=2), priority=5)
    after = client.submit(workspace, world.spec(steps=2), after=[low], priority=9)
    for run_id in (low, high, after):
        assert client.follow(workspace, run_id) == "succeeded"

    def started(run_id: str) -> str:
        return next(e["time"] for e in open_run(workspace, run_id).events() if e.get("state") == "starting")

    assert started(high) < started(low) < started(after)


def test_dependent_of_a_failed_run_is_cancelled_and_resumes(workspace: Workspace) -> None:
    first = queue(workspace, steps=4, crash_at=3, save_every=1)
    second = open_run(workspace, client.submit(workspace, world.spec(steps=2), after=[first.id]))
    third = open_run(workspace, client.submit(workspace, world.spec(steps=2), after=[second.id]))
    assert client.follow(workspace, third.id) == "cancelled"
    assert second.events()[-1]["message"] == f"Not started: run {first.id}, which it waits for, is failed."
    for folder in (first, second, third):
        client.resume(workspace, folder.id)
    assert [client.follow(workspace, f.id) for f in (first, second, third)] == ["succeeded"] * 3


def test_whoever_submitted_may_die(workspace: Workspace) -> None:
    """The supervisor and the run outlive the process that asked for them, killed together with its group."""
    code = (
        "import sys, time; import jobs_world as world; from jobs import client; from rsfm.workspace import Workspace; "
        "client.supervisor_command = world.supervisor_command; place = Workspace.resolve(sys.argv[1]); "
        "print(client.submit(place, world.spec(steps=80)), flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(world.HERE).parent)}
    asker = subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.root)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    folder = open_run(workspace, asker.stdout.readline().strip())
    supervisor = client.supervisor_status(workspace)["pid"]
    os.killpg(asker.pid, signal.SIGKILL)
    asker.communicate()
    world.wait_state(folder, "succeeded")
    assert pid(workspace) == supervisor


def test_supervisor_killed_run_goes_on_and_is_adopted(workspace: Workspace) -> None:
    folder = queue(workspace, steps=120, pause=0.02)
    world.wait_state(folder, "running")
    before = folder.heartbeat()["pid"]
    kill_supervisor(workspace)
    done = (folder.progress() or {}).get("done", 0)
    world.wait_for(lambda: (folder.progress() or {}).get("done", 0) > done + 3, what="progress without a supervisor")
    assert client.follow(workspace, folder.id) == "succeeded"
    assert folder.attempt() == 1
    assert folder.heartbeat()["pid"] == before
    assert any("Found alive" in m for m in world.events(folder, "message"))
    assert world.folded_steps(folder) == list(range(1, 121))


def test_run_that_ended_without_a_supervisor_is_finalised(workspace: Workspace) -> None:
    folder = queue(workspace, steps=30, pause=0.02)
    world.wait_state(folder, "running")
    kill_supervisor(workspace)
    world.wait_for(folder.exit, what="exit.json")
    assert folder.state() == "running"
    client.ensure_supervisor(workspace)
    world.wait_state(folder, "succeeded")
    assert folder.attempt() == 1


def test_runner_killed_takes_its_job_along(workspace: Workspace) -> None:
    folder = queue(workspace, steps=10_000, child=True)
    world.wait_for(lambda: (folder.progress() or {}).get("done", 0) >= 7, what="seven steps")
    beat = folder.heartbeat()
    os.kill(beat["runner_pid"], signal.SIGKILL)
    assert client.follow(workspace, folder.id) == "lost"
    assert not alive(beat["pid"], beat["created"])
    world.wait_for(lambda: not world.processes_of(folder.path), 5, "the end of all its processes")
    write_json(folder.path / "counter.json", {"step": 9_998})
    client.resume(workspace, folder.id)
    assert client.follow(workspace, folder.id) == "succeeded"


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux only")
def test_runner_killed_without_a_supervisor(workspace: Workspace) -> None:
    """The kernel ends the job with its runner; nobody of ours is needed for that."""
    folder = queue(workspace, steps=10_000)
    world.wait_state(folder, "running")
    kill_supervisor(workspace)
    beat = folder.heartbeat()
    os.kill(beat["runner_pid"], signal.SIGKILL)
    world.wait_for(lambda: not alive(beat["pid"], beat["created"]), what="the job's end")
    client.ensure_supervisor(workspace)
    world.wait_state(folder, "lost")


def test_job_killed_is_a_failure(workspace: Workspace) -> None:
    folder = queue(workspace, steps=10_000)
    world.wait_state(folder, "running")
    os.kill(folder.heartbeat()["pid"], signal.SIGKILL)
    assert client.follow(workspace, folder.id) == "failed"
    assert "SIGKILL" in folder.events()[-1]["message"]
    assert folder.events()[-1]["signal"] == "SIGKILL"


def test_silence_is_stalled_not_lost(workspace: Workspace) -> None:
    folder = queue(workspace, steps=10_000)
    world.wait_state(folder, "running")
    runner = folder.heartbeat()["runner_pid"]
    os.kill(runner, signal.SIGSTOP)
    beat = folder.heartbeat()
    write_json(folder.path / "heartbeat.json", {**beat, "next": beat["time"]})
    world.wait_for(lambda: world.events(folder, "stalled") == [True], what="the flag")
    time.sleep(0.5)
    assert folder.state() == "running"
    os.kill(runner, signal.SIGCONT)
    world.wait_for(lambda: world.events(folder, "stalled") == [True, False], what="the flag to go")
    assert folder.state() == "running"


def test_deleting_a_running_run_ends_its_processes(workspace: Workspace) -> None:
    import shutil

    folder = queue(workspace, steps=10_000, pause=0.05)
    world.wait_state(folder, "running")
    shutil.rmtree(folder.path, ignore_errors=True)
    shutil.rmtree(folder.path, ignore_errors=True)
    world.wait_for(lambda: not world.processes_of(folder.path), what="the end of its processes")
    other = queue(workspace, steps=2)
    world.wait_state(other, "succeeded")


def test_gpu_run_is_refused_where_there_is_none(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RsfmError, match="asks for a GPU"):
        client.submit(workspace, EvaluateSpec(model="band-stats", dataset="x", device="cuda"))
    assert not workspace.runs.exists()


def test_run_for_a_gpu_waits_and_does_not_keep_the_supervisor(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    folder = create_run(workspace, EvaluateSpec(model="band-stats", dataset="x", device="cuda"))
    client.ensure_supervisor(workspace)
    seen = world.wait_for(lambda: (client.supervisor_status(workspace) or {}).get("queue"), what="the queue")
    assert seen[0]["why"] == "It needs a GPU and this machine has none."
    world.wait_for(lambda: client.supervisor_status(workspace) is None, what="the supervisor to leave")
    assert folder.state() == "queued"


def test_supervisor_keeps_the_index_fresh(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from rsfm.store.view import Store

    monkeypatch.setenv("TEST_WITH_INDEX", "1")
    folder = queue(workspace, steps=10_000)
    world.wait_for(workspace.index.exists, 60, "the index")
    store = Store(workspace)

    def rows() -> int:
        return len(store.metrics([folder.id], ["loss"], max_points=100_000))

    first = world.wait_for(rows, 60, "rows of a live run")
    world.wait_for(lambda: rows() > first, 60, "more of them, without anybody asking for a refresh")
    client.stop(workspace, folder.id)
    world.wait_for(lambda: store.run(folder.id).state[0] == "cancelled", 60, "the end in the index")


def test_eight_runs_at_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSFM_CPU_SLOTS", "8")
    folders = [
        open_run(workspace, client.submit(workspace, world.spec(steps=60, pause=0.03), start_supervisor=False))
        for _ in range(8)
    ]
    client.ensure_supervisor(workspace)
    most = 0

    def all_done() -> bool:
        nonlocal most
        most = max(most, sum(s["run_id"] is not None for s in (client.supervisor_status(workspace) or {})["slots"]))
        return all(f.state() == "succeeded" for f in folders)

    world.wait_for(all_done, 60, "eight runs")
    assert most == 8
    assert {world.events(f, "slot")[0] for f in folders} == {f"cpu-{i}" for i in range(8)}
    assert all(world.folded_steps(f) == list(range(1, 61)) for f in folders)


def test_relative_source_is_the_callers(workspace: Workspace, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = world.spec().model_copy(update={"source": "tiles"})
    run_id = client.submit(workspace, wanted, start_supervisor=False)
    assert open_run(workspace, run_id).spec().source == str(tmp_path / "tiles")
