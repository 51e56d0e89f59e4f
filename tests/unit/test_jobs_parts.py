"""The parts of jobs that need no supervisor: locks, identity, slots, logs, the fold of events and outcomes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import client, slots
from jobs.backends import make_backend
from jobs.processes import FileLock, alive, created, lock_held, marked, python_environment, sweep
from jobs.protocol import ENV_ATTEMPT, ENV_RUN, Attempt, Slot, env_number, later, outcome, seconds_since
from jobs.record import Run
from jobs.runner import last_error, trim_log
from jobs.table import RunTable
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec, PrepareSpec
from rsfm.store.files import write_json
from rsfm.store.runs import RunFolder, create_run
from rsfm.workspace import Workspace

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


# -- processes and locks -----------------------------------------------------------------------------------------------
def test_identity_is_id_and_creation() -> None:
    born = created(os.getpid())
    assert alive(os.getpid(), born)
    assert not alive(os.getpid(), born + 1)
    assert not alive(os.getpid(), None)
    assert not alive(None, born)
    assert not alive(0, born)


def test_a_zombie_does_not_live() -> None:
    process = subprocess.Popen(SLEEP)
    born = created(process.pid)
    assert alive(process.pid, born)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, not reaped
    assert not alive(process.pid, born)
    process.wait()
    assert created(process.pid) is None


def test_marks_find_the_processes_of_a_run(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    environment = {**os.environ, ENV_RUN: run}
    mine = [subprocess.Popen(SLEEP, env={**environment, ENV_ATTEMPT: n}, start_new_session=True) for n in "12"]
    other = subprocess.Popen(SLEEP, env={**environment, ENV_RUN: run + "x"})
    try:
        assert {p.pid for p in marked(run)} == {p.pid for p in mine}
        assert [p.pid for p in marked(run, 2)] == [mine[1].pid]
        assert sweep(run, spare=(mine[0].pid,)) == 1
        assert mine[1].wait(timeout=10) == -9
        assert mine[0].poll() is None
        assert sweep(run) == 1
        mine[0].wait(timeout=10)
        assert sweep(run) == 0
        assert other.poll() is None
    finally:
        for process in (*mine, other):
            process.kill()
            process.wait()


def test_a_started_supervisor_does_not_belong_to_the_job_that_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_RUN, "/somewhere")
    monkeypatch.setenv(ENV_ATTEMPT, "3")
    environment = python_environment()
    assert ENV_RUN not in environment
    assert ENV_ATTEMPT not in environment


def test_lock_excludes_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lock_held(path)
    code = (
        "import time; from pathlib import Path; from jobs.processes import FileLock; "
        f"print(FileLock(Path({str(path)!r})).acquire(), flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline().strip() == "True"
        assert lock_held(path)
        mine = FileLock(path)
        assert not mine.acquire()
    finally:
        holder.kill()
        holder.communicate()
    assert mine.acquire(wait_s=5)
    assert mine.in_place()
    path.unlink()
    assert not mine.in_place()
    path.touch()
    assert not mine.in_place()
    mine.release()


# -- protocol ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ended", "rung", "state", "words"),
    [
        ({"code": 0}, None, "succeeded", "Done"),
        ({"code": 0}, "terminate", "succeeded", "Done"),
        ({"code": 3}, "request", "cancelled", "saved"),
        ({"code": 1, "message": "pack x is missing"}, None, "failed", "pack x is missing"),
        ({"code": 1, "message": "pack x is missing"}, "request", "failed", "pack x is missing"),
        ({"code": 7}, None, "failed", "code 7"),
        ({"code": 1}, "terminate", "cancelled", "code 1"),
        ({"signal": "SIGKILL"}, None, "failed", "out of memory"),
        ({"signal": "SIGSEGV"}, None, "failed", "SIGSEGV"),
        ({"signal": "SIGKILL"}, "kill", "cancelled", "SIGKILL"),
    ],
)
def test_outcome(ended: dict, rung: str | None, state: str, words: str) -> None:
    found, message = outcome(ended, rung)
    assert found == state
    assert words in message


def test_times() -> None:
    assert -20.5 < seconds_since(later(20)) < -19.5
    assert 9.5 < seconds_since(later(-10)) < 10.5
    assert seconds_since(None) == 0.0


def test_env_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSFM_CPU_SLOTS", "many")
    with pytest.raises(RsfmError, match="RSFM_CPU_SLOTS must be a number"):
        slots.cpu_slots()
    monkeypatch.setenv("RSFM_CPU_SLOTS", "0")
    with pytest.raises(RsfmError, match="at least 1"):
        slots.cpu_slots()
    monkeypatch.delenv("RSFM_CPU_SLOTS")
    assert env_number("RSFM_CPU_SLOTS", 1) == 1


def test_only_this_attempts_files_count(workspace: Workspace) -> None:
    folder = create_run(workspace, PrepareSpec(dataset="x"))
    write_json(folder.path / "exit.json", {"attempt": 1, "code": 0})
    write_json(folder.path / "heartbeat.json", ["not", "an", "object"])
    assert Attempt(folder, 1).exit()["code"] == 0
    assert Attempt(folder, 2).exit() is None
    assert Attempt(folder, 1).heartbeat() is None


# -- the log -----------------------------------------------------------------------------------------------------------
TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^^^\nValueError: no\n'


@pytest.mark.parametrize(
    ("text", "whole", "line"),
    [
        ("all is well\n", None, None),
        (f"x\n{TRACE}", TRACE.strip(), "ValueError: no"),
        (f"{TRACE}\nDuring handling ...\n\n{TRACE.replace('no', 'yes')}", None, "ValueError: yes"),
        (f"{TRACE}error: pack p is missing\n", "error: pack p is missing", "pack p is missing"),
        (f"error: early\n{TRACE}", TRACE.strip(), "ValueError: no"),
        ("Traceback (most recent call last):\n  File", "Traceback (most recent call last):\n  File", None),
    ],
)
def test_last_error(text: str, whole: str | None, line: str | None) -> None:
    found, one = last_error(text)
    assert one == line
    if whole is not None:
        assert found == whole


def test_a_long_log_keeps_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    lines = [f"line {i:04d}\n" for i in range(1000)]
    path.write_text("".join(lines))
    with path.open("ab") as job:  # the job's own handle, open to append
        trim_log(path, 20_000, 500)
        assert path.stat().st_size == 10_000
        trim_log(path, 5_000, 500)
        job.write(b"later\n")
    text = path.read_text().splitlines()
    assert text[0] == "... (earlier output was cut)"
    assert text[1:] == [*(line.strip() for line in lines[-49:]), "later"]


def test_log_reader_passes_whole_characters_and_notices_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    reader = client._LogReader(path)
    assert reader.read() == ""
    data = "größe 3 µm\n".encode()
    path.write_bytes(data[:3])
    assert reader.read() == "gr"
    path.write_bytes(data)
    assert reader.read() == "öße 3 µm\n"
    path.write_bytes(b"cut\n")
    assert reader.read() == "cut\n"


# -- slots -------------------------------------------------------------------------------------------------------------
CPUS = [Slot("cpu-0", "cpu", 1), Slot("cpu-1", "cpu", 1)]
GPUS = [Slot("gpu-0", "gpu", 4, uuid="GPU-a"), Slot("gpu-1", "gpu", 4, uuid="GPU-b")]


@pytest.mark.parametrize(
    ("needs", "where", "busy", "name"),
    [
        (False, GPUS + CPUS, [], "cpu-0"),
        (False, GPUS + CPUS, ["cpu-0"], "cpu-1"),
        (None, GPUS + CPUS, ["gpu-0"], "gpu-1"),
        (None, GPUS + CPUS, ["gpu-0", "gpu-1"], None),
        (None, CPUS, [], "cpu-0"),
        (True, GPUS + CPUS, [], "gpu-0"),
        (True, CPUS, [], None),
        (False, CPUS, ["cpu-0", "cpu-1"], None),
    ],
)
def test_choose(needs: bool | None, where: list[Slot], busy: list[str], name: str | None) -> None:
    slot, why = slots.choose(needs, where, busy)
    assert (slot.name if slot else None) == name
    assert bool(why) == (name is None)


def test_slot_shows_a_job_its_device_only() -> None:
    assert GPUS[1].environment() == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    assert CPUS[0].environment() == {"CUDA_VISIBLE_DEVICES": ""}
    assert (GPUS[1].device, CPUS[0].device) == ("cuda", "cpu")


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_gpus_by_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """case "$1" in
      *memory.used*) echo "GPU-aaa, 512, 37"; echo "GPU-bbb, 1024, [N/A]" ;;
      *) echo "0, GPU-aaa, NVIDIA H100 80GB HBM3, 81559"; echo "1, GPU-bbb, NVIDIA H100 80GB HBM3, 81559" ;;
    esac"""
    put_on_path(tmp_path / "bin", monkeypatch, "nvidia-smi", script)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = slots.gpu_slots(threads=3)
    assert [(s.name, s.uuid, s.kind, s.threads) for s in found] == [
        ("gpu-0", "GPU-aaa", "gpu", 3),
        ("gpu-1", "GPU-bbb", "gpu", 3),
    ]
    assert found[0].memory_bytes == 81559 * 2**20
    assert slots.gpu_readings() == {
        "GPU-aaa": {"memory_used_bytes": 512 * 2**20, "utilisation": 0.37},
        "GPU-bbb": {"memory_used_bytes": 2**30, "utilisation": None},
    }
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [s.uuid for s in slots.gpu_slots()] == ["GPU-bbb"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aaa")
    assert [s.uuid for s in slots.gpu_slots()] == ["GPU-aaa"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert slots.gpu_slots() == []


def test_no_gpu_where_the_driver_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path / "bin", monkeypatch, "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    assert slots.gpu_slots() == []


def test_queue_order(workspace: Workspace) -> None:
    runs = []
    for number, (priority, queued_at) in enumerate([(0, "3"), (0, "1"), (5, "9"), (5, "2"), (-1, "0")]):
        folder = RunFolder(workspace.runs / f"20260101-00000{number}-x-aaaa")
        runs.append(Run(folder, priority=priority, queued_at=queued_at))
    assert [r.queued_at for r in slots.in_order(runs)] == ["2", "9", "1", "3", "0"]


# -- what the supervisor knows -----------------------------------------------------------------------------------------
def test_notes_and_load_agree(workspace: Workspace) -> None:
    folder = create_run(workspace, EvaluateSpec(model="band-stats", dataset="d", threads=3), priority=4)
    run = Run.load(folder)
    assert (run.state, run.attempt, run.priority, run.threads) == ("queued", 0, 4, 3)
    run.note(state="starting", attempt=1, slot="cpu-1")
    run.note(handle={"runner_pid": 7})
    run.note(state="running", message="x")
    run.note(stalled=True)
    run.note(state="stopping", rung="request")
    assert (run.slot, run.handle, run.rung, run.stalled) == ("cpu-1", {"runner_pid": 7}, "request", True)
    assert Run.load(folder) == run
    run.note(state="cancelled")
    run.note(state="queued")
    run.note(state="starting", attempt=2, slot="cpu-0")
    assert (run.attempt, run.slot, run.handle, run.rung, run.stalled) == (2, "cpu-0", {}, None, False)
    assert Run.load(folder) == run
    assert folder.state() == "starting"
    assert folder.attempt() == 2


def test_table_reads_a_folder_once_and_retries_bad_ones(workspace: Workspace) -> None:
    table = RunTable(workspace)
    table.discover()
    assert table.runs == {}
    first = create_run(workspace, PrepareSpec(dataset="a"))
    (workspace.runs / "not-a-run").mkdir()
    bad = workspace.runs / "20260101-000000-bad-aaaa"
    bad.mkdir()
    table.discover()
    assert list(table.runs) == [first.id]
    assert list(table.problems) == [bad.name]
    known = table.runs[first.id]
    second = create_run(workspace, PrepareSpec(dataset="b"))
    table.discover()
    assert set(table.runs) == {first.id, second.id}
    assert table.runs[first.id] is known
    (bad / "spec.json").write_bytes((first.path / "spec.json").read_bytes())
    table.discover(force=True)
    assert bad.name in table.runs
    assert table.problems == {}


def test_every_finished_run_is_asked_sooner_or_later(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.table._RESUME_BATCH", 3)
    folders = [create_run(workspace, PrepareSpec(dataset=f"d{i}")) for i in range(8)]
    for folder in folders:
        folder.add_event(state="failed", attempt=1)
        folder.request("resume")
    table = RunTable(workspace)
    table.discover()
    seen = [r.id for _ in range(4) for r in table.asked_to_resume()]
    assert sorted(seen) == sorted(f.id for f in folders)
    assert len(table.asked_to_resume(all_of_them=True)) == 8


def test_what_happens_in_the_queue_is_no_attempts(workspace: Workspace) -> None:
    """A resumed run that is cancelled before it starts: its former attempt stays what it was."""
    run = Run.load(create_run(workspace, PrepareSpec(dataset="d")))
    run.note(state="starting", attempt=1)
    run.note(state="failed")
    run.note(state="queued")
    run.note(state="cancelled")
    assert [(e["state"], e.get("attempt")) for e in run.folder.events()] == [
        ("starting", 1),
        ("failed", 1),
        ("queued", 1),
        ("cancelled", None),
    ]


def test_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSFM_BACKEND", "cloud")
    with pytest.raises(RsfmError, match="Unknown backend 'cloud'"):
        make_backend()


# -- what a client sees ------------------------------------------------------------------------------------------------
def test_status_of_another_host_goes_by_time(workspace: Workspace) -> None:
    workspace.supervisor.mkdir(parents=True)
    state = {"pid": 1, "created": 0, "host": "elsewhere"}
    path = workspace.supervisor / "state.json"
    assert client.supervisor_status(workspace) is None
    path.write_text(json.dumps({**state, "time": later(-3)}))
    assert client.supervisor_status(workspace)["host"] == "elsewhere"
    path.write_text(json.dumps({**state, "time": later(-60)}))
    assert client.supervisor_status(workspace) is None
