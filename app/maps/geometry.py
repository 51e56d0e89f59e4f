"""Pure geometry of the maps: views, a graticule, and where a mosaic of samples has its pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

#: Web Mercator ends here.
MAX_LATITUDE = 85.0
#: Distances (degrees) between graticule lines, coarse to fine.
GRATICULE_STEPS = (30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)

#: As near as a map can be seen.
MAX_ZOOM = 24

Bounds = tuple[float, float, float, float]  # west, south, east, north in degrees


def unwrapped(bounds: Bounds) -> Bounds:
    """The same box with west < east: of one across the antimeridian the east lies beyond 180 degrees."""
    west, south, east, north = bounds
    return west, south, east + 360 if west > east else east, north


def parse_view(text: str | None) -> tuple[float, float, float] | None:
    """`lon,lat,zoom`; None for anything else."""
    try:
        longitude, latitude, zoom = map(float, (text or "").split(","))
    except ValueError:
        return None
    fits = abs(longitude) <= 180 and abs(latitude) <= 90 and 0 <= zoom <= MAX_ZOOM
    return (longitude, latitude, zoom) if fits else None


def boxes_of(collection: dict[str, Any]) -> np.ndarray:
    """(N, 4) west, south, east, north of the rectangles of a GeoJSON feature collection (`rsfm.thumbs.footprints`)."""
    rings = [f["geometry"]["coordinates"][0] for f in collection["features"]]
    corners = np.array([[ring[0], ring[2]] for ring in rings], dtype=float).reshape(-1, 4)
    return corners


def side_by_side(collection: dict[str, Any]) -> dict[str, Any]:
    """The same rectangles, moved by whole turns of the globe, so that those across the antimeridian meet.

    The globe is cut in the widest gap between them. Where more than half of it remains nothing moves: the map of the
    whole world has its usual edges.
    """
    boxes = boxes_of(collection)
    if not len(boxes):
        return collection
    west, width = boxes[:, 0], boxes[:, 2] - boxes[:, 0]
    order = np.argsort(west % 360)
    starts = (west % 360)[order]
    # How far anything reaches that starts no further east; the last gap goes on to the first rectangle.
    reach = np.maximum.accumulate(starts + width[order])
    gaps = np.append(starts[1:], starts[0] + 360) - reach
    widest = int(gaps.argmax())
    if gaps[widest] < 180:
        return collection
    first = starts[(widest + 1) % len(starts)]
    easting = first + (west - first) % 360
    if (easting.min() + (easting + width).max()) / 2 >= 180:
        easting -= 360  # a picture must have its middle on the map
    turns = np.round((easting - west) / 360) * 360
    features = [_moved(f, float(turn)) if turn else f for f, turn in zip(collection["features"], turns, strict=True)]
    return {**collection, "features": features}


def _moved(feature: dict[str, Any], east: float) -> dict[str, Any]:
    """A rectangle so many degrees further east."""
    geometry = feature["geometry"]
    rings = [[[x + east, y] for x, y in ring] for ring in geometry["coordinates"]]
    return {**feature, "geometry": {**geometry, "coordinates": rings}}


def on_the_map(boxes: np.ndarray) -> np.ndarray:
    """(N,) bool: which boxes Web Mercator can show whole; it ends at `MAX_LATITUDE`."""
    return (boxes[:, 1] >= -MAX_LATITUDE) & (boxes[:, 3] <= MAX_LATITUDE)


def bounds_of(boxes: np.ndarray) -> Bounds:
    """The box around all boxes, a little wider, as far as the map reaches. `boxes` (N, 4) with N > 0."""
    west, south, east, north = (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))
    pad = max(east - west, north - south, 1e-4) * 0.04
    low, high = min(south, MAX_LATITUDE) - pad, max(north, -MAX_LATITUDE) + pad
    return float(west - pad), max(float(low), -MAX_LATITUDE), float(east + pad), min(float(high), MAX_LATITUDE)


def graticule(bounds: Bounds) -> dict[str, Any]:
    """Meridians and parallels around `bounds`, as close as reads well there, and coarse ones for the whole world."""
    west, south, east, north = bounds
    span = max(east - west, north - south)
    fine = next((s for s in GRATICULE_STEPS if span / s >= 4), GRATICULE_STEPS[-1])
    features = []
    for step, box in ((30.0, (-180.0, -MAX_LATITUDE, 180.0, MAX_LATITUDE)), (fine, _around(bounds, fine))):
        w, s, e, n = box
        for i in range(math.ceil(w / step), math.floor(e / step) + 1):
            features.append(_line([[i * step, s], [i * step, n]], step, _degrees(i, step, "EW")))
        for i in range(math.ceil(s / step), math.floor(n / step) + 1):
            features.append(_line([[w, i * step], [e, i * step]], step, _degrees(i, step, "NS")))
    return {"type": "FeatureCollection", "features": features}


def _around(bounds: Bounds, step: float) -> Bounds:
    west, south, east, north = bounds
    margin = 6 * step
    return (
        math.floor(west - margin), max(math.floor(south - margin), -MAX_LATITUDE),
        math.ceil(east + margin), min(math.ceil(north + margin), MAX_LATITUDE),
    ) if step >= 1 else (
        west - margin, max(south - margin, -MAX_LATITUDE), east + margin, min(north + margin, MAX_LATITUDE)
    )  # fmt: skip


def _degrees(i: int, step: float, letters: str) -> str:
    """What line `i` says: 0°, 30° W, 46.25° N. Beyond the antimeridian it counts from the other side."""
    value = i * step
    if letters == "EW" and abs(value) > 180:
        value -= math.copysign(360, value)
    said = f"{abs(value):.3f}".rstrip("0").rstrip(".")
    return "0°" if said == "0" else f"{said}°" if said == "180" else f"{said}° {letters[0 if value > 0 else 1]}"


def _line(points: list[list[float]], step: float, label: str) -> dict[str, Any]:
    geometry = {"type": "LineString", "coordinates": points}
    return {"type": "Feature", "properties": {"step": step, "label": label}, "geometry": geometry}


def mercator_y(latitude: np.ndarray | float) -> np.ndarray:
    """Web Mercator's northing, in radians of longitude."""
    clipped = np.clip(latitude, -MAX_LATITUDE, MAX_LATITUDE)
    return np.log(np.tan(np.pi / 4 + np.radians(clipped) / 2))


