"""Weights of your own as models for evaluation: `file:<name>`, two files side by side.

`<name>.safetensors` is the state dict of a timm architecture, `<name>.json` says what it was trained on:

    {
      "architecture": "vit_small_patch16_224",
      "title": "DINO on our own tiles",
      "bands": [
        {"name": "B04", "wavelength_nm": 665, "unit": "reflectance", "mean": 0.11, "std": 0.09},
        {"name": "B03", "wavelength_nm": 560, "unit": "reflectance", "mean": 0.10, "std": 0.07}
      ],
      "image_size": 224,
      "pooling": "token",
      "licence": "CC-BY-4.0",
      "source": "https://example.org/weights"
    }

`bands` are in the order of the input channels; `mean` and `std` are those of the training's standardisation, in the
band's unit: `reflectance`, `reflectance_10000`, `uint8`, `db` or `dn`. Optional are a band's `wavelength_nm` (then a
band of another name at that wavelength will do), `reflectance_at_255` (for 8-bit numbers made of reflectance) and
`sensor` (whose raw numbers they are; needed for `dn`); `pooling`, timm's `global_pool` of the architecture, else its
usual one; and `options`, further arguments of `timm.create_model`.

A path is absolute, or relative to the local folders of weights (see `rsfm.models.foreign.files`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Literal

import timm
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rsfm.errors import RsfmError
from rsfm.models.export import weights_hash
from rsfm.models.foreign import inputs
from rsfm.models.foreign.files import in_folders, load_state, weight_folders
from rsfm.models.foreign.model import ForeignModel
from rsfm.models.foreign.network import TimmNetwork, known_architectures, timm_encoder
from rsfm.models.foreign.networks import CLASSIFIERS, load_all
from rsfm.packs import Pack
from rsfm.workspace import Workspace


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DescribedBand(_Strict):
    """An input channel of the weights."""

    name: str = Field(min_length=1)
    unit: inputs.Numbers
    mean: float = Field(allow_inf_nan=False)
    std: float = Field(gt=0, allow_inf_nan=False)
    wavelength_nm: float | None = Field(None, gt=0, allow_inf_nan=False)
    reflectance_at_255: float | None = Field(None, gt=0, allow_inf_nan=False)
    sensor: str | None = None

    def wanted(self) -> inputs.Wanted:
        return inputs.Wanted(
            self.name, self.wavelength_nm, self.unit, self.mean, self.std, white=self.reflectance_at_255,
            sensor=self.sensor,
        )  # fmt: skip


class Description(_Strict):
    """What stands in the JSON file beside the weights."""

    format: Literal[1] = 1
    architecture: str = Field(min_length=1)
    bands: list[DescribedBand] = Field(min_length=1)
    image_size: int = Field(gt=0)
    title: str = Field(min_length=1)
    licence: str
    source: str
    pooling: str | None = Field(None, min_length=1)
    options: dict[str, bool | int | float | str] = {}


def read_description(file: Path) -> Description:
    """Raises RsfmError: missing, not readable, or fields that are missing, unknown or wrong, by name."""
    if not file.is_file():
        raise RsfmError(f"{file} is missing: it says what the weights beside it take; see {__name__}.")
    try:
        return Description.model_validate_json(file.read_bytes())
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise RsfmError(f"{file} does not describe weights: {'; '.join(wrong)}.") from error


def find(name: str, workspace: Workspace) -> Path:
    """The .safetensors file that `file:<name>` means.

    Raises:
        RsfmError: it is nowhere, or lies outside the local folders without being absolute.
    """
    path = Path(name if name.endswith(".safetensors") else f"{name}.safetensors").expanduser()
    if path.is_absolute():
        if not path.is_file():
            raise RsfmError(f"There are no weights at {path}.")
        return path
    if ".." in PurePath(path).parts:
        raise RsfmError(f"file:{name} leads out of the folders of weights: give an absolute path.")
    found = in_folders([str(path)], workspace)
    if found is None:
        places = ", ".join(map(str, weight_folders(workspace)))
        raise RsfmError(
            f"There are no weights {path} in {places}. Put {path} and {path.with_suffix('.json').name} there, or give "
            "an absolute path."
        )
    return found


def file_model(name: str, pack: Pack, workspace: Workspace, names: Sequence[str] | None = None) -> ForeignModel:
    """Weights of your own, fed from the pack. Raises RsfmError as `torchgeo_model`."""
    file = find(name, workspace)
    told = read_description(file.with_suffix(".json"))
    if not timm.is_model(told.architecture):
        raise RsfmError(
            f"{file.with_suffix('.json')}: architecture: timm has no {told.architecture!r}; "
            f"{known_architectures(told.architecture)}."
        )
    feed = inputs.fed([band.wanted() for band in told.bands], pack, names, f"file:{file.stem}")
    usual = timm.get_pretrained_cfg(told.architecture)
    grid = usual is not None and bool(usual.fixed_input_size)  # its weights are those of a grid of patches
    options = {"img_size": told.image_size, **told.options} if grid else told.options
    if told.pooling is not None:
        options = {**options, "global_pool": told.pooling}
    try:
        encoder = timm_encoder(told.architecture, pretrained=False, in_chans=len(told.bands), **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise RsfmError(
            f"{file.with_suffix('.json')}: pooling or options: timm cannot build {told.architecture} so ({error})."
        ) from error
    state = load_state(file)
    remarks = load_all(encoder, state, where=str(file), unused=CLASSIFIERS)
    licence = f"Licence: {told.licence}. Source: {told.source}."
    return ForeignModel(
        TimmNetwork(encoder), feed, name=f"file:{file.stem}", title=told.title,
        group=f"file:{file.stem}:{weights_hash(state)[:8]}", size=told.image_size,
        settings={"architecture": told.architecture, "options": options}, remarks=[licence, *remarks],
    )  # fmt: skip
