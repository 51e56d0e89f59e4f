"""What the catalog knows of one dataset, and where these descriptions live.

Built-in entries are TOML files in `data_catalog/entries`; entries of the user (`rsfm data add`) are JSON files in the
workspace. Loading them needs neither the network nor the data.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rsfm.bands import Unit, sensor
from rsfm.errors import RsfmError
from rsfm.pack_writer import check_pack_name
from rsfm.packs import BandInfo, LayerInfo
from rsfm.registry import load
from rsfm.specs import one_line
from rsfm.store.files import write_json
from rsfm.workspace import Workspace

Task = Literal["classification", "multilabel", "segmentation", "change", "unlabelled"]
TASKS: tuple[Task, ...] = ("classification", "multilabel", "segmentation", "change", "unlabelled")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EntryLayer(_Model):
    """One image (or mask) of a sample, as it lies in the files.

    `bands` are in file order. Written as names, they are looked up in `sensor` and get the layer's `unit`, `scale`
    and `offset`: `value_in_unit = stored * scale + offset`.
    """

    name: str = "image"
    role: Literal["image", "mask"] = "image"
    sensor: str | None = None
    dtype: str = ""  # of the files; empty: not known
    size: tuple[int, int] | None = None  # (H, W) pixels of a file; None: not known, or they differ
    gsd_m: float | None = None  # of the stored grid
    bands: list[BandInfo] = []
    classes: list[str] = []  # of a mask
    nodata: float | None = None
    unit: Unit | None = Field(None, exclude=True)
    scale: float = Field(1.0, exclude=True)
    offset: float = Field(0.0, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _bands_by_name(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not any(isinstance(b, str) for b in data.get("bands", [])):
            return data
        rule = {"unit": data.get("unit"), "scale": data.get("scale", 1.0), "offset": data.get("offset", 0.0)}
        bands: list[Any] = []
        for band in data["bands"]:
            if isinstance(band, str):
                found = sensor(data.get("sensor") or "").stored_as([band], **rule)
                bands.append({**vars(found[0])})
            else:
                bands.append(band)
        kept = {k: v for k, v in data.items() if k not in rule}  # from here on the rule lives in each band
        return {**kept, "bands": bands}


class Download(_Model):
    """Where files can be fetched from, on request only.

    Either `files`, or `target` ("module:function") that gives them: a function without arguments that returns
    `list[RemoteFile]`, called in the process that downloads (it may import torchgeo, whose class attributes name the
    address and checksum).
    """

    files: list[RemoteFile] = []
    target: str = ""
    note: str = ""

    def resolve(self) -> list[RemoteFile]:
        return load(self.target)() if self.target else self.files


class RemoteFile(_Model):
    url: str
    name: str  # file name below the download folder
    md5: str = ""
    sha256: str = ""
    bytes: int | None = None
    unpack: bool = False  # a zip or tar archive

    @model_validator(mode="after")
    def _checksum(self) -> RemoteFile:
        if not (self.md5 or self.sha256):
            raise ValueError(f"{self.name}: a download needs a checksum")
        if Path(self.name).name != self.name or self.name.startswith("."):
            raise ValueError(f"{self.name!r} is not a plain file name")
        return self


class DatasetEntry(_Model):
    """A dataset: what it is, how it lies on disk, and who reads it."""

    name: str
    title: str
    summary: str = ""
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    task: Task = "unlabelled"
    layers: list[EntryLayer] = []
    gsd_m: float | None = None
    gsd_note: str = ""  # e.g. "0.5 m to 153 m"
    classes: list[str] = []
    splits: dict[str, int] = {}  # number of samples; 0: not known
    layout: str = ""  # on disk, in words
    reader: str | None = None  # "module:Class"; None: no reader yet
    reader_options: dict[str, Any] = {}  # what the reader needs to know beyond this
    default_source: str = ""  # a folder, or "wheel:<package>/<path>"; empty: must be named
    download: Download | None = None
    statistics: dict[str, list[float]] = {}  # published ones, e.g. {"mean": [...], "std": [...]}, in file band order
    statistics_source: str = ""
    synthetic: bool = False
    facts: str = ""  # where the above comes from
    generic: bool = False  # not a dataset but a kind of data: what it holds is found by looking at it
    registered: bool = False  # by the user, in the workspace

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return check_pack_name(name)

    @field_validator("title", "summary", "licence", "citation", "layout", "facts", "gsd_note", "statistics_source")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())  # entries are written over several lines

    @property
    def sensors(self) -> list[str]:
        return list(dict.fromkeys(layer.sensor for layer in self.layers if layer.sensor))

    @property
    def bands(self) -> list[BandInfo]:
        """Of the first image layer, in file order."""
        return next((layer.bands for layer in self.layers if layer.role == "image"), [])

    @property
    def ready(self) -> bool:
        return self.reader is not None

    def layer(self, name: str = "image") -> EntryLayer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise RsfmError(f"Dataset {self.name!r} has no layer {name!r}.")

    def layer_info(self, *, shape: tuple[int, int, int], dtype: str = "", name: str = "image") -> LayerInfo:
        """A pack's layer of this dataset at the size that was found."""
        layer = self.layer(name)
        return LayerInfo(
            name=layer.name, role=layer.role, sensor=layer.sensor, dtype=dtype or layer.dtype, shape=shape,
            gsd_m=layer.gsd_m or self.gsd_m, bands=[b.model_copy() for b in layer.bands], classes=layer.classes,
            nodata=layer.nodata,
        )  # fmt: skip


