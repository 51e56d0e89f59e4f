"""The supervisor of one workspace: starts queued runs, watches live ones, and alone moves state.

    python -m jobs.supervisor --workspace DIR

Started on demand by `jobs.client.ensure_supervisor`, it outlives whoever started it and leaves when there was
nothing to do for a while. All it knows stands in the run folders, so that it may be killed at any moment: the next
one adopts what lives, finalises what ended, and marks the rest lost.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from jobs.attendant import Attendant
from jobs.backends import make_backend
from jobs.backends.base import Backend
from jobs.processes import FileLock, created
from jobs.protocol import (
    RUNG_MESSAGES,
    RUNGS,
    Graces,
    Rung,
    Slot,
    Task,
    env_number,
    host_name,
    lock_path,
    outcome,
    request_time,
    seconds_since,
    state_path,
)
from jobs.record import Run
from jobs.slots import choose, in_order
from jobs.table import RunTable
from rsfm.errors import RsfmError
from rsfm.store.files import read_json, utc_now, write_json
from rsfm.store.runs import RESUMABLE, RunFolder
from rsfm.workspace import Workspace

log = logging.getLogger("rsfm.supervisor")

#: How long a process may take from fork to exec.
FORK_S = 0.5
#: (run folder, attempt, threads, device) -> the job's command line.
CommandFactory = Callable[[RunFolder, int, int, str], list[str]]


def job_command(folder: RunFolder, attempt: int, threads: int, device: str) -> list[str]:
    """What a runner executes."""
    return [
        sys.executable, "-m", "rsfm.execute", str(folder.path), "--attempt", str(attempt),
        "--threads", str(threads), "--device", device,
    ]  # fmt: skip


class Supervisor:
    """One turn of work is `tick`; `serve` takes turns until there is nothing left to do."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        backend: Backend | None = None,
        command_factory: CommandFactory = job_command,
        graces: Graces | None = None,
        idle_s: float | None = None,
        poll_s: float = 0.2,
        refresh_s: float | None = 1.0,
    ) -> None:
        """Args:
        command_factory: what a runner executes.
        idle_s: leave after so long with nothing to do; None: `RSFM_SUPERVISOR_IDLE_S`, else 60.
        refresh_s: how often the index is refreshed while runs live; None: never.
        """
        self.workspace = workspace
        self.backend = backend or make_backend()
        self.command_factory = command_factory
        self.graces = graces or Graces.from_env()
        self.idle_s = env_number("RSFM_SUPERVISOR_IDLE_S", 60.0) if idle_s is None else idle_s
        self.poll_s = poll_s
        self.slots: list[Slot] = []
        self.table = RunTable(workspace)
        self.troubles: dict[str, str] = {}  # runs whose last step raised
        self.attendant = Attendant(workspace, refresh_s)
        self.lock = FileLock(lock_path(workspace))
        self._started = utc_now()
        self._published: tuple[float, Any] = (0.0, None)
        self._closing = False
        self._leave = threading.Event()

    # -- life ------------------------------------------------------------------------------------------------------
    def serve(self, *, wait_s: float = 10.0) -> bool:
        """Take the lock and work until idle or told to leave.

        Args:
            wait_s: how long to wait for a former supervisor that is on its way out.

        Returns:
            False where another supervisor serves this workspace.
        """
        self.workspace.supervisor.mkdir(parents=True, exist_ok=True)
        if not self._take_lock(wait_s):
            return False
        try:
            log.info("supervisor %d takes over %s", os.getpid(), self.workspace.root)
            self.slots = self.backend.resources()
            self.attendant.watch_gpus = any(s.uuid for s in self.slots)
            self.table.discover()
            self._adopt()
            self.attendant.start()
            self._work()
        finally:
            self.attendant.stop()
            self.lock.release()
        log.info("supervisor %d leaves", os.getpid())
        return True

    def _take_lock(self, wait_s: float) -> bool:
        deadline = time.monotonic() + wait_s
        while not self.lock.acquire():
            other = read_json(state_path(self.workspace))
            if (isinstance(other, dict) and not other.get("closing")) or time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def leave(self) -> None:
        """Make `serve` return soon. Runs go on without a supervisor."""
        self._leave.set()

    def _work(self) -> None:
        idle_since = time.monotonic()
        while self.lock.in_place():  # a removed workspace ends its supervisor
            if self.tick():
                idle_since = time.monotonic()
            if self._leave.is_set() or time.monotonic() - idle_since >= self.idle_s:
                # Say that this one closes, then look once more: whoever submitted before reading that was seen,
                # whoever submits after it starts another supervisor.
                self._closing = True
                self._publish()
                if self._leave.is_set():
                    return
                if not self.tick(look_at_all=True):
                    return
                self._closing = False
                idle_since = time.monotonic()
            self._leave.wait(self.poll_s)

    def tick(self, *, look_at_all: bool = False) -> bool:
        """One turn.

        Args:
            look_at_all: leave nothing for later turns.

        Returns:
            Whether anything is live or was moved. Runs that nothing here can start do not keep a supervisor.
        """
        self.table.discover(force=look_at_all)
        moved = self._resume_requested(look_at_all)
        for run in self.table.live():
            self._guarded(run, self._watch)
        moved |= self._start_queued()
        active = bool(self.table.live())
        self.attendant.active = active
        self._publish()
        return active or moved

    # -- taking over -----------------------------------------------------------------------------------------------
    def _adopt(self) -> None:
        """What a former supervisor left in a live state, or half resumed."""
        for run in self.table.live():
            self._guarded(run, self._adopt_one)
        for run in self.table.queued():
            run.folder.clear_request("resume")

    def _adopt_one(self, run: Run) -> None:
        handle = self.backend.adopt(run.current)
        began = run.handle or run.current.heartbeat() or run.current.exit()
        if handle is None and run.state == "starting" and not began:
            # Between fork and exec a runner cannot be told from its supervisor yet: look again before another starts.
            time.sleep(FORK_S)
            handle = self.backend.adopt(run.current)
            began = run.current.heartbeat() or run.current.exit()
        if handle is not None:
            run.note(handle=handle, message=f"Found alive by supervisor {os.getpid()}, which watches it from now on.")
        elif run.state == "starting" and not began:
            run.note(state="queued", message="The supervisor ended before this attempt began.")
        # Anything else ended meanwhile: the first turn finalises it.

    def _guarded(self, run: Run, step: Callable[[Run], None]) -> None:
        try:
            step(run)
            self.troubles.pop(run.id, None)
        except Exception as error:
            # One run's trouble must not end the watch over the others.
            text = f"{type(error).__name__}: {error}"
            if self.troubles.get(run.id) != text:
                log.exception("run %s", run.id)
            self.troubles[run.id] = text

    # -- live runs -------------------------------------------------------------------------------------------------
    def _watch(self, run: Run) -> None:
        # Life is asked before exit.json is read: the other way round, an end in between would look like a loss.
        lives = self.backend.poll(run.current)
        ended = run.current.exit()
        if ended is not None:
            state, message = outcome(ended, run.rung)
            self._finish(
                run, state, message, code=ended.get("code"), signal=ended.get("signal"),
                peak_memory_bytes=ended.get("peak_memory_bytes"),
            )  # fmt: skip
        elif not lives:
            self._lose(run)
        else:
            self._follow_beat(run)
            self._climb(run)

    def _finish(self, run: Run, state: str, message: str, **fields: Any) -> None:
        run.note(state=state, message=message, **fields)
        run.folder.clear_request("stop")
        self.attendant.dirty = True
        log.info("run %s attempt %d: %s. %s", run.id, run.attempt, state, message)

    def _lose(self, run: Run) -> None:
        """The runner is gone and left no word. Its job must not go on unseen."""
        if self.backend.cancel(run.current, "sweep"):
            return  # they are dying: certain in the next turn
        if run.current.exit() is not None:
            return
        if run.rung in ("terminate", "kill", "sweep"):
            self._finish(run, "cancelled", "Ended by force. Resume goes on from the last checkpoint.")
        elif run.current.heartbeat() is None:
            self._finish(run, "lost", "Its runner ended before the job began; see the log. It can be resumed.")
        else:
            self._finish(
                run,
                "lost",
                "Its runner vanished (killed, or the machine restarted). Resume goes on from the last checkpoint.",
            )

    def _follow_beat(self, run: Run) -> None:
        beat = run.current.heartbeat()
        if beat is None:
            return
        if run.state == "starting" and beat.get("pid"):
            run.note(state="running", message=f"Running as process {beat['pid']}.")
            self.attendant.dirty = True
        overdue = seconds_since(beat.get("next")) > 0
        if overdue and not run.stalled:
            run.note(stalled=True, message="No sign of life from its runner since the promised time.")
        elif run.stalled and not overdue:
            run.note(stalled=False, message="Its runner reports again.")

    def _climb(self, run: Run) -> None:
        """The cancel ladder: one rung at a time, each with its grace. Its place is read from the events."""
        if run.rung is None:
            if not run.folder.requested("stop"):
                return
            rung: Rung = "request"
        else:
            if run.rung == "sweep" or seconds_since(run.rung_time) < self.graces.of(run.rung):
                return
            rung = RUNGS[RUNGS.index(run.rung) + 1]
        run.note(state="stopping", rung=rung, message=RUNG_MESSAGES[rung])
        log.info("run %s: %s", run.id, RUNG_MESSAGES[rung])
        self.backend.cancel(run.current, rung)

    # -- the queue -------------------------------------------------------------------------------------------------
    def _resume_requested(self, look_at_all: bool) -> bool:
        wanted = self.table.asked_to_resume(all_of_them=look_at_all)
        for run in wanted:
            self._guarded(run, self._resume)
        return any(not run.folder.requested("resume") for run in wanted)

    def _resume(self, run: Run) -> None:
        asked, stopped = request_time(run.folder, "resume"), request_time(run.folder, "stop")
        if stopped is None or stopped <= (asked or ""):
            # In this order: killed in between, the request to resume is still there, and `_adopt` removes it.
            run.folder.clear_request("stop")
            run.read_request()
            run.note(state="queued", message="Asked to resume.")
            self.attendant.dirty = True
        run.folder.clear_request("resume")

    def _start_queued(self) -> bool:
        moved = False
        for run in in_order(self.table.queued()):
            self._guarded(run, self._advance)
            moved |= run.state != "queued"
        return moved

    def _advance(self, run: Run) -> None:
        """Start a queued run if it may start."""
        if run.folder.requested("stop"):
            self._finish(run, "cancelled", "Cancelled before it started.")
            return
        for other_id in run.after:
            other = self.table.runs.get(other_id)
            state = other.state if other else "missing"
            if other and other.folder.requested("resume"):
                state = "queued"
            if state in RESUMABLE or (other is None and other_id not in self.table.problems):
                self._finish(run, "cancelled", f"Not started: run {other_id}, which it waits for, is {state}.")
                return
            if state != "succeeded":
                run.why = f"It waits for run {other_id} ({state})."
                return
        busy = [r.slot for r in self.table.live() if r.slot]
        slot, run.why = choose(run.needs_gpu, self.slots, busy)
        if slot is not None:
            self._start(run, slot)

    def _start(self, run: Run, slot: Slot) -> None:
        number = run.attempt + 1
        threads = run.threads or slot.threads
        # Written before anything is started: a supervisor that finds this and no runner puts the run back.
        run.note(
            state="starting", attempt=number, slot=slot.name, device=slot.device, threads=threads, host=host_name(),
            message=f"Attempt {number} starts on {slot.name}.",
        )  # fmt: skip
        command = self.command_factory(run.folder, number, threads, slot.device)
        try:
            run.handle = self.backend.submit(Task(run.folder, number, slot, threads, command))
        except RsfmError as error:
            self._finish(run, "failed", str(error))
            return
        run.note(handle=run.handle)
        self.attendant.dirty = True
        log.info("run %s attempt %d starts on %s", run.id, number, slot.name)

    # -- saying what is going on -----------------------------------------------------------------------------------
    def _publish(self) -> None:
        """Write state.json when something changed, and every two seconds."""
        queue = in_order(self.table.queued())
        live = self.table.live()
        self.troubles = {k: v for k, v in self.troubles.items() if k in self.table.runs}
        problems = {**self.troubles, **self.table.problems}
        by_slot = {r.slot: r for r in live}
        state = {
            "slots": [self._slot_state(s, by_slot.get(s.name)) for s in self.slots],
            "queue": [{"run_id": r.id, "priority": r.priority, "queued_at": r.queued_at, "why": r.why} for r in queue],
            "live": [self._live_state(r) for r in live],
            "machine": self.attendant.readings.machine(),
            "problems": [{"path": f"runs/{name}", "problem": text} for name, text in sorted(problems.items())],
            "closing": self._closing,
        }
        written, last = self._published
        if state == last and time.monotonic() - written < 2.0:
            return
        self._published = (time.monotonic(), state)
        try:
            write_json(
                state_path(self.workspace),
                {
                    "pid": os.getpid(), "created": created(os.getpid()), "host": host_name(),
                    "backend": self.backend.name, "started": self._started, "time": utc_now(), **state,
                },
            )  # fmt: skip
        except OSError as error:
            log.warning("state.json cannot be written: %s", error)

    def _slot_state(self, slot: Slot, run: Run | None) -> dict[str, Any]:
        return {
            "name": slot.name, "kind": slot.kind, "title": slot.title, "threads": slot.threads,
            "run_id": run.id if run else None, "memory_bytes": slot.memory_bytes,
            **self.attendant.readings.gpu(slot.uuid),
        }  # fmt: skip

    @staticmethod
    def _live_state(run: Run) -> dict[str, Any]:
        beat = run.current.heartbeat() or {}
        return {
            "run_id": run.id, "state": run.state, "attempt": run.attempt, "stalled": run.stalled,
            "rss_bytes": beat.get("rss_bytes"), "cpu_cores": beat.get("cpu_cores"),
        }  # fmt: skip


def serve_until_signalled(supervisor: Supervisor) -> bool:
    """`serve`, ended early by SIGTERM or SIGINT."""

    def leave(number: int, frame: FrameType | None) -> None:
        supervisor.leave()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    return supervisor.serve()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="jobs.supervisor")
    parser.add_argument("--workspace", required=True)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        serve_until_signalled(Supervisor(Workspace.resolve(args.workspace)))
    except RsfmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
