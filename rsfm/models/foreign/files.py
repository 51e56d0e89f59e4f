"""Where weights of others lie on this machine. Nothing is ever downloaded here.

Looked into in this order: the folders of `$RSFM_WEIGHTS` (several are separated as in `$PATH`), the workspace's
`weights`, then the cache of the library that the weights come from.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

VARIABLE = "RSFM_WEIGHTS"


def weight_folders(workspace: Workspace) -> list[Path]:
    """The local folders of weights, first come first served; the workspace's need not exist.

    Raises:
        RsfmError: `$RSFM_WEIGHTS` names something that is no folder.
    """
    given = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    for folder in given:
        if not folder.is_dir():
            raise RsfmError(f"${VARIABLE} names {folder}, which is not a folder: correct or unset it.")
    return [*given, workspace.weights]


def in_folders(names: Sequence[str], workspace: Workspace) -> Path | None:
    """The first of the files named that is in a local folder, or None."""
    for folder in weight_folders(workspace):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def not_here(title: str, names: Sequence[str], workspace: Workspace, cache: Path | str, fetch: str) -> RsfmError:
    """The error for weights that are nowhere: what was looked for, where, and how to get it."""
    places = ", ".join(str(folder) for folder in [*weight_folders(workspace), cache])
    return RsfmError(
        f"The weights of {title} are not on this machine, and jobs do not download. Looked for "
        f"{' or '.join(names)} in {places}. Fetch them once, where there is a network: {fetch}"
    )


def hub_cache() -> Path:
    """Where torch.hub, and with it torchgeo, puts what it downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def load_state(file: Path) -> dict[str, Any]:
    """What a file of weights holds, on the CPU; pickled files may hold tensors and plain containers only.

    Raises:
        RsfmError: not readable, or no state dict.
    """
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise RsfmError(f"{file} cannot be read as weights: {error}. Fetch it again.") from error
    if not isinstance(state, dict) or not state:
        raise RsfmError(f"{file} holds no weights by name but a {type(state).__name__}.")
    return state
