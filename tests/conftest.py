"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # the other cores are other workers'; before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from rsfm.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace of the test's own."""
    return Workspace(tmp_path / "workspace")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real imagery samples; the test is skipped where there is none."""
    folder = Path(os.environ.get("RSFM_REALDATA") or ROOT.parent / "shared" / "data")
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real imagery at {folder}: set RSFM_REALDATA to the samples' folder")
    return folder
