"""Folders of images with masks and of pairs: what is stored, what is refused, how images are divided and cut."""

from __future__ import annotations

import numpy as np
import pytest
from labelled_trees import NAMES, SIDE, change_tree, pack_of, picture, rows, segmentation_tree, truth
from rasterio.transform import from_origin
from rasters import reflectance, save, write_tif

from data_catalog.add import understand
from data_catalog.entry import write_registered
from data_catalog.prepare import dry_run, prepare
from data_catalog.readers.tiles import IGNORE
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec


def test_images_with_masks(tmp_path, workspace):
    pack = pack_of(segmentation_tree(tmp_path / "set", NAMES), workspace)
    info = pack.info
    assert (info.task, info.classes) == ("segmentation", ["class 0", "class 1", "class 2"])
    assert info.splits == {"train": 8, "test": 2} and not info.skipped
    assert any("2 of 10 images (a share of 20%) were drawn as test images (seed 0)" in n for n in info.notes)
    assert [(x.name, x.role, x.dtype, x.shape) for x in info.layers] == [
        ("image", "image", "uint8", (3, SIDE, SIDE)), ("mask", "mask", "uint8", (1, SIDE, SIDE)),
    ]  # fmt: skip
    mask = pack.layer("mask")
    assert mask.classes == info.classes and mask.ignore_value == IGNORE
    for split, i, row in rows(pack):
        seed = NAMES.index(row["id"])
        np.testing.assert_array_equal(pack.array(split)[i], picture(seed).transpose(2, 0, 1))
        np.testing.assert_array_equal(pack.array(split, "mask")[i, 0], truth(seed, classes=3))
        assert (row["path"], row["scene"]) == (f"images/{row['id']}.png", row["id"])


@pytest.mark.parametrize("high", [1, 255])
def test_pairs_with_binary_masks(tmp_path, workspace, high):
    pack = pack_of(change_tree(tmp_path / "set", NAMES, high=high), workspace)
    assert (pack.info.task, pack.info.classes) == ("change", ["no change", "change"])
    assert [x.name for x in pack.info.layers] == ["image_pre", "image_post", "mask"]
    for split, i, row in rows(pack):
        n = NAMES.index(row["id"])
        np.testing.assert_array_equal(pack.array(split, "image_pre")[i], picture(2 * n).transpose(2, 0, 1))
        np.testing.assert_array_equal(pack.array(split, "image_post")[i], picture(2 * n + 1).transpose(2, 0, 1))
        np.testing.assert_array_equal(pack.array(split, "mask")[i, 0], truth(n))
    # statistics of the earlier image are of the earlier images of the training split
    statistics = pack.layer("image_pre").bands[0].statistics
    assert statistics.mean == pytest.approx(pack.array("train", "image_pre")[:, 0].mean())


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train/a", "train/b", "val/c", "test/d"], {"train": 2, "val": 1, "test": 1}),
        (["Training/x/a", "Training/y/a", "validation/x/a"], {"train": 2, "val": 1}),
        (["train_1", "train_2", "test_1"], {"train": 2, "test": 1}),
        (["a", "b"], {"train": 1, "test": 1}),
        (["alone"], {"train": 1}),
    ],
)
def test_splits_from_folders_names_or_a_draw(tmp_path, workspace, names, splits):
    assert pack_of(segmentation_tree(tmp_path / "set", names), workspace).info.splits == splits


def test_split_folders_inside_the_layers(tmp_path, workspace):
    for seed, split in enumerate(("train", "train", "test")):
        save(tmp_path / "set" / "images" / split / f"{seed}.jpg", picture(seed))
        save(tmp_path / "set" / "labels" / split / f"{seed}_mask.png", truth(seed))
    pack = pack_of(tmp_path / "set", workspace)
    assert pack.info.splits == {"train": 2, "test": 1}
    np.testing.assert_array_equal(pack.array("test", "mask")[0, 0], truth(2))


