"""Masks in every coding become class indices; what is no class is named, never stored."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasters import write_tif

from data_catalog.readers.base import BadFile
from data_catalog.readers.masks import MaskCoding
from data_catalog.readers.tiles import IGNORE
from rsfm.errors import RsfmError

NO_OPTIONS = {"coding": "index", "values": [], "colours": [], "ignore": []}
NAMES = ["a", "b", "c"]
ONE_COLOUR = {"coding": "colours", "colours": [[1, 2, 3]], "classes": ["one"]}


def coding(classes=NAMES, **options) -> MaskCoding:
    return MaskCoding.of({**NO_OPTIONS, **options}, classes, "the test")


def saved(tmp_path, array, name="m.png", mode=None):
    path = tmp_path / name
    if name.endswith(".tif"):
        write_tif(path, array[None] if array.ndim == 2 else array)
    else:
        Image.fromarray(array, mode).save(path)
    return path


def read(code: MaskCoding, path) -> np.ndarray:
    mask = code.read(path, path.name)
    assert mask.dtype == np.uint8 and mask.ndim == 3 and mask.shape[0] == 1
    return mask[0]


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["index", "values", "colours"]),
    count=st.integers(1, 12),
    ending=st.sampled_from([".png", ".tif"]),
    seed=st.integers(0, 2**16),
)
def test_every_coding_gives_the_classes_back(tmp_path_factory, kind, count, ending, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, count + 1, (5, 7))  # count: not labelled
    truth_mask = np.where(truth == count, IGNORE, truth)
    if kind == "colours":
        colours = rng.choice(2**24, count + 1, replace=False)
        table = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)
        stored, options = table[truth], {"colours": table[:-1].tolist(), "ignore": table[-1:].tolist()}
        stored = stored if ending == ".png" else stored.transpose(2, 0, 1)
    else:
        values = np.arange(count + 1) if kind == "index" else rng.choice(256, count + 1, replace=False)
        options = {"ignore": [int(values[-1])]} | ({"values": values[:-1].tolist()} if kind == "values" else {})
        stored = values[truth].astype(np.uint8)
    path = saved(tmp_path_factory.mktemp("masks"), stored, f"m{ending}")
    names = [str(i) for i in range(count)]
    np.testing.assert_array_equal(read(coding(names, coding=kind, **options), path), truth_mask)


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_both_kinds_of_binary_mask(tmp_path, high, name):
    truth = np.eye(6, dtype=np.uint8)
    binary = coding(["no", "yes"], coding="binary")
    np.testing.assert_array_equal(read(binary, saved(tmp_path, truth * high, name)), truth)
    np.testing.assert_array_equal(read(binary, saved(tmp_path, truth * 0, name)), truth * 0)


def test_sixteen_bit_and_floating_masks(tmp_path):
    truth = np.arange(9).reshape(3, 3) % 3
    for dtype in (np.uint16, np.int32, np.float32):
        np.testing.assert_array_equal(
            read(coding(), saved(tmp_path, truth.astype(dtype), f"{dtype.__name__}.tif")), truth
        )
    with pytest.raises(BadFile, match=r"holds 0\.5, which is none of its 3 classes \(9 pixels\)"):
        read(coding(), saved(tmp_path, np.full((3, 3), 0.5, np.float32), "half.tif"))


def test_one_bit_grey_and_coloured_palettes(tmp_path):
    truth = np.eye(4, dtype=np.uint8)
    binary = coding(["no", "yes"], coding="binary")
    np.testing.assert_array_equal(read(binary, saved(tmp_path, truth.astype(bool), "bits.png")), truth)
    palette = Image.fromarray(1 - truth, "P")  # index 0 is white: the colours count, not the indices
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read(binary, tmp_path / "grey.png"), truth)
    coloured = Image.fromarray(truth, "P")
    coloured.putpalette([200, 0, 0, 0, 0, 90])
    coloured.save(tmp_path / "coloured.png")
    np.testing.assert_array_equal(read(coding(["x", "y"]), tmp_path / "coloured.png"), truth)
    by_colour = coding(["x", "y"], coding="colours", colours=[[0, 0, 90], [200, 0, 0]])
    np.testing.assert_array_equal(read(by_colour, tmp_path / "coloured.png"), 1 - truth)


def test_grey_stored_as_rgb_is_one_channel(tmp_path):
    truth = np.eye(4, dtype=np.uint8)
    grey = np.repeat((truth * 255)[..., None], 3, 2)
    binary = coding(["no", "yes"], coding="binary")
    np.testing.assert_array_equal(read(binary, saved(tmp_path, grey)), truth)
    rgba = np.concatenate([grey, np.full((4, 4, 1), 200, np.uint8)], 2)
    np.testing.assert_array_equal(read(binary, saved(tmp_path, rgba, "a.png")), truth)
    grey[0, 1, 2] = 7
    with pytest.raises(BadFile, match="bands that differ"):
        read(binary, saved(tmp_path, grey))


def test_jpeg_masks_are_cut_in_the_middle_and_hold_two_classes_only(tmp_path):
    truth = np.zeros((32, 32), np.uint8)
    truth[5:20, 7:30] = 1
    Image.fromarray(truth * 255).save(tmp_path / "m.jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "m.jpg")))) > 2  # blurred indeed
    found = read(coding(["no", "yes"], coding="binary"), tmp_path / "m.jpg")
    assert set(np.unique(found)) == {0, 1} and (found != truth).mean() < 0.02
    with pytest.raises(BadFile, match="JPEG"):
        read(coding(), tmp_path / "m.jpg")


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (np.array([[0, 1, 2, 7]], np.uint8), {}, r"holds 7, which is none of its 3 classes \(1 pixels\)"),
        (np.array([[0, 1, 255, 255]], np.uint8), {}, "holds 255"),
        (np.array([[0, 128, 255]], np.uint8), {"coding": "binary", "classes": ["n", "y"]}, "holds 128"),
        (np.array([[0, 1, 255]], np.uint8), {"coding": "binary", "classes": ["n", "y"]}, "holds 1,"),
        (np.array([[4, 9, 5]], np.uint8), {"coding": "values", "values": [4, 9, 200]}, "holds 5"),
        (np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8),
         ONE_COLOUR, r"holds \(9, 9, 9\), which is none of its 1"),
        (np.array([[1, 2]], np.uint8), ONE_COLOUR, "not a mask of RGB"),
    ],
)  # fmt: skip
def test_what_is_no_class_is_named(tmp_path, array, options, said):
    with pytest.raises(BadFile, match=said) as caught:
        read(coding(**options), saved(tmp_path, array, "planted.png"))
    assert caught.value.path == "planted.png"


def test_files_that_are_no_masks(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (64, 64), np.uint8)).save(buffer, "PNG")
    for name, content, said in (
        ("cut.png", buffer.getvalue()[:300], "cannot be decoded"),
        ("empty.png", b"", "empty"),
        ("text.tif", b"hello" * 20, "cannot be decoded"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadFile, match=said):
            read(coding(), tmp_path / name)
    with pytest.raises(BadFile, match="cannot be opened"):
        read(coding(), tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    ("classes", "options", "said"),
    [
        (NAMES, {"coding": "grey"}, "must be one of index, binary"),
        ([], {}, "1 to 255"),
        (NAMES, {"coding": "binary"}, "two classes"),
        (NAMES, {"coding": "values", "values": [1, 2]}, "2 values do not fit"),
        (NAMES, {"values": [1, 2, 3]}, "3 values do not fit"),
        (["a"], {"coding": "colours", "colours": [[1, 2]]}, "cannot be read"),
        (["a"], {"coding": "colours", "colours": [[1, 2, 300]]}, "no RGB colour"),
        (NAMES, {"ignore": ["x"]}, "cannot be read"),
    ],
)
def test_codings_that_do_not_fit(classes, options, said):
    with pytest.raises(RsfmError, match=said):
        coding(classes, **options)
