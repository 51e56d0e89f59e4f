"""Tiles of a scene through a network, blended, and handed on strip by strip: never more than one strip is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsfm.inference.reader import Rows, SceneReader
from rsfm.inference.windows import Span, plan_axis

#: (B, C, tile, tile) float32 of each date, NaN where nothing was observed, to (B, K, tile, tile) probabilities.
Network = Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Strip:
    """Finished rows of the map.

    Attributes:
        probabilities: (K, stop - start, width) float32.
        valid: (stop - start, width), where the scene was observed; elsewhere the probabilities mean nothing.
    """

    start: int
    stop: int
    probabilities: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Tiles:
    """The plan of a scene's tiles.

    Attributes:
        batch_size: tiles per forward pass. A pass never reaches over the end of a row of tiles, so that what a strip
            becomes does not depend on where a run began.
    """

    rows: list[Span]
    columns: list[Span]
    tile: int
    batch_size: int

    @classmethod
    def of(cls, height: int, width: int, tile: int, overlap: int, batch_size: int) -> Tiles:
        return cls(plan_axis(height, tile, overlap), plan_axis(width, tile, overlap), tile, batch_size)

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)

    def accumulator_bytes(self, channels: int) -> int:
        """Memory that the sums of one strip take."""
        return 4 * channels * min(self.tile, self.rows[-1].stop) * self.columns[-1].stop

    def complete(self, row: int) -> int:
        """Up to where the map is complete once that row of tiles is done."""
        return self.rows[row + 1].start if row + 1 < len(self.rows) else self.rows[row].stop


class StripSums:
    """Weighted sums of probabilities over as many rows as one row of tiles covers, from `base` on."""

    def __init__(self, channels: int, rows: int, width: int, base: int = 0) -> None:
        self.base = base
        self.sums = np.zeros((channels, rows, width), np.float32)

    def add(self, row: Span, column: Span, probabilities: np.ndarray) -> None:
        """(K, tile, tile) of the tile at (row, column); rows above `base` are complete and take nothing any more."""
        first = max(row.start, self.base)
        above = first - row.start
        part = probabilities[:, above : row.stop - row.start, : column.stop - column.start]
        into = self.sums[:, first - self.base : row.stop - self.base, column.start : column.stop]
        into += part * row.weights[above:, None] * column.weights

    def take(self, stop: int) -> np.ndarray:
        """(K, stop - base, width): the complete rows; what lies below moves up."""
        count = stop - self.base
        complete = self.sums[:, :count].copy()
        kept = self.sums.shape[1] - count
        self.sums[:, :kept] = self.sums[:, count:].copy()
        self.sums[:, kept:] = 0
        self.base = stop
        return complete


def strips(
    reader: SceneReader, network: Network, tiles: Tiles, *, channels: int, start: int = 0,
    after_tiles: Callable[[int], None],
) -> Iterator[Strip]:  # fmt: skip
    """The map of a scene from row `start` on, a strip for each row of tiles.

    Args:
        channels: K, of what the network gives.
        start: 0, or the end of an earlier strip; tiles above that reach into what is left are predicted once more.
        after_tiles: called with a number of tiles after each forward pass; may raise to stop.
    """
    height = min(tiles.tile, tiles.rows[-1].stop)
    sums = StripSums(channels, height, tiles.columns[-1].stop, start)
    for number, row in enumerate(tiles.rows):
        if row.stop <= start:
            continue
        rows = reader.rows(row.start, row.stop)
        _add_row(sums, rows, row, network, tiles, after_tiles)
        stop = tiles.complete(number)
        if stop > sums.base:
            base = sums.base
            yield Strip(base, stop, sums.take(stop), rows.valid[base - row.start : stop - row.start])


def _add_row(
    sums: StripSums, rows: Rows, row: Span, network: Network, tiles: Tiles, after_tiles: Callable[[int], None]
) -> None:
    # A tile without any observed pixel tells nothing that is shown.
    seen = [column for column in tiles.columns if rows.valid[:, column.start : column.stop].any()]
    if unseen := len(tiles.columns) - len(seen):
        after_tiles(unseen)
    for first in range(0, len(seen), tiles.batch_size):
        columns = seen[first : first + tiles.batch_size]
        dates = zip(*(rows.tile(c.start, c.stop, tiles.tile) for c in columns), strict=True)
        predicted = network([torch.from_numpy(np.stack(date)) for date in dates])
        for column, probabilities in zip(columns, predicted.cpu().numpy(), strict=True):
            sums.add(row, column, probabilities)
        after_tiles(len(columns))
