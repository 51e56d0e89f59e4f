"""Small geodesy: what a pixel grid covers and how large its pixels are on the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

Affine6 = Sequence[float]  # a b c d e f: x = a * column + b * row + c, y = d * column + e * row + f


@lru_cache(maxsize=256)
def _crs(text: str) -> CRS:
    from pyproj import CRS

    return CRS.from_user_input(text)


@lru_cache(maxsize=256)
def _to_degrees(text: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(_crs(text), "EPSG:4326", always_xy=True)


def crs_text(crs: object) -> str | None:
    """`EPSG:xxxx` where the coordinate reference system has a code, else WKT; None for none.

    Args:
        crs: what rasterio gives (`dataset.crs`).
    """
    if not crs:
        return None
    code = crs.to_epsg()  # type: ignore[attr-defined]
    return f"EPSG:{code}" if code else crs.to_wkt()  # type: ignore[attr-defined]


def is_georeferenced(transform: Affine6 | None) -> bool:
    """Whether a transform says more than "pixel numbers"."""
    return transform is not None and tuple(transform[:6]) not in ((1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0))


def footprint(crs: str, transform: Affine6, height: int, width: int) -> tuple[float, float, float, float]:
    """Bounds (west, south, east, north) in degrees (EPSG:4326) of a grid of height x width pixels.

    Edges are densified, because straight lines of a projection are curves in degrees. Where a grid crosses the
    antimeridian, west > east.
    """
    a, b, c, d, e, f = transform[:6]
    corners = [(a * x + b * y + c, d * x + e * y + f) for x in (0, width) for y in (0, height)]
    xs, ys = zip(*corners, strict=True)
    bounds = _to_degrees(crs).transform_bounds(min(xs), min(ys), max(xs), max(ys), densify_pts=21)
    return tuple(float(v) for v in bounds)  # type: ignore[return-value]


def ground_gsd(crs: str | None, transform: Affine6 | None, height: int, width: int) -> float | None:
    """Ground sampling distance in metres at the grid's centre: the coarser of the two pixel sides.

    The coarser one, because it limits what can be seen (a grid in degrees far from the equator is oversampled along
    its rows). Geographic coordinates go through the ellipsoid, and so do those of Mercator, whose metres shrink with
    the cosine of the latitude; other projections keep lengths well where they are used.

    Returns:
        None where the grid is not georeferenced.
    """
    if crs is None or not is_georeferenced(transform):
        return None
    a, b, c, d, e, f = transform[:6]  # type: ignore[index]
    system = _crs(crs)
    geographic = system.is_geographic
    if not geographic and not _is_mercator(system):
        metres = system.axis_info[0].unit_conversion_factor or 1.0
        return max(math.hypot(a, d), math.hypot(b, e)) * metres
    x, y = a * width / 2 + b * height / 2 + c, d * width / 2 + e * height / 2 + f
    places = [(x, y), (x + a, y + d), (x + b, y + e)]
    if not geographic:
        places = [_to_degrees(crs).transform(*place) for place in places]
    geod = system.get_geod()
    return float(max(geod.inv(*places[0], *place)[2] for place in places[1:]))


def _is_mercator(system: CRS) -> bool:
    """The one along the equator, of web maps."""
    method = system.coordinate_operation.method_name if system.coordinate_operation else ""
    return "Mercator" in method and not any(word in method for word in ("Transverse", "Oblique"))
