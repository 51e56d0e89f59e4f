"""Layers of a map as cloud-optimised GeoTIFFs, and the colours that their numbers stand for."""

from __future__ import annotations

import contextlib
import json
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from rsfm.inference.reader import CACHE_MB, Source, on_grid
from rsfm.prediction_info import NODATA, LayerKind
from rsfm.scenes import SceneInfo
from rsfm.thumbs import class_colours

#: Rows that are copied at a time.
_ROWS = 512
_GDAL = {"GDAL_CACHEMAX": CACHE_MB, "GDAL_TIFF_INTERNAL_MASK": True}
#: After Okabe and Ito: told apart by colour-blind readers.
_TRUE_POSITIVE, _FALSE_POSITIVE, _FALSE_NEGATIVE = (0, 158, 115), (213, 94, 0), (0, 114, 178)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Meaning:
    """What one number of a layer stands for; `clear` as in `LegendItem`."""

    value: int
    label: str
    colour: Colour
    clear: bool = False

    @property
    def hex(self) -> str:
        return "#{:02x}{:02x}{:02x}".format(*self.colour)


def class_meanings(classes: Sequence[str]) -> list[Meaning]:
    """Of `classes.tif`: the colours that masks of packs are shown in."""
    table = class_colours()
    return [Meaning(i, name, _colour(table[i])) for i, name in enumerate(classes)]


def change_meanings(classes: Sequence[str]) -> list[Meaning]:
    """Of `changes.tif`."""
    same, changed = class_meanings(classes)
    return [Meaning(0, same.label, same.colour, clear=True), changed]


def error_meanings(classes: Sequence[str], change: bool) -> list[Meaning]:
    """Of `errors.tif`: for change 0 true negative, 1 true positive, 2 false positive, 3 false negative; else twice the
    true class, plus 1 where another one was predicted."""
    if change:
        return [
            Meaning(0, "true negative", _colour(class_colours()[0]), clear=True),
            Meaning(1, "true positive (found)", _TRUE_POSITIVE),
            Meaning(2, "false positive (invented)", _FALSE_POSITIVE),
            Meaning(3, "false negative (missed)", _FALSE_NEGATIVE),
        ]
    found = []
    for meaning in class_meanings(classes):
        pale = _colour(0.25 * np.array(meaning.colour) + 0.75 * 255)
        found.append(Meaning(2 * meaning.value, f"{meaning.label}, right", pale, clear=True))
        found.append(Meaning(2 * meaning.value + 1, f"{meaning.label}, wrong", meaning.colour))
    return found


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (int(v) for v in values)
    return red, green, blue


def write_map(
    file: Path, read: Callable[[int, int], np.ndarray], grid: SceneInfo, kind: LayerKind, meanings: Sequence[Meaning],
    tags: dict[str, str], row_areas: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """One layer of a map as a COG; numbers without meanings are percent.

    Args:
        read: rows start..stop, (stop - start, width) uint8 with `NODATA` where nothing was observed; each row once.
        row_areas: (H,) of one pixel of each row, in any unit.
        tags: go into the file, beside the names of the classes.

    Returns:
        (256,) how many pixels have each number, and (256,) the area that they have together, by `row_areas`.
    """
    import rasterio
    from rasterio.windows import Window

    staged, counts, areas = _beside(file), np.zeros(256, np.int64), np.zeros(256)
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": grid.width, "height": grid.height, "count": 1, "dtype": "uint8", "nodata": NODATA,
        "compress": "deflate", "BIGTIFF": "IF_SAFER", **_place(grid),
    }  # fmt: skip
    try:
        with _quiet(), rasterio.Env(**_GDAL), rasterio.open(staged, "w", **profile) as dataset:
            dataset.set_band_description(1, kind)
            if meanings:
                colours = {m.value: (*m.colour, 255) for m in meanings} | {NODATA: (0, 0, 0, 0)}
                dataset.write_colormap(1, colours)
                tags = {**tags, "CLASS_NAMES": json.dumps({m.value: m.label for m in meanings}, ensure_ascii=False)}
            dataset.update_tags(**tags)
            for start in range(0, grid.height, _ROWS):
                stop = min(start + _ROWS, grid.height)
                values = read(start, stop)
                by_row = np.stack([np.bincount(row, minlength=256) for row in values])
                counts += by_row.sum(axis=0)
                areas += row_areas[start:stop] @ by_row
                dataset.write(values, 1, window=Window(0, start, grid.width, stop - start))
        _to_cog(staged, file, "mode" if meanings else "average")
    finally:
        staged.unlink(missing_ok=True)
    return counts, areas


def write_image(file: Path, source: Source, grid: SceneInfo) -> None:
    """The bands that a network took, as stored, as a COG on the map's grid."""
    import rasterio
    from rasterio.enums import MaskFlags
    from rasterio.windows import Window

    staged = _beside(file)
    try:
        with _quiet(), rasterio.Env(**_GDAL), on_grid(source, grid) as dataset:
            nodata = source.nodata if source.nodata is not None else dataset.nodata
            masked = nodata is None and MaskFlags.all_valid not in dataset.mask_flag_enums[0]
            profile: dict[str, Any] = {
                "driver": "GTiff", "width": grid.width, "height": grid.height, "count": len(source.bands),
                "dtype": source.scene.dtype, "nodata": nodata, "compress": "deflate", "tiled": True,
                "blockxsize": 512, "blockysize": 512, "BIGTIFF": "IF_SAFER", **_place(grid),
            }  # fmt: skip
            with rasterio.open(staged, "w", **profile) as copy:
                copy.descriptions = [band.name for band in source.bands]
                for start in range(0, grid.height, _ROWS):
                    window = Window(0, start, grid.width, min(_ROWS, grid.height - start))
                    copy.write(dataset.read(source.indexes, window=window), window=window)
                    if masked:
                        copy.write_mask(dataset.dataset_mask(window=window), window=window)
        # A picture shows three of many bands: each lies for itself.
        _to_cog(staged, file, "average", INTERLEAVE="BAND")
    finally:
        staged.unlink(missing_ok=True)


def _to_cog(source: Path, file: Path, overviews: str, **profile: str) -> None:
    """Overviews and the layout of a COG; the file appears in one step."""
    from rio_cogeo.cogeo import cog_translate
    from rio_cogeo.profiles import cog_profiles

    made = _beside(file)
    try:
        with _quiet():
            cog_translate(
                source, made, {**cog_profiles.get("deflate"), "BIGTIFF": "IF_SAFER", **profile}, in_memory=False,
                quiet=True,
                overview_resampling=overviews, allow_intermediate_compression=True, forward_band_tags=True,
                config=_GDAL,
            )  # fmt: skip
        made.replace(file)
    finally:
        made.unlink(missing_ok=True)


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.stem}-{uuid.uuid4().hex[:8]}.tif")


def _place(grid: SceneInfo) -> dict[str, Any]:
    return {} if grid.crs is None or grid.transform is None else {"crs": grid.crs, "transform": Affine(*grid.transform)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that an image has no place on Earth: it was said before."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
