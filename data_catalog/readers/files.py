"""Reading one image file: GeoTIFF and other rasters through rasterio, PNG and JPEG through Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_catalog.readers.base import BadFile
from rsfm.geo import crs_text, is_georeferenced
from rsfm.rasters import open_raster

PHOTOS = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
LOSSY = frozenset({".jpg", ".jpeg"})
RASTERS = frozenset({".tif", ".tiff", ".jp2", ".img"})
IMAGES = PHOTOS | RASTERS
#: What Pillow may find in a photo, whatever its suffix: no kind that starts a program or names other files.
PHOTO_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")

_CHANNELS = {"L": 1, "I;16": 1, "I": 1, "F": 1, "LA": 2, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 4}


@dataclass(frozen=True)
class Header:
    """What a file says of itself, without its pixels."""

    count: int
    height: int
    width: int
    dtype: str
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    nodata: float | None = None
    descriptions: tuple[str | None, ...] = ()


def is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTOS


def read_header(path: Path, shown: str) -> Header:
    """Raises BadFile: empty or not an image. `shown` is how the file is named to people."""
    return _open(path, shown, pixels=False)[0]


def read_image(path: Path, shown: str) -> tuple[Header, np.ndarray]:
    """The header and all bands, (C, H, W) in the stored dtype.

    Palette images become RGB; nothing else is converted.

    Raises:
        BadFile: missing, empty, truncated or not an image.
    """
    header, array = _open(path, shown, pixels=True)
    assert array is not None
    return header, array


def read_raster_at(
    path: Path, shown: str, height: int, width: int, bands: list[int] | None = None
) -> tuple[Header, np.ndarray]:
    """As `read_image`, of a raster, brought to height x width pixels (bilinear); the header is of the file's own grid.

    Args:
        bands: their numbers in the file, from 1; default: all.

    Raises:
        BadFile: as `read_image`.
    """
    require_content(path, shown)
    header, array = _raster(path, shown, True, (height, width), bands)
    assert array is not None
    return header, array


def _open(path: Path, shown: str, *, pixels: bool) -> tuple[Header, np.ndarray | None]:
    require_content(path, shown)
    return _photo(path, shown, pixels) if is_photo(path) else _raster(path, shown, pixels)


def require_content(path: Path, shown: str) -> None:
    """Raises BadFile: no such file, or nothing in it."""
    try:
        if path.stat().st_size == 0:
            raise BadFile(shown, "the file is empty")
    except OSError as error:
        raise BadFile(shown, f"cannot be opened: {error.strerror}") from error


def _photo(path: Path, shown: str, pixels: bool) -> tuple[Header, np.ndarray | None]:
    from PIL import Image

    try:
        with Image.open(path, formats=PHOTO_FORMATS) as image:
            mode = image.mode if not image.mode.startswith("I;16") else "I;16"
            if mode not in _CHANNELS:
                raise BadFile(shown, f"has the pixel format {image.mode}, which no band can hold")
            dtype = {"I;16": "uint16", "I": "int32", "F": "float32"}.get(mode, "uint8")
            header = Header(_CHANNELS[mode], image.height, image.width, dtype)
            if not pixels:
                return header, None
            array = np.asarray(image.convert("RGB") if mode == "P" else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadFile(shown, f"cannot be decoded: {message(error, path, shown)}") from error
    array = array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
    return header, array.astype(dtype, copy=False)


def _raster(
    path: Path, shown: str, pixels: bool, size: tuple[int, int] | None = None, bands: list[int] | None = None
) -> tuple[Header, np.ndarray | None]:
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError, RasterioIOError

    try:
        with open_raster(path) as dataset:
            transform = tuple(dataset.transform)[:6]
            georeferenced = bool(dataset.crs) and is_georeferenced(transform)
            header = Header(
                dataset.count, dataset.height, dataset.width, dataset.dtypes[0],
                crs_text(dataset.crs) if georeferenced else None, transform if georeferenced else None,
                dataset.nodata, tuple(dataset.descriptions),
            )  # fmt: skip
            if not pixels:
                return header, None
            if size in (None, (header.height, header.width)):
                return header, dataset.read(bands)
            shape = (len(bands) if bands else header.count, *size)
            return header, dataset.read(bands, out_shape=shape, resampling=Resampling.bilinear)
    except (RasterioIOError, RasterioError) as error:
        raise BadFile(shown, f"cannot be decoded: {message(error, path, shown)}") from error


def message(error: BaseException, path: Path, shown: str) -> str:
    """The first line of a library's message, without the local path and without a full stop."""
    lines = str(error).strip().replace(str(path), shown).splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__


def band_order_problem(header: Header, names: list[str]) -> str | None:
    """Why a file's own band descriptions contradict the order that the entry names; None where they do not."""
    described = [d or "" for d in header.descriptions]
    if described != names and sorted(described) == sorted(names):
        return f"its bands are {' '.join(described)}, the entry says {' '.join(names)}"
    return None
