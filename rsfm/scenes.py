"""Whole scenes on disk: what a raster file says of itself, which of its bands are which, and what its numbers mean.

Only headers are read here. No torch: pages read this too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rsfm.bands import Band, Unit
from rsfm.errors import RsfmError
from rsfm.geo import crs_text, footprint, ground_gsd, is_georeferenced
from rsfm.packs import BandInfo
from rsfm.rasters import open_raster

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

#: Grids whose corners lie this close, in pixels, are the same.
_SAME_PIXEL = 0.01
#: `B6_VCID_2`, `b04 - red`: the band's own name is what it begins with.
_BAND_NAME = re.compile(r"\s*(B\d{1,2}A?|VV|VH)(?![0-9A-Za-z])", re.I)


@dataclass(frozen=True)
class SceneInfo:
    """A raster file's header.

    Attributes:
        names: of its bands in file order, without an alpha band.
        indexes: of the same bands in the file, from 1.
        scales, offsets: of the same bands, as the file gives them (1 and 0 where it gives none).
        said: whether the names stand in the file.
        crs, transform: None where it is not georeferenced.
    """

    path: Path
    width: int
    height: int
    dtype: str
    names: tuple[str, ...]
    indexes: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    said: bool
    nodata: float | None
    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None

    @property
    def name(self) -> str:
        """How the file is called, without where it lies."""
        return self.path.name

    @property
    def gsd_m(self) -> float | None:
        return ground_gsd(self.crs, self.transform, self.height, self.width)

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north in degrees; None where it is not georeferenced."""
        if self.crs is None or self.transform is None:
            return None
        return footprint(self.crs, self.transform, self.height, self.width)

    def shape_text(self) -> str:
        return f"{self.height} × {self.width} pixels" + (f" in {self.crs[:40]}" if self.crs else " without a CRS")


@contextmanager
def opened(path: Path) -> Iterator[DatasetReader]:
    """The raster, open for reading.

    Raises:
        RsfmError: no such file, or none that can be read.
    """
    from rasterio.errors import RasterioError, RasterioIOError

    if not path.is_file():
        raise RsfmError(f"There is no file {path}.")
    try:
        dataset = open_raster(path)
    except (RasterioIOError, RasterioError) as error:
        raise RsfmError(f"{path.name} is not a raster that can be read: {first_line(error)}.") from error
    with dataset:
        yield dataset


def read_scene(path: str | Path, bands: Sequence[str] | None = None) -> SceneInfo:
    """The header of a raster file.

    Args:
        bands: names in file order where the file has none, or others.

    Raises:
        RsfmError: no such file, unreadable, no bands, bands of several or of complex types, another number of names.
    """
    path = Path(path).expanduser().absolute()
    with opened(path) as dataset:
        interpretation = [c.name for c in dataset.colorinterp]
        indexes = tuple(i for i, kind in zip(dataset.indexes, interpretation, strict=True) if kind != "alpha")
        if not indexes:
            raise RsfmError(f"{path.name} holds no bands.")
        dtypes = {dataset.dtypes[i - 1] for i in indexes}
        if len(dtypes) > 1 or np.dtype(next(iter(dtypes))).kind == "c":
            raise RsfmError(f"{path.name} holds {' and '.join(sorted(dtypes))} values: make them one real type.")
        names, said = _names([dataset.descriptions[i - 1] for i in indexes], [interpretation[i - 1] for i in indexes])
        if bands is not None:
            if len(bands) != len(indexes):
                raise RsfmError(
                    f"{path.name} has {len(indexes)} bands and {len(bands)} names were given: name each, in file order."
                )
            names, said = list(bands), True
        transform = tuple(dataset.transform)[:6]
        georeferenced = bool(dataset.crs) and is_georeferenced(transform)
        return SceneInfo(
            path=path, width=dataset.width, height=dataset.height, dtype=next(iter(dtypes)), names=tuple(names),
            indexes=indexes, scales=tuple(dataset.scales[i - 1] for i in indexes),
            offsets=tuple(dataset.offsets[i - 1] for i in indexes), said=said, nodata=dataset.nodata,
            crs=crs_text(dataset.crs) if georeferenced else None, transform=transform if georeferenced else None,
        )  # fmt: skip


def _names(descriptions: Sequence[str | None], interpretation: Sequence[str]) -> tuple[list[str], bool]:
    """Names of the bands, and whether the file itself gives them."""
    described = [(d or "").strip() for d in descriptions]
    if all(described):
        plain = [found.group(1).upper() if (found := _BAND_NAME.match(d)) else d for d in described]
        if len(set(plain)) == len(plain):
            return plain, True
        if len(set(described)) == len(described):
            return described, True
    if len(set(interpretation)) == len(interpretation) and set(interpretation) <= {"red", "green", "blue"}:
        return list(interpretation), True
    return [f"band_{i + 1}" for i in range(len(descriptions))], False


def positions_of(scene: SceneInfo, wanted: Sequence[str]) -> list[int]:
    """Where the bands lie among the scene's.

    Raises:
        RsfmError: one is missing; with what there is, and how to name bands that have no name.
    """
    missing = [name for name in wanted if name not in scene.names]
    if missing:
        hint = "" if scene.said else " The file does not name its bands: name them in file order with bands."
        raise RsfmError(
            f"{scene.name} has no band {', '.join(missing)}; it has {', '.join(scene.names)}, and the model takes "
            f"{', '.join(wanted)}.{hint}"
        )
    return [scene.names.index(name) for name in wanted]


