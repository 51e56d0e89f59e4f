"""The world: every tile is a pure function of (seed, split, index), so that any one can be made alone, in any order.

A tile is a place of its own with a real-looking georeference (UTM); neighbouring tiles do not join up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from rsfm.errors import RsfmError
from rsfm.synthetic import fields, scenes
from rsfm.synthetic.fields import Canvas
from rsfm.synthetic.materials import GRAIN, LAND_COVER_OF, VIGOUR, code
from rsfm.synthetic.scenes import Paint, Region

Array = np.ndarray
_F = np.float32

SPLITS = ("train", "val", "test")
Event = Literal["construction", "clearing", "flood"]
EVENTS: tuple[Event, ...] = ("construction", "clearing", "flood")

#: Drawn around each tile, in units, and the largest canvas (samples per side) that is still quick to draw.
MARGIN = 5.0
MAX_SAMPLES = 2048
# How often a mixed tile has a patch of each pattern.
_PATCHES = {
    "broad fields": 0.19, "strip fields": 0.11, "grassland": 0.17, "forest": 0.19, "residential": 0.13,
    "industrial": 0.07, "open woodland": 0.07, "bare land": 0.07,
}  # fmt: skip

_STRIP_WIDTH_M = 100_000.0
_STRIP_HEIGHT_M = 2_000_000.0


@dataclass(frozen=True)
class Landscape:
    """One place at one time, finely sampled.

    Attributes:
        canvas: where the samples lie, in units of `detail_m` metres.
        paint: what is there; brightness and vigour hold the fine texture.
    """

    canvas: Canvas
    detail_m: float
    paint: Paint

    @property
    def land_cover(self) -> Array:
        """(n, n) uint8 index into `LAND_COVER` of every sample."""
        return LAND_COVER_OF[self.paint.material]

    @property
    def extent_m(self) -> float:
        return self.canvas.side * self.detail_m


@dataclass(frozen=True)
class Footprint:
    """Where a tile lies: upper left corner in metres of a UTM zone."""

    crs: str
    easting: float
    northing: float

    def transform(self, gsd_m: float) -> tuple[float, float, float, float, float, float]:
        """Affine (a, b, c, d, e, f) from pixel corner (column, row) to metres."""
        return (gsd_m, 0.0, self.easting, 0.0, -gsd_m, self.northing)


@dataclass(frozen=True)
class World:
    """A seeded world of tiles.

    Attributes:
        seed: everything follows from it.
        size: pixels per side of a tile.
        gsd_m: metres per pixel of a tile.
        detail_m: size on the ground of the world's fine detail (strips, lots, clumps of trees are 1 to 4 of it).
    """

    seed: int
    size: int
    gsd_m: float
    detail_m: float

    def __post_init__(self) -> None:
        if self.seed < 0 or self.size < 8 or not self.gsd_m > 0 or not self.detail_m > 0:
            raise RsfmError(
                f"The synthetic world needs seed >= 0, size >= 8, gsd_m > 0 and detail_m > 0, got seed {self.seed}, "
                f"size {self.size}, gsd_m {self.gsd_m}, detail_m {self.detail_m}."
            )
        if self.canvas.count > MAX_SAMPLES:
            raise RsfmError(
                f"Tiles of {self.size} px at {self.gsd_m} m with detail of {self.detail_m} m need a canvas of "
                f"{self.canvas.count} samples per side; at most {MAX_SAMPLES}: ask for smaller tiles or coarser detail."
            )

    @property
    def canvas(self) -> Canvas:
        """At least two samples per pixel and three per unit."""
        pixel = self.gsd_m / self.detail_m
        return Canvas.make(self.size * pixel, MARGIN, min(pixel / 2, 1 / 3))

    def rng(self, split: str, index: int, *purpose: int) -> np.random.Generator:
        """The random stream of one tile for one purpose."""
        if split not in SPLITS or index < 0:
            raise RsfmError(
                f"The synthetic world has tiles 0, 1, ... of {', '.join(SPLITS)}; not {index} of {split!r}."
            )
        return np.random.default_rng([self.seed, SPLITS.index(split), index, *purpose])

    def footprint(self, split: str, index: int) -> Footprint:
        """Tiles lie in rows with gaps, each split in a strip of its own, going on in the next zone when it is full."""
        pitch = math.ceil(self.size * 1.25) * self.gsd_m
        columns = max(int(_STRIP_WIDTH_M / pitch), 1)
        rows = max(int(_STRIP_HEIGHT_M / pitch), 1)
        zone = 32 + index // (columns * rows)
        if zone > 60:
            raise RsfmError(f"The synthetic world has no room for tile {index} of {split}: ask for fewer or smaller.")
        row, column = divmod(index % (columns * rows), columns)
        west = 320_000.0 + SPLITS.index(split) * 1.2 * _STRIP_WIDTH_M
        return Footprint(f"EPSG:{32600 + zone}", west + column * pitch, 5_200_000.0 + row * pitch)

    def scene(self, split: str, index: int, pattern: str) -> Landscape:
        """A tile of one scene class (see `scenes.PATTERNS`), with roads and a corner of something else."""
        rng, canvas = self.rng(split, index, 0), self.canvas
        region = Region.draw(rng)
        paint = scenes.PATTERNS[pattern](canvas, rng, region)
        if pattern not in ("river", "lake") and rng.random() < 0.75:
            other = scenes.countryside(canvas, rng, region)
            corner = _outline(canvas, rng)
            paint = other.over(paint, fields.upper_share(corner, rng.uniform(0.06, 0.38)))
        _roads(canvas, rng, paint, int(rng.integers(0, 3)))
        return Landscape(canvas, self.detail_m, _grain(canvas, rng, paint))

    def mixed(self, split: str, index: int) -> Landscape:
        """A tile with several land covers: patches of different patterns, water, roads."""
        return self._mixed(self.rng(split, index, 1), ())

    def crop(self, split: str, index: int, material: str) -> Landscape:
        """A tile of fields where most parcels grow one crop; only its course over the year tells which."""
        rng, canvas = self.rng(split, index, 0), self.canvas
        region = Region.draw(rng)
        shares = np.where(region.crops == code(material), 0.8, 0.2 / (len(region.crops) - 1))
        paint = scenes.broad_fields(canvas, rng, replace(region, crop_shares=shares))
        _roads(canvas, rng, paint, int(rng.integers(0, 2)))
        return Landscape(canvas, self.detail_m, _grain(canvas, rng, paint))

    def pair(self, split: str, index: int) -> tuple[Landscape, Landscape]:
        """A mixed tile before and after what happened there: zero to three events. What stays, stays equal."""
        draw = self.rng(split, index, 2)
        count = draw.choice(4, p=[0.15, 0.35, 0.35, 0.15])
        events = tuple(EVENTS[i] for i in draw.choice(len(EVENTS), count, replace=False))
        return self.mixed(split, index), self._mixed(self.rng(split, index, 1), events)

    def _mixed(self, rng: np.random.Generator, events: tuple[Event, ...]) -> Landscape:
        canvas = self.canvas
        region = Region.draw(rng)
        paint = _patches(canvas, rng, region)
        _waters(canvas, rng, region, paint)
        _roads(canvas, rng, paint, int(rng.integers(1, 4)))
        # Texture and events have streams that do not depend on which events happen.
        grain = fields.smooth_noise(canvas, rng, 0.6)
        streams = rng.spawn(len(EVENTS))
        for event, stream in zip(EVENTS, streams, strict=True):
            if event in events:
                paint = _happen(event, canvas, stream, region, paint)
        return Landscape(canvas, self.detail_m, _textured(paint, grain))


def _patches(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """A patchwork of four patterns with soft outlines."""
    chosen = rng.choice(list(_PATCHES), 4, replace=False, p=list(_PATCHES.values()))
    centres = rng.uniform(0, canvas.side, (9, 2))
    axis = canvas.axis()
    wave = canvas.side / 6
    x = axis[None, :] + _F(wave * 0.25) * fields.smooth_noise(canvas, rng, wave)
    y = axis[:, None] + _F(wave * 0.25) * fields.smooth_noise(canvas, rng, wave)
    distance = np.stack([(x - _F(cx)) ** 2 + (y - _F(cy)) ** 2 for cx, cy in centres])
    kind = np.arange(len(centres))[distance.argmin(axis=0)] % len(chosen)
    patterns = {**scenes.PATTERNS, "bare land": scenes.bare_land}
    paint = patterns[chosen[0]](canvas, rng, region)
    for i, name in enumerate(chosen[1:], start=1):
        paint = patterns[name](canvas, rng, region).over(paint, kind == i)
    return paint


def _waters(canvas: Canvas, rng: np.random.Generator, region: Region, paint: Paint) -> None:
    """A river in some tiles, a pond or lake in some."""
    has_river, has_lake = rng.random() < 0.4, rng.random() < 0.35
    course = fields.winding(
        canvas, rng, region.angle + 0.7, swing=canvas.side * 0.1, scale=canvas.side * 0.7,
        offset=rng.uniform(-0.25, 0.25) * canvas.side,
    )  # fmt: skip
    half_width = rng.uniform(1.2, 3.5)
    basin, share = fields.smooth_noise(canvas, rng, canvas.side / 4), rng.uniform(0.03, 0.10)
    ripple = _F(0.8) * fields.smooth_noise(canvas, rng, 7.0)
    water = np.zeros(paint.material.shape, bool)
    if has_river:
        paint.put(course < half_width + 0.7, region.meadow)
        water |= course < half_width
    if has_lake:
        water |= fields.upper_share(basin, share)
    paint.put(water, region.water)
    paint.vigour[water] = ripple[water]


def _roads(canvas: Canvas, rng: np.random.Generator, paint: Paint, count: int) -> None:
    """Winding roads; they cross water on bridges."""
    for _ in range(count):
        distance = fields.winding(
            canvas, rng, rng.uniform(0, np.pi), swing=canvas.side * 0.03, scale=canvas.side * 0.9,
            offset=rng.uniform(-0.4, 0.4) * canvas.side,
        )  # fmt: skip
        surface = "asphalt" if rng.random() < 0.6 else "gravel track"
        paint.put(distance < rng.uniform(0.3, 0.55), code(surface))


def _outline(canvas: Canvas, rng: np.random.Generator) -> Array:
    """A field whose contour lines look like the outlines of patches."""
    coarse, fine = (fields.smooth_noise(canvas, rng, canvas.side / part) for part in (2.5, 12))
    return coarse + _F(0.22) * fine


def _grain(canvas: Canvas, rng: np.random.Generator, paint: Paint) -> Paint:
    return _textured(paint, fields.smooth_noise(canvas, rng, 0.6))


def _textured(paint: Paint, grain: Array) -> Paint:
    """Turn vigour into a change of the covered share, and lay the fine texture of each material over it."""
    return Paint(
        paint.material,
        np.clip(paint.brightness * (1 + GRAIN[paint.material] * grain), 0.2, 2.0),
        VIGOUR[paint.material] * (paint.vigour + _F(0.3) * grain),
    )


def _happen(event: Event, canvas: Canvas, rng: np.random.Generator, region: Region, paint: Paint) -> Paint:
    """The canvas after one event. Land that the event cannot touch stays as it is."""
    cover = LAND_COVER_OF[paint.material]
    where = fields.upper_share(_outline(canvas, rng), rng.uniform(0.05, 0.15))
    open_land = (cover == 2) | (cover == 3) | (cover == 4)
    if event == "construction":
        pattern = scenes.residential if rng.random() < 0.6 else scenes.industrial
        return pattern(canvas, rng, region).over(paint, where & open_land)
    if event == "clearing":
        cleared = scenes.Paint(
            np.full_like(paint.material, code("bare soil")),
            np.ones_like(paint.brightness),
            fields.smooth_noise(canvas, rng, 3.0),
        )
        wide = fields.upper_share(_outline(canvas, rng), 0.35)
        return cleared.over(paint, wide & (cover == 1))
    water = cover == 0
    reach = rng.uniform(2.0, 6.0) * (1 + 0.5 * fields.smooth_noise(canvas, rng, 8.0))
    near = ndimage.distance_transform_edt(~water, sampling=canvas.step) < reach if water.any() else np.zeros_like(water)
    flooded = scenes.Paint(
        np.full_like(paint.material, code("silty water")),
        np.ones_like(paint.brightness),
        _F(0.8) * fields.smooth_noise(canvas, rng, 7.0),
    )
    return flooded.over(paint, near & open_land)
