"""What is known of an exported model without loading it: `models/<name>/model.json` beside `model.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rsfm.bands import Band, Unit
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

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
            raise RsfmError(f"No model at {folder}: a run exports it when it finishes.")
        try:
            info = cls.model_validate_json(file.read_text())
        except (ValidationError, UnicodeDecodeError) as error:
            raise RsfmError(f"{file} is not a readable model description: {error}.") from error
        if info.format != MODEL_FORMAT:
            raise RsfmError(f"{file} has format {info.format}, this version reads {MODEL_FORMAT}.")
        return info


def model_folder(workspace: Workspace, name: str) -> Path:
    """Where the model of that name (a run's id) lives."""
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise RsfmError(f"{name!r} is not a model's name.")
    return workspace.models / name
