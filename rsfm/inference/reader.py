"""Rows of one or two scenes as a network wants them: its bands, in their units, what is missing marked."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.scenes import SceneInfo, first_line, opened, same_grid

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.vrt import WarpedVRT

#: What GDAL may keep of files that were read, in megabytes.
CACHE_MB = 128


@dataclass(frozen=True)
class Source:
    """One date: a scene, and its bands that a network takes, in the network's order, with their storage rule.

    Attributes:
        nodata: stored number that means not observed, where it is not the file's own.
    """

    scene: SceneInfo
    bands: list[Band]
    nodata: float | None = None

    @property
    def indexes(self) -> list[int]:
        """Of the bands in the file, from 1."""
        return [self.scene.indexes[self.scene.names.index(band.name)] for band in self.bands]


@contextlib.contextmanager
def on_grid(source: Source | SceneInfo, grid: SceneInfo, *, nearest: bool = False):  # noqa: ANN201
    """The file, open on the grid of another one: resampled where its own differs (bilinear, or nearest).

    Yields:
        a rasterio dataset or `WarpedVRT` of the grid's size. Pixels that the file does not cover are masked.
    """
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    scene = source.scene if isinstance(source, Source) else source
    nodata = source.nodata if isinstance(source, Source) else None
    with opened(scene.path) as dataset:
        if (dataset.width, dataset.height) != (scene.width, scene.height):
            raise RsfmError(f"{scene.name} has changed since it was looked at: begin again.")
        if same_grid(grid, scene):
            yield dataset
            return
        told = {"src_nodata": nodata, "nodata": nodata} if nodata is not None else {}
        with WarpedVRT(
            dataset, crs=grid.crs, transform=Affine(*grid.transform), width=grid.width, height=grid.height,  # type: ignore[misc]
            resampling=Resampling.nearest if nearest else Resampling.bilinear,
            add_alpha=nodata is None and dataset.nodata is None, **told,
        ) as warped:  # fmt: skip
            yield warped


def read_rows(
    dataset: DatasetReader | WarpedVRT,
    name: str,
    indexes: list[int],
    start: int,
    stop: int,
    nodata: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows start..stop of some bands: (C, h, W) stored numbers, and (C, h, W) bool where they are missing.

    Args:
        name: of the file, for people.
        nodata: stored number that means not observed; None: as the file says.

    Raises:
        RsfmError: the file is damaged there.
    """
    from rasterio.errors import RasterioError, RasterioIOError
    from rasterio.windows import Window

    window = Window(0, start, dataset.width, stop - start)
    try:
        values = dataset.read(indexes, window=window)
        if nodata is None:
            missing = dataset.read_masks(indexes, window=window) == 0
        else:
            missing = np.isnan(values) if np.isnan(nodata) else values == nodata
    except (RasterioIOError, RasterioError) as error:
        raise RsfmError(
            f"Rows {start} to {stop} of {name} cannot be read, the file is damaged or cut off: {first_line(error)}."
        ) from error
    if values.dtype.kind == "f":
        missing |= ~np.isfinite(values)
    return values, missing


@dataclass(frozen=True)
class Rows:
    """Some rows of a scene, over its whole width.

    Attributes:
        values, missing: of each date, (C, h, W).
        valid: (h, W), where every date is observed, in one band at least: a band that is missing alone (a dark pixel
            clipped to the no-data number) is no hole in the map.
    """

    sources: list[Source]
    values: list[np.ndarray]
    missing: list[np.ndarray]
    valid: np.ndarray

    def tile(self, start: int, stop: int, size: int) -> list[np.ndarray]:
        """Columns start..stop of each date: (C, size, size) float32 in the bands' units, NaN where missing.

        What is smaller than `size` is continued by its mirror image, below and to the right.
        """
        tiles = []
        for source, values, missing in zip(self.sources, self.values, self.missing, strict=True):
            part = values[:, :, start:stop]
            tile = np.stack([band.to_unit(part[i]) for i, band in enumerate(source.bands)])
            tile[missing[:, :, start:stop]] = np.nan
            pad = [(0, 0), (0, size - tile.shape[1]), (0, size - tile.shape[2])]
            tiles.append(np.pad(tile, pad, mode="symmetric") if any(after for _, after in pad) else tile)
        return tiles


class SceneReader:
    """One or two dates on one grid, the first one's or (of a pair) the later one's; a context manager."""

    def __init__(self, sources: list[Source], grid: SceneInfo) -> None:
        self.sources, self.grid = sources, grid
        self._stack = contextlib.ExitStack()
        self._datasets: list[DatasetReader | WarpedVRT] = []

    def __enter__(self) -> SceneReader:
        import rasterio

        self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_MB))
        self._datasets = [self._stack.enter_context(on_grid(source, self.grid)) for source in self.sources]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rows(self, start: int, stop: int) -> Rows:
        """Raises RsfmError: a file is damaged there."""
        values, missing = [], []
        for source, dataset in zip(self.sources, self._datasets, strict=True):
            # A scene that is resampled has its own number for what is missing in its mask.
            own = source.nodata if same_grid(self.grid, source.scene) else None
            stored, absent = read_rows(dataset, source.scene.name, source.indexes, start, stop, own)
            values.append(stored)
            missing.append(absent)
        valid = ~np.logical_or.reduce([absent.all(axis=0) for absent in missing])
        return Rows(self.sources, values, missing, valid)
