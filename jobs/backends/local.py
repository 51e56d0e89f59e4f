"""Runners on this machine, each in a session of its own: they outlive the supervisor."""

from __future__ import annotations

import signal
import sys
from typing import Any

import psutil

from jobs.processes import alive, created, lock_held, marked, signal_group, start_detached, sweep
from jobs.protocol import Attempt, Rung, Slot, Task, host_name, run_mark
from jobs.slots import cpu_slots, gpu_slots
from rsfm.errors import RsfmError


def _is_runner(process: psutil.Process) -> bool:
    try:
        return "jobs.runner" in process.cmdline()
    except psutil.Error:
        return False


class LocalBackend:
    """The backend that is built in."""

    name = "local"

    def submit(self, task: Task) -> dict[str, Any]:
        command = [sys.executable, "-m", "jobs.runner", str(task.folder.path), "--attempt", str(task.attempt), "--"]
        try:
            process = start_detached(
                [*command, *task.command], task.folder.path / "log.txt", environment=task.environment()
            )
        except OSError as error:
            raise RsfmError(f"The runner of {task.folder.id} cannot be started: {error}.") from error
        return {"host": host_name(), "runner_pid": process.pid, "runner_created": created(process.pid)}

    def _place(self, attempt: Attempt) -> dict[str, Any]:
        """What the runner says of itself; before its first beat, what was known when it was started."""
        return attempt.heartbeat() or attempt.handle

    def poll(self, attempt: Attempt) -> bool:
        place = self._place(attempt)
        if place.get("host", host_name()) != host_name():
            # Another machine on the same disk, or this container under its former name: process ids mean nothing
            # here, but the kernel knows who holds the lock.
            return lock_held(attempt.folder.path / "runner.lock")
        return alive(place.get("runner_pid"), place.get("runner_created"))

    def cancel(self, attempt: Attempt, rung: Rung) -> int:
        beat = attempt.heartbeat() or {}
        job = (beat.get("pid"), beat.get("created"))
        match rung:
            case "request":
                return 0  # the file is the request
            case "terminate":
                return int(signal_group(*job, signal.SIGTERM))
            case "kill":
                # The runner is spared: it records how the job ended.
                reached = int(signal_group(*job, signal.SIGKILL))
                runner = self._place(attempt).get("runner_pid")
                return reached + sweep(run_mark(attempt.folder), spare=(runner,) if isinstance(runner, int) else ())
            case "sweep":
                return sweep(run_mark(attempt.folder))

    def tail(self, attempt: Attempt, max_bytes: int = 20_000) -> str:
        return attempt.folder.log_tail(max_bytes)

    def resources(self) -> list[Slot]:
        return [*gpu_slots(), *cpu_slots()]

    def adopt(self, attempt: Attempt) -> dict[str, Any] | None:
        if self.poll(attempt):
            place = self._place(attempt)
            return {k: place.get(k) for k in ("host", "runner_pid", "runner_created")}
        # Started by a supervisor that died before it could write that down, and not yet at its first beat.
        for process in marked(run_mark(attempt.folder), attempt.number):
            born = created(process.pid)
            if born is not None and _is_runner(process):
                return {"host": host_name(), "runner_pid": process.pid, "runner_created": born}
        return None
