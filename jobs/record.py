"""What the supervisor knows of one run: its events, folded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.protocol import LIVE, RUNGS, Attempt, Rung
from rsfm.errors import RsfmError
from rsfm.store.files import utc_now
from rsfm.store.runs import FINISHED, STATES, RunFolder, State


@dataclass(slots=True)
class Run:
    """One run. `note` writes an event and folds it; `load` folds those on disk: both ways lead to the same record."""

    folder: RunFolder
    state: State = "queued"
    attempt: int = 0
    slot: str | None = None
    handle: dict[str, Any] = field(default_factory=dict)
    rung: Rung | None = None
    rung_time: str = ""
    stalled: bool = False
    queued_at: str = ""
    priority: int = 0
    needs_gpu: bool | None = None
    after: list[str] = field(default_factory=list)
    threads: int = 0
    why: str = ""  # a queued run waits
    resume_path: Path = field(init=False)  # looked at often

    def __post_init__(self) -> None:
        self.resume_path = self.folder.path / "control" / "resume"

    @property
    def id(self) -> str:
        return self.folder.id

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def current(self) -> Attempt:
        return Attempt(self.folder, self.attempt, self.handle)

    @classmethod
    def load(cls, folder: RunFolder) -> Run:
        """From disk. A finished run's spec is not read: there may be thousands, and one may be damaged.

        Raises:
            RsfmError: the spec of an unfinished run is missing or unreadable.
        """
        run = cls(folder)
        for event in folder.events():
            if isinstance(event, dict):
                run.fold(event)
        if not run.finished:
            run.read_request()
        return run

    def read_request(self) -> None:
        """What spec.json asks of the queue.

        Raises:
            RsfmError: missing, unreadable, or of the wrong form.
        """
        envelope = self.folder.envelope()
        spec = envelope["spec"]
        runtime = spec.get("runtime") if isinstance(spec.get("runtime"), dict) else {}
        try:
            self.after = [str(i) for i in envelope.get("after") or []]
            self.priority = int(envelope.get("priority") or 0)
            self.needs_gpu = envelope.get("needs_gpu")
            self.threads = int(spec.get("threads") or runtime.get("threads") or 0)
        except (TypeError, ValueError) as error:
            raise RsfmError(f"{self.folder.path / 'spec.json'} is not a request to run: {error}.") from error
        self.queued_at = self.queued_at or str(envelope.get("created") or "")

    def fold(self, event: dict[str, Any]) -> None:
        """Take one event in."""
        number, state = event.get("attempt"), event.get("state")
        if isinstance(number, int) and number > self.attempt:
            self.attempt, self.handle, self.slot = number, {}, None
            self.rung, self.stalled = None, False
        if state in STATES:
            self.state = state
            if state == "queued":
                self.queued_at = str(event.get("time") or "")
            if state not in LIVE:
                self.stalled = False
        if isinstance(event.get("slot"), str):
            self.slot = event["slot"]
        if isinstance(event.get("handle"), dict):
            self.handle = event["handle"]
        if event.get("rung") in RUNGS:
            self.rung, self.rung_time = event["rung"], str(event.get("time") or "")
        if isinstance(event.get("stalled"), bool):
            self.stalled = event["stalled"]

    def note(self, **fields: Any) -> None:
        """Write an event, then take it in: where writing fails, nothing has changed."""
        event = {"time": utc_now(), **fields}
        if self.state != "queued":  # what happens to a queued run is not the attempt's before
            event.setdefault("attempt", self.attempt)
        self.folder.add_event(**event)
        self.fold(event)
