"""The index in this process's memory, for as long as the file cannot be had."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import duckdb
import pandas as pd

from rsfm.store import schema
from rsfm.store.database import Memory
from rsfm.store.index import fill
from rsfm.store.ingest import Ingest
from rsfm.workspace import Workspace


class MemoryIndex:
    """The index in this process's memory, for as long as the file cannot be had."""

    def __init__(self, workspace: Workspace) -> None:
        self.state = "reading the run folders."
        self._memory = Memory()
        self._ingest = Ingest(workspace)
        self._at = float("-inf")
        self._guard = threading.Lock()
        with self._memory.attached() as con:
            schema.create(con)

    def refresh(self, max_age_s: float = 1.0) -> None:
        with self._guard:
            if time.monotonic() - self._at < max_age_s:
                return
            with self._memory.attached() as con:
                fill(self._ingest, con, self._report)
            self.state = "showing the run folders instead."
            self._at = time.monotonic()

    def _report(self, done: int, total: int) -> None:
        if self._at == float("-inf"):
            self.state = f"reading the run folders, {done} of {total}."

    def fetch(self, fetch: Callable[[duckdb.DuckDBPyConnection], pd.DataFrame]) -> pd.DataFrame:
        with self._memory.attached() as con:
            return fetch(con)
