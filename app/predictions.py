"""Pictures and values of predicted scenes: tiles, colours, legends. Files are found by run id and kind of layer."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache, cached
from PIL import Image

from app.imaging import View, views_of_bands
from app.loading import load
from app.state import open_pack
from app.text import visible
from rsfm.errors import RsfmError
from rsfm.prediction_info import NODATA, LayerEntry, PredictionInfo, SceneEntry, prediction_file, read_prediction
from rsfm.scenes import first_line
from rsfm.store.runs import open_run
from rsfm.workspace import Workspace

TILE = 256
#: Tiles are kept up to so many bytes: a map asks for the same ones whenever it is opened, by whomever, or moved back.
KEPT_TILES = 64_000_000
#: How strongly an image is stretched: name -> how much of the range between its 2nd and 98th percentile is shown.
STRETCHES = {"normal": 1.0, "soft": 1.8, "strong": 0.6}
#: Samples that are named at a place; footprints may lie over each other.
MOST_SAMPLES = 5
#: Percent -> colour, of confidence (dark is unsure) and of the probability of change (clear is none).
_RAMPS = {
    "confidence": ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)),
    "change_probability": ((255, 245, 235), (253, 190, 133), (253, 141, 60), (217, 71, 1), (127, 39, 4)),
}


@lru_cache(maxsize=512)
def _read(folder: Path, stamp: int) -> PredictionInfo:
    return read_prediction(folder)


def open_prediction(workspace: Workspace, run_id: str) -> PredictionInfo:
    """What a run has predicted, read once.

    Raises:
        RsfmError: no such run, or it has no prediction (yet).
    """
    folder = open_run(workspace, run_id).path
    file = prediction_file(folder)
    return _read(folder, file.stat().st_mtime_ns) if file.is_file() else read_prediction(folder)


def layer_file(workspace: Workspace, run_id: str, kind: str) -> tuple[LayerEntry, Path]:
    """A layer and its file, which lies in the run's own folder.

    Raises:
        RsfmError: no such run, prediction or layer, or its file is gone.
    """
    entry = next((x for x in open_prediction(workspace, run_id).layers if x.kind == kind), None)
    if entry is None:
        raise RsfmError(f"The prediction {run_id} has no layer {kind!r}.")
    return entry, artifact_file(workspace, run_id, entry.file)


def artifact_file(workspace: Workspace, run_id: str, path: str) -> Path:
    """A file that a prediction names, if it lies where artifacts lie.

    Raises:
        RsfmError: it does not, or is gone.
    """
    root = open_run(workspace, run_id).path.resolve()
    file = (root / path).resolve()
    if not file.is_relative_to(root / "artifacts") or not file.is_file():
        raise RsfmError(f"The file of this layer of {run_id} is gone: predict again.")
    return file


def require_place(info: PredictionInfo) -> None:
    """Raises:
    RsfmError: the scene has no place on Earth, so nothing of it can be asked for by one.
    """
    if info.scene.bounds is None:
        raise RsfmError(f"The scene of {info.run_id} has no place on Earth: there is no map of it, only pictures.")


# -- bands ---------------------------------------------------------------------------------------------------------
def find_look(layer: LayerEntry, key: str | None) -> View:
    """The way to look at an image layer with that key; without one the first.

    Raises:
        RsfmError: there is no such way.
    """
    known = views_of_bands(layer.bands)
    found = next((v for v in known if key in (None, "", v.key)), None)
    if found is None:
        raise RsfmError(f"This image cannot be shown as {key!r}; it can be as {', '.join(v.key for v in known)}.")
    return found


def positions(layer: LayerEntry, look: View | None) -> list[int]:
    """Where the bands of a look lie in the layer; of a map its one band."""
    names = [b.name for b in layer.bands]
    return [names.index(name) for name in look.bands] if look else [0]


# -- pictures ------------------------------------------------------------------------------------------------------
def hex_colour(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def palette_of(layer: LayerEntry) -> np.ndarray:
    """(256, 4) uint8: colour of each stored number; unknown ones are see-through."""
    table = np.zeros((256, 4), np.uint8)
    for item in layer.legend:
        table[item.value] = (*hex_colour(item.colour), 0 if item.clear else 255)
    if layer.kind in _RAMPS:
        ramp = np.array(_RAMPS[layer.kind], float)
        at = np.linspace(0, 100, len(ramp))
        for channel in range(3):
            table[:101, channel] = np.interp(np.arange(101), at, ramp[:, channel]).round()
        table[:101, 3] = 255
        if layer.kind == "change_probability":  # what surely did not change hides nothing
            table[:101, 3] = np.interp(np.arange(101), (0, 15, 60), (0, 60, 255)).round()
    table[NODATA] = 0
    return table


def ramp_colours(kind: str) -> list[str]:
    """The colours of a layer of percentages, low to high."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in _RAMPS[kind]]