def mosaic_layout(boxes: np.ndarray, bounds: Bounds, longest: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Where each footprint falls in a picture of `bounds` in Web Mercator.

    Args:
        boxes: (N, 4) west, south, east, north in degrees.
        longest: pixels of the picture's longer side.

    Returns:
        (N, 4) integer boxes left, top, right, bottom (at least one pixel each), and the picture's (width, height).
    """
    west, south, east, north = bounds
    top, bottom = float(mercator_y(north)), float(mercator_y(south))
    width_m, height_m = math.radians(east - west), top - bottom
    scale = longest / max(width_m, height_m)
    size = max(1, round(width_m * scale)), max(1, round(height_m * scale))
    left, right = (np.radians(boxes[:, i] - west) * scale for i in (0, 2))
    lower, upper = ((top - mercator_y(boxes[:, i])) * scale for i in (1, 3))
    pixels = np.round(np.stack([left, upper, right, lower], axis=1)).astype(int)
    pixels[:, 2:] = np.maximum(pixels[:, 2:], pixels[:, :2] + 1)
    return pixels, size


def paint_mosaic(boxes: np.ndarray, size: tuple[int, int], picture: Callable[[int], np.ndarray]) -> Image.Image:
    """All samples painted into one transparent RGBA picture; `picture(i)` gives sample i as (H, W, 3 or 4) uint8."""
    canvas = Image.new("RGBA", size, (0, 0, 0, 0))
    for i, (left, top, right, bottom) in enumerate(boxes):
        tile = Image.fromarray(picture(i)).resize((int(right - left), int(bottom - top)), Image.Resampling.BOX)
        canvas.paste(tile, (int(left), int(top)), tile if tile.mode == "RGBA" else None)
    return canvas
