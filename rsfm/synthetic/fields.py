"""Spatial building blocks on a square canvas: smooth noise, parcels, lattices, blobs, winding lines.

Lengths are in the world's own unit (`World.detail_m` metres). Nothing depends on how finely the canvas is sampled
except where the samples lie, so one world can be drawn for a fine and for a coarse sensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Array = np.ndarray
_F = np.float32


@dataclass(frozen=True)
class Canvas:
    """A square sampled at cell centres.

    Attributes:
        side: length of the square that will be seen.
        margin: drawn around it on each side, so that the instrument's blur has something to blur in.
        step: distance of two samples.
        count: samples per side.
    """

    side: float
    margin: float
    step: float
    count: int

    @classmethod
    def make(cls, side: float, margin: float, step: float) -> Canvas:
        return cls(side, margin, step, round((side + 2 * margin) / step))

    @property
    def reach(self) -> float:
        """Length of the drawn square."""
        return self.side + 2 * self.margin

    def axis(self) -> Array:
        """(n,) coordinates of the samples; the seen square is 0..side."""
        return ((np.arange(self.count) + 0.5) * self.step - self.margin).astype(_F)

    def turned(self, angle: float) -> tuple[Array, Array]:
        """Two (n, n) coordinate fields, turned by `angle` around the square's centre."""
        axis = self.axis() - _F(self.side / 2)
        cos, sin = _F(np.cos(angle)), _F(np.sin(angle))
        along = axis[None, :] * cos + axis[:, None] * sin
        across = axis[:, None] * cos - axis[None, :] * sin
        return along, across


@lru_cache(maxsize=256)
def _spline(canvas: Canvas, scale: float) -> Array:
    """(n, k) cubic B-spline weights of k knots `scale` apart, scaled so that unit normal knots give unit variance."""
    position = (np.arange(canvas.count) + 0.5) * canvas.step / scale + 1
    first = np.floor(position).astype(int) - 1
    t = position - np.floor(position)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    matrix = np.zeros((canvas.count, first.max() + 4))
    for i in range(4):
        matrix[np.arange(canvas.count), first + i] = weights[i]
    return (matrix / np.sqrt(np.mean((matrix**2).sum(axis=1)))).astype(_F)


def smooth_noise(canvas: Canvas, rng: np.random.Generator, scale: float) -> Array:
    """(n, n) smooth noise, mean 0, variance about 1, with features of about `scale`."""
    spline = _spline(canvas, scale)
    knots = rng.standard_normal((spline.shape[1], spline.shape[1]), dtype=_F)
    return spline @ knots @ spline.T


def _smooth_line(coordinate: Array, rng: np.random.Generator, scale: float) -> tuple[Array, Array]:
    """A random smooth function of one coordinate, variance about 1, and its slope: a sum of four sines."""
    value, slope = np.zeros_like(coordinate), np.zeros_like(coordinate)
    for _ in range(4):
        wave = 2 * np.pi / (scale * rng.uniform(0.7, 2.0))
        phase = wave * coordinate + rng.uniform(0, 2 * np.pi)
        value += np.sin(phase) / np.sqrt(2)
        slope += np.cos(phase) * wave / np.sqrt(2)
    return value, slope


@dataclass(frozen=True)
class Parcels:
    """A tessellation into turned rectangles.

    Attributes:
        column: (n, n) integer, the column of the parcel that a sample lies in.
        index: (n, n) integer, the number of the parcel.
        shape: columns and rows of a table of one value per parcel.
        inset: (n, n) distance to the nearest border of the parcel.
        along, across: (n, n) turned coordinates.
    """

    column: Array
    index: Array
    shape: tuple[int, int]
    inset: Array
    along: Array
    across: Array

    def each(self, table: Array) -> Array:
        """(n, n) from a table (columns, rows) of one value per parcel."""
        return table.ravel().take(self.index)


