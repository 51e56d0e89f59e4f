"""Who may touch index.duckdb, and what its errors mean."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import psutil
from filelock import ReadWriteLock, Timeout


class Unavailable(Exception):
    """The index cannot be used now; its text is one sentence for people."""


class Busy(Unavailable):
    """Another process or thread of ours is at it; it will be done soon."""


class Held(Unavailable):
    """A process that does not know our lock holds the file open, or we may not touch it at all."""


class Unusable(Exception):
    """There is no index, or one of another version, or a damaged one: it must be built again."""

    def __init__(self, why: str, *, damaged: bool = False) -> None:
        super().__init__(why)
        self.damaged = damaged


@contextmanager
def locked(path: Path, *, write: bool, timeout_s: float) -> Iterator[None]:
    """Share the index with other readers, or have it alone.

    A new lock object per use: one object cannot be shared by threads that want different things.

    Raises:
        Busy: not within `timeout_s`.
        Held: the lock's own file cannot be used (no permission, a full disk).
    """
    try:
        lock = ReadWriteLock(path, is_singleton=False)
    except Timeout:
        raise Busy("The index is being refreshed.") from None
    except (OSError, ValueError, sqlite3.Error) as error:
        raise Held(f"{path} cannot be used as a lock: {error}.") from error
    try:
        try:
            (lock.acquire_write if write else lock.acquire_read)(timeout_s, blocking=timeout_s > 0)
        except Timeout:
            raise Busy("The index is being refreshed.") from None
        except (OSError, ValueError, sqlite3.Error) as error:
            raise Held(f"{path} cannot be used as a lock: {error}.") from error
        try:
            yield
        finally:
            lock.release()
    finally:
        lock.close()


_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_LOCKED = re.compile(r"could not set lock|being used by another process", re.IGNORECASE)
_DAMAGE = re.compile(
    r"corrupt|checksum|not a valid duckdb|could not read enough bytes|failed to deserialize|serialization error"
    r"|with version number|invalidated because of a previous fatal error|encountered an unexpected",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"permission denied|read-only file system|no space left|disk quota|out of memory", re.IGNORECASE)


def understand(error: duckdb.Error, path: Path) -> Exception:
    """What a DuckDB error on the index means: `Held`, `Unusable`, or the error itself where it is neither."""
    message = str(error)
    if _LOCKED.search(message):
        return Held(f"{path.name} is held by {_holder(message)}")
    if _REFUSED.search(message):
        return Held(f"{path.name} cannot be used: {message.splitlines()[0]}")
    if "does not exist" in message and isinstance(error, duckdb.IOException):
        return Unusable(f"{path.name} does not exist")
    internal = (duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)
    if isinstance(error, internal) or _DAMAGE.search(message):
        return Unusable(message.splitlines()[0], damaged=True)
    if isinstance(error, (duckdb.CatalogException, duckdb.BinderException)):
        # Our own statements fit our own tables: someone changed them.
        return Unusable(f"its tables were changed: {message.splitlines()[0]}", damaged=True)
    return error


def _holder(message: str) -> str:
    """The process in DuckDB's words, e.g. "duckdb (process 4242)"."""
    found = _HOLDER.search(message)
    if found is None:
        return "another process"
    pid = int(found["pid"])
    name = Path(found["program"]).name
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        command = []
    if name.startswith("python") and len(command) > 1 and not command[1].startswith("-"):
        name = f"{name} {Path(command[1]).name}"
    return f"{name} (process {pid})"
