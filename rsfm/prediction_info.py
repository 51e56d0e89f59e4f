"""What a prediction of a scene left behind: `artifacts/prediction.json` describes its layers, for maps and legends.

Files (below the run's folder `artifacts/`), all cloud-optimised GeoTIFFs with the scene's CRS and transform:

    image.tif, image_before.tif   the bands that the network took, as stored
    classes.tif                   segmentation: class indices, with a colour table
    confidence.tif                probability of that class, percent
    change_probability.tif        change: its probability, percent
    changes.tif                   1 where it reaches the threshold
    errors.tif                    where a truth was given
    changes.geojson, changes.gpkg outlines of change, in EPSG:4326 and in the scene's CRS, with id and area_m2

No torch: pages read this too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rsfm.bands import Unit
from rsfm.descriptions import read_description
from rsfm.errors import RsfmError
from rsfm.tasks import Adaptation

PREDICTION_FORMAT = 1
#: Where a map's pixel is outside of what was observed.
NODATA = 255

LayerKind = Literal["image", "image_before", "classes", "confidence", "change_probability", "changes", "errors"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LegendItem(_Model):
    """One number of a layer of classes.

    Attributes:
        colour: as the file's colour table has it, "#rrggbb".
        share: of the observed pixels.
        area_m2: of its pixels on the ellipsoid; None where the scene has no place on Earth.
        clear: whether a map should leave these pixels see-through: they are the ground that the others lie on.
    """

    value: int
    label: str
    colour: str
    share: float
    area_m2: float | None = None
    clear: bool = False


class LayerBand(_Model):
    """A band of an image layer, with the stored numbers that most of its pixels lie between, for display."""

    name: str
    wavelength_nm: float | None
    unit: Unit
    scale: float
    offset: float
    p2: float
    p98: float


class LayerEntry(_Model):
    """One raster of a prediction.

    Attributes:
        file: below the run's folder; the artifact of that path.
        legend: of numbers that stand for something; range: of measured ones.
    """

    kind: LayerKind
    title: str
    file: str
    dtype: str
    nodata: float | None
    unit: str  # "class", "percent" or the bands' own
    legend: list[LegendItem] = []
    range: tuple[float, float] | None = None
    bands: list[LayerBand] = []


class Polygons(_Model):
    """Outlines of change.

    Attributes:
        below_minimum: how many were left out because they are smaller than `min_area_m2`.
    """

    geojson: str
    gpkg: str
    count: int
    area_m2: float
    min_area_m2: float
    below_minimum: int


class ClassScore(_Model):
    """One class against the truth, in pixels."""

    label: str
    iou: float | None
    precision: float | None
    recall: float | None
    truth_pixels: int


class Scores(_Model):
    """The map against a truth: pooled over all pixels that count."""

    truth: str  # the file's name
    pixels: int
    metrics: dict[str, float | None]  # None: not defined
    classes: list[ClassScore]


class SceneEntry(_Model):
    """The scene that was predicted; names of files without where they lay."""

    name: str
    before: str | None
    width: int
    height: int
    crs: str | None
    transform: tuple[float, float, float, float, float, float] | None
    bounds: tuple[float, float, float, float] | None  # west, south, east, north in degrees
    gsd_m: float | None
    observed: float  # share of its pixels


class ModelEntry(_Model):
    """The network that drew the map."""

    evaluation: str  # the run's id
    adaptation: Adaptation
    eval_seed: int
    title: str
    trained_on: str
    synthetic: bool


class PredictionInfo(_Model):
    """All of a prediction, as `prediction.json` holds it."""

    format: int = PREDICTION_FORMAT
    run_id: str
    task: Literal["segmentation", "change"]
    model: ModelEntry
    scene: SceneEntry
    tile_size: int
    overlap: int
    tiles: int
    threshold: float | None  # of change
    layers: list[LayerEntry]
    polygons: Polygons | None
    scores: Scores | None
    remarks: list[str]

    def layer(self, kind: LayerKind) -> LayerEntry | None:
        """The layer of that kind, or None where there is none."""
        return next((layer for layer in self.layers if layer.kind == kind), None)


def prediction_file(run_folder: Path) -> Path:
    return run_folder / "artifacts" / "prediction.json"


def read_prediction(run_folder: Path) -> PredictionInfo:
    """What a run has predicted.

    Raises:
        RsfmError: it has not ended yet, or the file is unreadable or another run's.
    """
    file = prediction_file(run_folder)
    if not file.is_file():
        raise RsfmError(f"Run {run_folder.name} has no prediction: it is written when the run ends.")
    info = read_description(PredictionInfo, file, version=PREDICTION_FORMAT, what="prediction", remedy="Predict again.")
    if info.run_id != run_folder.name:
        raise RsfmError(f"{file} is that of another run, {info.run_id}: copy a run only under its own name.")
    return info