def stored_bands(
    scene: SceneInfo,
    wanted: Sequence[Band],
    trained: Sequence[BandInfo],
    trained_dtype: str,
    *,
    unit: Unit | None = None,
    scale: float | None = None,
    offset: float | None = None,
) -> tuple[list[Band], str]:
    """The wanted bands as this scene stores them, and in words where the rule comes from.

    Given values win; then what the file says; then the rule of the pack that the model was trained on, where the
    scene's numbers are of the same type. Nothing else is assumed.

    Args:
        wanted: the model's bands; their unit is the one that is needed.
        trained: the same bands as the training's pack stores them.
        unit, scale, offset: as given by the user.

    Raises:
        RsfmError: a missing band, another unit than the model's, or no rule.
    """
    positions = positions_of(scene, [band.name for band in wanted])
    needed = sorted({band.unit for band in wanted})
    if unit is not None and [unit] != needed:
        raise RsfmError(
            f"{scene.name} is in {unit} and the model takes {' and '.join(needed)}: there is no rule between the two. "
            "Give the unit, scale and offset that lead from the stored numbers to the model's unit."
        )
    if unit is not None:
        rules = [(1.0 if scale is None else scale, offset or 0.0)] * len(wanted)
        origin = "as given"
    elif any(scene.scales[p] != 1 or scene.offsets[p] != 0 for p in positions):
        rules = [(scene.scales[p], scene.offsets[p]) for p in positions]
        origin = "as the file's own scale and offset say"
    elif scene.dtype == trained_dtype:
        rules = [(band.scale, band.offset) for band in trained]
        origin = "as in the pack of the training, whose numbers have the same type"
    else:
        raise RsfmError(
            f"{scene.name} holds {scene.dtype} numbers and the model was trained on {trained_dtype}: say what they "
            f"mean with unit={needed[0]} and scale (value in {needed[0]} = stored × scale + offset)."
        )
    return [
        Band(band.name, band.wavelength_nm, band.gsd_m, band.unit, float(factor), float(shift))
        for band, (factor, shift) in zip(wanted, rules, strict=True)
    ], origin


def can_hold(dtype: str, number: float) -> bool:
    """Whether a file of that type can store the number."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return not np.isfinite(number) or abs(number) <= float(np.finfo(kind).max)
    limits = np.iinfo(kind)
    return bool(np.isfinite(number)) and float(number).is_integer() and limits.min <= number <= limits.max


# -- grids -------------------------------------------------------------------------------------------------------------
def same_grid(a: SceneInfo, b: SceneInfo) -> bool:
    """Whether pixel (row, column) of both is the same place: same size, CRS and transform, to a hundredth pixel.

    Where one of them says nothing of its place, the same size is enough.
    """
    if (a.width, a.height) != (b.width, b.height):
        return False
    if a.crs is None or b.crs is None or a.transform is None or b.transform is None:
        return True
    if a.crs != b.crs:
        return False
    return all(
        math.dist(_at(a.transform, x, y), _at(b.transform, x, y)) < _SAME_PIXEL * math.hypot(*a.transform[0:4:3])
        for x in (0, a.width)
        for y in (0, a.height)
    )


def shared(a: SceneInfo, b: SceneInfo) -> float:
    """Share of `a`'s rectangle that `b`'s covers, both in the CRS of `a`; both must be georeferenced."""
    from rasterio.transform import array_bounds
    from rasterio.warp import transform_bounds

    def box(s: SceneInfo) -> tuple[float, ...]:
        from affine import Affine

        return array_bounds(s.height, s.width, Affine(*s.transform))  # type: ignore[misc]

    west, south, east, north = box(a)
    w, s, e, n = transform_bounds(b.crs, a.crs, *box(b))
    width, height = min(east, e) - max(west, w), min(north, n) - max(south, s)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((east - west) * (north - south))


def _at(transform: Sequence[float], x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return a * x + b * y + c, d * x + e * y + f


def require_alignable(scene: SceneInfo, other: SceneInfo, what: str) -> str | None:
    """Whether `other` can be laid onto the grid of `scene`.

    Args:
        what: names `other` to people.

    Returns:
        None where the grids are the same, else a remark: that it is resampled, or that it says nothing of its place.

    Raises:
        RsfmError: it cannot, or the two do not cover the same ground.
    """
    if same_grid(scene, other):
        if (scene.crs is None) == (other.crs is None):
            return None
        return f"{(other if other.crs is None else scene).name} has no CRS: the two are laid pixel on pixel."
    both = f"{scene.name} has {scene.shape_text()}, {what} {other.name} {other.shape_text()}"
    if scene.crs is None or other.crs is None:
        raise RsfmError(f"{both}: without a place on Earth for both they must have the same size.")
    covered = shared(scene, other)
    if covered < 0.01:
        raise RsfmError(f"{both}, and they do not overlap: give two files of the same place.")
    part = "" if covered > 0.999 else f"; it covers {covered:.0%} of the scene"
    return f"{other.name} ({what}) is on another grid and is resampled to that of {scene.name}{part}."


def first_line(error: BaseException) -> str:
    """The first line of a library's message, without a full stop."""
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
