"""Packs: a dataset prepared once, read by memory map ever after.

A pack is a folder:

    pack.json            what it holds (`PackInfo`): layers, bands with unit and storage rule, statistics, hash
    samples.parquet      one row per sample: id, split, row, label, ..., footprint, date, sensor, gsd_m
    arrays/<split>.<layer>.bin   raw C-order array (N, C, H, W) of the layer's dtype; row i = the sample with row == i

Reading is random access without decoding. A folder that lacks `pack.json` is not a pack. Writing lives in
`rsfm.pack_writer`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from rsfm.bands import Band, Unit
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace, is_folder_name

PACK_FORMAT = 1

#: Columns of samples.parquet, in order. Unknown values are null.
SAMPLE_COLUMNS = (
    "id",           # str, unique in the pack
    "split",        # str
    "row",          # int, row in the arrays of that split
    "label",        # str or null: class name (single-label)
    "label_index",  # int or null: position in PackInfo.classes
    "labels",       # list[str] or null (multi-label)
    "path",         # str: source, relative to the dataset's folder
    "scene",        # str or null: parent scene, place or grouping key
    "date",         # str ISO 8601 or null
    "sensor",       # str
    "gsd_m",        # float: metres per pixel of the stored grid
    "crs",          # str (EPSG:xxxx or WKT) or null
    "transform",    # list[float] of 6 (affine a b c d e f) or null
    "west", "south", "east", "north",  # float degrees (EPSG:4326) or null: bounds of the footprint
)  # fmt: skip


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BandStatistics(_Model):
    """Of one band over the pack's training split, **in the band's unit**; non-finite values excluded."""

    mean: float
    std: float
    min: float
    max: float
    p2: float
    p98: float
    count: int


class BandInfo(_Model):
    """A stored band: see `rsfm.bands.Band`; with its statistics."""

    name: str
    wavelength_nm: float | None
    gsd_m: float
    unit: Unit
    scale: float = 1.0
    offset: float = 0.0
    statistics: BandStatistics | None = None

    def band(self) -> Band:
        return Band(self.name, self.wavelength_nm, self.gsd_m, self.unit, self.scale, self.offset)


class LayerInfo(_Model):
    """One array per split. `image` is the usual name; pairs have `image_pre`/`image_post`; masks `mask`."""

    name: str = "image"
    role: Literal["image", "mask"] = "image"
    sensor: str | None = None
    dtype: str
    shape: tuple[int, int, int]  # (C, H, W)
    gsd_m: float | None = None  # of the stored grid
    bands: list[BandInfo] = []  # empty for masks
    classes: list[str] = []  # of a mask's values 0..n-1
    ignore_value: int | None = None  # of a mask
    nodata: float | None = None  # stored value that means "not observed"; does not count in the statistics


class Skipped(_Model):
    path: str
    reason: str


class PackInfo(_Model):
    format: int = PACK_FORMAT
    name: str
    dataset: str  # catalog entry it was made from
    title: str
    synthetic: bool = False  # shown wherever the pack is shown
    task: Literal["classification", "multilabel", "segmentation", "change", "unlabelled"] = "unlabelled"
    classes: list[str] = []
    layers: list[LayerInfo]
    splits: dict[str, int]  # number of samples
    content_hash: str  # of arrays, samples and storage rules: equal data, equal hash
    request_hash: str  # of what was asked for: a second prepare with the same request does nothing
    created: str
    licence: str = ""
    citation: str = ""
    source: str = ""  # in words, e.g. "synthetic world, seed 0" or the dataset's home page; never a local path
    skipped: list[Skipped] = []
    notes: list[str] = []
    bytes: int = 0


@dataclass(frozen=True)
class Pack:
    """A prepared dataset, opened for reading."""

    path: Path
    info: PackInfo
    # Mapped together with the description: a pack of the same name that replaces this one later is another pack.
    _maps: dict[tuple[str, str], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path) -> Pack:
        """Open the pack in `path`.

        Raises:
            RsfmError: nothing there, unreadable, another format, or an array whose size is wrong.
        """
        file = path / "pack.json"
        if not file.is_file():
            raise RsfmError(f"No pack at {path}. Prepare it first: rsfm data prepare {path.name}")
        try:
            text = file.read_bytes()
            info = PackInfo.model_validate_json(text)
        except (ValidationError, UnicodeDecodeError) as error:
            raise RsfmError(f"{file} is not a readable pack description: {error}. Prepare it again.") from error
        if info.format != PACK_FORMAT:
            raise RsfmError(f"{file} has format {info.format}, this version reads {PACK_FORMAT}. Prepare it again.")
        pack = cls(path, info)
        for split, count in info.splits.items():
            for layer in info.layers:
                array = pack.array_path(split, layer.name)
                expected = count * int(np.prod(layer.shape)) * np.dtype(layer.dtype).itemsize
                actual = array.stat().st_size if array.is_file() else -1
                if actual != expected:
                    raise RsfmError(f"{array} has {actual} bytes instead of {expected}. Prepare the pack again.")
                pack._maps[split, layer.name] = pack._map(split, layer)
        if read_bytes_or_none(file) != text:  # replaced while it was opened
            return cls.open(path)
        return pack

    @classmethod
    def named(cls, workspace: Workspace, name: str) -> Pack:
        """The pack of that name in the workspace."""
        if not is_folder_name(name):
            raise RsfmError(f"{name[:200]!r} is not a pack's name.")
        return cls.open(workspace.packs / name)

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def main(self) -> str:
        """Name of the image layer that describes the others: `image`, or the first of a pair."""
        names = [layer.name for layer in self.info.layers if layer.role == "image"]
        return "image" if "image" in names else names[0]

    def array_path(self, split: str, layer: str = "image") -> Path:
        return self.path / "arrays" / f"{split}.{layer}.bin"

    def layer(self, name: str = "image") -> LayerInfo:
        for layer in self.info.layers:
            if layer.name == name:
                return layer
        raise RsfmError(
            f"Pack {self.name!r} has no layer {name!r}; it has {', '.join(x.name for x in self.info.layers)}."
        )

    def bands(self, layer: str = "image") -> list[Band]:
        return [b.band() for b in self.layer(layer).bands]

    def require_split(self, split: str) -> None:
        if split not in self.info.splits:
            raise RsfmError(f"Pack {self.name!r} has no split {split!r}; it has {', '.join(self.info.splits)}.")

    def array(self, split: str, layer: str = "image") -> np.ndarray:
        """Read-only memory map (N, C, H, W) in the stored dtype. N = 0 gives an empty array."""
        self.require_split(split)
        self.layer(layer)
        return self._maps[split, layer]

    def _map(self, split: str, layer: LayerInfo) -> np.ndarray:
        shape = (self.info.splits[split], *layer.shape)
        if shape[0] == 0:
            return np.zeros(shape, np.dtype(layer.dtype))
        return np.memmap(self.array_path(split, layer.name), dtype=np.dtype(layer.dtype), mode="r", shape=shape)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """All rows of samples.parquet (see `SAMPLE_COLUMNS`)."""
        samples = pd.read_parquet(self.path / "samples.parquet")
        if samples["split"].value_counts().to_dict() != {s: n for s, n in self.info.splits.items() if n}:
            raise RsfmError(f"{self.path / 'samples.parquet'} does not fit pack.json: the pack was replaced.")
        return samples

    def split_samples(self, split: str) -> pd.DataFrame:
        """The samples of one split, ordered so that position i is row i of the arrays."""
        self.require_split(split)
        samples = self.samples
        return samples[samples["split"] == split].sort_values("row").reset_index(drop=True)

    def label_indices(self, split: str) -> np.ndarray:
        """(N,) int64 class indices.

        Raises:
            RsfmError: the pack has no single label per sample.
        """
        if self.info.task != "classification":
            raise RsfmError(f"Pack {self.name!r} has no scene labels (its task is {self.info.task}).")
        return self.split_samples(split)["label_index"].to_numpy(np.int64)


def scene_numbers(samples: pd.DataFrame) -> np.ndarray:
    """(N,) int64: the scene that each sample is a part of, numbered as they come; one without a scene is its own.

    Args:
        samples: with the columns id and scene of `SAMPLE_COLUMNS`.
    """
    scenes = samples["scene"].where(samples["scene"].notna(), "\0" + samples["id"].astype(str))
    return pd.factorize(scenes)[0].astype(np.int64)


def read_bytes_or_none(file: Path) -> bytes | None:
    """The content of a file, or None where there is none."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def list_packs(workspace: Workspace) -> tuple[list[PackInfo], dict[str, str]]:
    """What is prepared in the workspace, by name; and what could not be read: folder name -> why."""
    good: list[PackInfo] = []
    bad: dict[str, str] = {}
    for folder in sorted(workspace.packs.glob("*")):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            good.append(Pack.open(folder).info)
        except RsfmError as error:
            bad[folder.name] = str(error)
    return good, bad
