"""Importing a model from the dashboard, as `rsfm import` does it."""

from __future__ import annotations

import shutil
from pathlib import Path

from jobs.waited import run_waited
from rsfm.errors import RsfmError
from rsfm.model_package import staging_name
from rsfm.workspace import Workspace


def import_model(workspace: Workspace, file: Path, called: str, timeout_s: float = 300) -> str:
    """Check a model's file and bring it into the workspace.

    Args:
        called: what the file was called where it comes from.

    Returns:
        The model's name.

    Raises:
        RsfmError: why it was refused.
    """

    def tidy(pid: int) -> None:
        for left in workspace.models.glob(f"{staging_name(pid)}*"):
            shutil.rmtree(left, ignore_errors=True)

    try:
        name, _ = run_waited(
            ["import", str(file), f"--called={called}", f"--workspace={workspace.root}"], doing=f"Checking {called}",
            instead=f"Import it from a terminal: rsfm import {called}", timeout_s=timeout_s, tidy=tidy,
        )  # fmt: skip
    except RsfmError as error:
        raise RsfmError(str(error).replace(file.name, called)) from error
    return name
