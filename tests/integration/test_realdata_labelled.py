"""Real images with masks, pairs and several labels become packs, by their catalog entry and by looking at them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from data_catalog.add import understand
from data_catalog.entry import write_registered
from data_catalog.prepare import prepare
from data_catalog.readers.tiles import IGNORE
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec

pytestmark = pytest.mark.realdata


def add(path: Path, workspace, **spec) -> Pack:
    write_registered(understand(path, "mine").entry, workspace)
    prepare(PrepareSpec(dataset="mine", **spec), workspace)
    return Pack.named(workspace, "mine")


def by_entry(dataset: str, path: Path, workspace, **spec) -> Pack:
    prepare(PrepareSpec(dataset=dataset, source=str(path), **spec), workspace)
    return Pack.named(workspace, dataset)


def test_levir_cd_crops_keep_their_split(realdata, workspace):
    folder = realdata / "levir_cd_256"
    own, known = add(folder, workspace), by_entry("levir-cd", folder, workspace)
    for pack in (own, known):
        assert pack.info.splits == {"train": 3, "val": 1, "test": 5} and not pack.info.skipped
        assert pack.info.task == "change" and pack.info.classes == ["no change", "change"]
        for split in pack.info.splits:
            for i, row in pack.split_samples(split).iterrows():
                name = Path(row["path"]).stem
                assert name.startswith(split)
                assert row["scene"] == (name if pack is own else name.rpartition("_")[0].rpartition("_")[0])
                for layer, place in (("image_pre", "A"), ("image_post", "B")):
                    image = np.asarray(Image.open(folder / place / f"{name}.png")).transpose(2, 0, 1)
                    np.testing.assert_array_equal(pack.array(split, layer)[i], image)
                label = np.asarray(Image.open(folder / "label" / f"{name}.png"))
                np.testing.assert_array_equal(pack.array(split, "mask")[i, 0], label // 255)
    (unchanged,) = known.split_samples("train")["id"].str.startswith("train_386_0512_0768").to_numpy().nonzero()[0]
    assert known.array("train", "mask")[unchanged].max() == 0
    assert known.layer("image_pre").gsd_m == 0.5 and own.layer("image_pre").gsd_m is None


def test_dsifn_cd(realdata, workspace):
    pack = by_entry("dsifn-cd", realdata / "dsifn_cd_256", workspace)
    assert pack.info.splits == {"train": 4, "test": 1} and pack.layer("mask").shape == (1, 256, 256)
    changed = sum(int((pack.array(s, "mask") == 1).sum()) for s in pack.info.splits)
    assert changed == 6091 + 7894 + 14692 + 10783 + 42741
    own = add(realdata / "dsifn_cd_256", workspace)
    assert own.split_samples("test")["id"].tolist() == pack.split_samples("test")["id"].tolist()


def test_dubai_is_covered_once_with_its_colours(realdata, workspace):
    folder = realdata / "dubai_segmentation"
    pack = add(folder, workspace)
    assert pack.info.classes == ["Building", "Land (unpaved)", "Road", "Vegetation", "Water"]
    assert not pack.info.skipped and pack.layer("mask").ignore_value == IGNORE
    assert any("22 images in train, 5 images in test" in n for n in pack.info.notes)
    assert pack.samples.groupby("scene")["split"].nunique().max() == 1 and pack.samples["scene"].nunique() == 27
    with (folder / "classes.csv").open() as file:
        table = {r["name"]: tuple(int(r[c]) for c in "rgb") for r in csv.DictReader(file)}
    for scene, rows in pack.samples.groupby("scene"):
        path = folder / f"{scene.replace('/', '/masks/')}.png"
        colours = np.asarray(Image.open(path).convert("RGB"))
        split = rows["split"].iloc[0]
        stored = np.concatenate([pack.array(split, "mask")[row].ravel() for row in rows["row"]])
        for index, name in enumerate(pack.info.classes):
            assert (stored == index).sum() == (colours == table[name]).all(axis=-1).sum(), (scene, name)


@pytest.mark.parametrize(("tile_size", "tiles"), [(None, 1), (128, 9), (256, 4)])
def test_clouds_stay_raw_numbers_with_their_mask(realdata, workspace, tile_size, tiles):
    folder = realdata / "cloud38_landsat8"
    pack = add(folder, workspace, tile_size=tile_size)
    assert pack.info.task == "segmentation" and pack.info.splits == {"train": 3 * tiles, "test": tiles}
    assert [b.name for b in pack.bands()] == ["B4", "B3", "B2", "B5"] and {b.unit for b in pack.bands()} == {"dn"}
    side = tile_size or 384
    assert pack.layer().shape == (4, side, side) and pack.layer().dtype == "uint16"
    masks = np.concatenate([pack.array(s, "mask").ravel() for s in pack.info.splits])
    assert (masks == 1).sum() == 710 + 107170 + 4136 + 146800 and (masks != IGNORE).sum() == 4 * 384 * 384
    first = pack.samples.iloc[0]
    with rasterio.open(folder / first["path"]) as file:
        np.testing.assert_array_equal(
            pack.array(first["split"])[first["row"]], file.read()[:, : pack.layer().shape[1], : pack.layer().shape[2]]
        )


@pytest.mark.parametrize("way", ["entry", "own folder"])
def test_bigearthnet(realdata, workspace, way):
    folder = realdata / "bigearthnet_s1_s2"
    options = {"s1": True}
    pack = by_entry("bigearthnet-v1", folder, workspace, options=options) if way == "entry" else (
        add(folder, workspace, options=options)
    )  # fmt: skip
    assert pack.info.task == "multilabel" and pack.info.splits == {"train": 5, "test": 1} and not pack.info.skipped
    labels = {row["id"]: list(row["labels"]) for _, row in pack.samples.iterrows()}
    assert labels["S2A_MSIL2A_20170617T113321_4_55"] == ["Pastures"]
    assert labels["S2B_MSIL2A_20170924T93020_69_24"] == [
        "Coniferous forest", "Mixed forest", "Transitional woodland, shrub", "Inland wetlands", "Inland waters",
    ]  # fmt: skip
    for split in pack.info.splits:
        for i, row in pack.split_samples(split).iterrows():
            for position, band in enumerate(pack.bands()):
                with rasterio.open(folder / "S2" / row["id"] / f"{row['id']}_{band.name}.tif") as file:
                    native = file.read(1)
                    assert row["crs"] == f"EPSG:{file.crs.to_epsg()}"
                stored = pack.array(split)[i, position]
                if band.gsd_m == 10:
                    np.testing.assert_array_equal(stored, native)
                else:  # bilinear: in range, and the mean of the whole stays
                    assert native.min() <= stored.min() and stored.max() <= native.max()
                    assert stored.mean() == pytest.approx(native.mean(), rel=0.03)
    radar = pack.layer("image_s1")
    assert [b.name for b in radar.bands] == ["VV", "VH"]
    assert -20 < radar.bands[1].statistics.mean < radar.bands[0].statistics.mean < 0  # VH is the weaker
    vegetation = pack.layer().bands[[b.name for b in pack.bands()].index("B08")].statistics
    assert 0.1 < vegetation.mean < 0.6
