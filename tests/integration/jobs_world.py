"""A world for the tests of jobs: a job that counts instead of training, and the supervisor that starts it.

Run as a script it is one of the two:

    python jobs_world.py supervise WORKSPACE
    python jobs_world.py count RUN_FOLDER ATTEMPT
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from jobs import client
from jobs.protocol import ENV_RUN, Graces
from rsfm.specs import PrepareSpec
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext
from rsfm.store.runs import FINISHED, RunFolder, open_run
from rsfm.workspace import Workspace

if TYPE_CHECKING:
    import pytest

HERE = str(Path(__file__).resolve())


def spec(**options: Any) -> PrepareSpec:
    """A run of the counting job; see `count` for its options."""
    return PrepareSpec(dataset="counting", options=options)


def count(folder: RunFolder, attempt: int) -> int:
    """Count to `steps`, save every `save_every`, go on from what was saved. Misbehave as the options say."""
    options = folder.spec().options
    context = JobContext(Workspace(folder.path.parents[1]), folder, attempt)
    steps, pause = options.get("steps", 10), options.get("pause", 0.02)
    if options.get("deaf_to_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.get("child"):  # such as a loader worker, and as stubborn
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", code])
    if options.get("print"):
        print(options["print"], flush=True)
    start = (context.recall("counter") or {"step": 0})["step"]
    for step in range(start + 1, steps + 1):
        time.sleep(pause)
        if step == options.get("crash_at") and attempt == 1:
            raise ValueError(f"cannot count to {step}")
        context.metrics(step=step, samples=step * 8, values={"loss": 1.0 / step, "attempt": float(attempt)})
        context.progress(step, steps, unit="steps", force=True)
        stopping = context.stop_requested() and not options.get("deaf_to_stop")
        if step % options.get("save_every", 5) == 0 or stopping or step == steps:
            context.remember("counter", {"step": step})
        if stopping:
            return 3
    return 0


def count_command(folder: RunFolder, attempt: int, threads: int, device: str) -> list[str]:
    return [sys.executable, HERE, "count", str(folder.path), str(attempt)]


def supervisor_command(workspace: Workspace) -> list[str]:
    return [sys.executable, HERE, "supervise", str(workspace.root)]


def events(folder: RunFolder, key: str) -> list[Any]:
    return [e[key] for e in folder.events() if key in e]


def wait_for(condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
    """The first true value of the condition.

    Raises:
        AssertionError: it stayed false.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s in vain for {what or condition}")


def wait_state(folder: RunFolder, *states: str, seconds: float = 20.0) -> str:
    wanted = set(states or FINISHED)
    wait_for(lambda: folder.state() in wanted, seconds, f"{folder.id} in {sorted(wanted)}, now {folder.state()}")
    return folder.state()


def processes_of(root: Path) -> list[psutil.Process]:
    """Living processes (no zombies) that belong to a run below `root` or name it on their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(ENV_RUN, "").startswith(str(root)) or str(root) in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def folded_steps(folder: RunFolder) -> list[int]:
    """The steps that count: an attempt supersedes what earlier ones logged from its first step on."""
    kept: list[tuple[int, int]] = []
    for row in read_jsonl(folder.path / "metrics.jsonl")[0]:
        if not kept or kept[-1][0] != row["attempt"]:
            kept = [(a, s) for a, s in kept if s < row["step"]]
        kept.append((row["attempt"], row["step"]))
    return [step for _, step in kept]


def _main(role: str, *words: str) -> int:
    if role == "count":
        return count(RunFolder(Path(words[0])), int(words[1]))
    import logging

    from jobs.supervisor import Supervisor, serve_until_signalled

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    graces = Graces(request_s=0.8, terminate_s=0.8, kill_s=0.8)
    supervisor = Supervisor(
        Workspace.resolve(words[0]),
        command_factory=count_command,
        graces=graces,
        idle_s=1.5,
        poll_s=0.05,
        # Loading the database takes longer than most of these tests.
        refresh_s=0.5 if os.environ.get("TEST_WITH_INDEX") else None,
    )
    serve_until_signalled(supervisor)
    return 0


# -- for tests ---------------------------------------------------------------------------------------------------------
def counting_only(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *, slots: int) -> Iterator[None]:
    """A fixture's body: supervisors of the test start the counting job, and leave nothing behind."""
    monkeypatch.setattr(client, "supervisor_command", supervisor_command)
    monkeypatch.setenv("RSFM_CPU_SLOTS", str(slots))
    yield
    for process in processes_of(workspace.root):
        process.kill()


def queue(workspace: Workspace, **options: object) -> RunFolder:
    return open_run(workspace, client.submit(workspace, spec(**options)))


def pid(workspace: Workspace) -> int:
    return client.ensure_supervisor(workspace)["pid"]


def kill_supervisor(workspace: Workspace) -> None:
    process = psutil.Process(pid(workspace))
    process.kill()
    wait_for(lambda: client.supervisor_status(workspace) is None, what="the supervisor's end")


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
