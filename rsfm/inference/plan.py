"""What a prediction means on its scenes: checked before anything is computed (no torch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.inference.reader import Source, on_grid
from rsfm.network_info import NetworkInfo, find_network
from rsfm.packs import BandInfo
from rsfm.scenes import SceneInfo, can_hold, first_line, read_scene, require_alignable, same_grid, stored_bands
from rsfm.specs import PredictSpec
from rsfm.store.lint import FAR_MEAN, FAR_STD, WRONG_MEAN, WRONG_STD
from rsfm.workspace import Workspace

#: In a truth's table: a number that does not count, and one that means nothing.
IGNORED, UNKNOWN = -1, -2
#: Pixels per side of the picture of a scene that its statistics come from.
_SAMPLE = 256


@dataclass(frozen=True)
class Truth:
    """A raster of class numbers.

    Attributes:
        table: (256,) int16: class of each stored number, `IGNORED` or `UNKNOWN`.
        masked: whether what the file calls missing does not count.
    """

    scene: SceneInfo
    table: np.ndarray
    masked: bool = True


@dataclass(frozen=True)
class BandLook:
    """Of one band of a scene, in its unit: what most of its values lie between, and how far from the training's."""

    p2: float
    p98: float
    mean: float
    std: float


@dataclass(frozen=True)
class Plan:
    """A request on its scenes.

    Attributes:
        sources: of each date, the earlier one first.
        grid: the scene whose pixels the map has.
        looks: of each date, of each band; empty where nothing was observed in a sample of its pixels.
    """

    info: NetworkInfo
    sources: list[Source]
    grid: SceneInfo
    tile: int
    overlap: int
    truth: Truth | None
    looks: list[list[BandLook]]
    remarks: list[str]

    @property
    def change(self) -> bool:
        return self.info.task == "change"

    @property
    def channels(self) -> int:
        """Of the probabilities that are blended: of change, its own alone."""
        return 1 if self.change else len(self.info.classes)


def _refuse_unused(spec: PredictSpec, pair: bool, grid: SceneInfo) -> None:
    """Refuse settings of change that nothing here uses: there is none to detect, or no place to draw it at."""
    in_vain = [] if pair else ["threshold"]
    in_vain += ["min_area_m2", "simplify_px"] if not pair or grid.crs is None else []
    fields = PredictSpec.model_fields
    told = [f"{name}={getattr(spec, name)}" for name in in_vain if getattr(spec, name) != fields[name].default]
    if told:
        why = f"{grid.name} has no place on Earth" if pair else "the network detects no change"
        raise RsfmError(f"Nothing here would use {', '.join(told)}: {why}. Leave it out.")


def plan(spec: PredictSpec, workspace: Workspace) -> Plan:
    """Check everything that needs no weights.

    Raises:
        RsfmError: no such network; scenes that cannot be read, lack a band, are in another unit or do not lie on each
            other; a tile that the overlap does not suit; a truth of other classes.
    """
    info = find_network(workspace, spec.evaluation, spec.adaptation, spec.eval_seed)
    pair = info.task == "change"
    if pair != (spec.scene_before is not None):
        raise RsfmError(
            f"{info.title} detects change between two scenes: give scene_before, the earlier one."
            if pair
            else f"{info.title} takes one scene, but scene_before was given: leave it out."
        )
    if not pair and len(info.classes) > 128:
        raise RsfmError(f"{info.title} has {len(info.classes)} classes; a map of 8-bit numbers holds at most 128.")
    if spec.truth is not None and not pair and len(info.classes) > 127:
        raise RsfmError(
            f"{info.title} has {len(info.classes)} classes; the layer of errors holds at most 127: leave the truth out."
        )
    grid = read_scene(spec.scene, spec.bands)
    _refuse_unused(spec, pair, grid)
    remarks = []
    scenes = [grid]
    if spec.scene_before is not None:
        before = read_scene(spec.scene_before, spec.bands)
        remarks += filter(None, [require_alignable(grid, before, "the earlier scene")])
        scenes = [before, grid]
    sources, looks = [], []
    for scene, layer in zip(scenes, ("image_pre", "image_post") if pair else ("image",), strict=True):
        source, remark = _source(spec, info, scene, layer)
        remarks.append(remark)
        looks.append(_looks(source))
        remarks += _odd_values(source, looks[-1], info, given=spec.unit is not None)
        sources.append(source)
    tile = spec.tile_size or max(info.image_size)
    overlap = tile // 4 if spec.overlap is None else spec.overlap
    if 2 * overlap > tile:
        raise RsfmError(f"overlap {overlap} must be at most half of a tile, which has {tile} pixels.")
    if tile != max(info.image_size):
        remarks.append(f"Tiles of {tile} pixels; the network was trained on {max(info.image_size)}.")
    if grid.gsd_m and info.gsd_m and not 0.5 <= grid.gsd_m / info.gsd_m <= 2:
        remarks.append(f"The network was trained at {info.gsd_m:g} m, the scene is at {grid.gsd_m:.3g} m.")
    if info.pack.synthetic:
        remarks.append(f"The network was trained on synthetic data (pack {info.pack.name!r}).")
    if grid.crs is None and pair:
        remarks.append(f"{grid.name} has no place on Earth: there will be no polygons of change.")
    truth = None
    if spec.truth is not None:
        truth, said = _truth(spec, info, grid)
        remarks += said
    return Plan(info, sources, grid, tile, overlap, truth, looks, remarks)


