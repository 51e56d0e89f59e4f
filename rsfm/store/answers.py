"""Answers from the index, kept up to date and kept in memory; while it cannot be had, from what is left.

Nothing here knows what is asked: `rsfm.store.view` does.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pandas as pd

from rsfm.errors import RsfmError
from rsfm.store import schema
from rsfm.store.index import Index, Progress
from rsfm.store.lock import Busy, Held, Unavailable, Unusable, locked
from rsfm.store.memory import MemoryIndex
from rsfm.workspace import Workspace

Fetch = Callable[[duckdb.DuckDBPyConnection], pd.DataFrame]

#: Frames that are kept to be shown again, and rows in all of them.
KEEP_FRAMES = 256
KEEP_ROWS = 4_000_000
#: How long a query waits for a refresh that is under way: with a last frame to fall back on, and without.
PATIENCE_S = 0.5
PATIENCE_COLD_S = 20.0


@dataclass
class _Kept:
    frame: pd.DataFrame
    generation: tuple[int, ...]
    #: The index had been written this moment: the same time stamp may come to stand for newer content.
    fresh: bool
    #: `schema.results` where the frame rests on nothing else.
    results: tuple[str, int] | None


class Answers:
    """The index of one workspace as something that can always be asked. Thread-safe; opens no file before the first
    question. An answer whose index has not changed since comes from memory.

    While another program holds `index.duckdb` open, every question that was answered before gets its last answer
    again, and others are answered from the run folders; `notice` says so.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._index = Index(workspace)
        self._database = self._index.reading()
        self._guard = threading.Lock()
        self._frames: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._good_schema: int | None = None  # inode of an index whose version was checked
        self._held: Held | None = None
        self._held_from_readers = False
        self._good_at = datetime.now().astimezone()
        self._refreshed = float("-inf")
        self._memory: MemoryIndex | None = None
        self._memory_guard = threading.Lock()
        self._builder: threading.Thread | None = None
        self._build_error: Exception | None = None

    # -- keeping up to date ----------------------------------------------------------------------------------------
    @property
    def notice(self) -> str | None:
        """What the reader of a page must know of its numbers' age; None when all is well."""
        held, memory = self._held, self._memory
        if held is not None and memory is not None:
            return f"{held}: {memory.state}"
        if held is not None:
            return f"{held}: showing the state of {self._good_at:%H:%M:%S}."
        return self._index.building

    def refresh_if_stale(self, max_age_s: float = 1.0) -> None:
        """Take in what is new in the folders, unless that was done less than `max_age_s` ago.

        Never waits for another process, except a moment at the very first call, so that a command line that asks
        once sees what was written before it began. Where the index must be built first, that begins in the
        background.
        """
        first = self._refreshed == float("-inf")
        if time.monotonic() - self._refreshed < max_age_s or not self.workspace.root.is_dir():
            return
        self._refreshed = time.monotonic()
        try:
            outcome = self._index.refresh(wait_s=2.0 if first else 0.0, look=self._held is not None)
        except Unusable:
            self._build_in_background()
        except Held as held:
            self._note_held(held)
            if self._memory is not None:
                self._memory.refresh()
        else:
            if outcome != "busy":
                self._note_free()

    def rebuild(self, progress: Progress | None = None) -> dict[str, int]:
        """Throw the index away and make it again from the folders; returns rows per table.

        Raises:
            RsfmError: another program holds the index open.
        """
        try:
            counts = self._index.rebuild(progress)
        except Unavailable as held:
            raise RsfmError(f"{held}. Close it there, then try again.") from held
        self._note_free()
        return counts

    def _note_held(self, held: Held, *, reading: bool = False) -> None:
        with self._guard:
            self._held = held
            self._held_from_readers = self._held_from_readers or reading

    def _note_readable(self) -> None:
        """A question was answered. Whoever only reads the file as well still keeps the refresh out."""
        if self._held is not None and self._held_from_readers:
            self._note_free()

    def _note_free(self) -> None:
        with self._guard:
            self._held = None
            self._held_from_readers = False
            self._memory = None
            self._good_at = datetime.now().astimezone()

    def _build_in_background(self) -> threading.Thread:
        def build() -> None:
            try:
                self._index.rebuild(only_if_unusable=True)
                self._build_error = None
            except Held as held:
                self._note_held(held)
            except Busy:
                pass  # readers kept it: whoever asks next begins again
            except (Unusable, RsfmError, duckdb.Error, OSError) as error:
                self._build_error = error

        with self._guard:
            if self._builder is None or not self._builder.is_alive():
                self._builder = threading.Thread(target=build, name="index-build", daemon=True)
                self._builder.start()
            return self._builder

    # -- answering -------------------------------------------------------------------------------------------------
    def answer(self, key: Hashable, fetch: Fetch, *, of_results: bool = False) -> pd.DataFrame:
        """A frame: the kept one where the index is as it was, else a new one, else the last one, else the folders'.

        Args:
            of_results: `fetch` asks for nothing but what `schema.results` covers.
        """
        generation = self._index.generation()
        with self._guard:
            kept = self._frames.get(key)
            if kept is not None:
                self._frames.move_to_end(key)
        if kept is not None and not kept.fresh and generation is not None and kept.generation == generation:
            return kept.frame.copy(deep=False)
        if not self.workspace.root.is_dir():
            return self._from_memory(fetch)  # nothing to index, and nothing is created by looking
        try:
            patience_s = PATIENCE_S if kept is not None else PATIENCE_COLD_S
            answer = self._keep(key, self._read(fetch, patience_s, of_results, kept))
            self._note_readable()
            return answer
        except Unusable:
            builder = self._build_in_background()
            if kept is not None:
                return kept.frame.copy(deep=False)
            builder.join()
        except Unavailable as reason:
            if isinstance(reason, Held):
                self._note_held(reason, reading=True)
            if kept is not None and self._memory is None:
                return kept.frame.copy(deep=False)
        return self._cold(key, fetch, of_results)

    def _cold(self, key: Hashable, fetch: Fetch, of_results: bool) -> pd.DataFrame:
        """No last frame, and the index could not be read: once more, then from the folders."""
        if self._build_error is not None:
            raise RsfmError(f"The index cannot be built: {self._build_error}") from self._build_error
        if self._held is None:
            try:
                return self._keep(key, self._read(fetch, PATIENCE_COLD_S, of_results))
            except Held as held:
                self._note_held(held, reading=True)
            except (Unusable, Busy):
                pass
        return self._from_memory(fetch)

    def _read(self, fetch: Fetch, patience_s: float, of_results: bool, kept: _Kept | None = None) -> _Kept:
        """Ask the index itself, unless all that has changed in it is none of the question's business.

        Raises:
            Busy, Held: it cannot be read now.
            Unusable: it must be built again.
        """
        seen: int | None = None
        try:
            with locked(self._index.lock_path, write=False, timeout_s=patience_s):
                generation = self._index.generation()
                if generation is None:
                    raise Unusable(f"{self._index.path.name} does not exist")
                seen = generation[0]
                fresh = time.time_ns() - max(generation[2::2]) < 50_000_000
                with self._database.attached() as cursor:
                    if self._good_schema != seen:
                        if schema.version(cursor) != schema.VERSION:
                            raise Unusable("it was made by another version")
                        self._good_schema = seen
                    results = schema.results(cursor) if of_results else None
                    same = kept is not None and results is not None and kept.results == results
                    return _Kept(kept.frame if kept and same else fetch(cursor), generation, fresh, results)
        except Unusable as reason:
            if not reason.damaged:
                raise
            self._good_schema = None
            self._index.condemn(reason, seen, fetch)
            raise Unusable(str(reason)) from reason

    def _keep(self, key: Hashable, answer: _Kept) -> pd.DataFrame:
        with self._guard:
            self._frames[key] = answer
            self._frames.move_to_end(key)
            rows = sum(len(kept.frame) for kept in self._frames.values())
            while len(self._frames) > 1 and (len(self._frames) > KEEP_FRAMES or rows > KEEP_ROWS):
                _, oldest = self._frames.popitem(last=False)
                rows -= len(oldest.frame)
        return answer.frame.copy(deep=False)

    def _from_memory(self, fetch: Fetch) -> pd.DataFrame:
        with self._memory_guard:  # built once; whoever comes meanwhile waits for it
            memory = self._memory
            if memory is None:
                memory = self._memory = MemoryIndex(self.workspace)
            memory.refresh()
        return memory.fetch(fetch)
