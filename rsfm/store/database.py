"""One DuckDB engine per process that the index is attached to while it is used.

Starting an engine takes some 20 ms, attaching a file 3 ms. A file that one process has attached for writing shuts
out every other process, so it is attached for the length of one query or one refresh, under the lock of
`rsfm.store.lock`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from rsfm.store.lock import Held, understand

_CONFIG = {
    # Questions and refreshes are small: more threads only wait for each other, and take the cores from training.
    "threads": 1,
    # No extension is ever fetched: everything that is needed is built in, and the machine may have no network.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # A missing table must be an error, not a Python variable that happens to have its name.
    "python_enable_replacements": False,
}
_NAME = "lab"  # the catalog's name; not "index", which is a word of SQL


class _Engine:
    def __init__(self) -> None:
        self.con = duckdb.connect(":memory:", config=_CONFIG)
        self.users = 0
        self.broken = False


class Database:
    """A DuckDB file that is attached while someone uses it. Threads of one process share the attachment."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self.path = path
        self._write = write
        self._guard = threading.Lock()
        self._engine: _Engine | None = None

    @contextmanager
    def attached(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of this thread's own, in the file's schema. The caller holds the lock.

        Raises:
            Held, Unusable: see `rsfm.store.lock.understand`, also for errors within the block.
            duckdb.Error: anything else.
        """
        engine = self._enter()
        try:
            cursor = engine.con.cursor()
            try:
                cursor.execute(f"USE {_NAME}")
                yield cursor
            finally:
                cursor.close()
        except duckdb.Error as error:
            # Whatever state it is in: the next user gets a new engine.
            with self._guard:
                engine.broken = True
            raise understand(error, self.path) from error
        finally:
            self._leave(engine)

    def _enter(self) -> _Engine:
        with self._guard:
            engine = self._engine
            if engine is None or engine.broken:
                engine = self._engine = _Engine()
            if not engine.users:
                path = str(self.path).replace("'", "''")
                try:
                    engine.con.execute(f"ATTACH '{path}' AS {_NAME} {'' if self._write else '(READ_ONLY)'}")
                except duckdb.Error as error:
                    meaning = understand(error, self.path)
                    if not isinstance(meaning, Held):
                        engine.broken = True
                        engine.con.close()
                    raise meaning from error
            engine.users += 1
            return engine

    def _leave(self, engine: _Engine) -> None:
        with self._guard:
            engine.users -= 1
            if engine.users:
                return
            if not engine.broken:
                try:
                    engine.con.execute(f"DETACH {_NAME}")  # writes the last changes to the file
                    return
                except duckdb.Error as error:
                    engine.broken = True
                    with contextlib.suppress(duckdb.Error):
                        engine.con.close()
                    raise understand(error, self.path) from error
            # Closing gives the file's lock back; a damaged file may complain once more.
            with contextlib.suppress(duckdb.Error):
                engine.con.close()

    def close(self) -> None:
        """Let the engine go, where nobody uses it."""
        with self._guard:
            if self._engine is not None and not self._engine.users:
                self._engine.con.close()
                self._engine = None


class Memory:
    """The same tables in this process's memory."""

    def __init__(self) -> None:
        self._con = duckdb.connect(":memory:", config=_CONFIG)
        self._con.execute(f"ATTACH ':memory:' AS {_NAME}")

    @contextmanager
    def attached(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._con.cursor()
        try:
            cursor.execute(f"USE {_NAME}")
            yield cursor
        finally:
            cursor.close()
