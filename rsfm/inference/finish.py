"""From a complete map to what a prediction leaves: COGs, polygons, scores, and `prediction.json` about them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rsfm.errors import RsfmError
from rsfm.inference.layers import (
    Meaning,
    change_meanings,
    class_meanings,
    error_meanings,
    write_image,
    write_map,
)
from rsfm.inference.partial import PartialLayers
from rsfm.inference.plan import Plan
from rsfm.inference.polygons import row_areas_m2, write_polygons
from rsfm.inference.strips import Tiles
from rsfm.inference.truth import true_classes
from rsfm.prediction_info import (
    NODATA,
    LayerBand,
    LayerEntry,
    LayerKind,
    LegendItem,
    ModelEntry,
    PredictionInfo,
    SceneEntry,
    Scores,
    prediction_file,
)
from rsfm.specs import PredictSpec
from rsfm.store.files import write_json
from rsfm.store.job import JobContext

TITLES: dict[LayerKind, str] = {
    "image": "Image", "image_before": "Earlier image", "classes": "Classes", "confidence": "Confidence",
    "change_probability": "Probability of change", "changes": "Changes", "errors": "Errors",
}  # fmt: skip


def finish(
    spec: PredictSpec, what: Plan, layers: PartialLayers, tiles: Tiles, context: JobContext,
    say: Callable[[str], None],
) -> PredictionInfo:  # fmt: skip
    """Write all files and announce them.

    Args:
        say: called with what is done next; may raise to stop.

    Raises:
        RsfmError: a truth that stands for other classes, or a file that is damaged.
    """
    folder = context.folder.path / "artifacts"
    folder.mkdir(exist_ok=True)
    maker = _Maker(what, layers, folder, say)
    entries: list[LayerEntry] = []
    scores: Scores | None = None
    drawn = "changes" if what.change else "classes"
    for name in layers.names:
        entries.append(maker.map(name, lambda start, stop, name=name: layers.read(name, start, stop)))
    if what.truth is not None:
        with contextlib.ExitStack() as stack:
            truth = stack.enter_context(true_classes(what.truth, what))
            entries.append(maker.map("errors", lambda a, b: truth.errors(layers.read(drawn, a, b), a)))
            scores = truth.scores()
        if not scores.pixels:
            raise RsfmError(f"The truth {what.truth.scene.name} says nothing of any observed pixel of the scene.")
    polygons = None
    if what.change and what.grid.crs is not None:
        say("polygons")
        polygons = write_polygons(
            folder / "changes.tif", what.grid, folder, min_area_m2=spec.min_area_m2, simplify_px=spec.simplify_px,
            say=say,
        )  # fmt: skip
    for number, kind in enumerate(("image_before", "image") if what.change else ("image",)):
        entries.insert(number, maker.image(kind, number))
    info = PredictionInfo(
        run_id=context.folder.id, task=what.info.task, model=_model(what), scene=_scene(what, maker.observed),
        tile_size=what.tile, overlap=what.overlap, tiles=tiles.count, threshold=spec.threshold if what.change else None,
        layers=entries, polygons=polygons, scores=scores, remarks=what.remarks,
    )  # fmt: skip
    write_json(prediction_file(context.folder.path), info.model_dump(mode="json"))
    _announce(info, context)
    return info


class _Maker:
    """Makes layers one after the other.

    Attributes:
        observed: share of the scene's pixels that were observed, known after the first map.
    """

    def __init__(self, what: Plan, layers: PartialLayers, folder: Path, say: Callable[[str], None]) -> None:
        self.what, self.layers, self.folder, self.say = what, layers, folder, say
        self.observed = 0.0
        grid = what.grid
        self.row_areas = np.full(grid.height, np.nan) if grid.crs is None else row_areas_m2(grid)

    def map(self, kind: LayerKind, read: Callable[[int, int], np.ndarray]) -> LayerEntry:
        what, file = self.what, self.folder / f"{kind}.tif"
        self.say(f"writing {file.name}")
        meanings = _meanings(kind, what)
        tags = {"MODEL": what.info.title, "RUN": what.info.run_id, "UNIT": "class" if meanings else "percent"}
        counts, areas = write_map(file, read, what.grid, kind, meanings, tags, self.row_areas)
        told = int(counts.sum() - counts[NODATA])
        if kind != "errors":
            self.observed = told / (what.grid.width * what.grid.height)
        return LayerEntry(
            kind=kind, title=TITLES[kind], file=f"{self.folder.name}/{file.name}", dtype="uint8", nodata=NODATA,
            unit="class" if meanings else "percent", range=None if meanings else (0, 100),
            legend=[
                LegendItem(
                    value=m.value, label=m.label, colour=m.hex, clear=m.clear,
                    share=float(counts[m.value] / told) if told else 0.0,
                    area_m2=float(areas[m.value]) if np.isfinite(areas[m.value]) else None,
                )
                for m in meanings
            ],
        )  # fmt: skip

    def image(self, kind: LayerKind, date: int) -> LayerEntry:
        source, file = self.what.sources[date], self.folder / f"{kind}.tif"
        self.say(f"writing {file.name}")
        write_image(file, source, self.what.grid)
        nodata = source.nodata if source.nodata is not None else source.scene.nodata
        bands = []
        for i, band in enumerate(source.bands):
            ends = (0.0, 1.0)
            if self.what.looks[date]:
                look = self.what.looks[date][i]
                ends = ((look.p2 - band.offset) / band.scale, (look.p98 - band.offset) / band.scale)
            bands.append(
                LayerBand(
                    name=band.name, wavelength_nm=band.wavelength_nm, unit=band.unit, scale=band.scale,
                    offset=band.offset, p2=min(ends), p98=max(ends),
                )
            )  # fmt: skip
        return LayerEntry(
            kind=kind, title=TITLES[kind], file=f"{self.folder.name}/{file.name}", dtype=source.scene.dtype,
            nodata=None if nodata is None or np.isnan(nodata) else nodata, unit=source.bands[0].unit, bands=bands,
        )  # fmt: skip


def _meanings(kind: LayerKind, what: Plan) -> list[Meaning]:
    match kind:
        case "classes":
            return class_meanings(what.info.classes)
        case "changes":
            return change_meanings(what.info.classes)
        case "errors":
            return error_meanings(what.info.classes, what.change)
    return []


def _model(what: Plan) -> ModelEntry:
    info = what.info
    return ModelEntry(
        evaluation=info.run_id, adaptation=info.adaptation, eval_seed=info.eval_seed, title=info.title,
        trained_on=info.pack.name, synthetic=info.pack.synthetic,
    )  # fmt: skip


def _scene(what: Plan, observed: float) -> SceneEntry:
    grid = what.grid
    return SceneEntry(
        name=grid.name, before=what.sources[0].scene.name if what.change else None, width=grid.width,
        height=grid.height, crs=grid.crs, transform=grid.transform, bounds=grid.bounds, gsd_m=grid.gsd_m,
        observed=observed,
    )  # fmt: skip


def _announce(info: PredictionInfo, context: JobContext) -> None:
    """Artifacts of kind raster, vector and prediction; scores also as metrics of the run."""
    folder = context.folder.path
    for layer in info.layers:
        context.artifact(folder / layer.file, kind="raster", title=f"{layer.title} of {info.scene.name}")
    if info.polygons is not None:
        for file in (info.polygons.geojson, info.polygons.gpkg):
            context.artifact(folder / file, kind="vector", title=f"Outlines of change of {info.scene.name}")
    context.artifact(prediction_file(folder), kind="prediction", title=f"Prediction of {info.scene.name}")
    if info.scores is not None:
        values = {f"scene/{name}": value for name, value in info.scores.metrics.items() if value is not None}
        if values:
            context.metrics(step=info.tiles, samples=info.scores.pixels, values=values)
        for name, value in info.scores.metrics.items():
            print(f"{name} {'undefined' if value is None else f'{value:.4f}'}", flush=True)
