"""Small image files for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

SIZE = 12
BANDS = 3


def save(path: Path, array: np.ndarray, **options) -> None:
    """(H, W) or (H, W, 3) as a picture, by its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write_tif(path: Path, array: np.ndarray, *, descriptions: list[str] | None = None, nodata=None, **georef) -> None:
    """(C, H, W) as a GeoTIFF, without a place unless `crs` and `transform` name one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": array.shape[0], "height": array.shape[1], "width": array.shape[2]}
    with rasterio.open(path, "w", **profile, dtype=array.dtype, nodata=nodata, **georef) as file:
        file.write(array)
        if descriptions:
            file.descriptions = descriptions


def reflectance(i: int, shape=(BANDS, SIZE, SIZE)) -> np.ndarray:
    return np.random.default_rng(i).integers(500, 4000, shape).astype(np.uint16)
