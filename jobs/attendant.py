"""The supervisor's side work, in a thread of its own so that neither a slow disk nor a slow driver delays the watch."""

from __future__ import annotations

import logging
import threading
import time

from jobs.readings import Readings
from rsfm.workspace import Workspace

log = logging.getLogger("rsfm.supervisor")


class Attendant:
    """Refreshes the index while runs live, and reads what the machine is doing."""

    def __init__(self, workspace: Workspace, refresh_s: float | None, *, reading_s: float = 5.0) -> None:
        self.workspace = workspace
        self.refresh_s = refresh_s
        self.reading_s = reading_s
        #: Set by the supervisor: runs live; something was written since the last refresh.
        self.active = False
        self.dirty = True
        self.watch_gpus = False
        self.readings = Readings()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem = ""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="attendant", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; its last act is a refresh of what is still unseen."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        due = 0.0
        while not self._stop.wait(self.refresh_s or 1.0):
            self._refresh()
            if time.monotonic() >= due:
                self.readings.take(gpus=self.watch_gpus)
                due = time.monotonic() + self.reading_s
        self._refresh()

    def _refresh(self) -> None:
        if self.refresh_s is None or not (self.active or self.dirty):
            return
        self.dirty = False
        try:
            from rsfm.store.index import refresh

            # Somebody else had the index: what changed is still unseen.
            self.dirty |= refresh(self.workspace) not in ("refreshed", "unchanged")
            self._problem = ""
        except Exception as error:  # noqa: BLE001 - the index can be rebuilt at any time; jobs must not feel its troubles
            text = f"{type(error).__name__}: {error}"
            if text != self._problem:
                log.warning("the index was not refreshed: %s", text)
            self._problem = text
