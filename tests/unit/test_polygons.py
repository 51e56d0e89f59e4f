"""Outlines of change: where they lie, how large they are on the ground, and which are kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import geopandas
import numpy as np
import pytest
from rasterio.transform import from_origin
from rasters import write_tif

from rsfm.inference.polygons import area_m2, outlines, pixel_area_m2, row_areas_m2, write_polygons
from rsfm.prediction_info import NODATA, Polygons
from rsfm.scenes import read_scene

UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}


def outlined(folder: Path, mask: np.ndarray, place: dict, **settings) -> tuple[Polygons, list[dict]]:
    """The summary, and the features of the GeoJSON."""
    write_tif(folder / "changes.tif", mask[None].astype(np.uint8), nodata=NODATA, **place)
    settings = {"min_area_m2": 0.0, "simplify_px": 0.0, **settings}
    info = write_polygons(folder / "changes.tif", read_scene(folder / "changes.tif"), folder, **settings)
    return info, json.loads((folder / "changes.geojson").read_text())["features"]


def squares() -> np.ndarray:
    """Of 36 pixels with a hole of 4, of 4 pixels, and one pixel; the last rows are not observed."""
    mask = np.zeros((20, 30))
    mask[2:8, 3:9], mask[4:6, 5:7] = 1, 0
    mask[10:12, 10:12], mask[14, 25] = 1, 1
    mask[16:] = NODATA
    return mask


def test_areas_and_order(tmp_path: Path) -> None:
    info, features = outlined(tmp_path, squares(), UTM)
    # On the central meridian of a UTM zone a metre of the map is 1 / 0.9996 metres on the ground.
    assert [f["properties"]["area_m2"] for f in features] == pytest.approx(
        [3200 / 0.9996**2, 400 / 0.9996**2, 100 / 0.9996**2], rel=1e-3
    )
    assert [f["properties"]["id"] for f in features] == [1, 2, 3] and info.count == 3 and info.below_minimum == 0
    assert len(features[0]["geometry"]["coordinates"]) == 2, "with its hole"


@pytest.mark.parametrize("latitude", [0, 60, -75])
def test_areas_in_degrees_are_those_on_the_ground(tmp_path: Path, latitude: int) -> None:
    """A square of 0.01° by 0.01°, against the ellipsoid's radii of curvature."""
    step = 0.001
    place = {"crs": "EPSG:4326", "transform": from_origin(10, latitude + 0.005, step, step)}
    info, features = outlined(tmp_path, np.ones((10, 10)), place)
    a, e2 = 6_378_137.0, 0.00669437999014
    root = math.sqrt(1 - e2 * math.sin(math.radians(latitude)) ** 2)
    along, across = a * (1 - e2) / root**3, a / root * math.cos(math.radians(latitude))
    assert info.area_m2 == pytest.approx(along * across * math.radians(0.01) ** 2, rel=1e-5)
    assert pixel_area_m2(read_scene(tmp_path / "changes.tif")) == pytest.approx(info.area_m2 / 100, rel=1e-3)
    ring = features[0]["geometry"]["coordinates"][0]
    assert sorted({x for x, _ in ring}) == [10.0, 10.01]


def test_areas_of_rows_from_pole_to_pole(tmp_path: Path) -> None:
    """Together they are the Earth's surface; in UTM they are all the same."""
    world, local = tmp_path / "world.tif", tmp_path / "local.tif"
    write_tif(world, np.zeros((1, 180, 360), np.uint8), crs="EPSG:4326",
        transform=from_origin(-180, 90, 1, 1))  # fmt: skip
    assert row_areas_m2(read_scene(world)).sum() * 360 == pytest.approx(5.10065622e14, rel=1e-3)
    write_tif(local, np.zeros((1, 20, 30), np.uint8), **UTM)
    assert row_areas_m2(read_scene(local)) == pytest.approx(np.full(20, 100 / 0.9996**2), rel=1e-4)


def test_progress_is_told_and_can_stop(tmp_path: Path) -> None:
    checks = np.indices((50, 50)).sum(axis=0) % 2  # 1250 places that touch by corners only
    told = []
    info, _ = outlined(tmp_path, checks, UTM, min_area_m2=101, say=told.append)
    assert told == ["polygons, 1,000 so far"] and (info.count, info.below_minimum) == (0, 1250)


def test_small_ones_are_left_out_and_counted(tmp_path: Path) -> None:
    info, _ = outlined(tmp_path, squares(), UTM, min_area_m2=400)
    assert (info.count, info.below_minimum) == (2, 1)
    info, _ = outlined(tmp_path, squares(), UTM, min_area_m2=None)
    assert (info.count, info.below_minimum) == (1, 2) and info.min_area_m2 == pytest.approx(900, rel=1e-3)


def test_nothing_changed(tmp_path: Path) -> None:
    info, features = outlined(tmp_path, np.zeros((10, 10)), UTM)
    assert (info.count, info.area_m2, features) == (0, 0, [])
    assert len(geopandas.read_file(tmp_path / "changes.gpkg")) == 0


def test_both_files_show_the_same_outlines(tmp_path: Path) -> None:
    _, features = outlined(tmp_path, squares(), UTM)
    metres = geopandas.read_file(tmp_path / "changes.gpkg")
    assert metres.crs == "EPSG:32633" and metres["id"].tolist() == [1, 2, 3]
    assert metres.area.tolist() == [3200, 400, 100]
    assert metres.total_bounds.tolist() == [500_030, 4_999_850, 500_260, 4_999_980]
    degrees = geopandas.GeoDataFrame.from_features(features, crs="EPSG:4326").to_crs(metres.crs)
    np.testing.assert_allclose(degrees.area, metres.area, rtol=1e-3)
    assert all(shape.exterior.is_ccw for shape in geopandas.GeoDataFrame.from_features(features).geometry)


def test_a_simplified_outline_keeps_to_its_tolerance_and_its_area_to_the_pixels(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:60, :60]
    disc = (rows - 30) ** 2 + (columns - 30) ** 2 < 25**2
    exact, _ = outlined(tmp_path, disc, UTM)
    along = geopandas.read_file(tmp_path / "changes.gpkg").geometry[0]
    info, _ = outlined(tmp_path, disc, UTM, simplify_px=1.0)
    short = geopandas.read_file(tmp_path / "changes.gpkg").geometry[0]
    assert info.area_m2 == exact.area_m2
    assert len(short.exterior.coords) < len(along.exterior.coords) / 3
    assert short.hausdorff_distance(along) <= 10 + 1e-6 and short.is_valid


def test_outlines_are_in_pixels(tmp_path: Path) -> None:
    outlined(tmp_path, squares(), UTM)
    found = sorted(outlines(tmp_path / "changes.tif"), key=lambda p: p.area)
    assert [p.bounds for p in found] == [(25, 14, 26, 15), (10, 10, 12, 12), (3, 2, 9, 8)]
    assert area_m2(found[0]) > 0
