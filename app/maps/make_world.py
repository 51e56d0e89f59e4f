"""Makes `world.geojson` (see `world.LICENSE.txt`) from two TopoJSON files of the npm package world-atlas 2.0.2.

    python -m app.maps.make_world land-50m.json countries-50m.json

Nothing of the dashboard runs this: it stands here so that the file can be made again.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import LineString, MultiLineString, MultiPolygon, Polygon, mapping
from shapely.geometry.base import BaseGeometry
from shapely.ops import polylabel

OUT = Path(__file__).with_name("world.geojson")
#: Degrees: how far a simplified line may lie from the true one, and the grid of the coordinates.
TOLERANCE, GRID = 0.025, 0.01
WORLD = shapely.box(-180, -90, 180, 90)


def arcs_of(topology: dict[str, Any]) -> list[np.ndarray]:
    """The lines that all shapes share, (N, 2) longitude and latitude: the file has differences of whole numbers."""
    scale, start = (np.array(topology["transform"][k]) for k in ("scale", "translate"))
    return [np.cumsum(arc, axis=0) * scale + start for arc in topology["arcs"]]


def polygons_of(shape: dict[str, Any]) -> list[list[list[int]]]:
    """The polygons of a shape as lists of rings, a ring as numbers of arcs; ~n is arc n backwards."""
    if shape["type"] is None:
        return []
    return shape["arcs"] if shape["type"] == "MultiPolygon" else [shape["arcs"]]


def around(ring: list[int], arcs: list[np.ndarray]) -> np.ndarray:
    """A ring's points without jumps: where it crosses the antimeridian it goes on beyond 180 degrees."""
    parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ring]
    points = np.concatenate([parts[0], *(part[1:] for part in parts[1:])])
    points[:, 0] = np.unwrap(points[:, 0], period=360)
    if abs(points[-1, 0] - points[0, 0]) > 180:  # round a pole, which is inside
        pole = np.copysign(90, points[:, 1].mean())
        points = np.concatenate([points, [[points[-1, 0], pole], [points[0, 0], pole]]])
    return points


def cut(geometry: BaseGeometry) -> BaseGeometry:
    """The same geometry within -180 to 180 degrees: what lies beyond either side comes in at the other."""
    turns = (shapely.transform(geometry, lambda c, by=by: c + np.array([by, 0])) for by in (-360, 0, 360))
    return shapely.union_all([WORLD.intersection(turn) for turn in turns])


def solid(polygon: list[list[int]], arcs: list[np.ndarray]) -> BaseGeometry:
    """A polygon, cut. A ring that is only the pole itself (a seam of the source) bounds nothing."""
    rings = [around(ring, arcs) for ring in polygon]
    solids = [cut(shapely.make_valid(Polygon(r))) for r in rings if len(r) > 3 and np.abs(r[:, 1]).min() < 89.9]
    return solids[0].difference(shapely.union_all(solids[1:])) if solids else Polygon()


def parts_of(geometry: BaseGeometry, kind: str) -> list[Any]:
    """The polygons or lines of a geometry, without crumbs of fewer dimensions."""
    return [part for part in shapely.get_parts(geometry) if part.geom_type == kind]


def smooth(geometry: BaseGeometry, kind: str) -> list[Any]:
    """The polygons or lines of a geometry, simplified, on the grid, and valid together.

    No line is longer than 90 degrees: that along the pole has points too.
    """
    simple = shapely.make_valid(geometry.simplify(TOLERANCE, preserve_topology=True))
    joined = shapely.union_all(parts_of(simple, kind), grid_size=GRID)
    return parts_of(shapely.segmentize(joined, 90), kind)


def size(geometry: BaseGeometry) -> float:
    """An area that is true across latitudes, in no particular unit."""
    return shapely.transform(geometry, lambda c: np.stack([c[:, 0], np.sin(np.radians(c[:, 1]))], axis=1)).area


def feature(geometry: BaseGeometry, **properties: Any) -> dict[str, Any]:
    """GeoJSON, with as many digits as the grid has."""

    def rounded(value: Any) -> Any:
        return round(value, 2) if isinstance(value, float) else [rounded(v) for v in value]

    shape = mapping(geometry)
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": shape["type"], "coordinates": rounded(shape["coordinates"])},
    }


def land_of(topology: dict[str, Any]) -> dict[str, Any]:
    """All land, as one feature."""
    arcs = arcs_of(topology)
    land = [solid(p, arcs) for shape in topology["objects"]["land"]["geometries"] for p in polygons_of(shape)]
    return feature(MultiPolygon(smooth(shapely.union_all(land), "Polygon")), kind="land")


def countries_of(topology: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The boundaries between countries as one feature, and the names, the largest country first."""
    arcs, shapes = arcs_of(topology), topology["objects"]["countries"]["geometries"]
    users, names = defaultdict(set), []
    for number, shape in enumerate(shapes):
        polygons = polygons_of(shape)
        for arc in (arc for polygon in polygons for ring in polygon for arc in ring):
            users[arc if arc >= 0 else ~arc].add(number)
        parts = [part for p in polygons for part in parts_of(solid(p, arcs), "Polygon")]
        if parts:
            # Inside of the largest part, far from its shore: a mean of all parts may lie in another country.
            names.append((sum(map(size, parts)), shape["properties"]["name"], polylabel(max(parts, key=size), 0.01)))
    shared = [LineString(around([arc], arcs)) for arc, of in users.items() if len(of) > 1]
    lines = [line for arc in shared for line in smooth(cut(arc), "LineString")]
    names.sort(key=lambda entry: -entry[0])
    points = [feature(point, kind="name", name=name, rank=rank) for rank, (_, name, point) in enumerate(names)]
    return feature(MultiLineString(lines), kind="border"), points


def main(land: str, countries: str) -> None:
    """Read both files and write `world.geojson` beside this one."""
    border, names = countries_of(json.loads(Path(countries).read_text(encoding="utf-8")))
    features = [land_of(json.loads(Path(land).read_text(encoding="utf-8"))), border, *names]
    world = {"type": "FeatureCollection", "features": features}
    OUT.write_text(json.dumps(world, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
