"""Scenes cut into tiles keep their place, their values and their gaps."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_bounds
from rasters import write_tif

from data_catalog.add import understand
from data_catalog.entry import write_registered
from data_catalog.prepare import prepare
from rsfm.errors import RsfmError
from rsfm.geo import ground_gsd
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec

NAMES = ["B02", "B03", "B04"]


@pytest.fixture
def scene(tmp_path):
    """50 x 70 pixels in degrees at 60° north, three bands, the left 5 columns and one pixel without data."""
    path = tmp_path / "scene.tif"
    array = np.random.default_rng(0).integers(500, 4000, (3, 50, 70)).astype(np.uint16)
    array[:, :, :5] = 0
    array[1, 40, 60] = 0
    write_tif(
        path, array, descriptions=NAMES, nodata=0, crs="EPSG:4326", transform=from_bounds(10, 60, 10.07, 60.05, 70, 50)
    )
    return path, array


def registered(path, workspace):
    known = {"unit": "reflectance", "scale": 1e-4, "sensor_name": "sentinel-2"}
    write_registered(understand(path, "scene-x", **known).entry, workspace)
    return PrepareSpec(dataset="scene-x", tile_size=10)


def test_tiles(scene, workspace):
    path, array = scene
    info = prepare(registered(path, workspace), workspace)
    pack = Pack.named(workspace, "scene-x")
    # 5 rows x 7 columns; the first column of tiles and the tile with the hole are left out
    assert info.splits == {"train": 5 * 6 - 1}
    assert any(n.startswith("6 left out: tiles with more than 0%") for n in info.notes)
    assert info.skipped == [] and info.layers[0].nodata == 0
    with rasterio.open(path) as file:
        for position, row in pack.split_samples("train").iterrows():
            top, left = (int(p[1:]) for p in row["id"].split("-")[-2:])
            np.testing.assert_array_equal(pack.array("train")[position], array[:, top : top + 10, left : left + 10])
            window = rasterio.windows.Window(left, top, 10, 10)
            np.testing.assert_allclose(
                row[["west", "south", "east", "north"]].tolist(), rasterio.windows.bounds(window, file.transform)
            )
            np.testing.assert_allclose(row["transform"], tuple(file.window_transform(window))[:6])
            assert row["crs"] == "EPSG:4326"


def test_pixel_size_in_metres_of_a_geographic_grid(scene, workspace):
    path, _ = scene
    info = prepare(registered(path, workspace), workspace)
    # 0.001 degree: 111 m along the meridian, half of that along the parallel at 60°; the coarser one counts
    assert info.layers[0].gsd_m == pytest.approx(111.4, abs=0.3)


def test_pixel_size_of_projected_grids():
    assert ground_gsd("EPSG:32633", (10, 0, 0, 0, -10, 0), 5, 5) == 10
    assert ground_gsd("EPSG:2263", (10, 0, 0, 0, -10, 0), 5, 5) == pytest.approx(10 * 1200 / 3937)  # US survey feet
    web = (10, 0, 1_000_000, 0, -10, 8_399_738)  # at 60 degrees north
    assert ground_gsd("EPSG:3857", web, 5, 5) == pytest.approx(5, rel=0.01)
    assert ground_gsd(None, (10, 0, 0, 0, -10, 0), 5, 5) is None
    assert ground_gsd("EPSG:4326", (1, 0, 0, 0, 1, 0), 5, 5) is None


def test_gaps_may_be_allowed(scene, workspace):
    path, array = scene
    spec = registered(path, workspace).model_copy(update={"options": {"max_nodata": 0.5}})
    info = prepare(spec, workspace)
    assert info.splits == {"train": 35}
    stats = info.layers[0].bands[1].statistics
    good = array[1][(array > 0).any(axis=0)]  # 0 in one band alone is a value
    assert stats.count == good.size and stats.min == pytest.approx(good.min() * 1e-4)


def test_stride_and_validation_share(scene, workspace):
    path, _ = scene
    spec = registered(path, workspace).model_copy(update={"stride": 5, "options": {"val_share": 0.3}})
    prepare(spec, workspace)
    samples = Pack.named(workspace, "scene-x").samples
    assert set(samples["split"]) == {"train", "val"}
    train, val = (samples[samples["split"] == s] for s in ("train", "val"))
    assert train["east"].max() <= val["west"].min() + 1e-12


def test_what_does_not_fit_is_refused(scene, workspace, tmp_path):
    path, _ = scene
    spec = registered(path, workspace)
    with pytest.raises(RsfmError, match="no tile of 64"):
        prepare(spec.model_copy(update={"tile_size": 64}), workspace)
    with pytest.raises(RsfmError, match="own field"):
        prepare(spec.model_copy(update={"options": {"stride": 3}}), workspace)
    with pytest.raises(RsfmError, match=r"0\.\.1"):
        prepare(spec.model_copy(update={"options": {"max_nodata": 2.0}}), workspace)
    other = tmp_path / "two.tif"
    write_tif(other, np.zeros((2, 50, 70), np.uint16))
    with pytest.raises(RsfmError, match="2 bands instead of 3"):
        prepare(spec.model_copy(update={"source": str(other)}), workspace)


def test_folder_of_scenes_reports_the_odd_one(scene, workspace, tmp_path):
    path, array = scene
    spec = registered(path, workspace)
    folder = tmp_path / "scenes"
    write_tif(folder / "a.tif", array[:, :, 10:40], nodata=0)
    write_tif(folder / "b.tif", np.zeros((1, 50, 70), np.uint8))
    info = prepare(spec.model_copy(update={"source": str(folder)}), workspace)
    assert info.splits == {"train": 15}
    assert [s.path for s in info.skipped] == ["b.tif"]
    assert Pack.named(workspace, "scene-x").samples["crs"].isna().all()


def test_the_landsat_scene_of_the_wheel(workspace):
    info = prepare(PrepareSpec(dataset="landsat7-sample", limit=40), workspace)
    layer = info.layers[0]
    assert [b.name for b in layer.bands] == ["B1", "B2", "B3", "B4", "B5", "B6", "B7"]
    assert {b.unit for b in layer.bands} == {"uint8"} and layer.dtype == "uint8" and layer.shape == (7, 64, 64)
    assert layer.bands[5].wavelength_nm > 10_000 and layer.bands[5].gsd_m == 60  # thermal
    assert 29 < layer.gsd_m < 31
    assert not info.synthetic and info.splits == {"train": 40}
    samples = Pack.named(workspace, "landsat7-sample").samples
    assert samples["west"].between(-113, -112.4).all() and samples["north"].between(40.6, 41.1).all()


def test_the_wheel_is_found_without_importing_it():
    import subprocess
    import sys

    code = (
        "import sys; from data_catalog.entry import entry; from data_catalog.prepare import _source;"
        "from rsfm.specs import PrepareSpec; from rsfm.workspace import Workspace; e = entry('landsat7-sample');"
        "assert _source(PrepareSpec(dataset=e.name), e, Workspace.resolve('.')).is_file();"
        "assert 'localtileserver' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
