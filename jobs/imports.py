"""Importing a model from the dashboard, which has no torch: in a process of its own, waited for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from jobs.processes import python_environment
from rsfm.errors import RsfmError
from rsfm.model_package import staging_name
from rsfm.workspace import Workspace


def import_model(workspace: Workspace, file: Path, called: str, timeout_s: float = 300) -> str:
    """Check a model's file and bring it into the workspace, as `rsfm import` does.

    Args:
        called: what the file was called where it comes from.

    Returns:
        The model's name.

    Raises:
        RsfmError: why it was refused.
    """
    command = [
        sys.executable, "-m", "rsfm.cli", "import", str(file), f"--called={called}",
        f"--workspace={workspace.root}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
        env=python_environment({"OMP_NUM_THREADS": "1"}),
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise RsfmError(
            f"Checking {called} took longer than {timeout_s:g} seconds. Import it from a terminal: rsfm import {called}"
        ) from None
    finally:
        # Also where the caller was interrupted: nothing of it stays behind.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        if process.returncode < 0:  # it was killed, by us or for want of memory, and could not tidy up
            for left in workspace.models.glob(f"{staging_name(process.pid)}*"):
                shutil.rmtree(left, ignore_errors=True)
    if process.returncode < 0:
        raise RsfmError(
            f"Checking {called} was ended by signal {-process.returncode}, most often for want of memory. Import it "
            f"from a terminal: rsfm import {called}"
        )
    lines = (output if process.returncode == 0 else errors).strip().splitlines() or [f"code {process.returncode}"]
    if process.returncode != 0:
        raise RsfmError(lines[-1].removeprefix("error: ").replace(file.name, called))
    return lines[-1]
