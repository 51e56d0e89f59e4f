"""A georeferenced scene (or a folder of scenes) cut into tiles; every tile keeps its place on the ground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_catalog.entry import DatasetEntry, Task
from data_catalog.readers.base import BadFile, EntryReader, LeftOut, Sample, SampleKey
from data_catalog.readers.files import RASTERS, Header, band_order_problem, read_header
from data_catalog.readers.image_folder import image_files
from rsfm.errors import RsfmError
from rsfm.geo import crs_text, ground_gsd, is_georeferenced
from rsfm.packs import LayerInfo
from rsfm.rasters import open_raster
from rsfm.specs import PrepareSpec
from rsfm.wording import counted
from rsfm.workspace import Workspace

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

TILE_SIZE = 64


class SceneReader(EntryReader):
    """Cuts rasters into square tiles on a regular grid from the upper left corner.

    Options (in the entry or in the spec):
        tile_size, stride: pixels; the spec's own fields win over the entry's options.
        max_nodata: largest share of pixels without data in a tile, 0..1.
        val_share: eastern share of each scene whose tiles become the split `val`; tiles across the border are left
            out, so that no pixel is in both splits.
    """

    task: Task = "unlabelled"
    wanted = "the file", "FILE"

    def __init__(self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, workspace: Workspace) -> None:
        if clash := {"tile_size", "stride"} & set(spec.options):
            raise RsfmError(f"Write {', '.join(sorted(clash))} as the spec's own field, not among its options.")
        defaults = {"max_nodata": 0.0, "val_share": 0.0, "tile_size": TILE_SIZE, "stride": 0}
        super().__init__(entry, spec, source, defaults, tiles=True)
        self.tile = spec.tile_size or self.options["tile_size"]
        self.stride = spec.stride or (self.tile if spec.tile_size else self.options["stride"] or self.tile)
        for name in ("max_nodata", "val_share"):
            if not 0 <= self.options[name] < 1:
                raise RsfmError(f"Option {name} must be in 0..1, got {self.options[name]}.")
        self.folder, self.files = _scenes(self.source)
        self._open: tuple[str, DatasetReader] | None = None
        self._windows: dict[str, tuple[str, int, int]] = {}
        self._bad: dict[str, BadFile] = {}
        self._keys = self._plan()

    def _plan(self) -> list[SampleKey]:
        keys: list[SampleKey] = []
        for name in self.files:
            try:
                header = read_header(self.folder / name, name)
                self._check(name, header)
            except BadFile as error:
                if len(self.files) == 1:
                    raise RsfmError(f"{error.path} {error.reason}.") from error
                # Among several scenes it is one unusable item, reported when its turn comes.
                self._bad[name] = error
                keys.append(SampleKey(name, "train", name))
                continue
            rows = range(0, header.height - self.tile + 1, self.stride)
            columns = range(0, header.width - self.tile + 1, self.stride)
            border = round(header.width * (1 - self.options["val_share"]))
            across = 0
            for row in rows:
                for column in columns:
                    if column < border < column + self.tile:
                        across += 1
                        continue
                    key = f"{Path(name).with_suffix('').as_posix()}-r{row:05d}-c{column:05d}"
                    self._windows[key] = (name, row, column)
                    keys.append(SampleKey(key, "train" if column < border else "val", name))
            if across:
                self._notes.append(
                    f"Left out, across the border between train and val: {counted(across, 'tiles')} of {name}."
                )
        return keys

    def _check(self, name: str, header: Header) -> None:
        layer = self.entry.layer()
        if header.count != len(layer.bands):
            names = " ".join(b.name for b in layer.bands)
            raise BadFile(name, f"has {header.count} bands instead of {len(layer.bands)} ({names})")
        if layer.dtype and header.dtype != layer.dtype:
            raise BadFile(name, f"holds {header.dtype} values instead of {layer.dtype}")
        if min(header.height, header.width) < self.tile:
            raise BadFile(name, f"has {header.height} x {header.width} pixels: no tile of {self.tile} fits into it")
        if problem := band_order_problem(header, [b.name for b in layer.bands]):
            raise BadFile(name, problem)

    def layers(self) -> list[LayerInfo]:
        name = next((f for f in self.files if f not in self._bad), None)
        if name is None:
            raise RsfmError(f"None of the scenes can be used: {next(iter(self._bad.values()))}.")
        header = read_header(self.folder / name, name)
        shape = (header.count, self.tile, self.tile)
        info = self.entry.layer_info(shape=shape, dtype=header.dtype)
        gsd = ground_gsd(header.crs, header.transform, header.height, header.width)
        nodata = info.nodata if info.nodata is not None else header.nodata
        return [info.model_copy(update={"gsd_m": gsd or info.gsd_m, "nodata": nodata})]

    def classes(self) -> list[str]:
        return []

    def keys(self) -> list[SampleKey]:
        return self._keys

    def read(self, key: SampleKey) -> Sample:
        from rasterio.errors import RasterioError, RasterioIOError
        from rasterio.windows import Window

        if key.path in self._bad:
            raise self._bad[key.path]
        name, row, column = self._windows[key.id]
        window = Window(column, row, self.tile, self.tile)
        try:
            dataset = self._dataset(name)
            image = dataset.read(window=window)
        except (RasterioIOError, RasterioError) as error:
            raise BadFile(key.id, "this part of the scene cannot be decoded") from error
        nodata = self.entry.layer().nodata if self.entry.layer().nodata is not None else dataset.nodata
        missing = _without_data(image, nodata).mean()
        if missing > self.options["max_nodata"]:
            raise LeftOut(f"tiles with more than {self.options['max_nodata']:.0%} of pixels without data")
        crs, transform = crs_text(dataset.crs), None
        if crs is not None and is_georeferenced(tuple(dataset.transform)):
            transform = tuple(dataset.window_transform(window))[:6]
        gsd = ground_gsd(crs, transform, self.tile, self.tile) or self.entry.gsd_m
        return Sample({"image": image}, scene=name, crs=crs if transform else None, transform=transform, gsd_m=gsd)

    def _dataset(self, name: str) -> DatasetReader:
        if self._open is None or self._open[0] != name:
            if self._open is not None:
                self._open[1].close()
            self._open = (name, open_raster(self.folder / name))
        return self._open[1]


def _scenes(source: Path) -> tuple[Path, list[str]]:
    if source.is_file():
        return source.parent, [source.name]
    if not source.is_dir():
        raise RsfmError(f"There is no scene at {source}.")
    names = [f for f in image_files(source) if Path(f).suffix.lower() in RASTERS]
    if not names:
        raise RsfmError(f"There is no raster file below {source}.")
    return source, names


def _without_data(image: np.ndarray, nodata: float | None) -> np.ndarray:
    """(H, W): whether any band of a pixel is missing."""
    missing = np.zeros(image.shape[1:], bool)
    if image.dtype.kind == "f":
        missing |= ~np.isfinite(image).all(axis=0)
    if nodata is not None and not np.isnan(nodata):
        missing |= (image == nodata).any(axis=0)
    return missing
