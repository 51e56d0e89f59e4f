"""Which files of the workspace have changed, and the bytes that are new in them. No database."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rsfm.workspace import Workspace

#: Files of a run that the index reads. events.jsonl comes first: whatever else is read after it is at least as new,
#: so a run never shows as finished without its last rows.
RUN_FILES = (
    "events.jsonl", "about.json", "spec.json", "metrics.jsonl", "scores.jsonl", "artifacts.jsonl", "progress.json",
    "heartbeat.json", "exit.json",
)  # fmt: skip
LINE_FILES = ("metrics.jsonl", "scores.jsonl", "artifacts.jsonl", "events.jsonl")
WATCHED = {"runs": RUN_FILES, "packs": ("pack.json",), "models": ("model.json", "model.safetensors", "origin.json")}

#: A finished run that was quiet for so long changes only through its events (a resume) and what people say of it.
SETTLED_S = 30.0
QUIET_FILES = 2  # of RUN_FILES, from the first one on
#: ... and is looked at in full once in so many scans, in case someone changed it by hand.
SWEEP = 60
_HEAD = 128
_INODE = 2**63 - 1  # a BIGINT holds it

Signature = tuple[int, int, int]  # inode, size, mtime in ns


@dataclass(frozen=True, slots=True)
class Known:
    """How far one file was read."""

    inode: int
    size: int
    mtime_ns: int
    consumed: int = 0  # bytes, up to the last newline
    head: bytes = b""  # the first of them
    bad: int = 0  # lines that were no rows

    @property
    def signature(self) -> Signature:
        return self.inode, self.size, self.mtime_ns


def signature(path: str) -> Signature | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - thousands of calls a second; a Path would triple their cost
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return -1, error.errno or 0, 0  # there, but out of reach: reading it will say why
    return _stat(found)


def _stat(found: os.stat_result) -> Signature:
    return found.st_ino & _INODE, found.st_size, found.st_mtime_ns


@dataclass(slots=True)
class _Seen:
    files: dict[str, Signature]
    #: Newest time stamp of a finished run's files; infinite for others.
    newest_ns: float


class Watch:
    """Remembers the stat of every file that was read, and finds what differs now.

    An *owner* is one folder: `runs/<id>`, `packs/<name>` or `models/<name>`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._root = workspace.root
        self._seen: dict[str, _Seen] = {}
        self._turn = itertools.count()

    def note(self, owner: str, files: dict[str, Known], *, finished: bool) -> None:
        """The owner was read up to here."""
        signatures = {name: known.signature for name, known in files.items()}
        newest = max((s[2] for s in signatures.values()), default=math.inf) if finished else math.inf
        self._seen[owner] = _Seen(signatures, newest)

    def forget(self, owner: str) -> None:
        self._seen.pop(owner, None)

    def changed(self) -> list[str]:
        """Owners whose files differ from what was noted, the vanished included; runs by age, oldest first."""
        settled_ns = time.time_ns() - SETTLED_S * 1e9
        turn = next(self._turn)
        present: set[str] = set()
        changed: list[str] = []
        for room, names in WATCHED.items():
            for position, folder in enumerate(_folders(self._root / room, digits=room == "runs")):
                owner = f"{room}/{folder}"
                present.add(owner)
                seen = self._seen.get(owner)
                if seen is None:
                    changed.append(owner)
                    continue
                quiet = seen.newest_ns < settled_ns and (position + turn) % SWEEP
                for name in names[:QUIET_FILES] if quiet else names:
                    if signature(f"{self._root}/{owner}/{name}") != seen.files.get(name):
                        changed.append(owner)
                        break
        changed.extend(owner for owner in self._seen if owner not in present)
        return changed


def _folders(room: Path, *, digits: bool) -> Iterable[str]:
    """Names of the folders in a room, sorted; those that begin with a dot are being made."""
    try:
        with os.scandir(room) as entries:
            names = [e.name for e in entries if e.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    # A name that is no text is the name of no run, pack or model.
    return sorted(n for n in names if (n[0].isdigit() if digits else n[0] != ".") and _is_text(n))


def _is_text(name: str) -> bool:
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False


# -- reading -------------------------------------------------------------------------------------------------------
class Replaced(Exception):
    """A file that only grows has shrunk or begins differently: what was read of it is void."""


def read_whole(path: Path) -> tuple[bytes, Known] | None:
    """All of a file and its signature; None where there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            # Before reading: what is written from now on shows as a change next time.
            found = os.fstat(file.fileno())
            data = file.read(found.st_size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return data, Known(*_stat(found))


def read_grown(path: Path, known: Known | None, limit: int) -> tuple[bytes, Known] | None:
    """Whole lines that are new since `known`, at most about `limit` bytes of them.

    Returns:
        the lines and what is known now; where `limit` left some out, the signature fits no file, so that the next
        scan finds a change. None where there is no file.

    Raises:
        Replaced: the file is another one than `known` was.
        OSError: it is there and cannot be read.
    """
    start = known.consumed if known else 0
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        if known is not None:
            raise Replaced(path) from None
        return None
    with file:
        found = os.fstat(file.fileno())
        if known is not None and (found.st_size < start or file.read(len(known.head)) != known.head):
            raise Replaced(path)
        file.seek(start)
        data = file.read(min(limit, found.st_size - start))
        end = data.rfind(b"\n") + 1
        while not end and start + len(data) < found.st_size:  # one line longer than the limit
            more = file.read(min(limit, found.st_size - start - len(data)))
            if not more:
                break
            data += more
            end = data.rfind(b"\n") + 1
    head = known.head if known else b""
    if start == len(head):  # only what was consumed is certain to stay
        head = (head + data[:end])[:_HEAD]
    complete = start + len(data) >= found.st_size
    now = Known(*_stat(found), start + end, head, known.bad if known else 0)
    return data[:end], now if complete else replace(now, mtime_ns=-1)
