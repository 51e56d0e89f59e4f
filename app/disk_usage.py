"""How much of the disk each part of the workspace takes: counted in the background, for there may be many files."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from rsfm.workspace import Workspace

#: Counts older than this are made again, while the old ones are shown.
FRESH_S = 60.0


def parts(workspace: Workspace) -> dict[str, list[Path]]:
    """Title -> folders and files."""
    return {
        "Packs": [workspace.packs],
        "Runs": [workspace.runs],
        "Models": [workspace.models, workspace.weights, workspace.exports],
        "Features": [workspace.features],
        "Downloads": [workspace.downloads],
        "Index": sorted(workspace.root.glob("index.duckdb*")),
    }


@dataclass(frozen=True)
class Disk:
    """One of the disks that the workspace lies on.

    Attributes:
        titles: of the parts on it; the first disk is that of the workspace itself.
    """

    titles: tuple[str, ...]
    free: int
    total: int


def disks(workspace: Workspace) -> list[Disk]:
    """Each disk once: that of the workspace first, then those that parts of it were moved to by a link."""
    found: dict[int, tuple[Path, list[str]]] = {}
    for title, paths in {"Workspace": [workspace.root], **parts(workspace)}.items():
        for path in paths:
            try:
                there = path.resolve()
                while not there.exists() and there != there.parent:
                    there = there.parent
                device = there.stat().st_dev
            except (OSError, RuntimeError):  # not ours to see, or a link to itself: its count says 0
                continue
            _, titles = found.setdefault(device, (there, []))
            if title not in titles:
                titles.append(title)
    usages = [(tuple(titles), shutil.disk_usage(place)) for place, titles in found.values()]
    return [Disk(titles, usage.free, usage.total) for titles, usage in usages]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder, which may itself be a link to where it was moved.

    What vanishes meanwhile, and links further down, count nothing.
    """
    total, open_folders = 0, []
    try:
        if path.is_dir():
            open_folders.append(str(path.resolve()))
        elif path.is_file():
            return path.stat().st_size
    except OSError:
        return 0
    while open_folders:
        try:
            with os.scandir(open_folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        open_folders.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


@dataclass
class Usage:
    """The last count of one workspace. `look` never waits."""

    workspace: Workspace
    sizes: dict[str, int] | None = None
    _at: float = float("-inf")
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> dict[str, int] | None:
        """Title -> bytes, as last counted; None before the first count is done. A new count may begin."""
        if time.monotonic() - self._at > FRESH_S and self._busy.acquire(blocking=False):
            threading.Thread(target=self._count, name="disk-usage", daemon=True).start()
        return self.sizes

    def _count(self) -> None:
        try:
            self.sizes = {title: sum(map(size_of, paths)) for title, paths in parts(self.workspace).items()}
        finally:
            self._at = time.monotonic()
            self._busy.release()


@lru_cache(maxsize=8)
def usage_of(workspace: Workspace) -> Usage:
    """The one count of a workspace, shared by all sessions."""
    return Usage(workspace)