def paint(layer: LayerEntry, values: np.ndarray, valid: np.ndarray, look: View | None, stretch: str) -> np.ndarray:
    """(H, W, 4) uint8 picture.

    Args:
        values: (C, H, W) as stored, of the look's bands, or of the one band of a map.
        valid: (H, W) where there is something.
    """
    if look is None:
        picture = palette_of(layer)[values[0].astype(np.uint8)]
        picture[~valid] = 0
        return picture
    planes = []
    for plane, position in zip(values, positions(layer, look), strict=True):
        band = layer.bands[position]
        middle, half = (band.p2 + band.p98) / 2, max(band.p98 - band.p2, 1e-9) / 2 * STRETCHES[stretch]
        shown = (np.nan_to_num(plane.astype(np.float64)) - (middle - half)) / (2 * half)
        planes.append((shown.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    colours = planes if len(planes) == 3 else planes * 3
    return np.stack([*colours, np.where(valid, 255, 0).astype(np.uint8)], axis=-1)


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def empty_tile() -> bytes:
    return png(np.zeros((TILE, TILE, 4), np.uint8))


def tile(file: Path, layer: LayerEntry, z: int, x: int, y: int, look: View | None, stretch: str) -> bytes:
    """One Web Mercator tile as PNG; an empty one outside of the scene.

    Raises:
        RsfmError: it cannot be drawn.
        DamagedError: the file is cut off or overwritten.
    """
    with _readable(layer):
        stat = file.stat()
    return _drawn(file, layer, z, x, y, look, stretch, stamp=(stat.st_mtime_ns, stat.st_size))


def _which(
    file: Path, layer: LayerEntry, z: int, x: int, y: int, look: View | None, stretch: str, stamp: tuple[int, int]
) -> tuple[Any, ...]:
    return file, stamp, layer.kind, z, x, y, look, stretch


@cached(LRUCache(KEPT_TILES, getsizeof=len), key=_which, lock=Lock())
def _drawn(
    file: Path, layer: LayerEntry, z: int, x: int, y: int, look: View | None, stretch: str, stamp: tuple[int, int]
) -> bytes:
    rio_tiler = load("rio_tiler.io")
    from rio_tiler.errors import RioTilerError, TileOutsideBounds

    kind = "nearest" if look is None and layer.legend else "bilinear"
    path, indexes = _of_bands(file, layer, look)
    try:
        with _readable(layer), _gdal(), rio_tiler.Reader(path) as source:
            data = source.tile(x, y, z, tilesize=TILE, indexes=indexes, resampling_method=kind, reproject_method=kind)
    except TileOutsideBounds:
        return empty_tile()
    except RioTilerError as error:
        raise RsfmError(f"The tile {z}/{x}/{y} of {layer.title} cannot be drawn: {error}") from None
    return png(paint(layer, data.data, data.mask > 0, look, stretch))


def preview(file: Path, layer: LayerEntry, look: View | None, stretch: str, longest: int = 1024) -> bytes:
    """The whole layer as one PNG, on its own grid: for scenes without a place on Earth, and for reports."""
    kind = "nearest" if look is None and layer.legend else "bilinear"
    path, indexes = _of_bands(file, layer, look)
    with _readable(layer), _gdal(), load("rio_tiler.io").ImageReader(path) as source:
        data = source.preview(max_size=longest, indexes=indexes, resampling_method=kind)
    return png(paint(layer, data.data, data.mask > 0, look, stretch))


def values_at(workspace: Workspace, run_id: str, longitude: float, latitude: float) -> dict[str, Any]:
    """What each layer holds at a place.

    Returns:
        layers: [{kind, title, text}], only those that were observed there. pixel: its row and column in the scene;
        None beyond it. samples: of the pack that the network was trained on, as `samples_at` finds them.

    Raises:
        RsfmError: the scene has no place on Earth.
    """
    info = open_prediction(workspace, run_id)
    require_place(info)
    rio_tiler = load("rio_tiler.io")
    from rio_tiler.errors import PointOutsideBounds

    found = []
    for layer in info.layers:
        file = artifact_file(workspace, run_id, layer.file)
        try:
            with _readable(layer), _gdal(), rio_tiler.Reader(str(file)) as source:
                point = source.point(longitude, latitude)
        except PointOutsideBounds:
            continue
        values = np.ma.getdata(point.array)
        if np.ma.getmaskarray(point.array).all():
            continue
        found.append({"kind": layer.kind, "title": visible(layer.title), "text": visible(_said(layer, values))})
    pixel = _pixel_at(info.scene, longitude, latitude)
    samples = samples_at(workspace, info.model.trained_on, longitude, latitude) if pixel else []
    return {"run_id": run_id, "layers": found, "pixel": pixel, "samples": samples}


def _pixel_at(scene: SceneEntry, longitude: float, latitude: float) -> dict[str, int] | None:
    """Row and column of a place in a scene that has one; None beyond its edges."""
    from rasterio.warp import transform

    x, y = transform("EPSG:4326", scene.crs, [longitude], [latitude])
    column, row = ~load("rasterio").Affine(*scene.transform) * (x[0], y[0])
    inside = 0 <= row < scene.height and 0 <= column < scene.width
    return {"row": int(row), "column": int(column)} if inside else None


def samples_at(workspace: Workspace, name: str, longitude: float, latitude: float) -> list[dict[str, Any]]:
    """The samples of a pack whose footprint, a box of degrees, holds a place: [{pack, split, row, id}], a few of them.

    Where the pack is not in this workspace, or is not what its own description says, there are none.
    """
    try:
        samples = open_pack(workspace, name).samples
    except RsfmError:
        return []
    # Degrees to the east of the western edge: a footprint may lie across the antimeridian.
    within = (longitude - samples["west"]) % 360 <= (samples["east"] - samples["west"]) % 360
    held = samples[within & (samples["south"] <= latitude) & (latitude <= samples["north"])]
    return [
        {"pack": name, "split": str(s.split), "row": int(s.row), "id": visible(s.id)}
        for s in held.head(MOST_SAMPLES).itertuples()
    ]


def _said(layer: LayerEntry, values: np.ndarray) -> str:
    if layer.legend:
        return next((i.label for i in layer.legend if i.value == int(values[0])), str(int(values[0])))
    if layer.unit == "percent":
        return f"{int(values[0])} %"
    parts = [f"{b.name} {float(v) * b.scale + b.offset:.4g}" for b, v in zip(layer.bands, values, strict=True)]
    return ", ".join(parts) + f" ({layer.unit})"


def _of_bands(file: Path, layer: LayerEntry, look: View | None) -> tuple[str, list[int]]:
    """What to open for a picture, and which bands of it: only those that are shown, as all that are open are warped."""
    wanted = [position + 1 for position in positions(layer, look)]
    if look is None or "?" in str(file):  # where GDAL would take the path to end
        return str(file), wanted
    return f"vrt://{file}?bands={','.join(map(str, wanted))}", list(range(1, len(wanted) + 1))


class DamagedError(RsfmError):
    """A layer's file is cut off or overwritten."""


@contextlib.contextmanager
def _readable(layer: LayerEntry) -> Iterator[None]:
    """Raises:
    DamagedError: what is read inside is no whole raster.
    """
    from rasterio.errors import CRSError, RasterioError

    try:
        yield
    except (RasterioError, CRSError, OSError) as error:
        raise DamagedError(
            f"The file of {layer.title} cannot be read, it is damaged or cut off: {first_line(error)}. Predict again."
        ) from error


def _gdal() -> Any:
    """GDAL's settings for many small reads of local files; it must not look around in the folder."""
    return load("rasterio").Env(
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_CACHEMAX=128,
        VSI_CACHE=True,
        GDAL_NUM_THREADS=os.cpu_count() or 1,
    )
