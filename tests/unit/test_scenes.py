"""What a scene's file says: bands by name, what numbers mean, and whether two grids lie on each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasters import write_tif

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.packs import BandInfo
from rsfm.scenes import SceneInfo, positions_of, read_scene, require_alignable, same_grid, shared, stored_bands

UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
NAMES = ["B02", "B03", "B04"]
WANTED = [Band(n, None, 10, "reflectance") for n in ("B04", "B02")]
TRAINED = [BandInfo(name=b.name, wavelength_nm=None, gsd_m=10, unit="reflectance", scale=1e-4) for b in WANTED]


def scene(path: Path, *, descriptions=None, dtype="uint16", shape=(3, 40, 50), bands=None, **georef) -> SceneInfo:
    write_tif(path, np.ones(shape, dtype), descriptions=descriptions, **{**UTM, **georef})
    return read_scene(path, bands)


# -- bands -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("descriptions", "names", "said"),
    [
        (NAMES, NAMES, True),
        (["b02 - blue", "B3_VCID_2", "B04"], ["B02", "B3", "B04"], True),
        (["first", "second", "third"], ["first", "second", "third"], True),
        (["B04 early", "B04 late", "B03"], ["B04 early", "B04 late", "B03"], True),
        (None, ["band_1", "band_2", "band_3"], False),
    ],
)
def test_names_of_bands(tmp_path: Path, descriptions, names: list[str], said: bool) -> None:
    info = scene(tmp_path / "a.tif", descriptions=descriptions)
    assert (list(info.names), info.said) == (names, said)


def test_an_rgb_picture_needs_no_descriptions_and_its_alpha_is_no_band(tmp_path: Path) -> None:
    write_tif(tmp_path / "a.tif", np.ones((4, 8, 8), np.uint8), photometric="RGB", alpha="YES", **UTM)
    info = read_scene(tmp_path / "a.tif")
    assert info.names == ("red", "green", "blue") and info.indexes == (1, 2, 3) and info.said


def test_bands_are_found_by_name_never_by_position(tmp_path: Path) -> None:
    assert positions_of(scene(tmp_path / "a.tif", descriptions=NAMES), ["B04", "B02"]) == [2, 0]
    assert positions_of(scene(tmp_path / "b.tif", bands=["B04", "B8A", "B02"]), ["B04", "B02"]) == [0, 2]
    with pytest.raises(RsfmError, match=r"no band B08; it has B02, B03, B04, and the model takes B04, B08"):
        positions_of(scene(tmp_path / "c.tif", descriptions=NAMES), ["B04", "B08"])
    with pytest.raises(RsfmError, match="does not name its bands"):
        positions_of(scene(tmp_path / "d.tif"), ["B04"])
    with pytest.raises(RsfmError, match="has 3 bands and 2 names"):
        scene(tmp_path / "e.tif", bands=["B04", "B02"])


def test_files_that_are_no_scene(tmp_path: Path) -> None:
    with pytest.raises(RsfmError, match="There is no file"):
        read_scene(tmp_path / "none.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(RsfmError, match="is not a raster"):
        read_scene(tmp_path / "text.tif")
    with pytest.raises(RsfmError, match="complex64"):
        scene(tmp_path / "c.tif", dtype="complex64")


# -- what numbers mean -------------------------------------------------------------------------------------------------
def rule(info: SceneInfo, **given) -> tuple[list[tuple[str, float, float]], str]:
    bands, origin = stored_bands(info, WANTED, TRAINED, "uint16", **given)
    assert [b.name for b in bands] == ["B04", "B02"]
    return [(b.unit, b.scale, b.offset) for b in bands], origin


def test_the_rule_of_the_training_where_numbers_have_the_same_type(tmp_path: Path) -> None:
    found, origin = rule(scene(tmp_path / "a.tif", descriptions=NAMES))
    assert found == [("reflectance", 1e-4, 0)] * 2 and "pack of the training" in origin


def test_the_files_own_scale_wins_over_it_and_a_given_one_over_both(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif", descriptions=NAMES)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.scales, file.offsets = (1e-5, 2e-5, 3e-5), (0, 0, -0.1)
    info = read_scene(tmp_path / "a.tif")
    found, origin = rule(info)
    assert found == [("reflectance", 3e-5, -0.1), ("reflectance", 1e-5, 0)] and "file's own" in origin
    found, origin = rule(info, unit="reflectance", scale=1 / 65535)
    assert found == [("reflectance", 1 / 65535, 0)] * 2 and origin == "as given"


def test_nothing_is_assumed_of_other_numbers(tmp_path: Path) -> None:
    info = scene(tmp_path / "a.tif", descriptions=NAMES, dtype="float32")
    with pytest.raises(RsfmError, match=r"float32 numbers and the model was trained on uint16.*unit=reflectance"):
        rule(info)
    assert rule(info, unit="reflectance")[0] == [("reflectance", 1, 0)] * 2
    with pytest.raises(RsfmError, match=r"is in db and the model takes reflectance"):
        rule(info, unit="db")


# -- grids -------------------------------------------------------------------------------------------------------------
def test_the_same_grid_to_a_hundredth_pixel(tmp_path: Path) -> None:
    info = scene(tmp_path / "a.tif")
    assert info.gsd_m == 10 and info.crs == "EPSG:32633"
    near = replace(info, transform=(10, 0, 500_000.05, 0, -10, 5_000_000))
    far = replace(info, transform=(10, 0, 500_000.5, 0, -10, 5_000_000))
    coarse = replace(info, transform=(10.01, 0, 500_000, 0, -10, 5_000_000))
    assert same_grid(info, near) and not same_grid(info, far) and not same_grid(info, coarse)
    assert require_alignable(info, near, "the earlier scene") is None
    assert "is resampled" in (require_alignable(info, far, "the earlier scene") or "")


def test_another_crs_is_resampled_where_the_ground_is_shared(tmp_path: Path) -> None:
    info = scene(tmp_path / "a.tif", shape=(3, 400, 400))
    west, south, east, north = info.bounds or ()
    degrees = {"crs": "EPSG:4326", "transform": from_origin(west, north, (east - west) / 400, (north - south) / 400)}
    other = scene(tmp_path / "b.tif", shape=(3, 400, 400), **degrees)
    assert shared(info, other) > 0.98
    assert "b.tif (the earlier scene) is on another grid" in (require_alignable(info, other, "the earlier scene") or "")
    half = {**degrees, "transform": from_origin((west + east) / 2, north, (east - west) / 400, (north - south) / 400)}
    assert "covers 50% of the scene" in (
        require_alignable(info, scene(tmp_path / "c.tif", shape=(3, 400, 400), **half), "the truth") or ""
    )
    elsewhere = {**degrees, "transform": from_origin(west + 1, north, 1e-4, 1e-4)}
    with pytest.raises(RsfmError, match=r"in EPSG:32633, the truth d\.tif .* in EPSG:4326, and they do not overlap"):
        require_alignable(info, scene(tmp_path / "d.tif", **elsewhere), "the truth")


def test_without_a_place_the_size_must_be_the_same(tmp_path: Path) -> None:
    info = scene(tmp_path / "a.tif")
    bare = replace(info, crs=None, transform=None)
    assert bare.bounds is None and bare.gsd_m is None
    assert require_alignable(bare, bare, "the earlier scene") is None
    assert "pixel on pixel" in (require_alignable(info, bare, "the truth") or "")
    with pytest.raises(RsfmError, match="must have the same size"):
        require_alignable(info, replace(bare, width=49), "the truth")
