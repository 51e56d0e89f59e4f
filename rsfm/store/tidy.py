"""Folders of files that can be made again: what killed processes left, and what is beyond a bound, is removed."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from pathlib import Path


def sweep_stale(folder: Path, *patterns: str, after_s: float) -> None:
    """Remove folders of these names in which nothing was written for so long: whoever made them is gone."""
    for pattern in patterns:
        for left in folder.glob(pattern):
            try:
                changed = max(p.stat().st_mtime for p in (left, *left.iterdir()))
            except OSError:  # its owner has just removed it
                continue
            if time.time() - changed > after_s:
                shutil.rmtree(left, ignore_errors=True)


def keep_newest(
    folder: Path, pattern: str, *, most: int, most_bytes: float = math.inf, spare: Path | None = None
) -> None:
    """Remove the files of these names beyond a number, or beyond so many bytes together, what is oldest first.

    Others may do the same meanwhile.

    Args:
        spare: counts first, and stays.
    """
    found = []
    for file in folder.glob(pattern):
        with contextlib.suppress(OSError):
            state = file.stat()
            found.append((file != spare, -state.st_mtime, state.st_size, file))
    total = 0
    for number, (_, _, size, file) in enumerate(sorted(found), start=1):
        total += size
        if file != spare and (number > most or total > most_bytes):
            with contextlib.suppress(OSError):
                file.unlink()
