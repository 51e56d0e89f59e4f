"""Published datasets in their own layouts, from tiny generated trees."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_trees import (
    OSCD_CITIES,
    OSCD_NAME,
    RESISC,
    S2_BANDS,
    UC,
    V1_FOLDED,
    bigearthnet_v1,
    bigearthnet_v1_lists,
    bigearthnet_v2,
    listed,
    oscd,
    oscd_image,
    oscd_mask,
    scene,
    write_band,
)
from dataset_trees import uc_merced as uc_merced_tree
from PIL import Image
from rasters import save, write_tif

from data_catalog import entry
from data_catalog.prepare import open_reader, prepare
from data_catalog.readers.oscd import CITIES
from data_catalog.readers.tiles import IGNORE
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec


def pack_of(dataset: str, source, workspace, **spec) -> Pack:
    prepare(PrepareSpec(dataset=dataset, source=str(source), **spec), workspace)
    return Pack.named(workspace, dataset)


# -- scene classification ----------------------------------------------------------------------------------------------
@pytest.fixture
def uc_merced(tmp_path):
    return uc_merced_tree(tmp_path / "ucm")


def test_uc_merced(uc_merced, workspace):
    pack = pack_of("uc-merced", uc_merced, workspace)
    assert pack.info.splits == {"train": 3, "val": 2, "test": 2} and not pack.info.skipped
    assert pack.info.classes == entry("uc-merced").classes and pack.layer().shape == (3, 256, 256)
    for split, names in UC.items():
        for i, row in pack.split_samples(split).iterrows():
            name = row["path"].rpartition("/")[2]
            assert name in names and name.startswith(row["label"])
            if name != "beach11.tif":
                np.testing.assert_array_equal(pack.array(split)[i], scene(name).transpose(2, 0, 1))
    assert any("stretched" in n for n in pack.info.notes)


def test_an_image_size_resamples_once(uc_merced, workspace):
    pack = pack_of("uc-merced", uc_merced, workspace, image_size=64)
    assert pack.info.splits == {"train": 3, "val": 2, "test": 2} and not any("stretched" in n for n in pack.info.notes)


def test_resisc45(tmp_path, workspace):
    listed(tmp_path, "NWPU-RESISC45", "resisc45-{split}.txt", RESISC)
    pack = pack_of("nwpu-resisc45", tmp_path, workspace)
    assert pack.info.splits == {"train": 2, "val": 1, "test": 1}
    assert set(pack.samples["label"]) == {"airplane", "ground_track_field", "lake"}
    jpeg = np.asarray(Image.open(tmp_path / "NWPU-RESISC45/lake/lake_003.jpg")).transpose(2, 0, 1)
    np.testing.assert_array_equal(pack.array("test")[0], jpeg)


def test_class_folders_beside_the_lists(tmp_path, workspace):
    listed(tmp_path, ".", "resisc45-{split}.txt", RESISC)
    assert pack_of("nwpu-resisc45", tmp_path, workspace).info.splits == {"train": 2, "val": 1, "test": 1}


@pytest.mark.parametrize("gone", [["val"], ["train", "val", "test"]])
def test_missing_lists_are_named(uc_merced, workspace, gone):
    for split in gone:
        (uc_merced / f"uc_merced-{split}.txt").unlink()
    with pytest.raises(RsfmError, match=f"lacks {', '.join(f'uc_merced-{s}.txt' for s in gone)}.*--download"):
        pack_of("uc-merced", uc_merced, workspace)


def test_a_listed_image_that_is_not_there_is_named(uc_merced, workspace):
    (uc_merced / "UCMerced_LandUse/Images/beach/beach10.tif").unlink()
    pack = pack_of("uc-merced", uc_merced, workspace)
    (skipped,) = pack.info.skipped
    assert skipped.path == "UCMerced_LandUse/Images/beach/beach10.tif" and "cannot be opened" in skipped.reason


def test_an_image_in_two_lists(uc_merced, workspace):
    (uc_merced / "uc_merced-val.txt").write_text("beach11.tif\nbeach10.tif\n")
    with pytest.raises(RsfmError, match=r"beach10\.tif is in the lists of train and of val"):
        pack_of("uc-merced", uc_merced, workspace)


def test_images_in_no_list_are_counted(uc_merced, workspace):
    save(uc_merced / "UCMerced_LandUse/Images/beach/beach50.tif", scene("x"))
    notes = pack_of("uc-merced", uc_merced, workspace).info.notes
    assert "Not used, for none of the lists names them: 1 image." in notes


def test_eurosat_by_longitude_needs_its_lists(tmp_path, workspace):
    base = tmp_path / entry("eurosat-spatial").reader_options["images"]
    for label in ("Forest", "River", "SeaLake"):
        for i in range(3):
            image = np.random.default_rng(i).integers(500, 4000, (13, 64, 64)).astype(np.uint16)
            write_tif(base / label / f"{label}_{i}.tif", image)
    with pytest.raises(RsfmError, match=r"lacks eurosat-spatial-train\.txt"):
        pack_of("eurosat-spatial", tmp_path, workspace)
    for label, split in (("Forest", "train"), ("River", "val"), ("SeaLake", "test")):
        (tmp_path / f"eurosat-spatial-{split}.txt").write_text("".join(f"{label}_{i}.jpg\n" for i in range(3)))
    pack = pack_of("eurosat-spatial", tmp_path, workspace)
    assert pack.info.splits == {"train": 3, "val": 3, "test": 3}
    assert set(pack.split_samples("test")["label"]) == {"SeaLake"}


# -- pairs of photographs ----------------------------------------------------------------------------------------------
def levir(root, layout: str, pairs: dict[str, int], side: int = 1024) -> None:
    """Pairs whose earlier image, later image and mask are one value each: small files, whose headers count."""
    for split, number in pairs.items():
        for i in range(1, number + 1):
            for folder in ("A", "B", "label"):
                path = root / layout.format(split=split, folder=folder, i=i)
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.parent not in _SAVED:
                    image = Image.new("L" if folder == "label" else "RGB", (side, side))
                    image.putpixel((0, 0), 255 if folder == "label" else (9, 9, 9))
                    image.save(path)
                    _SAVED[path.parent] = path.read_bytes()
                path.write_bytes(_SAVED[path.parent])


_SAVED: dict = {}


@pytest.mark.parametrize("layout", ["{split}/{folder}/{split}_{i}.png", "{folder}/{split}_{i}.png"])
def test_levir_cd_has_the_benchmarks_tiles(tmp_path, workspace, layout):
    levir(tmp_path, layout, {"train": 445, "val": 64, "test": 128})
    _, reader = open_reader(PrepareSpec(dataset="levir-cd", source=str(tmp_path)), workspace)
    keys = reader.keys()
    counts = {s: sum(k.split == s for k in keys) for s in ("train", "val", "test")}
    assert counts == {"train": 7120, "val": 1024, "test": 2048} == entry("levir-cd").splits
    assert len({k.id for k in keys}) == len(keys)
    assert [x.shape for x in reader.layers()] == [(3, 256, 256), (3, 256, 256), (1, 256, 256)]
    sample = reader.read(keys[0])
    assert sample.arrays["mask"].sum() == 1 and sample.arrays["image_pre"].sum() == 27


def test_levir_cd_plus(tmp_path, workspace):
    levir(tmp_path, "LEVIR-CD+/{split}/{folder}/{split}_{i}.png", {"train": 2, "test": 1}, side=640)
    pack = pack_of("levir-cd-plus", tmp_path, workspace)
    assert pack.info.splits == {"train": 2 * 4, "test": 4}  # 640 // 256 = 2 along each side
    assert any("less than a tile wide, of 3 images." in n for n in pack.info.notes)
    assert pack_of("levir-cd-plus", tmp_path / "LEVIR-CD+", workspace).info.splits == pack.info.splits


def test_cdd(tmp_path, workspace):
    rng = np.random.default_rng(0)
    truth = np.zeros((256, 256), np.uint8)
    truth[64:128, 32:200] = 255
    for split, number in (("train", 3), ("val", 1), ("test", 2)):
        for i in range(number):
            for folder in ("A", "B"):
                save(
                    tmp_path / f"Real/subset/{split}/{folder}/{i:05d}.jpg",
                    rng.integers(0, 255, (256, 256, 3), np.uint8),
                )
            save(tmp_path / f"Real/subset/{split}/OUT/{i:05d}.jpg", truth, quality=80)
    for folder in ("A", "B", "OUT"):  # the same archive holds other sets
        save(tmp_path / f"Model/with_shift/train/{folder}/1.bmp", truth)
    pack = pack_of("cdd", tmp_path, workspace)
    assert pack.info.splits == {"train": 3, "val": 1, "test": 2} and not pack.info.skipped
    assert (pack.array("test", "mask") != (truth > 0)).mean() < 0.01
    assert set(np.unique(pack.array("train", "mask"))) == {0, 1}
    assert pack.split_samples("val")["path"][0] == "Real/subset/val/A/00000.jpg"
    direct = pack_of("cdd", tmp_path / "Real/subset", workspace)
    np.testing.assert_array_equal(direct.array("test", "mask"), pack.array("test", "mask"))


# -- OSCD --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("stride", "tests"), [(None, 2 * 3), (8, 2 * 4)])
def test_oscd_covers_every_city_once(tmp_path, workspace, stride, tests):
    """Also with windows that slide over the cities of the test."""
    pack = pack_of("oscd", oscd(tmp_path), workspace, tile_size=16, stride=stride)
    assert pack.info.task == "change" and not pack.info.skipped
    assert pack.info.splits == {"train": 3 * 3 + 1, "test": tests}
    assert any("are 8 apart: every pixel counts once" in n for n in pack.info.notes) == (stride is not None)
    assert any("3 of 24 cities were found" in n for n in pack.info.notes)
    assert [b.name for b in pack.bands("image_post")] == [b.name for b in entry("oscd").bands]
    for split, cities in OSCD_CITIES.items():
        for city, (height, width) in cities.items():
            labels = np.full((height, width), IGNORE)
            for i, row in pack.split_samples(split).iterrows():
                if row["scene"] != city:
                    continue
                top, left = (int(p[1:]) for p in row["id"].split("-")[-2:])
                for layer, date in (("image_pre", 1), ("image_post", 2)):
                    whole = oscd_image(city, date, height, width)
                    np.testing.assert_array_equal(
                        pack.array(split, layer)[i], whole[:, top : top + 16, left : left + 16]
                    )
                for r, c in np.argwhere(pack.array(split, "mask")[i, 0] != IGNORE):
                    assert labels[top + r, left + c] == IGNORE
                    labels[top + r, left + c] = pack.array(split, "mask")[i, 0, r, c]
                assert row["date"] == "2017-12-06"
            np.testing.assert_array_equal(labels, oscd_mask(city, height, width))


def test_oscd_bands_at_native_size_and_labels_beside_the_images(tmp_path, workspace):
    for date in (1, 2):
        for band in [*S2_BANDS, "B10"]:
            gsd = {**S2_BANDS, "B10": 60}[band]
            values = np.random.default_rng(gsd).integers(500, 3000, (240 // gsd, 360 // gsd)).astype(np.uint16)
            write_band(tmp_path / f"rio/imgs_{date}_rect/S2A_OPER_MSI_T23_{band}.tif", values, gsd)
    save(tmp_path / "rio/cm/cm.png", np.repeat(oscd_mask("rio", 24, 36)[..., None] * 255, 3, 2))
    pack = pack_of("oscd", tmp_path, workspace, tile_size=12)
    assert pack.info.splits == {"test": 6} and pack.split_samples("test")["gsd_m"].tolist() == [10.0] * 6
    assert pack.samples["crs"].unique().tolist() == ["EPSG:32633"]
    names = [b.name for b in pack.bands("image_pre")]
    first = pack.array("test", "image_pre")[0]
    assert len(np.unique(first[names.index("B02")])) > 100  # noise at 10 m
    smooth = np.abs(np.diff(first[names.index("B01")].astype(int), axis=1)).mean()
    assert smooth < np.abs(np.diff(first[names.index("B02")].astype(int), axis=1)).mean() / 3


def test_oscd_with_faults(tmp_path, workspace):
    oscd(tmp_path)
    (tmp_path / f"{OSCD_NAME} - Images/paris/imgs_2_rect/B8A.tif").unlink()
    (tmp_path / f"{OSCD_NAME} - Images/atlantis/imgs_1_rect").mkdir(parents=True)
    spec = {"tile_size": 16}
    with pytest.raises(RsfmError, match="atlantis"):
        pack_of("oscd", tmp_path, workspace, on_bad="refuse", **spec)
    info = pack_of("oscd", tmp_path, workspace, **spec).info
    reasons = {s.path.rpartition("Images/")[2]: s.reason for s in info.skipped}
    assert "none of the 24 cities" in reasons["atlantis/imgs_1_rect"]
    assert "no file of band B8A" in reasons["paris/imgs_2_rect"]
    (tmp_path / f"{OSCD_NAME} - Images/atlantis/imgs_1_rect").rmdir()
    (tmp_path / f"{OSCD_NAME} - Images/atlantis").rmdir()
    (tmp_path / f"{OSCD_NAME} - Test Labels/rio/cm/cm.png").unlink()
    with pytest.raises(RsfmError, match=r"rio/cm/cm\.png cannot be opened"):
        pack_of("oscd", tmp_path, workspace, **spec)  # two of three cities
    with pytest.raises(RsfmError, match="this is not OSCD"):
        pack_of("oscd", tmp_path / f"{OSCD_NAME} - Test Labels", workspace)


def test_oscd_has_24_cities_in_two_splits():
    assert {s: len(set(c)) for s, c in CITIES.items()} == {"train": 14, "test": 10}
    assert not set(CITIES["train"]) & set(CITIES["test"])


# -- SegMunich ---------------------------------------------------------------------------------------------------------
def test_segmunich(tmp_path, workspace):
    raw = np.array([0, 21, 22, 23, 31, 5, 32, 33, 41, 13, 14, 11, 12], np.uint8)
    truth = np.random.default_rng(0).integers(0, 13, (4, 128, 128))
    for i, split in enumerate(("train", "train", "train", "val")):
        image = np.random.default_rng(i).integers(100, 3000, (10, 128, 128)).astype(np.uint16)
        write_tif(tmp_path / f"TUM_128/{split}/img/{i}.tif", image)
        save(tmp_path / f"TUM_128/{split}/label/{i}.tif", raw[truth[i]])
    pack = pack_of("segmunich", tmp_path, workspace)
    assert pack.info.splits == {"train": 3, "val": 1} and len(pack.info.classes) == 13
    np.testing.assert_array_equal(pack.array("val", "mask")[0, 0], truth[3])
    assert pack.layer("mask").ignore_value == IGNORE and pack.info.classes[5] == "Surface water"


# -- BigEarthNet -------------------------------------------------------------------------------------------------------
def test_bigearthnet_v2_without_sentinel_1(tmp_path, workspace):
    bigearthnet_v2(tmp_path)
    assert [x.name for x in pack_of("bigearthnet-v2", tmp_path, workspace).info.layers] == ["image"]


def test_bigearthnet_v2_with_faults(tmp_path, workspace):
    frame = bigearthnet_v2(tmp_path)
    patches = {i: next((tmp_path / "BigEarthNet-S2").glob(f"*/{p}")) for i, p in enumerate(frame["patch_id"][:4])}
    patches[0].joinpath(f"{patches[0].name}_B05.tif").unlink()
    info = pack_of("bigearthnet-v2", tmp_path, workspace).info
    assert [s.path for s in info.skipped] == [f"BigEarthNet-S2/{patches[0].parent.name}/{patches[0].name}/"
                                              f"{patches[0].name}_B05.tif"]  # fmt: skip
    write_band(patches[2] / f"{patches[2].name}_B09.tif", np.full((60, 60), 900, np.uint16), 20)
    info = pack_of("bigearthnet-v2", tmp_path, workspace).info
    assert "1 bands of 60 x 60 pixels instead of one of 20 x 20" in info.skipped[1].reason
    with pytest.raises(RsfmError, match=r"metadata\.parquet"):
        pack_of("bigearthnet-v2", tmp_path / "BigEarthNet-S2", workspace)
    frame.drop(columns="split").to_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(RsfmError, match="needs the columns"):
        pack_of("bigearthnet-v2", tmp_path, workspace)


@pytest.mark.parametrize("folders", [("BigEarthNet-v1.0", "BigEarthNet-S1-v1.0"), ("S2", "S1")])
def test_bigearthnet_v1(tmp_path, workspace, folders):
    pairs = bigearthnet_v1(tmp_path, *folders)
    pack = pack_of("bigearthnet-v1", tmp_path, workspace, options={"s1": True})
    assert sum(pack.info.splits.values()) == 4 and any("no lists of splits: 1 of 5" in n for n in pack.info.notes)
    assert any("1 left out: patches with none of the 19 classes" in n for n in pack.info.notes)
    labels = dict(zip((p for p, _ in pairs), V1_FOLDED, strict=True))
    for split in pack.info.splits:
        for i, row in pack.split_samples(split).iterrows():
            assert list(row["labels"]) == labels[row["id"]]
            seed = [p for p, _ in pairs].index(row["id"])
            vv = np.random.default_rng([seed, 0]).normal(-12, 3, (120, 120)).astype(np.float32)
            np.testing.assert_array_equal(pack.array(split, "image_s1")[i, 0], vv)  # the right partner


def test_bigearthnet_v1_in_the_lists_splits(tmp_path, workspace):
    pairs = bigearthnet_v1(tmp_path)
    bigearthnet_v1_lists(tmp_path, pairs)
    pack = pack_of("bigearthnet-v1", tmp_path, workspace, options={"s1": True})
    assert pack.info.splits == {"train": 3, "test": 1}  # the one of val has no class
    (tmp_path / "bigearthnet-val.csv").unlink()
    with pytest.raises(RsfmError, match=r"lacks bigearthnet-val\.csv"):
        pack_of("bigearthnet-v1", tmp_path, workspace)


def test_bigearthnet_v1_with_faults(tmp_path, workspace):
    pairs = bigearthnet_v1(tmp_path)
    folder = tmp_path / "BigEarthNet-v1.0"
    (folder / pairs[0][0] / f"{pairs[0][0]}_labels_metadata.json").write_text("{")
    (folder / pairs[1][0] / f"{pairs[1][0]}_labels_metadata.json").write_text('{"labels": ["Moon"]}')
    reasons = [s.reason for s in pack_of("bigearthnet-v1", tmp_path, workspace).info.skipped]
    assert "is not JSON" in reasons[0] and "'Moon', which is none of the 43 classes" in reasons[1]