def parcels(
    canvas: Canvas,
    rng: np.random.Generator,
    angle: float,
    width: tuple[float, float],
    length: tuple[float, float],
) -> Parcels:
    """Columns of random width across `angle`, each cut into parcels of random length."""
    along, across = canvas.turned(angle)
    half = canvas.reach * 0.75
    widths = rng.uniform(*width, int(2 * half / width[0]) + 2)
    cuts = np.concatenate([[0.0], np.cumsum(widths)]) - half
    # A table of fine steps instead of a search per sample: the cuts land on the nearest 1/32 of a unit.
    table = np.searchsorted(cuts, np.arange(int(64 * half) + 64) / 32 - half, side="right") - 1
    column = table.take(((along + _F(half)) * 32).astype(np.intp))
    lengths = rng.uniform(*length, widths.size).astype(_F)
    shift = rng.uniform(0, 1, widths.size).astype(_F)
    place = (across + _F(half)) / lengths.take(column) + shift.take(column)
    row = place.astype(np.intp)
    part = place - row
    edges = cuts.astype(_F)
    from_side = np.minimum(along - edges.take(column), edges.take(column + 1) - along)
    inset = np.minimum(from_side, np.minimum(part, 1 - part) * lengths.take(column))
    rows = int(2 * half / length[0]) + 3
    return Parcels(column, column * rows + row, (widths.size, rows), inset, along, across)


def lattice(canvas: Canvas, rng: np.random.Generator, angle: float, period: float, jitter: float) -> Array:
    """(n, n) squared distance to the centre of the own lattice cell, in periods."""
    along, across = canvas.turned(angle)
    u, v = along / _F(period), across / _F(period)
    i, j = np.rint(u), np.rint(v)
    k = int(canvas.reach * 0.75 / period) + 2
    wobble = rng.uniform(-jitter, jitter, (2, 2 * k + 1, 2 * k + 1)).astype(_F)
    a, b = i.astype(np.int32) + k, j.astype(np.int32) + k
    return (u - i - wobble[0][a, b]) ** 2 + (v - j - wobble[1][a, b]) ** 2


@lru_cache(maxsize=256)
def _bell(canvas: Canvas, sigma: float) -> Array:
    axis = canvas.axis()
    return np.exp(-0.5 * ((axis[:, None] - axis[None, :]) / _F(sigma)) ** 2)


def blobs(canvas: Canvas, points: Array, weights: Array, sigma: float) -> Array:
    """(n, n) sum of Gaussian bumps of height `weights` at `points` (N, 2) within the drawn square."""
    index = np.clip(((points + canvas.margin) / canvas.step).astype(int), 0, canvas.count - 1)
    impulses = np.zeros((canvas.count, canvas.count), _F)
    np.add.at(impulses, (index[:, 1], index[:, 0]), weights.astype(_F))
    bell = _bell(canvas, round(sigma, 2))
    return bell @ impulses @ bell


def scatter(canvas: Canvas, rng: np.random.Generator, number: int) -> Array:
    """(N, 2) uniform points in the drawn square."""
    return rng.uniform(-canvas.margin, canvas.side + canvas.margin, (number, 2))


def upper_share(field: Array, share: float) -> Array:
    """(n, n) bool: the `share` of the area where `field` is highest."""
    sample = field[::3, ::3].ravel()
    place = min(max(int((1 - share) * sample.size), 0), sample.size - 1)
    return field > np.partition(sample, place)[place]


def winding(
    canvas: Canvas, rng: np.random.Generator, angle: float, *, swing: float, scale: float, offset: float = 0.0
) -> Array:
    """(n, n) distance to a winding line that passes `offset` from the square's centre; `swing`: its sideways spread."""
    along, across = canvas.turned(angle)
    half = canvas.reach * 0.75
    value, slope = _smooth_line(np.arange(0, 2 * half, 1 / 8) - half, rng, scale)
    step = ((along + _F(half)) * 8).astype(np.int32)
    centre = (value * swing + offset).astype(_F)
    stretch = (1 / np.sqrt(1 + (slope * swing) ** 2)).astype(_F)
    return np.abs(across - centre[step]) * stretch[step]


def shifted(mask: Array, canvas: Canvas, down: float, right: float) -> Array:
    """A mask moved by a distance (shadows); what moves in from outside is False."""
    rows, columns = round(down / canvas.step), round(right / canvas.step)
    result = np.zeros_like(mask)
    n = canvas.count
    result[max(rows, 0) : n + min(rows, 0), max(columns, 0) : n + min(columns, 0)] = mask[
        max(-rows, 0) : n + min(-rows, 0), max(-columns, 0) : n + min(-columns, 0)
    ]
    return result