def _source(spec: PredictSpec, info: NetworkInfo, scene: SceneInfo, layer: str) -> tuple[Source, str]:
    """The scene's bands for the network, and what its numbers were taken for."""
    if spec.nodata is not None and not can_hold(scene.dtype, spec.nodata):
        raise RsfmError(
            f"nodata {spec.nodata:g} cannot be a number of {scene.name}, which holds {scene.dtype}: give one that it "
            "can hold, or none."
        )
    stored = info.trained_on.layer(layer)
    by_name = {band.name: band for band in stored.bands}
    trained: list[BandInfo] = [by_name[band.name] for band in info.bands]
    bands, origin = stored_bands(
        scene, [band.band() for band in info.bands], trained, stored.dtype,
        unit=spec.unit, scale=spec.scale, offset=spec.offset,
    )  # fmt: skip
    rules = sorted({_rule(band) for band in bands})
    return Source(scene, bands, spec.nodata), f"{scene.name}: {'; '.join(rules)}, {origin}."


def _rule(band: Band) -> str:
    factor = "" if band.scale == 1 else f" × {band.scale:.6g}"
    shift = "" if band.offset == 0 else f" {'+' if band.offset > 0 else '−'} {abs(band.offset):.6g}"
    return f"{band.unit} = stored{factor}{shift}"


def _looks(source: Source) -> list[BandLook]:
    """Statistics of each band over a thinned picture of the scene."""
    from rasterio.errors import RasterioError, RasterioIOError

    scene = source.scene
    shape = (min(_SAMPLE, scene.height), min(_SAMPLE, scene.width))
    with on_grid(source, scene) as dataset:
        try:
            values = dataset.read(source.indexes, out_shape=(len(source.bands), *shape))
            absent = dataset.read_masks(source.indexes, out_shape=(len(source.bands), *shape)) == 0
        except (RasterioIOError, RasterioError) as error:
            raise RsfmError(f"{scene.name} cannot be read, it is damaged or cut off: {first_line(error)}.") from error
    if source.nodata is not None:
        absent = np.isnan(values) if np.isnan(source.nodata) else values == source.nodata
    looks = []
    for band, part, hole in zip(source.bands, values, absent, strict=True):
        seen = band.to_unit(part)[~hole].astype(np.float64)
        seen = seen[np.isfinite(seen)]
        if not seen.size:
            return []
        p2, p98 = np.percentile(seen, [2, 98])
        looks.append(BandLook(float(p2), float(p98), float(seen.mean()), float(seen.std())))
    return looks


def _odd_values(source: Source, looks: list[BandLook], info: NetworkInfo, *, given: bool) -> list[str]:
    """Whether the scene's numbers are in the world that the network knows.

    Raises:
        RsfmError: they cannot be, and what they mean was assumed and not given.
    """
    if not looks:
        return [f"No observed pixel was found in a sample of {source.scene.name}: is its no-data number right?"]
    for band, look in zip(info.bands, looks, strict=True):
        mean, std = (look.mean - band.mean) / band.std, look.std / band.std
        text = (
            f"Band {band.name} of {source.scene.name} has mean {look.mean:.4g} and standard deviation {look.std:.4g} "
            f"{band.unit}, where the network was trained on {band.mean:.4g} and {band.std:.4g}"
        )
        # A scene may be all water: a narrow band says less than a far one.
        if abs(mean) > WRONG_MEAN or std > WRONG_STD:
            if given:
                return [f"{text}: the unit, scale or offset that was given looks wrong."]
            raise RsfmError(f"{text}: its numbers mean something else. Say what with unit and scale.")
        if abs(mean) > FAR_MEAN or not 1 / FAR_STD <= std <= FAR_STD:
            return [f"{text}: the scene is unlike the images of the training, or its unit is wrong."]
    return []


def _truth(spec: PredictSpec, info: NetworkInfo, grid: SceneInfo) -> tuple[Truth, list[str]]:
    assert spec.truth is not None
    scene = read_scene(spec.truth)
    if len(scene.indexes) != 1:
        raise RsfmError(f"The truth {scene.name} has {len(scene.indexes)} bands: class numbers are one band.")
    values = spec.truth_values or list(range(len(info.classes)))
    if len(values) != len(info.classes):
        raise RsfmError(
            f"truth_values has {len(values)} numbers for {len(info.classes)} classes ({', '.join(info.classes)}): give "
            "one for each, in this order."
        )
    table = np.full(256, UNKNOWN, np.int16)
    for ignored in (scene.nodata, info.trained_on.layer("mask").ignore_value):
        if ignored is not None and 0 <= ignored <= 255:
            table[int(ignored)] = IGNORED
    table[values] = np.arange(len(values))
    remarks = list(filter(None, [require_alignable(grid, scene, "the truth")]))
    clash = scene.nodata in values
    if clash and not same_grid(grid, scene):
        raise RsfmError(
            f"The truth {scene.name} calls {scene.nodata:g} missing, which is also the number of a class, and it has "
            "to be resampled: take the no-data number out of the file."
        )
    if clash:
        name = info.classes[values.index(int(scene.nodata))]  # type: ignore[arg-type]
        remarks.append(f"The truth {scene.name} calls {scene.nodata:g} missing; it counts as {name}.")
    return Truth(scene, table, masked=not clash), remarks
