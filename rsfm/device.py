"""Where a job runs, and what memory it takes there."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import torch

from rsfm.errors import RsfmError


def granted_device(wanted: str, granted: str) -> torch.device:
    """The device that the slot grants, if it suits the request and exists.

    Args:
        wanted: the spec's `device`: auto, cpu or cuda.
        granted: the slot's: cpu or cuda.

    Raises:
        RsfmError: a GPU is wanted or granted and there is none.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted == "cuda" and granted != "cuda":
        raise RsfmError("This job asks for a GPU, but it was given a CPU slot: set the device to auto or cpu.")
    if granted == "cuda" and not torch.cuda.is_available():
        raise RsfmError("This job is to run on a GPU, and PyTorch finds none here: set the device to auto or cpu.")
    return torch.device(granted)


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: of tensors on a GPU, of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError):
        # Linux hands `ru_maxrss` on from whoever started this process, which may be large.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