def test_some_with_split_and_some_without(tmp_path):
    segmentation_tree(tmp_path / "set", ["train/a", "b"])
    with pytest.raises(RsfmError, match=r"1 of 2 images lie in no split folder, e\.g\. 'b'"):
        understand(tmp_path / "set")


def test_the_draw_is_seeded_and_its_share_is_an_option(tmp_path, workspace):
    folder = segmentation_tree(tmp_path / "set", NAMES)
    drawn = {
        seed: set(pack_of(folder, workspace, options={"split_seed": seed}).split_samples("test")["id"])
        for seed in (0, 0, 1)
    }
    assert drawn[0] != drawn[1] and len(drawn[0]) == 2
    assert pack_of(folder, workspace, options={"test_share": 0.5}).info.splits == {"train": 5, "test": 5}
    with pytest.raises(RsfmError, match=r"test_share must be in 0\.\.1"):
        pack_of(folder, workspace, options={"test_share": 1.5})


def test_parts_of_larger_images_are_divided_together_and_say_what_they_are_parts_of(tmp_path, workspace):
    names = [f"area{i}_{row:04d}_0000" for i in range(5) for row in (0, 16, 32)] + ["alone"]
    pack = pack_of(segmentation_tree(tmp_path / "set", names), workspace, options={"scene": r"(.+)_\d+_\d+"})
    assert set(pack.samples["scene"]) == {*(f"area{i}" for i in range(5)), "alone"}
    assert pack.samples.groupby("scene")["split"].nunique().max() == 1
    assert any("1 of 6 scenes (a share of 20%) were drawn as test scenes" in n for n in pack.info.notes)


