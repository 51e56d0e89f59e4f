"""What the machine of this dashboard is doing, and which slots it has, where no supervisor says so.

Readings are shared by all sessions and cost less than a millisecond; slots, for which a driver may be asked, are
found in the background.
"""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from typing import Any

from jobs.backends import make_backend
from jobs.protocol import Slot
from jobs.readings import Readings
from rsfm.errors import RsfmError

#: Readings closer than this say nothing about the load; after such a pause the last one says nothing about now.
EVERY_S, STALE_S = 1.5, 60.0
#: Slots older than this are looked for again.
SLOTS_S = 60.0


class ThisMachine:
    """The latest readings of one machine. Nothing here waits."""

    def __init__(self) -> None:
        self.slots: list[Slot] | None = None
        self.problem: str | None = None
        self._readings = Readings()
        self._read_at = time.monotonic()
        self._guard = threading.Lock()
        self._slots_at = float("-inf")
        self._finding = threading.Lock()

    def look(self) -> dict[str, Any]:
        """As `jobs.readings.Readings.machine`; cpu is None until there is something to compare with."""
        with self._guard:
            since, found = time.monotonic() - self._read_at, self._readings.machine()
            if since > STALE_S:
                self._readings, found = Readings(), None
            if found is None or since >= EVERY_S:
                self._readings.take(gpus=False)
                self._read_at = time.monotonic()
                found = self._readings.machine()
            assert found is not None
            return found

    def look_for_slots(self) -> None:
        """Bring `slots` up to date, soon; `problem` says why they are not known."""
        if time.monotonic() - self._slots_at > SLOTS_S and self._finding.acquire(blocking=False):
            threading.Thread(target=self._find_slots, name="machine-slots", daemon=True).start()

    def _find_slots(self) -> None:
        try:
            self.slots, self.problem = make_backend().resources(), None
        except RsfmError as error:
            self.slots, self.problem = None, str(error)
        finally:
            self._slots_at = time.monotonic()
            self._finding.release()


@lru_cache(maxsize=1)
def this_machine() -> ThisMachine:
    """The one of this process."""
    return ThisMachine()
