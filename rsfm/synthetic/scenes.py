"""Patterns of land: what people and nature lay out, painted onto a canvas.

Several patterns come in pairs with the same surfaces in the same shares, which differ only in the size or order of
their parts: broad and strip fields, plantation and open woodland, residential and industrial blocks, river and lake.
Telling such a pair apart needs detail of one to three units; the mean and spread of a band do not give it away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rsfm.synthetic import fields
from rsfm.synthetic.fields import Canvas
from rsfm.synthetic.materials import code

Array = np.ndarray
_F = np.float32


@dataclass
class Paint:
    """A painted canvas: (n, n) material codes, relative brightness (1 = the material's own), vigour (0 = its own)."""

    material: Array
    brightness: Array
    vigour: Array

    def over(self, other: Paint, where: Array) -> Paint:
        """`self` where the mask is set, else `other`."""
        return Paint(
            np.where(where, self.material, other.material),
            np.where(where, self.brightness, other.brightness),
            np.where(where, self.vigour, other.vigour),
        )

    def put(self, where: Array, material: int, brightness: float = 1.0, vigour: float = 0.0) -> None:
        """Lay one material over part of the canvas, in place."""
        self.material[where] = material
        self.brightness[where] = brightness
        self.vigour[where] = vigour


@dataclass(frozen=True)
class Region:
    """What neighbouring scenes of one place share; drawn once per tile, before and regardless of its pattern."""

    angle: float
    crops: Array  # (5,) material codes
    crop_shares: Array  # (5,) sums to 1
    trees: int
    meadow: int
    roofs: Array  # (3,) material codes
    roof_shares: Array
    tree_share: float  # of the ground in plantations and open woodland
    built_share: float  # of roofs among blocks
    green_share: float  # of the open ground among blocks
    water: int
    water_share: float
    size: float  # 0..1: where in the range of its sizes a pattern lies

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Region:
        names = ["winter cereal", "rapeseed", "maize", "sugar beet", "fallow"]
        order = rng.permutation(len(names))
        return cls(
            angle=float(rng.uniform(0, np.pi)),
            crops=np.array([code(names[i]) for i in order]),
            crop_shares=rng.dirichlet([2.0, 2.0, 1.5, 0.6, 0.4]),
            trees=code("conifers" if rng.random() < 0.45 else "broadleaf trees"),
            meadow=code("grass" if rng.random() < 0.65 else "dry grass"),
            roofs=np.array([code("tile roof"), code("slate roof"), code("metal roof")]),
            roof_shares=rng.dirichlet([2.0, 1.6, 0.7]),
            tree_share=float(rng.uniform(0.22, 0.48)),
            built_share=float(rng.uniform(0.16, 0.32)),
            green_share=float(rng.uniform(0.5, 0.98)),
            water=code("clear water" if rng.random() < 0.55 else "silty water"),
            water_share=float(rng.uniform(0.10, 0.24)),
            size=float(rng.random()),
        )

    def between(self, low: float, high: float) -> float:
        """A size from the range, finer or coarser as the region is."""
        return low + self.size * (high - low)


def _blank(canvas: Canvas, material: int) -> Paint:
    shape = (canvas.count, canvas.count)
    return Paint(np.full(shape, material, np.uint8), np.ones(shape, _F), np.zeros(shape, _F))


def _fields(canvas: Canvas, rng: np.random.Generator, region: Region, parcels: fields.Parcels) -> Paint:
    crop = rng.choice(region.crops, parcels.shape, p=region.crop_shares).astype(np.uint8)
    paint = Paint(
        parcels.each(crop),
        parcels.each((1 + 0.07 * rng.standard_normal(parcels.shape)).astype(_F)),
        parcels.each((0.8 * rng.standard_normal(parcels.shape)).astype(_F)),
    )
    # Drilled rows: below the pixel of a coarse sensor, visible to a fine one.
    rows = np.sin(parcels.along * _F(2 * np.pi / rng.uniform(0.8, 1.3)))
    paint.brightness *= 1 + _F(0.06) * rows
    return paint


def broad_fields(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """Large parcels, with tracks between some."""
    width = region.between(5, 11)
    parcels = fields.parcels(canvas, rng, region.angle, (0.8 * width, 1.3 * width), (width, 2.2 * width))
    return _fields(canvas, rng, region, parcels)


def strip_fields(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """The same crops in long narrow strips."""
    width = region.between(1.3, 2.6)
    parcels = fields.parcels(canvas, rng, region.angle, (0.8 * width, 1.2 * width), (18, 50))
    return _fields(canvas, rng, region, parcels)


def grassland(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """Meadows and pasture, mottled, with a few hedges and lone trees."""
    paint = _blank(canvas, region.meadow)
    for scale, strength in ((12.0, 0.8), (4.0, 0.6), (1.5, 0.4)):
        paint.vigour += _F(strength) * fields.smooth_noise(canvas, rng, scale)
    parcels = fields.parcels(canvas, rng, region.angle, (14, 30), (14, 34))
    paint.vigour += parcels.each(rng.standard_normal(parcels.shape).astype(_F))
    hedged = parcels.each(rng.random(parcels.shape) < 0.35)
    paint.put(hedged & (parcels.inset < 0.5), region.trees, 0.85)
    return paint


def forest(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """Closed canopy: sunlit and shaded sides of crowns, soft stands of another age."""
    paint = _blank(canvas, region.trees)
    paint.brightness = _crowns(canvas, rng, region.between(1.6, 2.8), 0.30)
    paint.vigour += _F(1.0) * fields.smooth_noise(canvas, rng, 10.0)
    other = code("broadleaf trees") if region.trees == code("conifers") else code("conifers")
    paint.material[fields.smooth_noise(canvas, rng, 14.0) > 1.1] = other
    return paint


def _crowns(canvas: Canvas, rng: np.random.Generator, spacing: float, strength: float) -> Array:
    """(n, n) brightness of a canopy lit from the south-east."""
    points = fields.scatter(canvas, rng, round((canvas.reach / spacing) ** 2 * 1.3))
    dome = fields.blobs(canvas, points, rng.uniform(0.6, 1.4, len(points)), 0.38 * spacing)
    lit = np.zeros_like(dome)
    lit[1:-1, 1:-1] = (dome[:-2, 1:-1] - dome[2:, 1:-1]) + (dome[1:-1, :-2] - dome[1:-1, 2:])
    lit *= _F(-spacing / (6 * canvas.step))
    shade = _F(strength) * (lit + _F(0.8) * (dome - dome.mean()))
    return np.clip(1 + shade, 0.35, 1.7).astype(_F)


def _wooded(canvas: Canvas, rng: np.random.Generator, region: Region, trees: Array) -> Paint:
    paint = _blank(canvas, region.meadow)
    paint.vigour += _F(0.8) * fields.smooth_noise(canvas, rng, 8.0)
    paint.brightness[fields.shifted(trees, canvas, -0.35, -0.35)] = 0.6
    paint.put(trees, region.trees)
    return paint


def plantation(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """Clumps of trees in a regular lattice."""
    distance = fields.lattice(canvas, rng, region.angle, region.between(2.6, 3.8), 0.14)
    return _wooded(canvas, rng, region, distance < region.tree_share / np.pi)


def open_woodland(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """As many clumps of trees of the same size, wherever they happened to grow."""
    period = region.between(2.6, 3.8)
    points = fields.scatter(canvas, rng, round((canvas.reach / period) ** 2))
    density = fields.blobs(canvas, points, np.ones(len(points)), 0.24 * period)
    return _wooded(canvas, rng, region, fields.upper_share(density, region.tree_share))


def _built_up(
    canvas: Canvas, rng: np.random.Generator, region: Region, blocks: fields.Parcels, house: Array, street: float
) -> Paint:
    """Streets around blocks, open ground inside, `house` where a roof may stand (bool), one roof per parcel."""
    ground = np.where(
        rng.random(blocks.shape) < region.green_share,
        np.where(rng.random(blocks.shape) < 0.3, region.trees, region.meadow),
        code("concrete"),
    ).astype(np.uint8)
    roof = rng.choice(region.roofs, blocks.shape, p=region.roof_shares).astype(np.uint8)
    paint = Paint(
        blocks.each(ground),
        np.ones((canvas.count, canvas.count), _F),
        blocks.each((0.7 * rng.standard_normal(blocks.shape)).astype(_F)),
    )
    inside = house & (blocks.inset > street / 2)
    paint.brightness[fields.shifted(inside, canvas, -0.3, -0.3)] = 0.55
    paint.material = np.where(inside, blocks.each(roof), paint.material)
    tone = blocks.each((1 + 0.10 * rng.standard_normal(blocks.shape)).astype(_F))
    paint.brightness = np.where(inside, tone, paint.brightness)
    return paint


def residential(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """Rows of small houses in gardens along parallel streets."""
    lot = region.between(2.0, 3.2)
    lots = fields.parcels(canvas, rng, region.angle, (0.9 * lot, 1.1 * lot), (0.9 * lot, 1.1 * lot))
    side = lot * np.sqrt(region.built_share / 0.9)
    built = lots.each(rng.random(lots.shape) < 0.9)
    paint = _built_up(canvas, rng, region, lots, built & (lots.inset > (lot - side) / 2), 0.0)
    every = round(rng.uniform(3, 4))
    street = (lots.column % every == 0) & (lots.inset < 0.45)
    paint.put(street, code("asphalt"))
    cross = fields.parcels(canvas, rng, region.angle + np.pi / 2, (8, 12), (400, 401))
    paint.put(cross.inset < 0.4, code("asphalt"))
    return paint


def industrial(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """The same roofs and grounds as large halls on large plots."""
    plot = region.between(5, 10)
    plots = fields.parcels(canvas, rng, region.angle, (0.8 * plot, 1.3 * plot), (0.9 * plot, 1.7 * plot))
    built = plots.each(rng.random(plots.shape) < 0.85)
    border = 0.55 * plot * (1 - np.sqrt(region.built_share / 0.85))
    paint = _built_up(canvas, rng, region, plots, built & (plots.inset > border), 0.8)
    paint.put(plots.inset < 0.5, code("asphalt"))
    return paint


def bare_land(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """Open ground: soil and sand, a little grass."""
    paint = _blank(canvas, code("bare soil"))
    paint.vigour += fields.smooth_noise(canvas, rng, 4.0)
    kind = fields.smooth_noise(canvas, rng, 7.0)
    paint.material[kind > 0.5] = code("sand")
    paint.material[kind < -1.3] = region.meadow
    return paint


def countryside(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """What lies around water: fields, meadow or forest."""
    pattern = (broad_fields, grassland, forest, strip_fields)[rng.choice(4, p=[0.35, 0.3, 0.25, 0.1])]
    return pattern(canvas, rng, region)


def _water(canvas: Canvas, rng: np.random.Generator, region: Region, water: Array, shore: Array) -> Paint:
    paint = countryside(canvas, rng, region)
    paint.put(shore, code("sand") if rng.random() < 0.3 else region.meadow)
    paint.put(water, region.water)
    paint.vigour = np.where(water, _F(0.8) * fields.smooth_noise(canvas, rng, 7.0), paint.vigour)
    return paint


def river(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """A winding river through the countryside."""
    distance = fields.winding(canvas, rng, region.angle, swing=canvas.side * 0.10, scale=canvas.side * 0.7)
    level = -distance
    water = fields.upper_share(level, region.water_share)
    return _water(canvas, rng, region, water, fields.upper_share(level, region.water_share + 0.03))


def lake(canvas: Canvas, rng: np.random.Generator, region: Region) -> Paint:
    """The same share of water, standing."""
    along, across = canvas.turned(region.angle)
    centre = rng.uniform(-0.15, 0.15, 2) * canvas.side
    stretch = rng.uniform(0.45, 1.0)
    far = np.hypot(along - _F(centre[0]), (across - _F(centre[1])) / _F(stretch)) / _F(canvas.side)
    level = -far + _F(0.05) * fields.smooth_noise(canvas, rng, canvas.side / 6)
    level += _F(0.012) * fields.smooth_noise(canvas, rng, canvas.side / 20)
    water = fields.upper_share(level, region.water_share)
    return _water(canvas, rng, region, water, fields.upper_share(level, region.water_share + 0.03))


#: Scene classes, in the order of their labels.
PATTERNS: dict[str, Callable[[Canvas, np.random.Generator, Region], Paint]] = {
    "broad fields": broad_fields,
    "strip fields": strip_fields,
    "grassland": grassland,
    "forest": forest,
    "plantation": plantation,
    "open woodland": open_woodland,
    "residential": residential,
    "industrial": industrial,
    "river": river,
    "lake": lake,
}
