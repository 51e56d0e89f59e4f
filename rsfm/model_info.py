"""What is known of an exported model without loading it: `models/<name>/model.json` beside `model.safetensors`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from rsfm.bands import Band, Unit
from rsfm.descriptions import read_description
from rsfm.errors import RsfmError
from rsfm.store.files import read_json
from rsfm.workspace import Workspace, is_folder_name

MODEL_FORMAT = 1


class ModelBand(BaseModel):
    """An input band: values arrive in `unit` and are standardised as (value - mean) / std."""

    model_config = ConfigDict(extra="forbid")

    name: str
    wavelength_nm: float | None
    gsd_m: float
    unit: Unit
    mean: float
    std: float

    def band(self) -> Band:
        return Band(self.name, self.wavelength_nm, self.gsd_m, self.unit)


class ModelInfo(BaseModel):
    """An encoder with everything that is needed to feed it correctly."""

    model_config = ConfigDict(extra="forbid")

    format: int = MODEL_FORMAT
    name: str
    title: str = ""
    architecture: str  # "vit", "resnet"
    encoder: dict[str, Any]  # EncoderParams or ResNetParams
    image_size: int  # pixels per side it was trained at
    feature_dim: int
    pooling: str = "mean_patch"  # "mean_patch", "class_token", "mean_map"
    bands: list[ModelBand]
    sensor: str | None = None
    gsd_m: float | None = None
    method: str | None = None
    run_id: str | None = None
    group: str  # pretraining group; names the model in every comparison
    seed: int = 0
    step: int = 0
    samples: int = 0
    trained_on: str | None = None  # pack's name
    trained_on_hash: str | None = None
    synthetic: bool = False
    weights_hash: str
    created: str

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Raises RsfmError: missing, unreadable, or another format."""
        file = folder / "model.json"
        if not file.is_file():
            raise RsfmError(
                f"No model at {folder}: a run exports it when it finishes (rsfm resume goes on with one that stopped)."
            )
        return read_description(
            cls, file, version=MODEL_FORMAT, what="model description", remedy="Train or import the model again."
        )


@dataclass(frozen=True)
class ModelOrigin:
    """Of a model that was brought here: `origin.json` beside it, written once, by the import."""

    file: str
    imported: str

    @classmethod
    def read(cls, folder: Path) -> ModelOrigin | None:
        """None: the model was trained here."""
        data = read_json(folder / "origin.json")
        if not isinstance(data, dict):
            return None
        return cls(str(data.get("file") or ""), str(data.get("imported") or ""))


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a weight file: its type as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


def tensors_of(file: Path) -> dict[str, TensorInfo]:
    """What a weight file holds, from its header: nothing else is read, and no torch is needed.

    Raises:
        RsfmError: missing or empty, or not a whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file() or not file.stat().st_size:
        raise RsfmError(f"{file} is missing or empty.")
    try:
        with safe_open(file, framework="np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            return {name: TensorInfo(s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise RsfmError(f"{file} is not a whole safetensors file: {error}.") from error


def model_folder(workspace: Workspace, name: str) -> Path:
    """Where the model of that name (a run's id) lives."""
    if not is_folder_name(name):
        raise RsfmError(f"{name[:200]!r} is not a model's name.")
    return workspace.models / name
