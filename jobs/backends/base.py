"""The six verbs of a backend."""

from __future__ import annotations

from typing import Any, Protocol

from jobs.protocol import Attempt, Rung, Slot, Task


class Backend(Protocol):
    """Starts, watches and ends runners. What an attempt does and how it ended stands in its run folder."""

    name: str

    def submit(self, task: Task) -> dict[str, Any]:
        """Start a runner; returns the handle that finds it again: JSON, recorded in the run's events.

        Raises:
            RsfmError: it cannot be started.
        """

    def poll(self, attempt: Attempt) -> bool:
        """Whether the attempt's runner lives, or may still come to life."""

    def cancel(self, attempt: Attempt, rung: Rung) -> int:
        """Carry out one rung of the cancel ladder; returns how many processes (or jobs) it reached."""

    def tail(self, attempt: Attempt, max_bytes: int = 20_000) -> str:
        """The end of the job's output."""

    def resources(self) -> list[Slot]:
        """The slots there are."""

    def adopt(self, attempt: Attempt) -> dict[str, Any] | None:
        """The handle of an attempt that a former supervisor started, if its runner lives; else None."""
