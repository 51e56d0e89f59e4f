"""Opening raster files of others: only kinds that hold their own pixels, never one that names files elsewhere.

GDAL goes by a file's content, so that `x.tif` may be a list of other files, anywhere on this machine or on the network,
and what is beside a file may name others too. Whoever prepares a downloaded dataset wants none of these in the pack.
"""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

#: Suffix -> the GDAL driver that may read such a file.
DRIVERS = {
    ".tif": "GTiff", ".tiff": "GTiff", ".jp2": "JP2OpenJPEG", ".img": "HFA",
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP",
}  # fmt: skip
#: What GDAL reads beside x.tif, as x.tif.ovr, whatever the case: smaller copies, and where pixels are missing.
_BESIDE = (".ovr", ".msk")


def open_raster(path: Path) -> DatasetReader:
    """The raster, open for reading.

    Raises:
        RasterioIOError: no such file, of another kind than its suffix says, or it reaches for pixels elsewhere.
    """
    from rasterio.errors import RasterioIOError

    # An existing file by its whole path, which GDAL cannot take for an address or for a path into an archive.
    path = path.absolute()
    if not path.is_file() or str(path).lower().startswith("/vsi"):
        raise RasterioIOError(f"There is no file {path}")
    driver = DRIVERS.get(path.suffix.lower())
    if path.suffix.lower() == ".vrt":
        raise RasterioIOError("a virtual raster names other files: make one GeoTIFF of them")
    if driver is None:
        raise RasterioIOError(f"{path.suffix or 'a file without a suffix'} is none of {', '.join(DRIVERS)}")
    if driver == "HFA" and path.with_suffix(".hdr").is_file():
        driver = "ENVI"  # plain numbers, described beside them
    return _checked(path, driver)


def _checked(path: Path, driver: str) -> DatasetReader:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    for name in _beside(path.parent, path.parent.stat().st_mtime_ns):
        if name.lower() in {path.name.lower() + suffix for suffix in _BESIDE}:
            try:
                _checked(path.parent / name, "GTiff").close()
            except RasterioIOError as error:
                raise RasterioIOError(f"{name} beside it is not a TIFF that can be used: remove it") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        dataset = rasterio.open(path, driver=driver)
    if dataset.tags(ns="OVERVIEWS"):
        dataset.close()
        raise RasterioIOError("it names another file as its overviews: make a copy without them")
    return dataset


@lru_cache(maxsize=64)
def _beside(folder: Path, changed: int) -> tuple[str, ...]:
    """Files of a folder, last changed then, that are read along with others."""
    with os.scandir(folder) as entries:
        return tuple(sorted(e.name for e in entries if e.name.lower().endswith(_BESIDE)))
