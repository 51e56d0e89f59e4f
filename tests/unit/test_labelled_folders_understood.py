"""Folders of images with masks and of pairs: what is understood of them, and what is a guess."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from labelled_trees import NAMES, change_tree, pack_of, picture, rows, segmentation_tree, truth
from rasters import save

from data_catalog.add import registered, understand
from data_catalog.prepare import prepare
from data_catalog.readers.tiles import IGNORE
from rsfm.errors import RsfmError
from rsfm.specs import PrepareSpec


def findings(found, subject):
    return [f for f in found.findings if f.subject == subject]


@pytest.mark.parametrize(
    ("values", "coding", "classes", "certain"),
    [
        ([0, 255], {"coding": "binary"}, ["background", "foreground"], True),
        ([0, 1], {"coding": "binary"}, ["background", "foreground"], True),
        ([0, 1, 2, 3], {"coding": "index"}, [f"class {i}" for i in range(4)], True),
        ([0, 1, 3], {"coding": "index"}, [f"class {i}" for i in range(4)], True),
        ([0, 1, 255], {"coding": "index", "ignore": [255]}, ["class 0", "class 1"], False),
        ([10, 20, 90], {"coding": "values", "values": [10, 20, 90]}, ["value 10", "value 20", "value 90"], False),
    ],
)
def test_masks_are_understood_from_their_values(tmp_path, values, coding, classes, certain):
    for seed in range(4):
        save(tmp_path / "images" / f"{seed}.png", picture(seed))
        save(tmp_path / "masks" / f"{seed}.png", np.array(values, np.uint8)[truth(seed, classes=len(values))])
    found = understand(tmp_path, "mine")
    assert found.entry.reader_options == coding and found.entry.classes == classes
    assert all(f.certain for f in findings(found, "masks")) is certain
    assert "4 images with masks in images/, masks/" in findings(found, "layout")[0].text


TABLE = "id,name,r,g,b\n1,water,0,0,200\n0,roof,200,0,0\n2,Unlabeled,90,90,90\n"
COLOURS = np.array([[200, 0, 0], [0, 0, 200], [90, 90, 90], [0, 0, 0]], np.uint8)


def coloured_tree(root, classes=4):
    for seed in range(4):
        save(root / "images" / f"{seed}.png", picture(seed))
        save(root / "masks" / f"{seed}.png", COLOURS[truth(seed, classes=classes)])
    return root


def test_colour_masks_with_a_class_table(tmp_path, workspace):
    root = coloured_tree(tmp_path / "set")
    (root / "classes.csv").write_text(TABLE)
    found = understand(root, "mine")
    assert found.entry.classes == ["roof", "water"]
    said = " ".join(f.text for f in findings(found, "masks"))
    assert "Unlabeled of classes.csv is no class" in said and "black occurs in 4 masks" in said
    pack = pack_of(root, workspace)
    index = next(i for s, i, row in rows(pack) if s == "train" and row["id"] == "0")
    expected = np.array([0, 1, IGNORE, IGNORE], np.uint8)[truth(0, classes=4)]
    np.testing.assert_array_equal(pack.array("train", "mask")[index, 0], expected)


def test_colour_masks_without_a_table_are_a_guess(tmp_path):
    found = understand(coloured_tree(tmp_path, classes=3), "mine")
    assert len(found.entry.classes) == 3 and "colour 0,0,200" in found.entry.classes
    assert not findings(found, "masks")[0].certain
    for seed in range(4):
        save(tmp_path / "masks" / f"{seed}.png", picture(seed))  # a second photograph is no mask
    with pytest.raises(RsfmError, match=r"name the classes in classes\.csv"):
        understand(tmp_path, "mine")


def test_class_names_from_a_table(tmp_path):
    segmentation_tree(tmp_path, NAMES)
    (tmp_path / "classes.txt").write_text("sea\nshore\nland\n")
    assert understand(tmp_path).entry.classes == ["sea", "shore", "land"]
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.csv").write_text("name,value\nsea,0\nland,2\n")
    found = understand(tmp_path)
    assert found.entry.reader_options == {"coding": "values", "values": [0, 2]}
    assert "1 is not in classes.csv" in findings(found, "masks")[-1].text
    for text, message in (
        ("name\nsea\nsea\n", "twice"),
        ("value\n0\n", "name for each"),
        ("name,value\nsea,x\n", "line 2"),
    ):
        (tmp_path / "classes.csv").write_text(text)
        with pytest.raises(RsfmError, match=message):
            understand(tmp_path)


def test_pairs_are_not_taken_for_images_with_masks(tmp_path):
    change_tree(tmp_path / "pairs", NAMES)
    assert understand(tmp_path / "pairs").entry.task == "change"
    shutil.rmtree(tmp_path / "pairs" / "label")
    assert understand(tmp_path / "pairs").entry.task == "classification"  # two classes, A and B


def test_a_label_list_says_it_is_a_folder_of_images(tmp_path):
    segmentation_tree(tmp_path, NAMES)
    (tmp_path / "labels.csv").write_text("file,label\nimages/place_0.png,a\nimages/place_1.png,b\n")
    assert understand(tmp_path).entry.task == "classification"


def test_kinds_of_data_without_registration(tmp_path, workspace):
    folder = segmentation_tree(tmp_path / "set", NAMES)
    spec = PrepareSpec(dataset="segmentation-folder", source=str(folder), name="x")
    assert prepare(spec, workspace).task == "segmentation"
    with pytest.raises(RsfmError, match="a folder of images with masks: prepare it as segmentation-folder"):
        prepare(spec.model_copy(update={"dataset": "change-folder"}), workspace)
    pairs = PrepareSpec(dataset="change-folder", source=str(change_tree(tmp_path / "pairs", NAMES)), name="y")
    assert prepare(pairs, workspace).splits == {"train": 8, "test": 2}
    for i in range(10):
        mask = truth(i)
        mask[3] = 255
        save(folder / "masks" / f"place_{i}.png", mask)
    with pytest.raises(RsfmError, match="masks: class indices 0 to 1; 255 means not labelled"):
        prepare(spec.model_copy(update={"name": "z"}), workspace)
    told = spec.model_copy(update={"name": "z", "options": {"ignore": [255]}})
    assert prepare(told, workspace).layers[1].ignore_value == 255


def test_what_cannot_be_prepared_is_not_kept(tmp_path, workspace):
    found = understand(segmentation_tree(tmp_path / "set", NAMES), "mine")
    with pytest.raises(RsfmError), registered(found.entry, workspace):
        prepare(PrepareSpec(dataset="mine", options={"coding": "binary"}), workspace)
    assert not (workspace.datasets / "mine.json").exists()
