"""Tiles that cover an image label every pixel of it exactly once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_catalog.readers.tiles import IGNORE, cut_image, cut_mask, tiles
from rsfm.errors import RsfmError

sides = st.integers(1, 70)


@settings(deadline=None, max_examples=200)
@given(height=sides, width=sides, size=st.integers(2, 32), stride=st.integers(0, 32))
def test_every_pixel_counts_exactly_once(height, width, size, stride):
    """The mask's value tells which pixel it is (modulo 251), and the sum of all labels is that of the whole mask."""
    mask = (np.arange(height * width).reshape(1, height, width) % 251).astype(np.uint8)
    image = np.stack([np.indices((height, width))[0], np.indices((height, width))[1]]).astype(np.uint8)
    counted = np.zeros((height, width), int)
    for tile in tiles(height, width, size, "cover", min(stride, size)):
        labels, pixels = cut_mask(mask, tile, size)[0], cut_image(image, tile, size)
        assert labels.shape == (size, size) and pixels.shape == (2, size, size)
        rows, columns = pixels[:, labels != IGNORE].astype(int)  # where in the image a labelled pixel comes from
        np.testing.assert_array_equal(labels[labels != IGNORE], mask[0, rows, columns])
        np.add.at(counted, (rows, columns), 1)
    assert (counted == 1).all()


@settings(deadline=None)
@given(height=sides, width=sides, size=st.integers(2, 32))
def test_tiles_that_drop_the_rest_lie_side_by_side(height, width, size):
    found = tiles(height, width, size, "drop")
    assert len(found) == (height // size) * (width // size)
    mask = np.zeros((1, height, width), np.uint8)
    counted = np.zeros((height, width), int)
    for tile in found:
        assert (cut_mask(mask, tile, size) == 0).all()
        counted[tile.row : tile.row + size, tile.column : tile.column + size] += 1
    assert counted.max(initial=0) <= 1 and counted.sum() == len(found) * size * size


@given(height=sides, width=sides, size=st.integers(2, 32))
def test_covering_takes_as_few_tiles_as_can_be(height, width, size):
    assert len(tiles(height, width, size, "cover")) == -(-height // size) * -(-width // size)


@settings(deadline=None)
@given(length=sides, size=st.integers(2, 32), data=st.data())
def test_a_window_that_slides_owns_what_lies_farthest_from_its_edges(length, size, data):
    """Along one side: no other window holds a pixel with more context, the image's own border counting as none."""
    stride = data.draw(st.integers(1, size))
    found = tiles(length, 1, size, "cover", stride)
    starts = np.array([tile.row for tile in found])
    assert (np.diff(starts) <= stride).all() and starts[-1] == max(0, length - size)
    for tile in found:
        for row in range(tile.row + tile.own_rows[0], min(length, tile.row + tile.own_rows[1])):
            before = np.where(starts == 0, length, row - starts)
            after = np.where(starts + size >= length, length, starts + size - 1 - row)
            context = np.minimum(before, after)
            assert context[starts == tile.row][0] == context.max()


def test_beyond_a_small_image_lies_its_mirror_image_without_labels():
    image = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    (tile,) = tiles(2, 3, 4, "cover")
    np.testing.assert_array_equal(
        cut_image(image, tile, 4)[0], [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]]
    )
    labels = cut_mask(np.zeros((1, 2, 3), np.uint8), tile, 4)[0]
    assert (labels[:2, :3] == 0).all() and (labels == 0).sum() == 6


def test_the_benchmark_tiles_of_a_pair():
    assert len(tiles(1024, 1024, 256, "drop")) == len(tiles(1024, 1024, 256, "cover")) == 16


def test_unknown_ways_of_cutting():
    with pytest.raises(RsfmError, match="cover, drop"):
        tiles(8, 8, 4, "pad")
    for edges, stride in (("drop", 2), ("cover", 5)):
        with pytest.raises(RsfmError, match="A tile stride needs edges=cover, and at most the tile size of 4"):
            tiles(8, 8, 4, edges, stride)
