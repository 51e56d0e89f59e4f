"""Pictures of a folder before it is kept: which files, how many of them, and what of those that are broken."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from labelled_trees import change_tree, segmentation_tree
from PIL import Image
from rasterio.transform import from_origin
from rasters import reflectance, save, write_tif

from data_catalog import preview as module
from data_catalog.add import understand
from data_catalog.examples import SHOWN, TRIED, choose, spread
from data_catalog.preview import SIDE, preview, stamp


def picture(shown, number: int, layer: str = "image") -> np.ndarray:
    return dict(shown.sights[number].pictures)[layer]


# -- which ---------------------------------------------------------------------------------------------------------
def test_the_first_examples_are_of_every_class() -> None:
    labels = ["b"] * 500 + ["a"] * 3 + [None] * 40
    chosen = choose(labels)
    assert len(chosen) == len(set(chosen)) == 3 + 9 + 9 and {labels[i] for i in chosen[:3]} == {"a", "b", None}
    assert Counter(labels[i] for i in chosen[:SHOWN]) == {"a": 3, "b": 3, None: 2}
    of_b = [i for i in chosen if labels[i] == "b"]
    assert min(of_b) == 0 and max(of_b) == 499, "spread over the class"
    assert choose([]) == [] and choose(["x"]) == [0]


def test_of_more_classes_than_pictures_some_evenly() -> None:
    labels = [f"{i:03d}" for i in range(100) for _ in range(5)]
    chosen = choose(labels)
    shown = [labels[i] for i in chosen[:SHOWN]]
    assert len(set(shown)) == SHOWN and shown[0] == "000" and shown[-1] == "099" and len(chosen) == TRIED
    assert spread(range(10), 1) == [0] and spread("abc", 5) == ["a", "b", "c"]


# -- folders -------------------------------------------------------------------------------------------------------
def class_folders(root: Path, count: int = 6) -> Path:
    for label, level in (("dark", 20), ("light", 220)):
        for i in range(count):
            save(root / label / f"{i}.png", np.full((10, 16, 3), level + i, np.uint8))
    return root


def test_classes_are_shown_side_by_side_in_one_stretch(tmp_path) -> None:
    found = understand(class_folders(tmp_path / "set"), "mine")
    shown = preview(found)
    assert [s.label for s in shown.sights] == ["dark"] * 4 + ["light"] * 4 and shown.bands == ("red", "green", "blue")
    assert picture(shown, 0).max(axis=(0, 1))[0] < 20 and picture(shown, 7).min(axis=(0, 1))[0] > 230
    assert picture(shown, 0).shape == (120, 192, 4), "pixels are enlarged whole times"
    assert shown.sights[0].shape == (10, 16)
    total = Counter()
    for split, of_split in found.counts.items():
        assert split in ("train", "test")
        total.update(of_split)
    assert total == {"dark": 6, "light": 6}


def test_broken_files_are_named_and_others_take_their_place(tmp_path) -> None:
    root = class_folders(tmp_path / "set")
    found = understand(root, "mine")
    for broken in ("dark/0.png", "light/3.png"):
        (root / broken).write_bytes(b"")
    shown = preview(found)
    assert len(shown.sights) == SHOWN
    assert {(b.path, b.reason) for b in shown.bad} == {
        ("dark/0.png", "the file is empty"), ("light/3.png", "the file is empty"),
    }  # fmt: skip
    for file in root.rglob("*.png"):
        file.unlink()
    gone = preview(found)
    assert not gone.sights and len(gone.bad) == 12


def test_no_more_files_are_opened_than_promised(tmp_path, monkeypatch) -> None:
    for i in range(60):
        save(tmp_path / f"{i:02d}.png", np.full((8, 8, 3), i, np.uint8))
    found = understand(tmp_path, "mine")
    opened = []
    read = module.read_header
    monkeypatch.setattr(module, "read_header", lambda path, shown: opened.append(shown) or read(path, shown))
    preview(found)
    assert len(opened) == SHOWN and opened[0] == "00.png"
    for file in tmp_path.glob("*.png"):
        file.write_bytes(b"")
    opened.clear()
    assert len(preview(found).bad) == len(opened) == TRIED


def test_large_files_are_passed_over_when_too_much_was_read(tmp_path, monkeypatch) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.png", np.full((300, 400, 3), 60 * i, np.uint8))
    found = understand(tmp_path, "mine")
    monkeypatch.setattr(module, "MOST_PIXELS", 250_000)
    shown = preview(found)
    assert [s.name for s in shown.sights] == ["0.png", "3.png"] and shown.too_large == ("1.png", "2.png")
    assert max(picture(shown, 0).shape) == SIDE


def test_a_band_that_was_named_wrongly_is_seen(tmp_path) -> None:
    for i in range(3):
        write_tif(tmp_path / f"{i}.tif", reflectance(i))
    seen = {}
    for order in (("B02", "B03", "B04"), ("B04", "B03", "B02")):
        shown = preview(understand(tmp_path, "mine", bands=order, sensor_name="sentinel-2", unit="dn"))
        assert shown.bands == ("B04", "B03", "B02")
        seen[order[0]] = picture(shown, 0)
    assert (seen["B02"][..., 0] == seen["B04"][..., 2]).all() and (seen["B02"] != seen["B04"]).any()


def test_pairs_share_their_stretch_and_have_their_change_map(tmp_path) -> None:
    shown = preview(understand(change_tree(tmp_path / "set", [f"p{i}" for i in range(4)]), "mine"))
    assert len(shown.sights) == 4
    for sight in shown.sights:
        assert [layer for layer, _ in sight.pictures] == ["image_pre", "image_post", "mask"]
        assert len({p.shape for _, p in sight.pictures}) == 1


def test_a_mask_that_cannot_be_is_named(tmp_path) -> None:
    root = segmentation_tree(tmp_path / "set", [f"s{i}" for i in range(5)])
    found = understand(root, "mine")
    assert len(preview(found).sights) == 5
    save(root / "masks" / "s2.png", np.full((16, 16), 77, np.uint8))
    shown = preview(found)
    assert [s.name for s in shown.sights] == ["s0", "s1", "s3", "s4"]
    assert [b.path for b in shown.bad] == ["masks/s2.png"] and "none of its 3 classes" in shown.bad[0].reason
    assert "holds 77" in shown.bad[0].reason and "(256 pixels)" in shown.bad[0].reason


def test_pixels_are_counted_of_whole_masks_and_only_of_those_that_are_shown(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "SIDE", 8)
    root = segmentation_tree(tmp_path / "set", [f"s{i:02d}" for i in range(12)])
    found = understand(root, "mine")
    shown = preview(found)
    assert len(shown.sights) == SHOWN and picture(shown, 0, "mask").shape[:2] == (8, 8)
    masks = np.stack([np.asarray(Image.open(root / "masks" / f"{s.name}.png")) for s in shown.sights])
    assert shown.pixels == (*np.bincount(masks.ravel(), minlength=3), 0)
    options = {**found.entry.reader_options, "ignore": [2]}
    ignoring = replace(found, entry=found.entry.model_copy(update={"reader_options": options}))
    assert preview(ignoring).pixels == (*np.bincount(masks.ravel(), minlength=3)[:2], 0, (masks == 2).sum())
    assert preview(understand(class_folders(tmp_path / "other"), "mine")).pixels == ()


def test_another_content_or_understanding_has_another_key(tmp_path) -> None:
    root = class_folders(tmp_path / "set")
    before = stamp(understand(root, "mine"))
    assert stamp(understand(root, "mine")) == before
    assert stamp(understand(root, "mine", gsd_m=3.0)) != before
    save(root / "dark" / "0.png", np.zeros((10, 16, 3), np.uint8))
    assert stamp(understand(root, "mine")) != before


# -- scenes --------------------------------------------------------------------------------------------------------
def scene(path: Path, side: int = 2000, **more) -> Path:
    rows = np.arange(side, dtype=np.uint16)[:, None] + np.zeros(side, np.uint16)
    image = np.stack([rows + 1, rows + 1, rows + 1])
    image[:, :, : side // 4] = 0
    where = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_200_000, 10, 10)}
    write_tif(path, image, nodata=0, descriptions=["B02", "B03", "B04"], **where, **more)
    return path


def test_a_scene_is_read_thinned_out_with_its_gaps_and_its_place(tmp_path) -> None:
    found = understand(scene(tmp_path / "scene.tif"), "mine", unit="dn")
    shown = preview(found)
    (sight,) = shown.sights
    seen = picture(shown, 0)
    assert found.is_scene and max(seen.shape) <= module.SCENE_SIDE and sight.shape == (2000, 2000)
    assert (seen[:, : seen.shape[1] // 4 - 2, 3] == 0).all() and (seen[:, seen.shape[1] // 4 + 2 :, 3] == 255).all()
    assert seen[0, -1, 0] == 0 and seen[-1, -1, 0] == 255, "dark above, bright below"
    assert sight.place is not None and sight.place.crs == "EPSG:32632" and sight.place.width == 2000


def test_a_scene_with_smaller_copies_costs_less(tmp_path, monkeypatch) -> None:
    import rasterio

    found = understand(scene(tmp_path / "scene.tif"), "mine", unit="dn")
    monkeypatch.setattr(module, "MOST_PIXELS", 2_000_000)
    assert preview(found).too_large == ("scene.tif",) and not preview(found).sights
    with rasterio.open(tmp_path / "scene.tif", "r+") as file:
        file.build_overviews([2])
    assert len(preview(found).sights) == 1
