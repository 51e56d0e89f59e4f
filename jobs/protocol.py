"""What the three processes agree on. Files are the protocol, the same for every backend.

    spec.json                   written once by `jobs.client.submit`
    control/stop, resume        requests, written by anyone
    events.jsonl                state changes, written by the supervisor alone
    runner.lock                 locked by the runner as long as it lives: never two jobs in one folder
    heartbeat.json exit.json log.txt   written by the runner
    <workspace>/supervisor/     lock, state.json and log.txt of the one supervisor

queued -> starting -> running -> stopping -> succeeded | failed | cancelled | lost. *Stalled* is a flag on running.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rsfm.errors import RsfmError
from rsfm.store.files import read_json
from rsfm.store.runs import RunFolder
from rsfm.workspace import Workspace

#: States in which an attempt may have processes.
LIVE: frozenset[str] = frozenset({"starting", "running", "stopping"})

#: The cancel ladder: ask (control/stop), SIGTERM to the job's group, SIGKILL to it, then whatever is left, runner too.
Rung = Literal["request", "terminate", "kill", "sweep"]
RUNGS: tuple[Rung, ...] = ("request", "terminate", "kill", "sweep")
RUNG_MESSAGES: dict[Rung, str] = {
    "request": "Asked to finish its step, save and exit.",
    "terminate": "It did not exit in time: SIGTERM to its process group.",
    "kill": "It did not end on SIGTERM: SIGKILL to its process group.",
    "sweep": "Its runner did not report the end: SIGKILL to everything that is left of it.",
}

#: Environment of every process of an attempt: finds them whatever became of their parents.
ENV_RUN = "RSFM_RUN_FOLDER"
ENV_ATTEMPT = "RSFM_ATTEMPT"

BEAT_S = 2.0
#: How far ahead a beat promises the next one. Overdue means stalled, never lost.
PROMISE_S = 15.0
LOG_LIMIT_BYTES = 50_000_000
LOG_KEEP_BYTES = 5_000_000
#: Exit code of a job that stopped on request and saved (see `rsfm.execute`).
EXIT_STOPPED = 3


def env_number(name: str, default: float, *, minimum: float = 0) -> float:
    """A number from the environment.

    Raises:
        RsfmError: not a number, or below the minimum.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise RsfmError(f"{name} must be a number, got {text!r}.") from None
    if value < minimum:
        raise RsfmError(f"{name} must be at least {minimum:g}, got {text}.")
    return value


@dataclass(frozen=True)
class Graces:
    """Seconds that each rung of the cancel ladder gets before the next one."""

    request_s: float = 60.0  # a step, a checkpoint, and before that the imports
    terminate_s: float = 10.0
    kill_s: float = 5.0

    @classmethod
    def from_env(cls) -> Graces:
        """From `RSFM_STOP_GRACE_S` and `RSFM_TERMINATE_GRACE_S`."""
        return cls(
            request_s=env_number("RSFM_STOP_GRACE_S", cls.request_s),
            terminate_s=env_number("RSFM_TERMINATE_GRACE_S", cls.terminate_s),
        )

    def of(self, rung: Rung) -> float:
        return {"request": self.request_s, "terminate": self.terminate_s, "kill": self.kill_s, "sweep": 0.0}[rung]


@dataclass(frozen=True)
class Slot:
    """A place where one run can work."""

    name: str
    kind: Literal["cpu", "gpu"]
    threads: int
    title: str = ""
    uuid: str | None = None  # of the GPU
    memory_bytes: int | None = None

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        return "cuda" if self.kind == "gpu" else "cpu"

    def environment(self) -> dict[str, str]:
        """What makes a job see this slot's device and no other."""
        if self.kind == "cpu":
            return {"CUDA_VISIBLE_DEVICES": ""}
        return {"CUDA_VISIBLE_DEVICES": self.uuid} if self.uuid else {}


@dataclass(frozen=True)
class Task:
    """One attempt to be started."""

    folder: RunFolder
    attempt: int
    slot: Slot
    threads: int
    command: list[str]

    def environment(self) -> dict[str, str]:
        return {
            ENV_RUN: run_mark(self.folder),
            ENV_ATTEMPT: str(self.attempt),
            "PYTHONUNBUFFERED": "1",
            **self.slot.environment(),
        }


@dataclass(frozen=True)
class Attempt:
    """One attempt that was started: where it reports, and what its backend needs to find it again (`handle`)."""

    folder: RunFolder
    number: int
    handle: dict[str, Any] = field(default_factory=dict)

    def _own(self, data: Any) -> dict[str, Any] | None:
        """Only what this attempt wrote: an earlier one left files of the same names."""
        return data if isinstance(data, dict) and data.get("attempt") == self.number else None

    def heartbeat(self) -> dict[str, Any] | None:
        return self._own(self.folder.heartbeat())

    def exit(self) -> dict[str, Any] | None:
        return self._own(self.folder.exit())


def run_mark(folder: RunFolder) -> str:
    return str(folder.path.resolve())


def host_name() -> str:
    return platform.node()


def seconds_since(text: Any) -> float:
    """Seconds from an ISO time until now; negative for the future, 0 where it is no time."""
    try:
        then = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return 0.0
    return (datetime.now(UTC) - then).total_seconds()


def later(seconds: float) -> str:
    """The time that many seconds from now, in the form of `rsfm.store.files.utc_now`."""
    return datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds, UTC).isoformat(timespec="microseconds")


def request_time(folder: RunFolder, what: str) -> str | None:
    """When a request was made; None where there is none; "" where the file is unreadable."""
    path = folder.path / "control" / what
    if not path.exists():
        return None
    data = read_json(path)
    return str(data.get("time", "")) if isinstance(data, dict) else ""


def lock_path(workspace: Workspace) -> Path:
    return workspace.supervisor / "lock"


def state_path(workspace: Workspace) -> Path:
    return workspace.supervisor / "state.json"


def log_path(workspace: Workspace) -> Path:
    return workspace.supervisor / "log.txt"


def outcome(ended: dict[str, Any], rung: Rung | None) -> tuple[str, str]:
    """The final state that an exit means, and one sentence for people.

    Args:
        ended: exit.json of the attempt.
        rung: how far the cancel ladder had come; None where nobody asked to stop.
    """
    code, signal = ended.get("code"), ended.get("signal")
    if code == 0:
        return "succeeded", "Done."
    if code == EXIT_STOPPED:
        return "cancelled", "Stopped and saved. Resume goes on from there."
    if rung in ("terminate", "kill", "sweep"):
        how = f"ended by {signal}" if signal else f"ended with code {code}"
        return "cancelled", f"It did not stop by itself: {how}. Resume goes on from the last checkpoint."
    if signal:
        hint = " (out of memory, or ended by hand)" if signal == "SIGKILL" else ""
        return "failed", f"The job was ended by {signal}{hint}. Resume goes on from the last checkpoint."
    return "failed", ended.get("message") or f"The job ended with code {code}; see its log."
