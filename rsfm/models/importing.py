"""Bringing a model from elsewhere into the workspace: checked to the last key, complete or not at all."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import torch
from pydantic import ValidationError

from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, model_folder, tensors_of
from rsfm.model_package import WEIGHTS, unpack
from rsfm.models.export import ARCHITECTURES, load_encoder
from rsfm.specs import one_line
from rsfm.store.files import utc_now, write_json
from rsfm.workspace import Workspace

#: What must stay free on the disk.
_SPARE_BYTES = 500_000_000


def import_model(source: Path, workspace: Workspace, *, called: str = "") -> ModelInfo:
    """Bring a model into `models/` in one step.

    Args:
        source: a zip that `rsfm export` wrote, or a model's folder.
        called: what its file was called, where `source` is a copy with another name.

    Returns:
        Its description.

    Raises:
        RsfmError: it is no model, not whole, asks for what no encoder can be, holds anything but safetensors, does
            not fit its description, or is here already. Nothing is left behind.
    """
    workspace.models.mkdir(parents=True, exist_ok=True)
    staging = workspace.models / f".import-{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    try:
        info = unpack(source, staging, room=max(0, workspace.free_bytes() - _SPARE_BYTES))
        target = model_folder(workspace, info.name)
        _require_new(info, target)
        _require_fit(staging, info)
        load_encoder(staging)  # every key, every shape, and the content hash
        write_json(staging / "origin.json", {"file": called or source.name, "imported": utc_now()})
        try:
            staging.rename(target)
        except OSError as error:  # someone was faster
            _require_new(info, target)
            raise RsfmError(f"{target} cannot be made: {error.strerror or error}.") from error
    except OSError as error:
        raise RsfmError(f"{source} cannot be brought to {workspace.models}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return info


def _require_new(info: ModelInfo, target: Path) -> None:
    """Raises RsfmError: a model of that name is here."""
    if not target.exists():
        return
    try:
        same = ModelInfo.read(target).weights_hash == info.weights_hash
    except RsfmError:
        raise RsfmError(
            f"A model {info.name} is here already and cannot be read: delete {target} to import it again."
        ) from None
    what = "with the same weights: nothing is to be done" if same else "with other weights: it is left as it is"
    raise RsfmError(f"Model {info.name} is here already, {what}.")


def _require_fit(folder: Path, info: ModelInfo) -> None:
    """Compare the weights' header with the architecture before either takes memory.

    Raises:
        RsfmError: an unknown architecture, settings that it has not, or tensors that do not fit.
    """
    if info.architecture not in ARCHITECTURES:
        raise RsfmError(f"Model {info.name} has architecture {info.architecture!r}; known: {', '.join(ARCHITECTURES)}.")
    try:
        with torch.device("meta"):
            encoder = ARCHITECTURES[info.architecture].from_config(info.encoder, len(info.bands), info.image_size)
    except ValidationError as error:
        raise RsfmError(f"The architecture of model {info.name} is not sound: {one_line(error)}.") from error
    wanted = {name: tuple(t.shape) for name, t in encoder.state_dict().items()}
    found = {name: t.shape for name, t in tensors_of(folder / WEIGHTS).items()}
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if odd:
        raise RsfmError(
            f"The weights of model {info.name} do not fit its architecture: {odd[0]} is {found.get(odd[0], 'missing')}"
            f" instead of {wanted.get(odd[0], 'absent')}{f', and {len(odd) - 1} more' if len(odd) > 1 else ''}."
        )
    if encoder.feature_dim != info.feature_dim:
        raise RsfmError(f"Model {info.name} gives {encoder.feature_dim} features; it says {info.feature_dim}.")
