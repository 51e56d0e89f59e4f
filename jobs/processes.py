"""Processes and locks: identity, groups, marks, detached starts. POSIX; the parent-death signal is Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from jobs.protocol import ENV_ATTEMPT, ENV_RUN

_PR_SET_PDEATHSIG = 1


def created(pid: int) -> float | None:
    """When the process was created; None where there is none (a zombie counts as none: nobody may reap it here).

    On Linux in seconds since boot: the time of day that psutil gives moves when the clock is set, and a running job
    would then look like another process.
    """
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        if len(fields) < 20 or fields[0] in "ZX":
            return None
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def alive(pid: object, born: object) -> bool:
    """Whether exactly this process lives: a process id alone is soon given to another."""
    if not isinstance(pid, int) or not isinstance(born, (int, float)) or pid <= 0:
        return False
    now = created(pid)
    return now is not None and abs(now - born) < 0.02


def marked(run: str, attempt: int | None = None) -> list[psutil.Process]:
    """The living processes of a run (of one attempt), found by the environment they inherited."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if environment.get(ENV_RUN) != run or process.status() == psutil.STATUS_ZOMBIE:
                continue
        except (psutil.Error, OSError):
            continue
        if attempt is None or environment.get(ENV_ATTEMPT) == str(attempt):
            found.append(process)
    return found


def sweep(run: str, attempt: int | None = None, *, spare: tuple[int, ...] = ()) -> int:
    """SIGKILL what is left of a run.

    Returns:
        how many processes were found; 0 means that nothing lives any more.
    """
    found = [p for p in marked(run, attempt) if p.pid not in (os.getpid(), *spare)]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(found)


def signal_group(pid: object, born: object, number: signal.Signals) -> bool:
    """Send a signal to the group that this process leads; False where it does not live."""
    if not alive(pid, born):
        return False
    assert isinstance(pid, int)
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True


class TreeUse(NamedTuple):
    """What a process and its descendants take: resident bytes, and seconds on cores so far."""

    rss_bytes: int = 0
    cpu_s: float = 0.0


def tree_use(pid: int) -> TreeUse:
    """Of a process and its descendants; nothing where it is gone.

    Its seconds include those of children that ended, as their parents have counted them.
    """
    memory, seconds = 0, 0.0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return TreeUse()
    for process in family:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_info().rss
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return TreeUse(memory, seconds)


def dies_with_parent() -> Callable[[], None] | None:
    """What a child calls between fork and exec so that the kernel ends it when this process dies, even by SIGKILL.

    Call it, and start the child, from the main thread: the kernel watches the thread that forked.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return arm


def python_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a python process of ours: finds these packages from any folder, imports nothing from there.

    Marks of a run are left out: a supervisor that a job started on demand does not belong to that job.
    """
    environment = {k: v for k, v in os.environ.items() if k not in (ENV_RUN, ENV_ATTEMPT)}
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *(p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p and p != root)]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", **(more or {})}


def start_detached(command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start a process in a session of its own that outlives this one; its output is appended to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=python_environment(environment),
            start_new_session=True,
        )
    # Somebody must read its exit status while this process lives, or it stays a zombie.
    threading.Thread(target=process.wait, daemon=True, name=f"reap-{process.pid}").start()
    return process


class FileLock:
    """An advisory lock that the kernel drops when its holder dies. Not inherited by started processes.

    Between fork and exec a child does hold it: so whoever gets the supervisor's lock knows that every process the
    former one started has come as far as its own program, and can be found.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, wait_s: float = 0.0) -> bool:
        deadline = time.monotonic() + wait_s
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    return False
                time.sleep(0.02)
                continue
            self._descriptor = descriptor
            if self.in_place():
                return True
            os.close(descriptor)  # the file was replaced meanwhile: the lock on the old one protects nothing
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)

    def in_place(self) -> bool:
        """Whether the locked file is still the one at `path`."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock_held(path: Path) -> bool:
    """Whether some living process holds the lock at `path`."""
    if not path.exists():
        return False
    lock = FileLock(path)
    if lock.acquire():
        lock.release()
        return False
    return True