# -- planted faults ----------------------------------------------------------------------------------------------------
def _cut(path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _unknown_value(path) -> None:
    mask = truth(3) * 255
    mask[0, 5] = 77
    save(path, mask)


FAULTS = {
    "no mask": (lambda r: (r / "label/place_3.png").unlink(), "A/place_3.png", "has no mask: there is no .* label/"),
    "no later image": (lambda r: (r / "B/place_3.png").unlink(), "A/place_3.png", "has no image_post.* in B/"),
    "only a mask": (
        lambda r: [(r / f / "place_3.png").unlink() for f in "AB"], "label/place_3.png", "has no image_pre",
    ),
    "mask of another size": (
        lambda r: save(r / "label/place_3.png", truth(3, SIDE, SIDE + 2) * 255), "label/place_3.png",
        "has 16 x 18 pixels, but A/place_3.png has 16 x 16",
    ),
    "later image of another size": (
        lambda r: save(r / "B/place_3.png", picture(3, SIDE - 1)), "B/place_3.png", "has 15 x 16 pixels, but A/",
    ),
    "unknown value": (lambda r: _unknown_value(r / "label/place_3.png"), "label/place_3.png", "holds 77"),
    "truncated image": (lambda r: _cut(r / "B/place_3.png"), "B/place_3.png", "cannot be decoded"),
    "truncated mask": (lambda r: _cut(r / "label/place_3.png"), "label/place_3.png", "cannot be decoded"),
    "empty": (lambda r: (r / "A/place_3.png").write_bytes(b""), "A/place_3.png", "empty"),
    "two of one name": (
        lambda r: save(r / "A/place_3.jpg", picture(3)), "A/place_3.png", "second file of this name",
    ),
    "only fill": (
        lambda r: save(r / "A/place_3.png", np.full((SIDE, SIDE, 3), 9, np.uint8)), "A/place_3.png", "constant",
    ),
    "four bands": (
        lambda r: save(r / "A/place_3.png", np.concatenate([picture(3), picture(4)[..., :1]], 2)), "A/place_3.png",
        "4 bands instead of 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("tile_size", [None, 8])
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_what_cannot_be_used_is_named_once(tmp_path, workspace, fault, tile_size):
    folder = change_tree(tmp_path / "set", NAMES)
    good = understand(folder, "mine").entry
    plant, path, reason = FAULTS[fault]
    plant(folder)
    write_registered(good, workspace)
    spec = PrepareSpec(dataset="mine", tile_size=tile_size)
    info = prepare(spec, workspace)
    (skipped,) = info.skipped
    assert skipped.path == path and str(folder) not in skipped.reason
    with pytest.raises(RsfmError, match=reason):
        prepare(spec.model_copy(update={"on_bad": "refuse"}), workspace)
    assert sum(info.splits.values()) == 9 * (4 if tile_size else 1)
    assert "place_3" not in set(Pack.named(workspace, "mine").samples["scene"])
    assert any(n.startswith(("1 file (", "1 file, ")) and "could not be used" in n for n in info.notes)


def test_mostly_broken_data_are_refused(tmp_path, workspace):
    folder = change_tree(tmp_path / "set", NAMES)
    found = understand(folder, "mine").entry
    for i in range(6):
        _unknown_value(folder / f"label/place_{i}.png")
    write_registered(found, workspace)
    for tile_size in (None, 8):
        with pytest.raises(RsfmError, match=r"More than half .* label/place_0\.png holds 77"):
            prepare(PrepareSpec(dataset="mine", tile_size=tile_size), workspace)


# -- tiles -------------------------------------------------------------------------------------------------------------
def test_large_images_become_tiles_that_count_every_pixel_once(tmp_path, workspace):
    sizes = [(20, 31), (16, 16), (33, 17), (40, 24), (9, 30)]
    root = tmp_path / "set"
    for seed, (height, width) in enumerate(sizes):
        save(root / "images" / f"{seed}.png", picture(seed, height, width))
        save(root / "masks" / f"{seed}.png", truth(seed, height, width, classes=4))
    pack = pack_of(root, workspace, tile_size=16)
    info = pack.info
    assert info.layers[0].shape == (3, 16, 16) and not info.skipped
    assert any("4 images in train, 1 image in test" in n for n in info.notes)
    assert any("every pixel counts once" in n for n in info.notes)
    assert any(n.startswith("Smaller than a tile: 1 image.") for n in info.notes)
    assert pack.samples.groupby("scene")["split"].nunique().max() == 1
    labels = {str(i): np.full(size, IGNORE) for i, size in enumerate(sizes)}
    for split, i, row in rows(pack):
        top, left = (int(p[1:]) for p in row["id"].split("-")[-2:])
        tile = pack.array(split, "mask")[i, 0]
        seed = int(row["scene"])
        whole = np.pad(picture(seed, *sizes[seed]), [(0, 16), (0, 16), (0, 0)], mode="symmetric").transpose(2, 0, 1)
        np.testing.assert_array_equal(pack.array(split)[i], whole[:, top : top + 16, left : left + 16])
        for r, c in np.argwhere(tile != IGNORE):
            assert labels[row["scene"]][top + r, left + c] == IGNORE  # not seen before
            labels[row["scene"]][top + r, left + c] = tile[r, c]
    for seed, size in enumerate(sizes):
        np.testing.assert_array_equal(labels[str(seed)], truth(seed, *size, classes=4))


def test_images_of_different_size_are_cut_by_themselves(tmp_path, workspace):
    root = tmp_path / "set"
    for seed, side in enumerate((70, 80, 90)):
        save(root / "images" / f"{seed}.png", picture(seed, side, side))
        save(root / "masks" / f"{seed}.png", truth(seed, side, side))
    found = understand(root, "mine")
    assert found.entry.reader_options["tile_size"] == 64
    assert any("cut into tiles of 64" in f.text for f in found.findings)
    assert pack_of(root, workspace).info.layers[1].shape == (1, 64, 64)


def test_large_images_of_one_size_are_kept_whole_unless_a_tile_size_is_given(tmp_path):
    for seed in range(2):
        save(tmp_path / "images" / f"{seed}.png", picture(seed, 600, 600))
        save(tmp_path / "masks" / f"{seed}.png", truth(seed, 600, 600))
    found = understand(tmp_path)
    assert "tile_size" not in found.entry.reader_options and found.tiled
    assert any("600 x 600 pixels are kept whole" in f.text for f in found.findings)


def test_tiles_keep_their_place_and_gaps_do_not_count(tmp_path, workspace):
    root = tmp_path / "set"
    for i in range(3):
        image = reflectance(i, (3, 20, 30))
        image[:, :, :4] = 0
        write_tif(
            root / "images" / f"{i}.tif", image, descriptions=["B04", "B03", "B02"], nodata=0, crs="EPSG:32633",
            transform=from_origin(500_000, 5_000_000, 10, 10),
        )  # fmt: skip
        write_tif(root / "masks" / f"{i}.tif", truth(i, 20, 30)[None])
    known = {"unit": "reflectance", "scale": 1e-4, "sensor_name": "sentinel-2"}
    pack = pack_of(root, workspace, known, tile_size=16)
    first = pack.samples[pack.samples["id"] == "0-r00004-c00014"].iloc[0]
    assert list(first["transform"]) == [10, 0, 500_140, 0, -10, 4_999_960] and first["gsd_m"] == 10
    assert pack.layer().nodata == 0 and pack.layer().bands[0].statistics.min > 0
    values = pack.array("train")[:, 0]
    assert pack.layer().bands[0].statistics.mean == pytest.approx(values[values > 0].mean() * 1e-4)


def test_a_tile_may_be_of_one_value(tmp_path, workspace):
    root = tmp_path / "set"
    for seed in range(4):
        image = picture(seed)
        image[:8, :8] = 255  # a saturated cloud
        save(root / "images" / f"{seed}.png", image)
        save(root / "masks" / f"{seed}.png", truth(seed))
    info = pack_of(root, workspace, tile_size=8).info
    assert sum(info.splits.values()) == 16 and not info.skipped


def test_masks_are_resampled_without_new_values(tmp_path, workspace):
    pack = pack_of(segmentation_tree(tmp_path / "set", NAMES), workspace, image_size=8)
    assert pack.layer("mask").shape == (1, 8, 8) and set(np.unique(pack.array("train", "mask"))) <= {0, 1, 2}


def test_a_changed_mask_makes_the_pack_anew(tmp_path, workspace):
    folder = segmentation_tree(tmp_path / "set", NAMES)
    first = pack_of(folder, workspace).info
    assert prepare(PrepareSpec(dataset="mine"), workspace) == first
    save(folder / "masks" / "place_0.png", truth(99, classes=3))
    assert prepare(PrepareSpec(dataset="mine"), workspace).content_hash != first.content_hash


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"stride": 8}, "give a tile size with the stride"),
        ({"stride": 17, "tile_size": 16}, "at most the tile size of 16"),
        ({"options": {"tile_size": 8, "stride": 4}}, "stride and tile_size as the spec's own field"),
        ({"options": {"nonsense": 1}}, "no option nonsense"),
        ({"options": {"coding": "binary"}}, "two classes"),
        ({"options": {"edges": "pad"}, "tile_size": 8}, "cover, drop"),
        ({"options": {"scene": "(a"}}, "no regular expression"),
        ({"options": {"scene": "a+"}}, "needs one group"),
        ({"tile_size": 64, "options": {"edges": "drop"}}, "More than half .* no tile of 64 fits"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, workspace, spec, message):
    with pytest.raises(RsfmError, match=message):
        pack_of(segmentation_tree(tmp_path / "set", NAMES), workspace, **spec)


def test_dry_run_names_what_will_be_there(tmp_path, workspace):
    write_registered(understand(change_tree(tmp_path / "set", NAMES), "mine").entry, workspace)
    lines = dry_run(PrepareSpec(dataset="mine"), workspace)
    assert any("8 train, 2 test" in line for line in lines) and any(line.startswith("mask: 1 x 16") for line in lines)
