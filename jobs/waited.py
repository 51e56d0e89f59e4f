"""Commands of ours that a page waits for: the dashboard has no torch, so each is a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from jobs.processes import python_environment
from rsfm.errors import RsfmError


def run_waited(
    arguments: list[str], *, doing: str, instead: str, timeout_s: float, tidy: Callable[[int], None]
) -> tuple[str, str]:
    """Run `rsfm` with these arguments and wait for its end.

    Args:
        doing: what it does, for people: "Checking x.zip".
        instead: what they can do where it takes too long or is killed: "Import it from a terminal: …".
        tidy: called with the id of a process that was killed, by us or for want of memory, and could not tidy up.

    Returns:
        The last line that it wrote for programs, and the last one for people.

    Raises:
        RsfmError: what it said when it failed; or it took too long, or was killed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "rsfm.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True, env=python_environment({"OMP_NUM_THREADS": "1"}),
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise RsfmError(f"{doing} took longer than {timeout_s:g} seconds. {instead}") from None
    finally:
        # Also where the caller was interrupted: nothing of it stays behind.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if process.returncode < 0:
            tidy(process.pid)
    if process.returncode < 0:
        raise RsfmError(
            f"{doing} was ended by signal {-process.returncode}, most often for want of memory. {instead}"
        )  # fmt: skip
    said, remarks = ((text.strip().splitlines() or [""])[-1] for text in (output, errors))
    if process.returncode != 0:
        raise RsfmError(remarks.removeprefix("error: ") or f"{doing} failed with code {process.returncode}.")
    return said, remarks
