"""Room for kept maps: runs that start together do not count on the same bytes, and what nobody uses goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from store_world import evaluate, finish

from rsfm.evaluation.room import Room, sweep
from rsfm.store.files import write_json
from rsfm.store.runs import RunFolder
from rsfm.workspace import Workspace

GB = 10**9


@pytest.fixture(autouse=True)
def _disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "free_bytes", lambda self: 100 * GB)


def running(workspace: Workspace) -> RunFolder:
    run = evaluate(workspace)
    run.add_event(state="running", attempt=1)
    return run


def write(run: RunFolder, count: int, days_ago: float = 0) -> Path:
    """Maps of so many bytes, which take none of the disk."""
    folder = Room(Workspace(run.path.parents[1]), run).folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "test-image-1-float32.part").open("wb") as file:
        file.truncate(count)
    for file in folder.iterdir():
        os.utime(file, (time.time() - days_ago * 24 * 3600,) * 2)
    return folder


def asked(workspace: Workspace, most: float = 1000 * GB) -> float:
    """GB that a run would get now, without the few bytes of notes."""
    return round(Room(workspace).claim(1000 * GB, most) / GB, 3)


def test_a_claim_leaves_room_for_those_before_it(workspace: Workspace) -> None:
    first, second = running(workspace), running(workspace)
    assert asked(workspace) == 50, "half of what is free"
    assert asked(workspace, most=10 * GB) == 10
    assert Room(workspace, first).claim(1000 * GB, 1000 * GB) == 50 * GB
    assert asked(workspace) == 25, "half of what the first leaves"
    assert Room(workspace, second).claim(10 * GB, 1000 * GB) >= 25 * GB
    assert asked(workspace) == 20, "the second takes 10 GB of its 25"
    write(first, 30 * GB)  # what is written is gone from the free disk already, which stands still here
    assert asked(workspace) == 35
    assert Room(workspace, first).claim(1000 * GB, 1000 * GB) == 50 * GB, "as in its first attempt"
    for run in (first, second):
        finish(run, "cancelled")
    assert asked(workspace) == 50, "a run that is not at work writes nothing"


def test_who_only_asks_leaves_nothing(workspace: Workspace) -> None:
    asked(workspace)
    assert not workspace.root.exists()


def test_a_note_of_an_earlier_version(workspace: Workspace) -> None:
    run = running(workspace)
    write(run, 0)
    write_json(Room(workspace, run).folder / "allowed.json", {"bytes": 20 * GB})
    assert asked(workspace) == 40


@pytest.mark.parametrize(
    ("state", "days_ago", "stays"),
    [
        ("succeeded", 0, False), ("failed", 0, False), ("cancelled", 1, True), ("lost", 1, True),
        ("cancelled", 8, False), ("lost", 8, False), ("running", 8, True),
    ],
)  # fmt: skip
def test_what_is_swept(workspace: Workspace, state: str, days_ago: float, stays: bool) -> None:
    run, beside = running(workspace), running(workspace)
    kept = write(run, GB, days_ago), write(beside, GB)
    (run.path / "checkpoints" / "decoder-0.pt").touch()
    finish(run, state)
    assert sweep(workspace) == (0 if stays else GB)
    assert [folder.exists() for folder in kept] == [stays, True]
    assert (run.path / "checkpoints" / "decoder-0.pt").exists(), "weights are not maps"
