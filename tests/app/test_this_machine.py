"""Now without a supervisor, and what each slot's job takes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from supervised import GPU, supervised, texts

from app import this_machine as module
from app.this_machine import ThisMachine, this_machine
from jobs.protocol import Slot, state_path
from rsfm.errors import RsfmError
from rsfm.store.files import read_json, write_json
from rsfm.store.runs import list_runs
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def own_slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No driver is asked, and no reading of another test counts."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("RSFM_CPU_SLOTS", "2")
    this_machine.cache_clear()
    yield
    this_machine.cache_clear()


def with_slots(test: AppTest) -> AppTest:
    """The page once the slots are known."""
    end = time.monotonic() + 10
    while this_machine().slots is None and time.monotonic() < end:
        time.sleep(0.01)
    return test.run()


def shown(test: AppTest) -> str:
    return (texts(test) + "\n" + "\n".join(e.proto.text for e in test.get("progress"))).replace("\\", "")


def test_a_lab_without_a_supervisor_shows_the_machine_all_the_same(open_page: Open, lab_now: Workspace) -> None:
    test = with_slots(open_page(lab_now, "now"))
    assert not test.exception
    metrics = {m.label: m.value for m in test.metric}
    assert metrics["Memory"].endswith("B") and (metrics["CPU"] == "–" or metrics["CPU"].endswith("%"))
    said = shown(test)
    assert "the machine of this dashboard, as this page reads it" in said and "free of" in said
    assert "cpu-0" in said and "cpu-1" in said and "it starts with the next job" in said


def test_an_empty_workspace_shows_the_machine_too(open_page: Open, tmp_path: Path) -> None:
    test = with_slots(open_page(Workspace(tmp_path / "none"), "now"))
    assert not test.exception and "Memory" in {m.label for m in test.metric} and "cpu-1" in shown(test)
    assert not (tmp_path / "none").exists()


def test_a_supervisor_that_died_says_nothing_any_more(open_page: Open, lab_now: Workspace) -> None:
    run = next(r for r in list_runs(lab_now) if r.state() == "running")
    machine = {
        "cpu": 0.52, "cores": 64, "memory_used_bytes": 12e15, "memory_bytes": 64e15, "cpu_curve": [0.5],
        "memory_curve": [0.5],
    }  # fmt: skip
    supervised(
        lab_now, machine=machine, slots=[{**GPU, "run_id": run.id, "memory_used_bytes": 1, "utilisation": 0.9}],
        live=[{"run_id": run.id, "rss_bytes": 3_200_000_000, "cpu_cores": 1.5}],
    )  # fmt: skip
    alive = open_page(lab_now, "now")
    assert "NVIDIA H100" in shown(alive) and "as the supervisor reads it" in shown(alive)
    state = read_json(state_path(lab_now))
    write_json(state_path(lab_now), {**state, "created": state["created"] - 1000})  # its number is another's now
    test = with_slots(open_page(lab_now, "now"))
    said = shown(test)
    assert not test.exception and "NVIDIA H100" not in said and "TB" not in {m.value for m in test.metric}
    assert "cpu-0" in said and "no supervisor works on it" in said and "1.5 of" not in said
    assert "the machine of this dashboard" in said


def test_each_slot_shows_what_its_own_job_takes(open_page: Open, lab_now: Workspace) -> None:
    run, other = list_runs(lab_now)[:2]
    cpu = {"kind": "cpu", "title": "", "threads": 4}
    supervised(
        lab_now, machine=None,
        slots=[
            {**cpu, "name": "cpu-0", "run_id": run.id}, {**cpu, "name": "cpu-1", "run_id": other.id},
            {**cpu, "name": "cpu-2", "run_id": None},
        ],
        live=[
            {"run_id": run.id, "rss_bytes": 3_200_000_000, "cpu_cores": 3.0},
            {"run_id": other.id, "rss_bytes": 900_000_000, "cpu_cores": 2.0, "stalled": True},
        ],
    )  # fmt: skip
    test = open_page(lab_now, "now")
    bars = {e.proto.text: e.proto.value for e in test.get("progress")}
    assert bars["3.0 of 4 cores busy  ·  3.2 GB of main memory"] == 75
    assert "No sign of life from its runner" in shown(test) and "900 MB" not in shown(test)
    assert [c.value for c in test.caption].count("free") == 1


# -- readings ------------------------------------------------------------------------------------------------------
def test_readings_are_shared_and_not_taken_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, taken = [1000.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    take = module.Readings.take
    monkeypatch.setattr(module.Readings, "take", lambda self, gpus: taken.append(gpus) or take(self, gpus=gpus))
    here = ThisMachine()
    for after, count in ((0.0, 1), (0.5, 1), (1.0, 2), (0.1, 2), (2.0, 3)):
        clock[0] += after
        assert here.look()["memory_bytes"] > 0 and len(taken) == count
    assert not any(taken), "a driver is never waited for"
    assert len(here.look()["memory_curve"]) == 3
    clock[0] += module.STALE_S + 1
    assert len(here.look()["memory_curve"]) == 1, "after a long pause it begins anew"


def test_slots_are_found_in_the_background_and_troubles_said(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, asked = threading.Event(), []

    class Slow:
        def resources(self) -> list[Slot]:
            asked.append(1)
            gate.wait(10)
            return [Slot("gpu-0", "gpu", 2)]

    monkeypatch.setattr(module, "make_backend", Slow)
    here = ThisMachine()
    for _ in range(5):
        here.look_for_slots()
    assert here.slots is None
    gate.set()
    end = time.monotonic() + 10
    while here.slots is None and time.monotonic() < end:
        time.sleep(0.01)
    here.look_for_slots()
    assert [s.name for s in here.slots] == ["gpu-0"] and len(asked) == 1

    def fail() -> None:
        raise RsfmError("Unknown backend.")

    monkeypatch.setattr(module, "make_backend", fail)
    other = ThisMachine()
    other.look_for_slots()
    while other.problem is None and time.monotonic() < end:
        time.sleep(0.01)
    assert other.problem == "Unknown backend." and other.slots is None


def test_a_look_costs_next_to_nothing() -> None:
    here = ThisMachine()
    here.look()
    before = os.times()
    for _ in range(50):
        here._read_at = time.monotonic() - 2  # as if it were time to read again
        here.look()
    after = os.times()
    assert (after.user + after.system) - (before.user + before.system) < 50 * 0.01