_ENTRIES = Path(__file__).parent / "entries"


def _parse(data: dict[str, Any], where: Path) -> DatasetEntry:
    try:
        return DatasetEntry.model_validate(data)
    except ValidationError as error:
        raise RsfmError(f"{where} is not a dataset entry: {one_line(error)}.") from error


@lru_cache(maxsize=1)
def _built_in() -> dict[str, DatasetEntry]:
    found = {}
    for file in sorted(_ENTRIES.glob("*.toml")):
        entry = _parse(tomllib.loads(file.read_text("utf-8")), file)
        if entry.name != file.stem:
            raise RsfmError(f"{file} describes {entry.name!r}; file and entry must have the same name.")
        found[entry.name] = entry
    return found


def read_registered(workspace: Workspace) -> tuple[dict[str, DatasetEntry], dict[str, str]]:
    """The user's own entries; and files that could not be read: name -> why."""
    good: dict[str, DatasetEntry] = {}
    bad: dict[str, str] = {}
    for file in sorted(workspace.datasets.glob("*.json")):
        try:
            try:
                data = json.loads(file.read_text("utf-8"))
            except ValueError as error:
                raise RsfmError(f"{file} is not JSON ({error}): mend or remove it.") from error
            entry = _parse(data, file)
            if entry.name != file.stem:
                raise RsfmError(f"{file} describes {entry.name!r}; file and entry must have the same name.")
            good[entry.name] = entry
        except RsfmError as error:
            bad[file.stem] = str(error)
    return good, bad


def entries(workspace: Workspace | None = None) -> dict[str, DatasetEntry]:
    """All datasets by name: built-in ones, then those registered in the workspace."""
    found = dict(_built_in())
    if workspace is not None:
        for name, entry in read_registered(workspace)[0].items():
            found.setdefault(name, entry)
    return found


def broken_entries(workspace: Workspace) -> dict[str, str]:
    """Registered datasets that cannot be read: name -> why."""
    return read_registered(workspace)[1]


def entry(name: str, workspace: Workspace | None = None) -> DatasetEntry:
    """One dataset.

    Raises:
        RsfmError: no such dataset; names the closest ones.
    """
    found = entries(workspace)
    if name in found:
        return found[name]
    if workspace is not None and name in (broken := read_registered(workspace)[1]):
        raise RsfmError(broken[name])
    close = difflib.get_close_matches(name.lower(), found, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}?" if close else "List them with: rsfm data list"
    raise RsfmError(f"The catalog has no dataset {name!r}. {hint}")


def write_registered(entry: DatasetEntry, workspace: Workspace) -> Path:
    """Keep a user's entry in the workspace.

    Raises:
        RsfmError: the name belongs to a built-in dataset.
    """
    if entry.name in _built_in():
        raise RsfmError(f"{entry.name!r} is a built-in dataset: choose another name.")
    workspace.datasets.mkdir(parents=True, exist_ok=True)
    file = workspace.datasets / f"{entry.name}.json"
    write_json(file, entry.model_copy(update={"registered": True}).model_dump(mode="json"))
    return file


Download.model_rebuild()
