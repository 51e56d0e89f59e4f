"""Folders of files that can be made again do not grow for ever."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rsfm.store.tidy import keep_newest, sweep_stale


def aged(path: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    """Old folders of these names go; one at work, whose file is new, and other names stay."""
    for name in (".making-old", ".making-at-work", ".upload-old", "model"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "part").write_bytes(b"x")
        aged(folder / "part", 0 if name == ".making-at-work" else 2)
        aged(folder, 2)
    sweep_stale(tmp_path, ".making-*", ".upload-*", after_s=3600)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".making-at-work", "model"]
    sweep_stale(tmp_path / "nowhere", ".making-*", after_s=3600)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for age, name in enumerate(("a", "b", "c", "d", "e")):
        (tmp_path / f"{name}.json").write_bytes(b"x" * 10)
        aged(tmp_path / f"{name}.json", age)
    (tmp_path / "other.txt").write_bytes(b"x" * 1000)
    aged(tmp_path / "other.txt", 100)

    def left() -> str:
        return "".join(sorted(p.stem for p in tmp_path.glob("*.json")))

    keep_newest(tmp_path, "*.json", most=4)
    assert left() == "abcd"
    keep_newest(tmp_path, "*.json", most=4, most_bytes=35)
    assert left() == "abc"
    keep_newest(tmp_path, "*.json", most=2, spare=tmp_path / "c.json")  # the oldest, just written by another's clock
    assert left() == "ac"
    keep_newest(tmp_path, "*.json", most=0, spare=tmp_path / "c.json")
    assert left() == "c" and (tmp_path / "other.txt").exists()
