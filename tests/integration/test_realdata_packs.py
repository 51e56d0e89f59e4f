"""Real imagery of every scaling becomes packs with the right bands, units and places."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp

from data_catalog.add import understand
from data_catalog.entry import write_registered
from data_catalog.prepare import prepare
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec
from rsfm.thumbs import footprints, thumbnail

pytestmark = pytest.mark.realdata


def add(path: Path, name: str, workspace, **spec) -> Pack:
    found = understand(path, name)
    write_registered(found.entry, workspace)
    prepare(PrepareSpec(dataset=name, **spec), workspace)
    return Pack.named(workspace, name)


def band(pack: Pack, name: str):
    return next(b for b in pack.layer().bands if b.name == name)


@pytest.mark.parametrize("way", ["entry", "own folder"])
def test_eurosat(realdata, workspace, way):
    if way == "entry":
        prepare(PrepareSpec(dataset="eurosat-ms", source=str(realdata / "eurosat_ms")), workspace)
        pack = Pack.named(workspace, "eurosat-ms")
    else:
        pack = add(realdata / "eurosat_ms", "mine", workspace)
    assert pack.info.splits == {"train": 90, "val": 30} and len(pack.info.classes) == 10 and not pack.info.skipped
    assert pack.layer().bands[-1].name == "B8A"
    # Known of Level-1C land: the cirrus band is dark, the near infrared bright, B8A close to B08.
    assert band(pack, "B10").statistics.mean < 0.01
    assert 0.15 < band(pack, "B08").statistics.mean < 0.35
    b08, b8a = (pack.array("train")[:, [b.name for b in pack.bands()].index(n)].astype(float) for n in ("B08", "B8A"))
    assert np.corrcoef(b08.ravel(), b8a.ravel())[0, 1] > 0.95
    with (realdata / "eurosat_ms" / "labels.csv").open() as file:
        rows = {r["file"]: r for r in csv.DictReader(file)}
    for split in ("train", "val"):
        for i, sample in pack.split_samples(split).iterrows():
            assert (rows[sample["path"]]["label"], rows[sample["path"]]["split"]) == (sample["label"], split)
            with rasterio.open(realdata / "eurosat_ms" / sample["path"]) as file:
                np.testing.assert_array_equal(pack.array(split)[i], file.read())
                expected = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
            got = sample[["west", "south", "east", "north"]].to_numpy(float)
            np.testing.assert_allclose(got, expected, atol=1e-8)
            assert 9.8 < sample["gsd_m"] < 10.2
    assert len(footprints(pack)["features"]) == 120
    assert thumbnail(pack, "val", 3).startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "splits", "size"), [
    ("rsscn7_rgb", {"train": 245, "val": 70}, 256),
    ("rsscn7_128", {"train": 1400, "test": 700}, 128),
])  # fmt: skip
def test_photographs(realdata, workspace, name, splits, size):
    pack = add(realdata / name, name, workspace)
    assert pack.info.splits == splits and len(pack.info.classes) == 7 and not pack.info.skipped
    assert pack.layer().shape == (3, size, size) and pack.layer().gsd_m is None
    assert {b.unit for b in pack.bands()} == {"uint8"}
    assert pack.samples["gsd_m"].isna().all()


def test_resampled_photographs(realdata, workspace):
    pack = add(realdata / "rsscn7_rgb", "small", workspace, image_size=64, limit=20)
    assert pack.layer().shape == (3, 64, 64) and pack.info.splits == {"train": 20, "val": 20}


def test_sundarbans_scene(realdata, workspace):
    file = realdata / "sentinel2_sundarbans" / "S2_L2A_2020-01-27_sundarbans_12band.tif"
    pack = add(file, "sundarbans", workspace, tile_size=32)
    assert pack.layer().gsd_m == pytest.approx(18.5, abs=0.1)
    assert {b.scale for b in pack.bands()} == {1 / 65535}
    assert 0.1 < band(pack, "B08").statistics.mean < 0.3 and band(pack, "B08").statistics.max < 1
    assert any("without data" in n for n in pack.info.notes)  # the slanted edge
    assert pack.array("train").min() > 0
    first = pack.samples.iloc[0]
    with rasterio.open(file) as source:
        np.testing.assert_array_equal(
            pack.array("train")[0], source.read(window=source.window(first.west, first.south, first.east, first.north))
        )


@pytest.mark.parametrize("date", ["2018-12-01", "2019-01-05"])
def test_fire_pair(realdata, workspace, date):
    file = realdata / "sentinel2_fire_pair" / f"S2_L2A_{date}_10band.tif"
    pack = add(file, "fire", workspace)
    assert {b.scale for b in pack.bands()} == {1 / 65535}
    assert [b.name for b in pack.bands()][-2:] == ["B09", "B11"]
    assert 0.05 < band(pack, "B08").statistics.mean < 0.4
    assert pack.layer().gsd_m == pytest.approx(9.3, abs=0.1)


def test_fire_folder_reports_the_mask_by_name(realdata, workspace):
    pack = add(realdata / "sentinel2_fire_pair", "fires", workspace)
    assert [s.path for s in pack.info.skipped] == ["derived_burn_mask.tif"]
    assert pack.samples["scene"].nunique() == 2


def test_clouds_stay_raw_numbers(realdata, workspace):
    pack = add(realdata / "cloud38_landsat8" / "images", "clouds", workspace)
    assert [b.name for b in pack.bands()] == ["B4", "B3", "B2", "B5"]
    assert {(b.unit, b.scale) for b in pack.bands()} == {("dn", 1.0)}
    assert pack.info.splits == {"train": 4} and band(pack, "B4").statistics.max > 30_000


def test_mixed_folders_are_refused_with_names(realdata):
    with pytest.raises(RsfmError, match=r"12band\.tif has 12 bands.*scl_colours\.tif has 3 bands"):
        understand(realdata / "sentinel2_sundarbans")
    with pytest.raises(RsfmError, match="one file per band"):
        understand(realdata / "bigearthnet_s1_s2" / "S1")
    with pytest.raises(RsfmError, match="bands of uint"):
        understand(realdata / "spacenet6_rotterdam")


def test_wrong_scaling_is_noticed(realdata, workspace, tmp_path):
    """Raw numbers are no reflectance; and files scaled by another number than the rest are named, bright and dark."""
    file = realdata / "sentinel2_fire_pair" / "S2_L2A_2018-12-01_10band.tif"
    write_registered(understand(file, "wrong", unit="reflectance", scale=1.0).entry, workspace)
    with pytest.raises(RsfmError, match="wrongly scaled"):
        prepare(PrepareSpec(dataset="wrong"), workspace)

    shutil.copytree(realdata / "eurosat_ms", tmp_path / "eurosat")
    for name, factor in (("Pasture/Pasture_1", 6.5535), ("Forest/Forest_1", 6.5535), ("Forest/Forest_4", 1 / 6.5535)):
        planted = tmp_path / "eurosat" / "train" / f"{name}.tif"
        with rasterio.open(planted) as source:
            profile, image = source.profile, source.read()
        with rasterio.open(planted, "w", **profile) as target:
            target.write(np.rint(image * factor).clip(0, 65535).astype(np.uint16))
    info = prepare(PrepareSpec(dataset="eurosat-ms", source=str(tmp_path / "eurosat")), workspace)
    found = ["train/Forest/Forest_1.tif", "train/Forest/Forest_4.tif", "train/Pasture/Pasture_1.tif"]
    assert sorted(s.path for s in info.skipped) == found
