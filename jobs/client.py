"""Ask for work from the dashboard, the command line or python. Everything here returns at once but `follow`.

run_id = submit(workspace, spec)
state = follow(workspace, run_id, on_progress=print)
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.backends import make_backend
from jobs.processes import alive, python_environment, start_detached
from jobs.protocol import host_name, log_path, seconds_since, state_path
from jobs.slots import Slot, choose
from rsfm.errors import RsfmError
from rsfm.specs import PredictSpec, PrepareSpec, Spec, parse_spec
from rsfm.store.files import read_json
from rsfm.store.runs import FINISHED, RESUMABLE, create_run, needs_gpu, open_run
from rsfm.workspace import Workspace

#: How long a supervisor may take to its first word.
START_S = 30.0
_LOG_LIMIT_BYTES = 5_000_000


@dataclass(frozen=True)
class DryRun:
    """What a dry run found: `problem` says why the spec would be refused."""

    ok: bool
    remarks: list[str] = field(default_factory=list)
    problem: str | None = None


def submit(
    workspace: Workspace,
    spec: Spec,
    *,
    after: Sequence[str] = (),
    priority: int = 0,
    tags: Sequence[str] = (),
    start_supervisor: bool = True,
) -> str:
    """Put a run into the queue.

    Args:
        after: ids of runs that must succeed first.
        priority: higher starts earlier; equal ones in order of submission.
        start_supervisor: see that somebody works the queue off.

    Returns:
        The run's id.

    Raises:
        RsfmError: the spec is invalid, waits for an unknown run, or needs a GPU that is not there.
    """
    spec = parse_spec(spec.model_dump(mode="json"))  # a changed object may have left its bounds
    _require_gpu(spec)
    spec = _located(spec)
    folder = create_run(workspace, spec, after=list(after), priority=priority, tags=list(tags))
    if start_supervisor:
        ensure_supervisor(workspace)
    return folder.id


def _located(spec: Spec) -> Spec:
    """The spec with its paths absolute: jobs work in their run's folder, and a relative path means the caller's."""
    match spec:
        case PrepareSpec():
            names = ["source"] if "://" not in (spec.source or "") else []
        case PredictSpec():
            names = ["scene", "scene_before", "truth"]
        case _:
            names = []
    paths = {name: str(Path(path).expanduser().absolute()) for name in names if (path := getattr(spec, name))}
    return spec.model_copy(update=paths) if paths else spec


def stop(workspace: Workspace, run_id: str) -> None:
    """Ask a run to finish its step, save and exit; a queued one is cancelled.

    Raises:
        RsfmError: no such run, or it has ended.
    """
    folder = open_run(workspace, run_id)
    resuming = folder.requested("resume")  # before the state, see `follow`
    state = folder.state()
    if state in FINISHED:
        if not resuming:
            raise RsfmError(f"Run {run_id} has ended already ({state}).")
        folder.clear_request("resume")
    folder.request("stop")
    ensure_supervisor(workspace)


def resume(workspace: Workspace, run_id: str) -> None:
    """Ask for a new attempt of a run that failed, was cancelled or got lost; it goes on from its last checkpoint.

    Raises:
        RsfmError: no such run, it is unfinished, or it has succeeded.
    """
    folder = open_run(workspace, run_id)
    state = folder.state()
    if state not in RESUMABLE:
        reason = "it has succeeded" if state == "succeeded" else f"it is {state}"
        raise RsfmError(f"Run {run_id} cannot be resumed: {reason}.")
    _require_gpu(folder.spec())
    folder.request("resume")
    ensure_supervisor(workspace)


def supervisor_status(workspace: Workspace) -> dict[str, Any] | None:
    """What the living supervisor last said of itself; None where none lives.

    Keys: pid, created, host, backend, started, time, slots [{name, kind, title, threads, run_id, memory_bytes; of GPUs
    that answer also memory_used_bytes, utilisation, curve}], queue [{run_id, priority, queued_at, why}], live [{run_id,
    state, attempt, stalled, rss_bytes, cpu_cores}], machine (see `jobs.readings`), problems [{path, problem}], closing.
    """
    state = read_json(state_path(workspace))
    if not isinstance(state, dict):
        return None
    if state.get("host") != host_name():
        # Its process cannot be seen from here; it writes every two seconds.
        return state if seconds_since(state.get("time")) < 15 else None
    return state if alive(state.get("pid"), state.get("created")) else None


def supervisor_command(workspace: Workspace) -> list[str]:
    """How a supervisor is started."""
    return [sys.executable, "-m", "jobs.supervisor", "--workspace", str(workspace.root)]


def ensure_supervisor(workspace: Workspace) -> dict[str, Any]:
    """See that a supervisor serves the workspace: start one, detached, where none does.

    Returns:
        Its status.

    Raises:
        RsfmError: it does not start; with what its log says.
    """
    workspace.supervisor.mkdir(parents=True, exist_ok=True)
    log = log_path(workspace)
    deadline = time.monotonic() + START_S
    process: subprocess.Popen[bytes] | None = None
    while True:
        status = supervisor_status(workspace)
        if status is not None and not status.get("closing"):
            return status
        code = process.poll() if process else None
        if code not in (None, 0) or time.monotonic() > deadline:
            raise RsfmError(f"The supervisor does not start; the end of {log}: {_last_line(log)}")
        if process is None or code == 0:  # 0: it found another one that was about to leave
            if process is not None:
                time.sleep(0.1)
            if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
                log.replace(log.with_suffix(".old.txt"))
            process = start_detached(supervisor_command(workspace), log)
        time.sleep(0.03)


def follow(
    workspace: Workspace,
    run_id: str,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    on_log: Callable[[str], None] | None = None,
    poll_s: float = 0.25,
) -> str:
    """Watch a run until it has ended; see that a supervisor lives as long as it has not.

    Args:
        on_progress: called with each new {"state", "attempt", ...} and what progress.json holds (`done`, `total`, ...).
        on_log: called with each new piece of the log.

    Returns:
        The final state.
    """
    folder = open_run(workspace, run_id)
    shown: dict[str, Any] | None = None
    log = _LogReader(folder.path / "log.txt")
    looked = float("-inf")
    while True:
        # A request to resume that nobody has taken up yet: what it ended as before is not the answer. Asked before
        # the state, for the supervisor removes the request once the new state stands.
        resuming = folder.requested("resume")
        state = folder.state()
        ended = state in FINISHED and not resuming
        if on_log is not None and (text := log.read()):
            on_log(text)
        attempt = folder.attempt()
        progress = folder.progress() or {}
        news = {**(progress if progress.get("attempt") == attempt else {}), "state": state, "attempt": attempt}
        if on_progress is not None and news != shown:
            on_progress(news)
        shown = news
        if ended:
            return state
        if time.monotonic() - looked > 2.0:
            ensure_supervisor(workspace)
            looked = time.monotonic()
        time.sleep(poll_s)


def dry_run(spec: Spec, workspace: Workspace, timeout_s: float = 120) -> DryRun:
    """Check a spec in a process of its own, without queueing it: spec, pack, bands and units, disk, one batch."""
    try:
        slot, _ = choose(needs_gpu(spec), _require_gpu(spec), busy=())
    except RsfmError as error:
        return DryRun(False, problem=str(error))
    command = [
        sys.executable, "-m", "rsfm.dryrun", "--workspace", str(workspace.root), "--parent", str(os.getpid()),
        "--threads", str(slot.threads if slot else 1),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=python_environment(),
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(json.dumps(spec.model_dump(mode="json")).encode(), timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return DryRun(False, problem=f"The dry run did not finish within {timeout_s:g} seconds.")
    finally:
        # Also where the caller was interrupted: nothing of it stays behind.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    lines = output.decode("utf-8", "replace").splitlines()
    try:
        answer = json.loads(lines[-1])
        return DryRun(bool(answer["ok"]), [str(r) for r in answer["remarks"]], answer["problem"])
    except (IndexError, ValueError, KeyError, TypeError):
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"code {process.returncode}"]
        return DryRun(False, problem=f"The dry run broke off: {last[0]}")


def _require_gpu(spec: Spec) -> list[Slot]:
    """The slots of this machine.

    Raises:
        RsfmError: the run needs a GPU that is not there.
    """
    slots = make_backend().resources()
    if needs_gpu(spec) and not any(s.kind == "gpu" for s in slots):
        raise RsfmError("This run asks for a GPU (device cuda) and there is none here: use device auto or cpu.")
    return slots


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "(empty)"


class _LogReader:
    """Hands new text of a log on, in whole characters."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self) -> str:
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self.offset:  # the runner cut it
                    self.offset = 0
                    self.decoder.reset()
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return ""
        self.offset += len(data)
        return self.decoder.decode(data)
