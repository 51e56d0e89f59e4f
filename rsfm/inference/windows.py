"""Where the tiles of a scene lie, and how much each counts where they overlap.

Both axes are planned alone, because tiles form a regular grid: the weight of a tile at a pixel is the product of the
weights along rows and columns, and these sum to one along each axis.

Of the pixels that two neighbours share, each leaves out the quarter next to its own edge, where a network has no
context and padding reaches in; over the half between, one fades out while the other fades in (squared sine and
cosine). At the border of the scene a tile counts fully, for there is no neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsfm.errors import RsfmError


@dataclass(frozen=True)
class Span:
    """One tile along one axis: pixels start..stop, and its weight at each of them, (stop - start,) float32."""

    start: int
    stop: int
    weights: np.ndarray


def plan_axis(length: int, tile: int, overlap: int) -> list[Span]:
    """Tiles that cover `length` pixels, as few as share at least `overlap` pixels, evenly spread.

    A length below `tile` has one span that is as long as it; all others are `tile` long and begin where no earlier one
    does. At each pixel the weights of all spans sum to one.

    Raises:
        RsfmError: nothing to cover, or an overlap of more than half a tile.
    """
    if length < 1 or tile < 1:
        raise RsfmError(f"Tiles of {tile} pixels cannot cover {length} pixels.")
    if not 0 <= 2 * overlap <= tile:
        raise RsfmError(f"An overlap of {overlap} pixels does not suit tiles of {tile}: at most half of a tile.")
    steps = -(-max(0, length - tile) // (tile - overlap))
    starts = [i * (length - tile) // steps for i in range(steps + 1)] if steps else [0]
    stops = [min(start + tile, length) for start in starts]
    weights = []
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        weight = np.ones(stop - start)
        if i > 0:
            fade = _fade_in(stops[i - 1] - start)
            weight[: len(fade)] *= fade
        if i < steps:
            fade = _fade_in(stop - starts[i + 1])
            weight[len(weight) - len(fade) :] *= fade[::-1]
        weights.append(weight)
    total = np.zeros(length)
    for start, stop, weight in zip(starts, stops, weights, strict=True):
        total[start:stop] += weight
    return [
        Span(start, stop, (weight / total[start:stop]).astype(np.float32))
        for start, stop, weight in zip(starts, stops, weights, strict=True)
    ]


def left_out(shared: int) -> int:
    """Of `shared` pixels, how many next to its own edge a tile leaves to its neighbour."""
    return shared // 4


def _fade_in(shared: int) -> np.ndarray:
    """(shared,) from 0 to 1: nothing at the edge, then half a wave, then all."""
    edge = left_out(shared)
    between = shared - 2 * edge
    fade = np.sin(np.pi / 2 * (np.arange(between) + 0.5) / between) ** 2 if between else np.zeros(0)
    return np.concatenate([np.zeros(edge), fade, np.ones(edge)])
