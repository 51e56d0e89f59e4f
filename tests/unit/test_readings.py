"""What is read of the machine and of the jobs on it."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from jobs.processes import TreeUse, tree_use
from jobs.readings import KEPT, Readings
from jobs.runner import Runner
from rsfm.store.runs import RunFolder

#: The times of a machine that has just started, of the kind that psutil gives here.
NO_TIMES = psutil.cpu_times()._replace(**dict.fromkeys(psutil.cpu_times()._fields, 0.0))


def test_what_a_tree_of_processes_takes() -> None:
    busy = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    child = f"subprocess.run([sys.executable, '-c', {busy!r}])"
    code = f"import subprocess, sys, time; {child}; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        use = tree_use(process.pid)
        process.kill()
    assert use.cpu_s >= 0.25, "of a child that has ended too"
    assert use.rss_bytes > 1_000_000 and tree_use(process.pid) == (0, 0.0)


def test_readings_of_the_machine_and_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "GPU-aaa": {"memory_used_bytes": 512, "utilisation": 0.37},
        "GPU-bbb": {"memory_used_bytes": 1024, "utilisation": None},
    }
    monkeypatch.setattr("jobs.readings.gpu_readings", lambda: said)
    ticks = {"user": 10.0, "idle": 90.0}
    monkeypatch.setattr("jobs.readings.psutil.cpu_times", lambda: NO_TIMES._replace(**ticks))
    readings = Readings()
    assert readings.machine() is None and readings.gpu("GPU-aaa") == {}
    readings.take(gpus=False)
    assert readings.machine()["cpu"] is None, "no time has passed"
    ticks |= {"user": 11.0, "idle": 93.0}
    with ThreadPoolExecutor(1) as other:  # readers may be other threads than the one that began
        other.submit(readings.take, gpus=False).result()
    assert readings.machine()["cpu"] == 0.25
    for _ in range(KEPT + 2):
        readings.take(gpus=False)
    readings.take(gpus=True)
    machine = readings.machine()
    assert machine["cpu"] == 0.25 and 0 < machine["memory_used_bytes"] < machine["memory_bytes"]
    assert len(machine["cpu_curve"]) == len(machine["memory_curve"]) == KEPT
    assert readings.gpu("GPU-aaa") == {"memory_used_bytes": 512, "utilisation": 0.37, "curve": [0.37]}
    assert readings.gpu("GPU-bbb")["curve"] == [] and readings.gpu(None) == {}
    said = {}
    readings.take(gpus=True)
    assert readings.gpu("GPU-aaa") == {}, "what is no longer known is not shown as known"


def test_a_beat_says_how_many_cores_the_job_keeps_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uses = iter([TreeUse(5, 10.0), TreeUse(7, 13.0), TreeUse(6, 2.0)])
    monkeypatch.setattr("jobs.runner.tree_use", lambda pid: next(uses))
    clock = iter([100.0, 102.0, 104.0])
    monkeypatch.setattr("jobs.runner.time.monotonic", lambda: next(clock))
    runner = Runner(RunFolder(tmp_path), 1, ["x"])
    runner.beat()
    said = [json.loads((tmp_path / "heartbeat.json").read_text())]
    monkeypatch.setattr(runner, "process", type("Started", (), {"pid": 1})())
    for _ in range(3):
        runner.beat()
        said.append(json.loads((tmp_path / "heartbeat.json").read_text()))
    assert [(s["rss_bytes"], s["cpu_cores"]) for s in said] == [(0, None), (5, None), (7, 1.5), (6, 0.0)]
