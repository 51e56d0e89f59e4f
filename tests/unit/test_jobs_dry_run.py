"""Dry runs that are asked for from outside: in a process of their own, with an end."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from jobs import client
from jobs.processes import alive, created
from rsfm import dryrun
from rsfm.specs import EvaluateSpec, PrepareSpec
from rsfm.workspace import Workspace


def test_dry_run_checks(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = PrepareSpec(dataset="d").model_dump(mode="json")
    asked: list[object] = []

    def target(spec: object, where: Workspace) -> list[str]:
        asked.append((spec, where))
        return ["120 images"]

    monkeypatch.setattr("rsfm.registry.load", lambda _: target)
    answer = dryrun.check(data, str(workspace.root))
    assert (answer["ok"], answer["problem"]) == (True, None)
    assert answer["remarks"][0] == "120 images"
    assert asked == [(PrepareSpec(dataset="d"), workspace)]
    assert "stride" in dryrun.check({**data, "stride": -1}, str(workspace.root))["problem"]
    assert dryrun.check([], str(workspace.root))["problem"] == "A spec is a JSON object."
    monkeypatch.setattr(Workspace, "free_bytes", lambda _: 5e6)
    assert "make room" in dryrun.check(data, str(workspace.root))["problem"]
    monkeypatch.setattr(Workspace, "free_bytes", lambda _: 1e9)
    assert dryrun.check(data, str(workspace.root))["remarks"] == [
        "120 images",
        f"Only 1.0 GB are free at {workspace.root}.",
    ]

    def crash(spec: object, where: Workspace) -> list[str]:
        raise KeyError("bands")

    monkeypatch.setattr("rsfm.registry.load", lambda _: crash)
    assert dryrun.check(data, str(workspace.root))["problem"] == "The dry run failed: KeyError: 'bands'"


def test_dry_run_in_its_own_process(workspace: Workspace) -> None:
    answer = client.dry_run(PrepareSpec(dataset="no-such-dataset"), workspace)
    assert not answer.ok
    assert "no-such-dataset" in answer.problem


def test_dry_run_has_the_threads_of_the_slot(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("jobs.slots.cpu_cores", lambda: 6)
    monkeypatch.setenv("RSFM_CPU_SLOTS", "2")
    seen: list[str] = []
    real = subprocess.Popen

    def watched(command: list[str], **more: object) -> subprocess.Popen:
        if "rsfm.dryrun" not in command:
            return real(command, **more)
        seen.append(command[command.index("--threads") + 1])
        probe = "import os, sys; from rsfm import dryrun; dryrun.check = lambda *a: {'ok': True, 'problem': None, "
        probe += "'remarks': [os.environ['OMP_NUM_THREADS']]}; sys.exit(dryrun.main(sys.argv[1:]))"
        return real([sys.executable, "-c", probe, *command[3:]], **more)

    monkeypatch.setattr(client.subprocess, "Popen", watched)
    assert client.dry_run(PrepareSpec(dataset="d"), workspace).remarks == ["3"]
    assert seen == ["3"]


def test_dry_run_ends_with_whoever_asked(workspace: Workspace) -> None:
    code = (
        "import os, subprocess, sys, time; "
        "words = [sys.executable, '-m', 'rsfm.dryrun', '--workspace', 'x', '--parent', str(os.getpid())]; "
        "print(subprocess.Popen(words).pid, flush=True); time.sleep(600)"
    )
    # The dry run waits for its spec on a pipe that stays open here.
    asker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid = int(asker.stdout.readline())
    born = created(pid)
    time.sleep(1.0)
    assert alive(pid, born)
    asker.kill()
    asker.wait()
    deadline = time.monotonic() + 20
    while alive(pid, born) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid, born)
    asker.communicate()


def test_dry_run_has_an_end(workspace: Workspace) -> None:
    answer = client.dry_run(PrepareSpec(dataset="x"), workspace, timeout_s=0.01)
    assert answer == client.DryRun(False, problem="The dry run did not finish within 0.01 seconds.")


def test_dry_run_refuses_a_missing_gpu(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    answer = client.dry_run(EvaluateSpec(model="band-stats", dataset="x", device="cuda"), workspace)
    assert "asks for a GPU" in answer.problem
