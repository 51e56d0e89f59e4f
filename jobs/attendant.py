"""The supervisor's side work, in a thread of its own so that neither a slow disk nor a slow driver delays the watch."""

from __future__ import annotations

import logging
import threading
import time

from jobs.slots import gpu_memory_used
from rsfm.workspace import Workspace

log = logging.getLogger("rsfm.supervisor")


class Attendant:
    """Refreshes the index while runs live, and reads the GPUs' memory."""

    def __init__(self, workspace: Workspace, refresh_s: float | None, *, gpu_s: float = 5.0) -> None:
        self.workspace = workspace
        self.refresh_s = refresh_s
        self.gpu_s = gpu_s
        #: Set by the supervisor: runs live; something was written since the last refresh.
        self.active = False
        self.dirty = True
        self.watch_gpus = False
        self.gpu_memory: dict[str, int] = {}
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
        gpu_at = 0.0
        while not self._stop.wait(self.refresh_s or 1.0):
            self._refresh()
            if self.watch_gpus and time.monotonic() >= gpu_at:
                self.gpu_memory = gpu_memory_used()
                gpu_at = time.monotonic() + self.gpu_s
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
