"""Images cut into square tiles so that every pixel is labelled in one tile only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rsfm.errors import RsfmError

#: Value of a mask where nothing is to be learned or measured.
IGNORE = 255

Edges = Literal["cover", "drop"]
EDGES: tuple[Edges, ...] = get_args(Edges)


@dataclass(frozen=True)
class Tile:
    """Where a tile lies in its image, and which part of it no earlier tile holds.

    Attributes:
        row, column: of its upper left pixel in the image.
        own_row, own_column: its first row and column, counted in the tile, that are labelled here.
    """

    row: int
    column: int
    own_row: int = 0
    own_column: int = 0

    @property
    def name(self) -> str:
        return f"r{self.row:05d}-c{self.column:05d}"


def tiles(height: int, width: int, size: int, edges: Edges) -> list[Tile]:
    """Tiles of size x size pixels, from the upper left corner, row by row.

    Args:
        edges: `cover` moves the last tile of a row or column back to end at the image's edge, so that the image is
            covered whole (an image smaller than a tile gets one, which `cut_image` fills up); `drop` leaves the
            remainder out, as a division without rest does.
    """
    if edges not in EDGES:
        raise RsfmError(f"Option edges must be one of {', '.join(EDGES)}, got {edges!r}.")
    starts = _starts_that_cover if edges == "cover" else _starts_that_fit
    return [
        Tile(row, column, own_row, own_column)
        for row, own_row in starts(height, size)
        for column, own_column in starts(width, size)
    ]


def _starts_that_fit(length: int, size: int) -> list[tuple[int, int]]:
    return [(start, 0) for start in range(0, length - size + 1, size)]


def _starts_that_cover(length: int, size: int) -> list[tuple[int, int]]:
    """(start, part that the tile before it holds already) along one side."""
    found = _starts_that_fit(length, size) or [(0, 0)]
    end = found[-1][0] + size
    if end < length:
        found.append((length - size, end - (length - size)))
    return found


def cut_image(image: np.ndarray, tile: Tile, size: int) -> np.ndarray:
    """(C, H, W) -> (C, size, size); what lies beyond the image is filled with its mirror image."""
    part = image[:, tile.row : tile.row + size, tile.column : tile.column + size]
    missing = [(0, 0), (0, size - part.shape[1]), (0, size - part.shape[2])]
    return np.pad(part, missing, mode="symmetric") if any(n for _, n in missing) else np.ascontiguousarray(part)


def cut_mask(mask: np.ndarray, tile: Tile, size: int) -> np.ndarray:
    """(1, H, W) -> (1, size, size): `IGNORE` beyond the mask, and where an earlier tile has the label already."""
    part = mask[:, tile.row : tile.row + size, tile.column : tile.column + size]
    cut = np.full((mask.shape[0], size, size), IGNORE, mask.dtype)
    rows, columns = slice(tile.own_row, part.shape[1]), slice(tile.own_column, part.shape[2])
    cut[:, rows, columns] = part[:, rows, columns]
    return cut
