"""index.duckdb: kept up to date together by everyone who looks, and made again from the folders when it is lost."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal

import duckdb
from filelock import FileLock, Timeout

from rsfm.errors import RsfmError
from rsfm.store import schema
from rsfm.store.database import Database
from rsfm.store.ingest import Ingest
from rsfm.store.lock import Busy, Held, Unusable, locked
from rsfm.workspace import Workspace

#: "refreshed": new bytes were taken in. "unchanged": there were none. "busy": someone else is at it, try again.
Outcome = Literal["refreshed", "unchanged", "busy"]
Progress = Callable[[int, int], None]  # folders done, folders in all

#: Damaged index files that are kept for a look.
KEEP_CORRUPT = 3
#: Twice damaged within so many seconds is not the file's fault.
_AGAIN_S = 30.0


class Index:
    """The index of one workspace, seen from one process. Threads may share it."""

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.index
        self.lock_path = workspace.root / "index.lock"
        #: What a rebuild is at, in words for people; None while there is none.
        self.building: str | None = None
        self._workspace = workspace
        self._writer = Database(self.path, write=True)
        self._ingest = Ingest(workspace)
        self._loaded: int | None = None  # inode of the index that `_ingest` knows
        self._mutex = threading.Lock()  # one refresh at a time in this process
        self._damaged_at = -_AGAIN_S

    # -- state of the file -----------------------------------------------------------------------------------------
    def generation(self) -> tuple[int, ...] | None:
        """Changes whenever the index does; None where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        try:
            log = self.path.with_name(self.path.name + ".wal").stat()
            # Identity, then size and time of each file.
            return found.st_ino, found.st_size, found.st_mtime_ns, log.st_size, log.st_mtime_ns
        except OSError:
            return found.st_ino, found.st_size, found.st_mtime_ns

    def _inode(self) -> int | None:
        found = self.generation()
        return found[0] if found else None

    # -- refresh ---------------------------------------------------------------------------------------------------
    def refresh(self, *, wait_s: float = 0.0, look: bool = False) -> Outcome:
        """Take in what is new in the folders. Without `wait_s` it never waits for anyone.

        Args:
            wait_s: how long to wait for readers and other writers.
            look: open the index even where nothing is new (to learn whether someone still holds it).

        Raises:
            Held: another program has the file open.
            Unusable: it must be built again; a damaged one has been put aside.
        """
        if not self._mutex.acquire(timeout=wait_s):
            return "busy"
        try:
            return self._refresh(wait_s, look)
        finally:
            self._mutex.release()

    def _refresh(self, wait_s: float, look: bool) -> Outcome:
        inode = self._inode()
        if inode is None:
            raise Unusable(f"{self.path.name} does not exist")
        known = inode == self._loaded
        owners = self._ingest.watch.changed() if known else []
        outcome: Outcome = "unchanged"
        if known and not owners and not look:
            return outcome
        while True:
            try:
                with locked(self.lock_path, write=True, timeout_s=wait_s):
                    owners, wrote = self._write(owners)
            except Busy:
                # What is left comes with the next refresh.
                return "busy"
            outcome = "refreshed" if wrote else outcome
            if not owners:
                return outcome

    def _write(self, owners: list[str]) -> tuple[list[str], bool]:
        """One batch, under the write lock; returns the folders that are left and whether there were any."""
        try:
            with self._writer.attached() as con:
                if schema.version(con) != schema.VERSION:
                    raise Unusable("it was made by another version")
                inode = self._inode()
                if inode != self._loaded:
                    self._ingest = Ingest(self._workspace)
                    self._ingest.load(con)
                    self._loaded = inode
                    owners = self._ingest.watch.changed()
                return (self._ingest.batch(con, owners), True) if owners else ([], False)
        except Unusable as reason:
            if reason.damaged:
                self._put_aside()
            raise

    # -- damage ----------------------------------------------------------------------------------------------------
    def condemn(self, reason: Unusable, seen: int | None, check: Callable[[duckdb.DuckDBPyConnection], object]) -> None:
        """A reader found the file `seen` (its inode) damaged: look again with the file to ourselves, put it aside.

        Does nothing where the file is another one by now, or `check` passes.

        Raises:
            Held: another program has the file open: its writing may be what looked like damage.
            Busy: readers or a writer of ours kept it.
            RsfmError: it was damaged a moment ago already, so building it again does not help.
        """
        with locked(self.lock_path, write=True, timeout_s=5.0):
            if self._inode() != seen:
                return
            try:
                with self._writer.attached() as con:
                    check(con)
            except Unusable as again:
                if again.damaged:
                    self._put_aside()
                raise again from reason

    def _put_aside(self) -> None:
        """Rename the damaged file and its log together; the caller holds the write lock."""
        if time.monotonic() - self._damaged_at < _AGAIN_S:
            raise RsfmError(
                f"{self.path} was damaged twice within {_AGAIN_S:.0f} s. Check the disk, then: rsfm index rebuild"
            )
        self._damaged_at = time.monotonic()
        self._loaded = None
        stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        corrupt = self.path.with_name(f"{self.path.name}.corrupt-{stamp}")
        log = self.path.with_name(self.path.name + ".wal")
        with contextlib.suppress(FileNotFoundError):
            log.rename(corrupt.with_name(corrupt.name + ".wal"))
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(corrupt)
        kept = sorted(p for p in self.path.parent.glob(f"{self.path.name}.corrupt-*") if p.suffix != ".wal")
        for old in kept[:-KEEP_CORRUPT]:
            old.unlink(missing_ok=True)
            old.with_name(old.name + ".wal").unlink(missing_ok=True)

    # -- rebuild ---------------------------------------------------------------------------------------------------
    def rebuild(self, progress: Progress | None = None, *, only_if_unusable: bool = False) -> dict[str, int]:
        """Make the index again from the folders, beside the old one, and put it in its place in one step.

        Args:
            only_if_unusable: do nothing where someone else has built one meanwhile.

        Returns:
            rows per table; empty where nothing was built.

        Raises:
            Held: another program has the old index open.
        """
        self._workspace.root.mkdir(parents=True, exist_ok=True)
        self.building = "The index is being built by another process."
        try:
            with FileLock(self._workspace.root / "index.build.lock", timeout=3600):
                if only_if_unusable and self._usable():
                    return {}
                self.building = "Building the index from the run folders."
                return self._build(progress)
        except (Timeout, OSError) as error:
            raise Held(f"{self.path.name} cannot be built: {error}") from error
        finally:
            self.building = None

    def _usable(self) -> bool:
        if self._inode() is None:
            return False
        try:
            with locked(self.lock_path, write=False, timeout_s=60.0), self.reading().attached() as con:
                return schema.version(con) == schema.VERSION
        except (Unusable, Busy):
            return False

    def reading(self) -> Database:
        """A view of the file for reading, of the caller's own."""
        return Database(self.path, write=False)

    def _build(self, progress: Progress | None) -> dict[str, int]:
        for left_over in self.path.parent.glob(f".{self.path.name}.new-*"):
            left_over.unlink(missing_ok=True)
        fresh = self.path.with_name(f".{self.path.name}.new-{uuid.uuid4().hex[:8]}")
        database = Database(fresh, write=True)
        ingest = Ingest(self._workspace)
        try:
            with database.attached() as con:
                schema.create(con)
                fill(ingest, con, self._report(progress))
            with locked(self.lock_path, write=True, timeout_s=120.0):
                self._refuse_if_held()
                with database.attached() as con:
                    # What others took into the old index meanwhile must not be missing from the new one.
                    fill(ingest, con, None)
                    counts = {t: con.execute(f"SELECT count(*) FROM {t}").fetchall()[0][0] for t in _COUNTED}
                self.path.with_name(self.path.name + ".wal").unlink(missing_ok=True)
                fresh.replace(self.path)
            with self._mutex:
                self._ingest, self._loaded = ingest, self._inode()
        finally:
            database.close()
            for rest in self.path.parent.glob(f"{fresh.name}*"):
                rest.unlink(missing_ok=True)
        return counts

    def _report(self, progress: Progress | None) -> Progress:
        def report(done: int, total: int) -> None:
            self.building = f"Building the index: {done} of {total} folders."
            if progress is not None:
                progress(done, total)

        return report

    def _refuse_if_held(self) -> None:
        if self._inode() is None:
            return
        try:
            with self._writer.attached():
                pass
        except Unusable:
            pass  # nothing to lose
        finally:
            self._writer.close()


_COUNTED = ("runs", "metrics", "scores", "artifacts", "datasets", "models", "problems")


def fill(ingest: Ingest, con: duckdb.DuckDBPyConnection, progress: Progress | None) -> None:
    """Take in everything that is new, batch by batch."""
    owners = ingest.watch.changed()
    total = len(owners)
    while owners:
        owners = ingest.batch(con, owners)
        if progress is not None:
            progress(max(0, total - len(owners)), total)


@cache
def _index(root: Path) -> Index:
    return Index(Workspace(root))


def refresh(workspace: Workspace) -> Outcome | Literal["held"]:
    """Bring the index up to date, building it where there is none: the supervisor's call, once a second.

    Costs a few stat calls per unfinished run while nothing changes. Waits for nobody; but a first build of a large
    workspace takes its time, so call it from a thread of its own.
    """
    index = _index(workspace.root)
    try:
        try:
            return index.refresh()
        except Unusable:
            index.rebuild(only_if_unusable=True)
            return "refreshed"
    except Held:
        return "held"
