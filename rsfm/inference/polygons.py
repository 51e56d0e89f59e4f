"""Outlines of change: along the pixels of `changes.tif`, simplified, with their area on the ellipsoid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from pyproj import Geod, Transformer
from shapely import Polygon, transform
from shapely.geometry import shape
from shapely.geometry.polygon import orient

from rsfm.inference.reader import CACHE_MB
from rsfm.prediction_info import Polygons
from rsfm.scenes import SceneInfo

_EARTH = Geod(ellps="WGS84")


def outlines(changes: Path) -> Iterator[Polygon]:
    """Connected pixels of 1 (by their sides), in pixel coordinates (column, row)."""
    import rasterio
    from rasterio.features import shapes

    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(changes) as dataset:
        band = rasterio.band(dataset, 1)  # read by rows, not as a whole; comes in the file's own coordinates
        back = ~dataset.transform
        for geometry, value in shapes(band, mask=band, connectivity=4):
            if value == 1:  # 0 is masked; what is not observed is no change either
                yield transform(shape(geometry), lambda xy: _applied(back, xy).round())


def area_m2(polygon: Polygon) -> float:
    """Area on the WGS 84 ellipsoid of a polygon in degrees, without its holes."""
    rings = [_area(*ring.xy) for ring in (polygon.exterior, *polygon.interiors)]
    return rings[0] - sum(rings[1:])


def _area(longitudes: Any, latitudes: Any) -> float:
    return abs(_EARTH.polygon_area_perimeter(longitudes, latitudes)[0])


def pixel_area_m2(grid: SceneInfo) -> float:
    """Of the pixel at the middle of the grid."""
    return float(_pixel_areas(grid, [grid.height / 2], [grid.width / 2]).item())


def row_areas_m2(grid: SceneInfo) -> np.ndarray:
    """(H,) area of each row's pixels, on average; NaN where a part of them has no place on Earth.

    Pixels of 65 rows are measured, what lies between is interpolated: in degrees from pole to pole, less than a
    thousandth is lost.
    """
    rows = _spread(grid.height, 65)
    return np.interp(np.arange(grid.height), rows, _pixel_areas(grid, rows, _spread(grid.width, 9)).mean(axis=1))


def _spread(size: int, count: int) -> np.ndarray:
    """Up to `count` pixels of a side, its ends included."""
    return np.unique(np.linspace(0, size - 1, count).round())


def _pixel_areas(
    grid: SceneInfo, rows: Sequence[float] | np.ndarray, columns: Sequence[float] | np.ndarray
) -> np.ndarray:
    """(R, C) of the pixels that begin there."""
    places = _Places(grid)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    found = [[_area(*places.degrees(corners + np.array([x, y])).T) for x in columns] for y in rows]
    return np.array(found)


class _Places:
    """From pixel coordinates of a grid, (N, 2), to its CRS and to degrees."""

    def __init__(self, grid: SceneInfo) -> None:
        self._affine = Affine(*grid.transform)  # type: ignore[misc]
        self._degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)

    def own(self, xy: np.ndarray) -> np.ndarray:
        return _applied(self._affine, xy)

    def degrees(self, xy: np.ndarray) -> np.ndarray:
        return np.stack(self._degrees.transform(*self.own(xy).T), axis=1)


def _applied(affine: Affine, xy: np.ndarray) -> np.ndarray:
    """(N, 2) to (N, 2)."""
    a, b, c, d, e, f = tuple(affine)[:6]
    return xy @ np.array([[a, d], [b, e]]) + np.array([c, f])


def write_polygons(
    changes: Path, grid: SceneInfo, folder: Path, *, min_area_m2: float | None, simplify_px: float,
    say: Callable[[str], None] = lambda text: None,
) -> Polygons:  # fmt: skip
    """`changes.geojson` in EPSG:4326 and `changes.gpkg` in the grid's CRS, the largest first.

    Areas are those of the pixels, before outlines are simplified.

    Args:
        min_area_m2: smaller ones are left out; None: nine pixels.
        say: called from time to time with what is done; may raise to stop.
    """
    import geopandas

    places = _Places(grid)
    least = 9 * pixel_area_m2(grid) if min_area_m2 is None else min_area_m2
    # The largest pixel, with some to spare: what is too small even of such ones need not be measured.
    largest = 1.05 * _pixel_areas(grid, _spread(grid.height, 65), _spread(grid.width, 9)).max()
    kept: list[tuple[float, Polygon]] = []
    small = 0
    for number, outline in enumerate(outlines(changes), start=1):
        if number % 1000 == 0:
            say(f"polygons, {number:,} so far")
        if outline.area * largest < least:  # never of a NaN
            small += 1
            continue
        area = area_m2(transform(outline, places.degrees))
        if area < least * (1 - 1e-9):
            small += 1
            continue
        kept.append((area, outline.simplify(simplify_px) if simplify_px else outline))
    kept.sort(key=lambda item: -item[0])
    features = [
        {
            "type": "Feature", "id": number, "properties": {"id": number, "area_m2": round(area, 1)},
            "geometry": _rounded(orient(transform(outline, places.degrees))),
        }
        for number, (area, outline) in enumerate(kept, start=1)
    ]  # fmt: skip
    geojson, gpkg = folder / "changes.geojson", folder / "changes.gpkg"
    staged = geojson.with_name(f".{geojson.name}")
    staged.write_text(json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":")))
    frame = geopandas.GeoDataFrame(
        {"id": [f["id"] for f in features], "area_m2": [round(area, 1) for area, _ in kept]},
        geometry=[transform(outline, places.own) for _, outline in kept], crs=grid.crs,
    )  # fmt: skip
    made = gpkg.with_name(f".{gpkg.name}")
    made.unlink(missing_ok=True)
    frame.to_file(made, driver="GPKG", layer="changes", engine="pyogrio", geometry_type="Polygon")
    staged.replace(geojson)
    made.replace(gpkg)
    return Polygons(
        geojson=f"{folder.name}/{geojson.name}", gpkg=f"{folder.name}/{gpkg.name}", count=len(kept),
        area_m2=sum(area for area, _ in kept), min_area_m2=least, below_minimum=small,
    )  # fmt: skip


def _rounded(polygon: Polygon) -> dict[str, Any]:
    """Degrees to the seventh decimal: a centimetre."""
    rings = (polygon.exterior, *polygon.interiors)
    return {
        "type": "Polygon",
        "coordinates": [[[round(x, 7), round(y, 7)] for x, y in ring.coords] for ring in rings],
    }
