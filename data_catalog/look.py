"""Opening some files of an unknown folder: their headers, some of their pixels, and what is written beside them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from data_catalog.readers.base import BadFile
from data_catalog.readers.files import RASTERS, Header, read_header, read_image
from rsfm.errors import RsfmError
from rsfm.rasters import open_raster

_LOOKED_INTO = 24  # files whose pixels are sampled
_PIXELS = 65_536  # per file


@dataclass(frozen=True)
class Looked:
    """Some of the files, opened."""

    paths: list[str]
    headers: list[Header]
    values: np.ndarray  # (C, N) stored values of pixels with data
    bad: list[BadFile]
    tags: str


def look(folder: Path, paths: list[str]) -> Looked:
    """Open some of the files.

    Raises:
        RsfmError: none can be opened, they are of different kinds, or each holds one band of a larger image.
    """
    headers: list[tuple[str, Header]] = []
    bad: list[BadFile] = []
    step = max(1, len(paths) // (_LOOKED_INTO * 4))
    for path in paths[::step]:
        try:
            headers.append((path, read_header(folder / path, path)))
        except BadFile as error:
            bad.append(error)
    if not headers:
        raise RsfmError(f"None of the images in {folder} can be opened: {bad[0].path} {bad[0].reason}.")
    forms = Counter((h.count, h.dtype) for _, h in headers)
    usual, number = forms.most_common(1)[0]
    if len(forms) > 1 and number <= len(headers) / 2:
        shown = "; ".join(next(f"{p} has {h.count} bands of {h.dtype}" for p, h in headers if (h.count, h.dtype) == f)
                          for f in forms)  # fmt: skip
        raise RsfmError(f"{folder} mixes different kinds of images ({shown}): name one file, or a folder of one kind.")
    chosen = [(p, h) for p, h in headers if (h.count, h.dtype) == usual]
    _refuse_band_files(folder, chosen)
    bad += [
        BadFile(p, f"has {h.count} bands of {h.dtype}, most have {usual[0]} of {usual[1]}")
        for p, h in headers
        if (h.count, h.dtype) != usual
    ]
    sizes = Counter((h.height, h.width) for _, h in chosen).most_common(1)[0][0]
    chosen.sort(key=lambda x: (x[1].height, x[1].width) != sizes)  # the usual size first
    parts = []
    for path, header in chosen[:: max(1, len(chosen) // _LOOKED_INTO)][:_LOOKED_INTO]:
        try:
            parts.append(_some_pixels(folder / path, path, header))
        except BadFile as error:
            bad.append(error)
    if not parts:
        raise RsfmError(f"None of the images in {folder} can be decoded: {bad[0].path} {bad[0].reason}.")
    return Looked(
        [p for p, _ in chosen], [h for _, h in chosen], np.concatenate(parts, axis=1), bad, _tags(folder / chosen[0][0])
    )


def _refuse_band_files(folder: Path, chosen: list[tuple[str, Header]]) -> None:
    """Folders that hold one file per band are samples, not classes."""
    names = [PurePosixPath(p) for p, _ in chosen]
    if all(h.count == 1 for _, h in chosen) and all(
        n.stem.startswith(n.parent.name) and re.search(r"_(B\d{1,2}A?|V[VH]|H[VH])$", n.stem, re.I) for n in names
    ):
        raise RsfmError(
            f"{folder} holds one file per band ({names[0].name}): stack the bands of a sample into one file."
        )


def _some_pixels(path: Path, shown: str, header: Header) -> np.ndarray:
    """(C, N) stored values of pixels with data; large rasters are read thinned out."""
    if header.height * header.width > 4 * _PIXELS and path.suffix.lower() in RASTERS:
        image = _thinned(path, shown, header)
    else:
        image = read_image(path, shown)[1]
    flat = image.reshape(image.shape[0], -1)
    keep = np.isfinite(flat).all(axis=0) if flat.dtype.kind == "f" else np.ones(flat.shape[1], bool)
    if header.nodata is not None:
        keep &= (flat != header.nodata).any(axis=0)
    flat = flat[:, keep]
    return flat[:, :: max(1, flat.shape[1] // _PIXELS)].astype(np.float32)


def _thinned(path: Path, shown: str, header: Header) -> np.ndarray:
    from rasterio.errors import RasterioError, RasterioIOError

    factor = (header.height * header.width / _PIXELS) ** 0.5
    shape = (header.count, max(1, int(header.height / factor)), max(1, int(header.width / factor)))
    try:
        with open_raster(path) as dataset:
            return dataset.read(out_shape=shape)
    except (RasterioIOError, RasterioError) as error:
        raise BadFile(shown, "cannot be decoded") from error


def _tags(path: Path) -> str:
    """What the file's tags say in words, without what GDAL writes itself."""
    if path.suffix.lower() not in RASTERS:
        return ""
    with open_raster(path) as dataset:
        return "\n".join(str(v) for v in dataset.tags().values())


def readme(folder: Path) -> str:
    """The folder's README, else its parent's where that speaks of the folder."""
    for place in (folder, folder.parent):
        for file in sorted(place.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*")):
            if file.is_file() and file.suffix.lower() in ("", ".md", ".txt", ".rst"):
                with file.open(encoding="utf-8", errors="replace") as stream:
                    text = stream.read(20_000)
                if place == folder or f"{folder.name}/" in text:
                    return text
    return ""
