"""Room on the disk for the maps that evaluations keep while they run (see `rsfm.evaluation.maps`).

Beside a run's maps lies a note of what it may take, which holds for all its attempts, and what it will take. So runs
that start together do not count on the same free bytes.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rsfm.store.files import read_json, write_json
from rsfm.store.runs import FINISHED, RunFolder
from rsfm.workspace import Workspace

#: Kept maps take no more than this share of the free disk.
_SHARE = 0.5
#: A run that was stopped or lost may be resumed, and then goes on with its maps: so long.
_RESUMABLE_S = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Room:
    """The disk, for the maps of one run; without a run it is only asked how much there is."""

    workspace: Workspace
    run: RunFolder | None = None

    @property
    def folder(self) -> Path:
        path = self.run.path if self.run else self.workspace.runs / "none"
        return path / "checkpoints" / "maps"

    def claim(self, wanted: int, most: float) -> int:
        """Bytes that may be taken: as in the first attempt, so that no score hangs on how full the disk was since.

        Args:
            wanted: by all maps that are worth keeping; most: that the request grants.
        """
        with _alone(self.workspace) if self.run else contextlib.nullcontext():
            before = read_json(self.folder / "allowed.json")
            free = self.workspace.free_bytes() - sum(_still_to_come(f) for f in _folders(self.workspace, self.folder))
            allowed = before["bytes"] if before else max(0, int(min(most, _SHARE * free)))
            if self.run:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(self.folder / "allowed.json", {"bytes": allowed, "takes": min(allowed, wanted)})
            return allowed

    def give_back(self) -> None:
        """Delete the run's maps."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def sweep(workspace: Workspace) -> int:
    """Delete maps that no run will use any more: of runs that were killed, and of those that nobody resumed.

    A run deletes its own as soon as it is done or fails; a killed one cannot. Those that were stopped or lost stay for
    a while: it takes long to make them again.

    Returns:
        Bytes that are free again.
    """
    freed = 0
    with _alone(workspace):  # a run that is resumed right now waits, or is seen to run
        for folder in _folders(workspace):
            state = _run(folder).state()
            if state in ("succeeded", "failed") or (state in FINISHED and _unused_s(folder) > _RESUMABLE_S):
                freed += _written(folder)
                shutil.rmtree(folder, ignore_errors=True)  # it may belong to someone else, which is no reason to fail
                freed -= _written(folder)
    return freed


def _alone(workspace: Workspace) -> FileLock:
    return FileLock(workspace.root / "maps.lock")


def _folders(workspace: Workspace, besides: Path | None = None) -> Iterator[Path]:
    return (folder for folder in workspace.runs.glob("[0-9]*/checkpoints/maps") if folder != besides)


def _run(folder: Path) -> RunFolder:
    return RunFolder(folder.parents[1])


def _still_to_come(folder: Path) -> int:
    """Bytes that a run at work has not yet written of those that it will take."""
    if _run(folder).state() in FINISHED:
        return 0
    note = read_json(folder / "allowed.json")
    return max(0, note.get("takes", note["bytes"]) - _written(folder)) if note else 0


def _written(folder: Path) -> int:
    return sum(size for size, _ in _files(folder))


def _unused_s(folder: Path) -> float:
    return time.time() - max((changed for _, changed in _files(folder)), default=0.0)


def _files(folder: Path) -> Iterator[tuple[int, float]]:
    """Size and time of change of each file."""
    with contextlib.suppress(FileNotFoundError):
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # renamed as it got whole
                found = file.stat()
                yield found.st_size, found.st_mtime
