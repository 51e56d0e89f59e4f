"""What people have looked at before keeping it: pictures of folders and scenes by key, read once, for page and map."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from app.maps.geometry import (
    Bounds,
    bounds_of,
    boxes_of,
    mercator_y,
    mosaic_layout,
    on_the_map,
    paint_mosaic,
    side_by_side,
)
from data_catalog.describe import Understanding
from data_catalog.preview import Preview, Sight, preview, stamp
from rsfm.errors import RsfmError
from rsfm.geo import footprint

#: Looks that are known by their key; what they hold is small, unlike their pictures.
KNOWN, KEPT = 64, 4
MOSAIC_PIXELS = 1_600
#: Half the extent of Web Mercator in its metres.
HALF_WORLD_M = 20_037_508.342789244

_known: OrderedDict[str, Understanding] = OrderedDict()
_previews: OrderedDict[str, Preview] = OrderedDict()
_guard = threading.Lock()
#: Two sessions that look at the same folder wait for one reading.
_reading = threading.Lock()


def remember(found: Understanding) -> str:
    """The key of what was understood, under which pages and routes find its pictures."""
    key = stamp(found)
    with _guard:
        _known[key] = found
        _known.move_to_end(key)
        while len(_known) > KNOWN:
            _known.popitem(last=False)
    return key


def pictures(key: str) -> Preview:
    """The pictures of that key, read at the first question.

    Raises:
        RsfmError: nobody has looked at it lately.
    """
    with _guard:
        found = _known.get(key)
        if found is None:
            raise RsfmError("This was looked at too long ago: look at it again.")
        _known.move_to_end(key)
    with _reading:
        if key not in _previews:
            _previews[key] = preview(found)
            while len(_previews) > KEPT:
                _previews.popitem(last=False)
        return _previews[key]


@lru_cache(maxsize=128)
def picture_png(key: str, row: int, number: int) -> bytes:
    """Of the sight in that row the picture with that number.

    Raises:
        RsfmError: as `pictures`.
    """
    return png(pictures(key).sights[row].pictures[number][1])


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


# -- scenes on the map ---------------------------------------------------------------------------------------------
def footprints(shown: Preview) -> dict[str, Any]:
    """GeoJSON: a rectangle per scene that has a place which the map can show; `row` is its number among the sights."""
    features = []
    for row, sight in enumerate(shown.sights):
        if sight.place is None:
            continue
        west, south, east, north = footprint(
            sight.place.crs, sight.place.transform, sight.place.height, sight.place.width
        )
        east = east + 360 if east < west else east
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        features.append(
            {
                "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"id": sight.name, "split": "scene", "row": row, "label": None},
            }
        )  # fmt: skip
    places = side_by_side({"type": "FeatureCollection", "features": features})
    shown_there = on_the_map(boxes_of(places))
    return {**places, "features": [f for f, fits in zip(places["features"], shown_there, strict=True) if fits]}


@lru_cache(maxsize=8)
def mosaic(key: str) -> bytes:
    """The scenes at their places in Web Mercator, over the bounds of their footprints; PNG.

    Raises:
        RsfmError: as `pictures`, or none of them has a place.
    """
    shown = pictures(key)
    places = footprints(shown)
    if not places["features"]:
        raise RsfmError("These scenes have no place on Earth.")
    boxes = boxes_of(places)
    bounds = bounds_of(boxes)
    pixels, size = mosaic_layout(boxes, bounds, MOSAIC_PIXELS)

    def picture(i: int) -> np.ndarray:
        left, top, right, bottom = pixels[i]
        return _warped(
            shown.sights[places["features"][i]["properties"]["row"]], tuple(boxes[i]), bottom - top, right - left
        )

    return png(np.asarray(paint_mosaic(pixels, size, picture)))


def _warped(sight: Sight, box: Bounds, height: int, width: int) -> np.ndarray:
    """(height, width, 4): a scene's picture brought from its own grid into a box of Web Mercator."""
    from rasterio.transform import Affine, from_bounds
    from rasterio.warp import Resampling, reproject

    assert sight.place is not None
    picture = sight.pictures[0][1]
    whole = Affine(*sight.place.transform)
    grid = whole @ Affine.scale(sight.place.width / picture.shape[1], sight.place.height / picture.shape[0])
    west, south, east, north = box
    metres = HALF_WORLD_M / 180
    target = from_bounds(
        west * metres, float(mercator_y(south)) * HALF_WORLD_M / np.pi, east * metres,
        float(mercator_y(north)) * HALF_WORLD_M / np.pi, width, height,
    )  # fmt: skip
    out = np.zeros((4, height, width), np.uint8)
    reproject(
        np.ascontiguousarray(picture.transpose(2, 0, 1)), out, src_transform=grid, src_crs=sight.place.crs,
        dst_transform=target, dst_crs="EPSG:3857", resampling=Resampling.nearest,
    )  # fmt: skip
    return out.transpose(1, 2, 0)
