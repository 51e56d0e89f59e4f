"""Images cut into square tiles so that every pixel is labelled in one tile only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from rsfm.errors import RsfmError

#: Value of a mask where nothing is to be learned or measured.
IGNORE = 255

Edges = Literal["cover", "drop"]
EDGES: tuple[Edges, ...] = get_args(Edges)


@dataclass(frozen=True)
class Tile:
    """Where a tile lies in its image, and which part of it no other tile labels.

    Attributes:
        row, column: of its upper left pixel in the image.
        own_rows, own_columns: first and after last, counted in the tile, that are labelled here.
    """

    row: int
    column: int
    own_rows: tuple[int, int]
    own_columns: tuple[int, int]

    @property
    def name(self) -> str:
        return f"r{self.row:05d}-c{self.column:05d}"

    def whole(self, size: int) -> bool:
        """Whether all of it is labelled here, as far as it has labels."""
        return self.own_rows == self.own_columns == (0, size)


def tiles(height: int, width: int, size: int, edges: Edges, stride: int = 0) -> list[Tile]:
    """Tiles of size x size pixels, from the upper left corner, row by row.

    Args:
        edges: `cover` moves the last tile of a row or column back to end at the image's edge, so that the image is
            covered whole (an image smaller than a tile gets one, which `cut_image` fills up); `drop` leaves the
            remainder out, as a division without rest does.
        stride: pixels from one tile to the next, for `cover`: a window that slides. A pixel is labelled in the tile
            where it lies farthest from an edge, so that what is found there has context on all sides. 0: tiles lie side
            by side, and where the last ones overlap, pixels are labelled in the earlier tile.

    Raises:
        RsfmError: unknown edges, or a stride that leaves gaps or does not suit them.
    """
    if edges not in EDGES:
        raise RsfmError(f"Option edges must be one of {', '.join(EDGES)}, got {edges!r}.")
    if stride and (edges != "cover" or not 0 < stride <= size):
        raise RsfmError(f"A tile stride needs edges=cover, and at most the tile size of {size} pixels: got {stride}.")
    return [
        Tile(row, column, own_rows, own_columns)
        for row, own_rows in _spans(height, size, edges, stride)
        for column, own_columns in _spans(width, size, edges, stride)
    ]


def _spans(length: int, size: int, edges: Edges, stride: int) -> list[tuple[int, tuple[int, int]]]:
    """(start, own part) along one side."""
    starts = list(range(0, length - size + 1, stride or size))
    if edges == "cover":
        starts = starts or [0]
        if starts[-1] + size < length:
            starts.append(length - size)
    borders = [(a + size + b) // 2 if stride else a + size for a, b in pairwise(starts)]
    if not starts:
        return []
    limits = pairwise([0, *borders, starts[-1] + size])
    return [(start, (first - start, last - start)) for start, (first, last) in zip(starts, limits, strict=True)]


def cut_image(image: np.ndarray, tile: Tile, size: int) -> np.ndarray:
    """(C, H, W) -> (C, size, size); what lies beyond the image is filled with its mirror image."""
    part = image[:, tile.row : tile.row + size, tile.column : tile.column + size]
    missing = [(0, 0), (0, size - part.shape[1]), (0, size - part.shape[2])]
    return np.pad(part, missing, mode="symmetric") if any(n for _, n in missing) else np.ascontiguousarray(part)


def cut_mask(mask: np.ndarray, tile: Tile, size: int) -> np.ndarray:
    """(1, H, W) -> (1, size, size): `IGNORE` beyond the mask, and where another tile has the label."""
    part = mask[:, tile.row : tile.row + size, tile.column : tile.column + size]
    cut = np.full((mask.shape[0], size, size), IGNORE, mask.dtype)
    rows, columns = slice(*tile.own_rows), slice(*tile.own_columns)
    own = part[:, rows, columns]
    cut[:, rows, columns][:, : own.shape[1], : own.shape[2]] = own
    return cut
