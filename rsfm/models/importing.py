"""Bringing a model from elsewhere into the workspace: checked to the last key, complete or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import psutil
import torch
from pydantic import ValidationError

from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, model_folder, tensors_of
from rsfm.model_package import WEIGHTS, staging_name, unpack
from rsfm.models.export import ARCHITECTURES, load_encoder
from rsfm.models.vit import Encoder
from rsfm.specs import one_line
from rsfm.store.files import utc_now, write_json
from rsfm.store.tidy import sweep_stale
from rsfm.workspace import Workspace

#: What must stay free on the disk.
_SPARE_BYTES = 500_000_000
#: Largest size of what an encoder computes when it is made (positions, indices) and no file pays for.
MAX_COMPUTED_BYTES = 2**29
#: Of a weight file's header: beside the tensors, and per tensor.
_HEADER_BYTES, _HEADER_BYTES_PER_TENSOR = 1_000_000, 500
#: After so long without a change nobody works on a folder any more.
_STALE_S = 3600


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
    sweep_stale(workspace.models, ".import-*", ".upload-*", after_s=_STALE_S)
    staging = workspace.models / f"{staging_name(os.getpid())}{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    try:
        room = max(0, workspace.free_bytes() - _SPARE_BYTES)
        info = unpack(source, staging, room=room, weights_size=lambda i: _weights_size(i, workspace))
        _require_fit(staging, info)
        encoder, _ = load_encoder(staging)  # every key, every shape, and the content hash
        _require_finite(encoder, info)
        write_json(staging / "origin.json", {"file": called or source.name, "imported": utc_now()})
        target = model_folder(workspace, info.name)
        try:
            staging.rename(target)
        except OSError as error:  # someone was faster
            _require_new(info, workspace)
            raise RsfmError(f"{target} cannot be made: {error.strerror or error}.") from error
    except RsfmError as error:
        # People know the file by its name, not by the folder in which it was looked at.
        said = str(error).replace(f"{staging}/", f"{source.name}: ").replace(str(staging), source.name)
        raise RsfmError(said) from error
    except OSError as error:
        raise RsfmError(f"{source} cannot be brought to {workspace.models}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return info


def _require_new(info: ModelInfo, workspace: Workspace) -> None:
    """Raises RsfmError: a model or a run of that name is here."""
    target = model_folder(workspace, info.name)
    if target.exists():
        try:
            same = ModelInfo.read(target).weights_hash == info.weights_hash
        except RsfmError:
            raise RsfmError(
                f"A model {info.name} is here already and cannot be read: delete {target} to import it again."
            ) from None
        what = "with the same weights: nothing is to be done" if same else "with other weights: it is left as it is"
        raise RsfmError(f"Model {info.name} is here already, {what}.")
    if (workspace.runs / info.name).exists():
        raise RsfmError(
            f"Run {info.name} is in this workspace: its model is what the run itself exports. Import the file into "
            "another workspace."
        )


def _empty_encoder(info: ModelInfo) -> Encoder:
    """The encoder that a description asks for, of shapes only: it takes no memory.

    Raises:
        RsfmError: an unknown architecture, or settings that it has not.
    """
    if info.architecture not in ARCHITECTURES:
        raise RsfmError(f"Model {info.name} has architecture {info.architecture!r}; known: {', '.join(ARCHITECTURES)}.")
    try:
        with torch.device("meta"):
            return ARCHITECTURES[info.architecture].from_config(info.encoder, len(info.bands), info.image_size)
    except ValidationError as error:
        raise RsfmError(f"The architecture of model {info.name} is not sound: {one_line(error)}.") from error


def _weights_size(info: ModelInfo, workspace: Workspace) -> int:
    """Largest size in bytes of the weights that a description asks for.

    Raises:
        RsfmError: it asks for more than this machine can hold, or is of a model or a run that is here.
    """
    _require_new(info, workspace)
    encoder = _empty_encoder(info)
    state = encoder.state_dict()
    stored = sum(t.nbytes for t in state.values())
    computed = sum(t.nbytes for t in (*encoder.parameters(), *encoder.buffers())) - stored
    # The weights are read and copied into the encoder; what it computes needs several times its size on the way.
    needed, free = 2 * stored + 5 * computed, psutil.virtual_memory().available
    if computed > MAX_COMPUTED_BYTES or needed > free:
        raise RsfmError(
            f"Model {info.name} asks for an encoder that takes {needed:,} bytes of memory, with images of "
            f"{info.image_size} pixels: they are more than fit."
        )
    return stored + _HEADER_BYTES + _HEADER_BYTES_PER_TENSOR * len(state)


def _require_fit(folder: Path, info: ModelInfo) -> None:
    """Compare the weights' header and the description with the architecture before any of it takes memory.

    Raises:
        RsfmError: tensors, features or pooling that do not fit.
    """
    encoder = _empty_encoder(info)
    wanted = {name: tuple(t.shape) for name, t in encoder.state_dict().items()}
    found = {name: t.shape for name, t in tensors_of(folder / WEIGHTS).items()}
    odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if odd:
        raise RsfmError(
            f"The weights of model {info.name} do not fit its architecture: {odd[0]!r} is "
            f"{found.get(odd[0], 'missing')} instead of {wanted.get(odd[0], 'absent')}"
            f"{f', and {len(odd) - 1} more' if len(odd) > 1 else ''}."
        )
    if encoder.feature_dim != info.feature_dim:
        raise RsfmError(f"Model {info.name} gives {encoder.feature_dim} features; it says {info.feature_dim}.")
    if encoder.pooling != info.pooling:
        raise RsfmError(f"The encoder of model {info.name} pools by {encoder.pooling}; it says {info.pooling!r}.")


def _require_finite(encoder: Encoder, info: ModelInfo) -> None:
    """Raises RsfmError: a weight is NaN or infinite."""
    broken = [name for name, t in encoder.state_dict().items() if not bool(torch.isfinite(t).all())]
    if broken:
        raise RsfmError(
            f"Model {info.name} holds values that are not finite, in {broken[0]}: no features come from it."
        )
