"""The machine on the page Now: slots, load, disk, as a supervisor has read them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest
from supervised import GPU, supervised, texts

from app.disk_usage import Usage, disks, size_of
from rsfm.store.runs import list_runs
from rsfm.workspace import Workspace

CURVE = [0.1, 0.5, 0.37]


def test_slots_show_who_works_and_how_hard(open_page: Callable[..., AppTest], lab_now: Workspace) -> None:
    run = next(r for r in list_runs(lab_now) if r.state() == "running")
    waits = next(r for r in list_runs(lab_now) if r.state() == "queued")
    machine = {
        "cpu": 0.52, "cores": 8, "memory_used_bytes": 12e9, "memory_bytes": 64e9, "cpu_curve": CURVE,
        "memory_curve": CURVE,
    }  # fmt: skip
    busy = {**GPU, "run_id": run.id, "memory_used_bytes": 20e9, "utilisation": 0.37, "curve": CURVE}
    supervised(
        lab_now, machine=machine, live=[{"run_id": run.id, "rss_bytes": 3_200_000_000}],
        slots=[busy, {**GPU, "name": "gpu-1", "title": "NVIDIA <b>", "run_id": None}],
        queue=[{"run_id": waits.id, "why": "It waits for a free GPU slot."}],
    )  # fmt: skip
    test = open_page(lab_now, "now")
    assert not test.exception
    metrics = {m.label: m.value for m in test.metric}
    assert metrics["CPU"] == "52%" and metrics["Memory"] == "12.0 GB" and metrics["GPU"] == "37%"
    shown = texts(test) + "".join(e.proto.text for e in test.get("progress"))
    assert "37% busy" in shown and "20.0 GB of 80.0 GB memory" in shown
    assert "3.2 GB of main memory" in shown and "It waits for a free GPU slot" in shown.replace("\\", "")
    assert "The driver does not answer." in shown and "<b>" not in shown and "free" in shown


def test_a_supervisor_that_has_read_nothing_yet(open_page: Callable[..., AppTest], lab_now: Workspace) -> None:
    supervised(
        lab_now, slots=[{"name": "cpu-0", "kind": "cpu", "title": "", "threads": 2, "run_id": None}], machine=None
    )
    test = open_page(lab_now, "now")
    assert not test.exception and "cpu" in texts(test) and "CPU" not in {m.label for m in test.metric}


def test_little_space_is_said(
    open_page: Callable[..., AppTest], lab_now: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is left" not in texts(open_page(lab_now, "now"))
    monkeypatch.setattr("app.panels.machine.LOW_DISK_BYTES", 10**18)
    assert "is left; runs that cannot write will fail" in texts(open_page(lab_now, "now"))


def test_the_disk_is_counted_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder, count in ((workspace.packs / "a" / "b", 1000), (workspace.runs, 10)):
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"0" * count)
    workspace.index.write_bytes(b"0" * 7)
    (workspace.root / "index.duckdb.wal").write_bytes(b"0" * 3)
    (workspace.packs / "elsewhere").symlink_to("/usr")
    (workspace.packs / "loop").symlink_to(workspace.packs)
    usage, may_count = Usage(workspace), threading.Event()
    monkeypatch.setattr("app.disk_usage.size_of", lambda path: may_count.wait(60) and size_of(path))
    assert usage.look() is None, "the first look does not wait"
    may_count.set()
    end = time.monotonic() + 60
    while usage.sizes is None and time.monotonic() < end:
        time.sleep(0.01)
    assert {k: v for k, v in usage.look().items() if v} == {"Packs": 1000, "Runs": 10, "Index": 10}
    # A count that is new enough is not made again.
    (workspace.runs / "y").write_bytes(b"0" * 5)
    assert usage.look()["Runs"] == 10
    monkeypatch.setattr("app.disk_usage.FRESH_S", 0.0)
    while usage.look()["Runs"] != 15 and time.monotonic() < end:
        time.sleep(0.01)
    assert usage.sizes["Runs"] == 15 and size_of(tmp_path / "none") == 0


def test_what_was_moved_to_another_disk_is_counted_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    moved = tmp_path / "large" / "packs"
    moved.mkdir(parents=True)
    (moved / "x").write_bytes(b"0" * 1000)
    workspace.packs.symlink_to(moved)
    assert size_of(workspace.packs) == 1000
    assert len(disks(workspace)) == 1, "one disk is said once"

    stat, there = Path.stat, moved.resolve()
    monkeypatch.setattr(
        Path, "stat",
        lambda p, **how: SimpleNamespace(st_dev=-1) if p == there else stat(p, **how),
    )  # fmt: skip
    own, other = disks(workspace)
    assert own.titles[0] == "Workspace" and "Runs" in own.titles and other.titles == ("Packs",)
    assert 0 < other.free <= other.total
