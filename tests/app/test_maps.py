"""Geometry of the maps, and what leafmap composes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from lab_packs import make_pack
from PIL import Image
from shapely import total_bounds
from shapely.geometry import Point, shape
from shapely.validation import explain_validity
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.maps.compose import compose_footprints, for_script, render
from app.maps.geometry import bounds_of, boxes_of, graticule, mercator_y, mosaic_layout, on_the_map, side_by_side
from app.maps.ground import base_style, page_headers
from app.maps.make_world import land_of
from app.routes import build_routes
from app.routes.maps import map_url
from app.routes.vendor import MAPS, vendor_files
from rsfm.workspace import Workspace


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


def test_neighbours_across_the_antimeridian_stay_neighbours() -> None:
    wests = [179.7 + 0.06 * i for i in range(10)]
    crossing = collection(*((w - 360 if w > 180 else w, -17, (w - 360 if w > 180 else w) + 0.05, -16) for w in wests))
    moved = side_by_side(crossing)
    assert np.allclose(boxes_of(moved)[:, 0] % 360, np.array(wests)) and np.ptp(boxes_of(moved)[:, 0]) < 0.6
    west, _, east, _ = bounds_of(boxes_of(moved))
    assert -180 <= (west + east) / 2 < 180 and east - west < 0.8, "the middle of the picture is on the map"
    assert [f["properties"] for f in moved["features"]] == [f["properties"] for f in crossing["features"]]
    pixels, (width, _) = mosaic_layout(boxes_of(moved), bounds_of(boxes_of(moved)), 1000)
    assert (np.diff(pixels[:, 0]) > 0).all() and pixels[0, 0] < 0.1 * width and pixels[-1, 2] > 0.9 * width


@pytest.mark.parametrize(
    "boxes",
    [
        [(9, 46, 10, 47), (-5, 0, -4, 1)], [(170, 0, 171, 1)], [(179.9, 0, 180.1, 1)], [],
        [(w, 0, w + 10, 10) for w in range(-180, 180, 30)], [(-120, 40, -119, 41), (0, 0, 1, 1), (130, -30, 131, -29)],
    ],
)  # fmt: skip
def test_elsewhere_and_around_the_world_nothing_moves(boxes: list) -> None:
    got = boxes_of(side_by_side(collection(*boxes)))
    turned = -360 if boxes == [(179.9, 0, 180.1, 1)] else 0
    assert np.allclose(got, np.array(boxes, dtype=float).reshape(-1, 4) + np.array([turned, 0, turned, 0]))


def test_the_map_ends_where_web_mercator_ends() -> None:
    boxes = np.array([[20, 86, 21, 87.0], [20, 84.5, 21, 85.5], [20, 80, 21, 81], [20, -85.1, 21, -84]])
    assert on_the_map(boxes).tolist() == [False, False, True, False]
    for beyond in (boxes[:1], -boxes[:1, [2, 3, 0, 1]]):
        west, south, east, north = bounds_of(beyond)
        assert west < east and south < north and max(abs(south), abs(north)) == 85


def read_map(workspace: Workspace, pack: str) -> tuple[dict, TestClient]:
    client = TestClient(Starlette(routes=build_routes(workspace)))
    page = client.get(map_url(pack, version="x", theme="light")).text
    return json.loads(page.split('id="data">')[1].split("</script>")[0]), client


def test_a_pack_across_the_antimeridian_has_a_mosaic(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    make_pack(workspace, "fiji", count=20, side=16, corner=(179.98, -16.5))
    data, client = read_map(workspace, "fiji")
    sources = {args[0]: args[1] for name, args in data["map"]["calls"] if name == "addSource"}
    (west, _), (east, _) = sources["pixels"]["coordinates"][:2]
    assert east - west < 0.1 and west < -180 < east and data["options"]["copies"] is True
    picture = np.asarray(Image.open(io.BytesIO(client.get(sources["pixels"]["url"]).content)))
    assert (picture[len(picture) // 2, :, 3] > 0).mean() > 0.9, "the samples fill their picture"


def test_samples_beyond_the_map_are_said(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    make_pack(workspace, "pole", count=20, side=16, corner=(20, 86))
    make_pack(workspace, "edge", count=20, side=16, corner=(20, 85.001))
    for pack, drawn in (("pole", 0), ("edge", 10)):
        data, _ = read_map(workspace, pack)
        assert f"{drawn} of 20 samples" in data["options"]["note"] and "Web Mercator" in data["options"]["note"]
        west, south, east, north = data["map"]["mapOptions"]["bounds"]
        assert west < east and south < north <= 85


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


#: Longitude and latitude of places on either side of the antimeridian and of all shores that are easily drawn wrongly.
LAND = {
    "Paris": (2.35, 48.86), "Amazonia": (-60, -3), "Alice Springs": (134, -25), "Finland": (26, 62),
    "Lapland": (26, 67.5), "Chukotka, east": (178, 67.5), "Chukotka, west": (-175, 67), "Wrangel, east": (179.5, 71.2),
    "Wrangel, west": (-179, 71.2), "Viti Levu": (178, -17.8), "Madagascar": (47, -19), "Greenland": (-40, 72),
    "Iceland": (-18.5, 65), "Svalbard": (17.5, 79), "Dome C": (123.3, -75.1), "Vostok": (106.8, -78.5),
    "Antarctica": (0, -85), "South Pole, east": (179, -89.8), "South Pole, west": (-179, -89.8),
}  # fmt: skip
SEA = {
    "Atlantic": (-30, 40), "Norwegian Sea": (0, 67), "Greenland Sea": (-8, 76), "Davis Strait": (-58, 66),
    "Barents Sea": (38, 74), "Baffin Bay": (-68, 73.5), "Pacific, east": (179.5, 5), "Pacific, west": (-179.5, 5),
    "Bering Sea": (-179, 58), "Ross Sea": (-179, -75), "Weddell Sea": (-45, -70), "Arctic Ocean": (0, 88),
    "Caspian Sea": (51, 42), "Beaufort Sea": (-150, 75), "Chukchi Sea": (-170, 71.2), "16° S": (-120, -16.51),
}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> dict[str, list[dict]]:
    features = json.loads((MAPS / "world.geojson").read_text(encoding="utf-8"))["features"]
    return {k: [f for f in features if f["properties"]["kind"] == k] for k in ("land", "border", "name")}


def test_the_world_is_where_it_should_be(world: dict[str, list[dict]]) -> None:
    """Land, boundaries and names of the bundled file, looked up by places that everybody knows."""
    land, border = (shape(world[kind][0]["geometry"]) for kind in ("land", "border"))
    assert [p for p, at in LAND.items() if not land.contains(Point(at))] == []
    assert [p for p, at in SEA.items() if land.contains(Point(at))] == []
    assert border.distance(Point(7.6, 47.6)) < 0.2, "Basel lies on a boundary"
    names = {f["properties"]["name"]: shape(f["geometry"]) for f in world["name"]}
    ashore = [name for name, at in names.items() if land.contains(at)]
    assert len(names) > 200 and len(ashore) > 0.95 * len(names)
    for name, at in (("Brazil", (-50, -11)), ("Fiji", (178, -18)), ("Russia", (94, 63)), ("New Zealand", (170, -44))):
        assert names[name].distance(Point(at)) < 3, name
    assert "public domain" in (MAPS / "world.LICENSE.txt").read_text()


def test_the_world_is_valid_and_cut_at_180_degrees(world: dict[str, list[dict]]) -> None:
    shapes = [shape(f["geometry"]) for features in world.values() for f in features]
    assert [explain_validity(g) for g in shapes if not g.is_valid] == []
    west, south, east, north = total_bounds(shapes)
    assert west == -180 and east == 180 and south == -90 and north < 90
    lines = [np.array(ring.coords) for part in shapes[0].geoms for ring in (part.exterior, *part.interiors)]
    lines += [np.array(line.coords) for line in shapes[1].geoms]
    assert max(np.abs(np.diff(line[:, 0])).max() for line in lines) <= 180, "a line crosses the whole map"


def test_a_world_is_cut_at_180_degrees_and_closed_round_the_pole() -> None:
    """Whole numbers are tens of degrees here: an island across 180 degrees with a lake, and land round the pole."""
    island = [[17, 0], [2, 0], [-36, 0], [0, 1], [36, 0], [-2, 0], [0, -1]]  # 170 E, 170 W, and back
    lake = [[178, 2], [4, 0], [0, 4], [-4, 0], [0, -4]]
    pole = [[-18, -8], [12, 0], [12, 0], [12, 0]]
    seam = [[-18, -9], [17, 0], [17, 0], [2, 0]]
    topology = {
        "transform": {"scale": [10, 10], "translate": [0, 0]},
        "arcs": [island, [[x / 10, y / 10] for x, y in lake], pole, seam],
        "objects": {"land": {"geometries": [{"type": "MultiPolygon", "arcs": [[[0], [1]], [[~2], [3]]]}]}},
    }
    land = shape(land_of(topology)["geometry"])
    assert land.is_valid and len(land.geoms) == 3 and land.bounds == (-180, -90, 180, 10)
    dry = {
        at: land.contains(Point(at)) for at in [(175, 5), (-175, 5), (0, 5), (-177, 1), (178.5, 4), (0, -85), (0, -75)]
    }
    assert list(dry.values()) == [True, True, False, True, False, True, False]
    assert land.area == pytest.approx(20 * 10 - 4 * 4 + 360 * 10)


def test_data_cannot_end_the_script_element() -> None:
    text = for_script({"a": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}


def test_a_value_that_looks_like_a_placeholder_stays_as_it_is() -> None:
    options = {"note": "{{map_js}} {{title}} {{unknown}}"}
    files = {name: f"/static/{name}" for name in vendor_files()}
    page = render({"calls": []}, title="Of {{data}} & {{scheme}}", theme="dark", options=options, files=files)
    assert "<title>Of {{data}} &amp; {{scheme}}</title>" in page and options["note"] in page
    assert page.count("/static/map.js") == 1 and 'data-scheme="dark"' in page
