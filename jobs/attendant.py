"""The supervisor's side work, in threads of their own: a slow disk or driver delays neither the watch nor the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
        self._refreshing: threading.Thread | None = None
        #: What is wrong, of what: said once, until it is over.
        self._problems: dict[str, str] = {}

    def start(self) -> None:
        self._refreshing = threading.Thread(target=self._refresh_often, name="attendant-index", daemon=True)
        self._refreshing.start()
        threading.Thread(target=self._read_often, name="attendant-readings", daemon=True).start()

    def stop(self) -> None:
        """End the threads; the last act is a refresh of what is still unseen. A driver that hangs is not waited for."""
        self._stop.set()
        if self._refreshing is not None:
            self._refreshing.join(timeout=10)

    def _refresh_often(self) -> None:
        while not self._stop.wait(self.refresh_s or 1.0):
            self._refresh()
        self._refresh()

    def _read_often(self) -> None:
        pause = min(1.0, self.reading_s)  # the first reading is of the time since the start
        while not self._stop.wait(pause):
            with self._noted("the machine was not read"):
                self.readings.take(gpus=self.watch_gpus)
            pause = self.reading_s

    def _refresh(self) -> None:
        if self.refresh_s is None or not (self.active or self.dirty):
            return
        self.dirty, seen = False, False
        with self._noted("the index was not refreshed"):
            from rsfm.store.index import refresh

            seen = refresh(self.workspace) in ("refreshed", "unchanged")
        if not seen:  # somebody else had the index, or it is in trouble
            self.dirty = True

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """Jobs must not feel the troubles of side work, which is tried again: they are logged once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on
            text = f"{type(error).__name__}: {error}"
            if text != self._problems.get(what):
                log.warning("%s: %s", what, text)
            self._problems[what] = text
        else:
            self._problems.pop(what, None)
