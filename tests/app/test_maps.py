"""Geometry of the maps, and what leafmap composes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.maps.compose import compose_footprints, for_script
from app.maps.geometry import bounds_of, boxes_of, graticule, mercator_y, mosaic_layout
from app.maps.ground import base_style, page_headers
from app.routes.vendor import MAPS


def collection(*boxes: tuple[float, float, float, float]) -> dict:
    features = []
    for i, (w, s, e, n) in enumerate(boxes):
        ring = [[w, s], [e, s], [e, n], [w, n], [w, s]]
        features.append(
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
             "properties": {"id": f"</script>{i}", "split": "train", "row": i, "label": None}}
        )  # fmt: skip
    return {"type": "FeatureCollection", "features": features}


def test_boxes_and_bounds() -> None:
    boxes = boxes_of(collection((1, 2, 3, 4), (-5, 0, -4, 1)))
    assert boxes.tolist() == [[1, 2, 3, 4], [-5, 0, -4, 1]]
    west, south, east, north = bounds_of(boxes)
    assert west < -5 and south < 0 and east > 3 and north > 4 and east - west < 9
    point = bounds_of(boxes_of(collection((10, 10, 10, 10))))
    assert point[2] > point[0] and point[3] > point[1], "a point still has an extent"
    assert boxes_of(collection()).shape == (0, 4)


@pytest.mark.parametrize("bounds", [(9, 46, 9.01, 46.01), (-180, -85, 180, 85), (100, -30, 140, -10)])
def test_graticule_is_readable_at_any_extent(bounds: tuple[float, float, float, float]) -> None:
    lines = graticule(bounds)["features"]
    assert 8 < len(lines) < 400
    fine = min(line["properties"]["step"] for line in lines)
    assert 4 <= max(bounds[2] - bounds[0], bounds[3] - bounds[1]) / fine <= 40


def test_mosaic_places_by_mercator() -> None:
    boxes = np.array([[0.0, 0, 1, 1], [1, 0, 2, 1], [0, 59, 1, 60]])
    bounds = (0.0, 0.0, 2.0, 60.0)
    pixels, (width, height) = mosaic_layout(boxes, bounds, 1000)
    assert height == 1000 and width == round(np.radians(2) / float(mercator_y(60.0)) * 1000)
    first, second, north = pixels
    assert first[2] == second[0], "neighbours touch"
    assert first[3] == height and north[1] == 0, "north is up"
    # A degree at 60° N is about twice as high as at the equator.
    assert (north[3] - north[1]) / (first[3] - first[1]) == pytest.approx(2, rel=0.1)


def test_leafmap_composes_without_the_network() -> None:
    composed = compose_footprints(
        collection((9, 46, 10, 47)), (8, 45, 11, 48), theme="light", mosaic="/rsfm/x.png", world="/rsfm/w"
    )
    text = json.dumps(composed)
    assert "http" not in text
    names = [name for name, _ in composed["calls"]]
    assert names.count("addSource") == 2 and names.count("addLayer") == 3
    assert composed["mapOptions"]["style"] == base_style((8, 45, 11, 48), "light", world="/rsfm/w")


def test_the_graticule_says_where_it_is() -> None:
    labels = {f["properties"]["label"] for f in graticule((178.0, -1.0, 183.0, 1.0))["features"]}
    assert {"0°", "180°", "179° E", "178° W", "30° N", "60° S"} <= labels
    assert not {label for label in labels if "-" in label or (label.startswith("18") and label > "180°")}
    assert "9.002° E" in {f["properties"]["label"] for f in graticule((9, 46, 9.01, 46.01))["features"]}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_another_host_is_named_only_where_it_is_chosen(theme: str) -> None:
    offline, online = (base_style((8, 45, 11, 48), theme, world="/w", ground=g) for g in ("offline", "osm"))
    assert "http" not in json.dumps(offline) and "http" not in json.dumps(page_headers("offline"))
    tiles = online["sources"]["osm"]
    assert "openstreetmap.org/{z}" in tiles["tiles"][0] and "©" in tiles["attribution"]
    policy = page_headers("osm")["Content-Security-Policy"]
    assert policy.count("https://tile.openstreetmap.org") == 2 and "script-src 'self';" in policy
    # What needs no network lies below the tiles, and is seen where they do not come.
    order = [layer["id"] for layer in online["layers"]]
    assert order.index("land") < order.index("OpenStreetMap") < order.index("graticule")


def test_the_world_is_where_it_should_be() -> None:
    """Land, boundaries and names of the bundled file, looked up by places that everybody knows."""
    from shapely.geometry import Point, shape

    world = json.loads((MAPS / "world.geojson").read_text(encoding="utf-8"))
    kinds = {k: [f for f in world["features"] if f["properties"]["kind"] == k] for k in ("land", "border", "name")}
    land = shape(kinds["land"][0]["geometry"])
    for place, dry in (((2.35, 48.86), True), ((-60, -3), True), ((134, -25), True), ((-30, 40), False)):
        assert land.intersects(Point(place)) is dry, place
    assert shape(kinds["border"][0]["geometry"]).distance(Point(7.6, 47.6)) < 0.2, "Basel lies on a boundary"
    names = {f["properties"]["name"]: shape(f["geometry"]) for f in kinds["name"]}
    assert len(names) > 200 and land.contains(names["Brazil"]) and names["Brazil"].distance(Point(-53, -10)) < 8
    assert "public domain" in (MAPS / "world.LICENSE.txt").read_text()


def test_data_cannot_end_the_script_element() -> None:
    text = for_script({"a": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}
