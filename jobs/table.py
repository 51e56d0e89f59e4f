"""All runs of a workspace as the supervisor knows them: cheap to keep up to date with thousands of finished ones."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from itertools import islice

from jobs.record import Run
from rsfm.errors import RsfmError
from rsfm.store.runs import RESUMABLE, RunFolder, is_run_id
from rsfm.workspace import Workspace

log = logging.getLogger("rsfm.supervisor")

#: Ended runs that are asked for a request to resume in each turn.
_RESUME_BATCH = 200
#: When a folder that could not be read is tried again.
_RETRY_S = 30.0


class RunTable:
    """The runs by id. A folder is read once: afterwards only the supervisor changes what it says."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.runs: dict[str, Run] = {}
        self.problems: dict[str, str] = {}  # folders that cannot be read
        self._seen_mtime = 0
        self._retry_at = 0.0
        self._turn: Iterator[Run] = iter(())

    def discover(self, *, force: bool = False) -> None:
        """Take in new run folders, forget deleted ones."""
        try:
            mtime = self.workspace.runs.stat().st_mtime_ns
        except FileNotFoundError:
            self.runs.clear()
            return
        retry = bool(self.problems) and time.monotonic() > self._retry_at
        # Two changes within one tick of the file system's clock look like one, so young folders are read again.
        if mtime == self._seen_mtime and time.time_ns() - mtime > 1_000_000_000 and not retry and not force:
            return
        self._seen_mtime = mtime
        with os.scandir(self.workspace.runs) as entries:
            names = {e.name for e in entries if is_run_id(e.name) and e.is_dir()}
        for name in self.runs.keys() - names:
            del self.runs[name]
        tried = set() if retry or force else self.problems.keys() & names
        self.problems = {name: self.problems[name] for name in tried}
        for name in sorted(names - self.runs.keys() - tried):
            try:
                self.runs[name] = Run.load(RunFolder(self.workspace.runs / name))
            except (RsfmError, OSError) as error:
                self.problems[name] = str(error)
                self._retry_at = time.monotonic() + _RETRY_S
                log.warning("run %s is skipped: %s", name, error)

    def live(self) -> list[Run]:
        return [r for r in self.runs.values() if r.live]

    def queued(self) -> list[Run]:
        return [r for r in self.runs.values() if r.state == "queued"]

    def asked_to_resume(self, *, all_of_them: bool = False) -> list[Run]:
        """Ended runs with a request to resume; a part of them in each turn, unless all are asked for."""
        if all_of_them:
            batch = self._resumable()
        else:
            batch = list(islice(self._turn, _RESUME_BATCH))
            if len(batch) < _RESUME_BATCH:
                self._turn = iter(self._resumable())
        return [r for r in batch if r.state in RESUMABLE and r.resume_path.exists()]

    def _resumable(self) -> list[Run]:
        return [r for r in self.runs.values() if r.state in RESUMABLE]
