"""Run one attempt: `python -m jobs.runner RUN_FOLDER --attempt N -- COMMAND...`.

The runner is the job's parent for as long as the job lives, in a session of its own. It promises a next beat, keeps
the log bounded, and writes down how the job ended, which nobody else can read once the supervisor was replaced.
It decides nothing: only the supervisor moves state.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from jobs.processes import FileLock, created, dies_with_parent, signal_group, sweep, tree_use
from jobs.protocol import BEAT_S, EXIT_STOPPED, LOG_KEEP_BYTES, LOG_LIMIT_BYTES, PROMISE_S, host_name, later, run_mark
from rsfm.store.files import utc_now, write_json
from rsfm.store.runs import RunFolder

#: Another runner holds this run.
EXIT_HELD = 4
_TRACEBACK = "Traceback (most recent call last):"


def last_error(text: str, limit: int = 8_000) -> tuple[str | None, str | None]:
    """The reason at the end of a log.

    Returns:
        the last traceback, or the last line that begins with `error: ` where that comes later; and one line of it.
    """
    start = text.rfind(_TRACEBACK)
    lines = text.splitlines(keepends=True)
    offset, error_at, error_line = 0, -1, ""
    for line in lines:
        if line.startswith("error: "):
            error_at, error_line = offset, line.strip()
        offset += len(line)
    if error_at > start:
        return error_line, error_line.removeprefix("error: ")
    if start < 0:
        return None, None
    block = text[start:].splitlines()
    # Frames are indented; the first line that is not names the exception.
    end = next((i for i, line in enumerate(block[1:], 1) if line.strip() and not line.startswith((" ", "\t"))), None)
    if end is None:
        return text[start:][:limit].rstrip(), None
    return "\n".join(block)[-limit:].rstrip(), block[end].strip()


def trim_log(path: Path, limit: int, keep: int) -> None:
    """Cut a log that grew beyond `limit` bytes to its last `keep`, in place, for the job holds it open to append."""
    if path.stat().st_size <= limit:
        return
    with path.open("r+b") as file:
        file.seek(-keep, os.SEEK_END)
        tail = file.read().partition(b"\n")[2]
        file.truncate(0)
    with path.open("ab") as file:
        file.write(b"... (earlier output was cut)\n" + tail)


class Runner:
    """One attempt from its first beat to exit.json."""

    def __init__(
        self,
        folder: RunFolder,
        attempt: int,
        command: list[str],
        *,
        beat_s: float = BEAT_S,
        log_limit: int | None = None,
    ) -> None:
        self.folder = folder
        self.attempt = attempt
        self.command = command
        self.beat_s = beat_s
        self.log = folder.path / "log.txt"
        self.log_limit = log_limit or LOG_LIMIT_BYTES
        self.process: subprocess.Popen[bytes] | None = None
        self._born: float | None = None
        self._self_born = created(os.getpid())
        self._peak = 0
        self._used_before: tuple[float, float] | None = (
            None  # when the job was last looked at, and its seconds till then
        )

    def beat(self) -> None:
        """Write heartbeat.json. A full disk must not end a job that may still save itself."""
        pid = self.process.pid if self.process else None
        memory, cpu = self._used(pid) if pid else (0, None)
        self._peak = max(self._peak, memory)
        with contextlib.suppress(OSError):
            write_json(
                self.folder.path / "heartbeat.json",
                {
                    "attempt": self.attempt, "host": host_name(), "runner_pid": os.getpid(),
                    "runner_created": self._self_born, "pid": pid, "created": self._born, "time": utc_now(),
                    "next": later(max(PROMISE_S, 3 * self.beat_s)), "rss_bytes": memory,
                    "cpu_cores": cpu,
                },
            )  # fmt: skip

    def _used(self, pid: int) -> tuple[int, float | None]:
        """Resident bytes of the job, and how many cores it kept busy since the last look (None at the first)."""
        now, use = time.monotonic(), tree_use(pid)
        before, self._used_before = self._used_before, (now, use.cpu_s)
        if before is None or now <= before[0]:
            return use.rss_bytes, None
        return use.rss_bytes, round(max(0.0, (use.cpu_s - before[1]) / (now - before[0])), 2)

    def run(self) -> int:
        """Hold the run, start the job, wait for it, write down its end."""
        lock = FileLock(self.folder.path / "runner.lock")
        # The runner of the attempt before may be on its last instructions.
        if not lock.acquire(wait_s=5.0):
            print(f"error: another runner holds {self.folder.path}.", file=sys.stderr, flush=True)
            return EXIT_HELD
        self.beat()
        signal.signal(signal.SIGTERM, self._pass_on)
        offset = self._start()
        while self._wait(self.beat_s) is None:
            if not self.folder.path.is_dir():  # someone deleted the run: nothing it does can be kept
                self._end_group()
                return 0
            self.beat()
            with contextlib.suppress(OSError):
                trim_log(self.log, self.log_limit, min(LOG_KEEP_BYTES, self.log_limit // 2))
        # Loader workers and the like that the job left behind.
        sweep(run_mark(self.folder), self.attempt)
        self._record(offset)
        lock.release()
        return 0

    def _start(self) -> int:
        """Start the job in a group of its own; returns where its output begins in the log."""
        with self.log.open("ab") as log:
            log.write(f"--- attempt {self.attempt} · {utc_now()} · {host_name()} ---\n".encode())
            log.flush()
            offset = log.tell()
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder.path,
                process_group=0,
                # Single-threaded here, so running python between fork and exec is safe.
                preexec_fn=dies_with_parent(),
            )
        self._born = created(self.process.pid)
        self.beat()
        return offset

    def _wait(self, seconds: float) -> int | None:
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM to the runner (a machine shutting down, a batch system) is meant for the job."""
        if self.process is not None:
            signal_group(self.process.pid, self._born, signal.SIGTERM)

    def _end_group(self) -> None:
        assert self.process is not None
        signal_group(self.process.pid, self._born, signal.SIGKILL)
        self.process.wait()
        sweep(run_mark(self.folder), self.attempt)

    def _record(self, offset: int) -> None:
        assert self.process is not None
        status = self.process.returncode
        unit = 1 if sys.platform == "darwin" else 1024
        peak = max(self._peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
        error: tuple[str | None, str | None] = (None, None)
        if status not in (0, EXIT_STOPPED):
            error = last_error(self._output(offset))
        ended: dict[str, Any] = {
            "attempt": self.attempt, "code": status if status >= 0 else None,
            "signal": signal.Signals(-status).name if status < 0 else None,
            "traceback": error[0], "message": error[1], "time": utc_now(), "peak_memory_bytes": peak,
        }  # fmt: skip
        # Worth waiting for: without it the run counts as lost although it may have finished.
        deadline = time.monotonic() + 300
        while self.folder.path.is_dir():
            try:
                write_json(self.folder.path / "exit.json", ended)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _output(self, offset: int, limit: int = 64_000) -> str:
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                # A log that was cut is shorter than where this attempt began: then all of it is this attempt's.
                file.seek(max(size - limit, offset if offset <= size else 0))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="jobs.runner")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    words = sys.argv[1:] if argv is None else argv
    own, separator, command = words, "", []
    if "--" in words:
        cut = words.index("--")
        own, separator, command = words[:cut], "--", words[cut + 1 :]
    args = parser.parse_args(own)
    if not separator or not command:
        parser.error("the job's command is missing: put it after --")
    return Runner(RunFolder(args.folder.resolve()), args.attempt, command).run()


if __name__ == "__main__":
    sys.exit(main())
