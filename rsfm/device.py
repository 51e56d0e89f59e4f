"""Where a job runs."""

from __future__ import annotations

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
