"""The request for one prediction of a whole scene."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rsfm.bands import Unit
from rsfm.specs.base import LOCAL, Params


class PredictSpec(Params):
    """A map of one scene, or of the change between two, by a network that an evaluation has trained."""

    kind: Literal["predict"] = "predict"
    evaluation: str = Field(
        ..., title="Evaluation", description="Id of an evaluation run on a pack with maps: it keeps what it trained."
    )
    adaptation: Literal["", "linear", "decoder", "finetune"] = Field(
        "", title="Adaptation", description="Empty: the first that the evaluation has."
    )
    eval_seed: int | None = Field(
        None, ge=0, title="Evaluation seed", description="Empty: the first that the evaluation has."
    )
    scene: str = Field(
        ..., min_length=1, title="Scene",
        description="A GeoTIFF, COG, VRT or other raster file; for change detection the later one.",
    )  # fmt: skip
    scene_before: str | None = Field(
        None, title="Earlier scene", description="For change detection. On another grid it is resampled to the scene's."
    )
    bands: list[str] | None = Field(
        None, title="Bands in the file", description="By name, in file order; empty: as the file describes them."
    )
    unit: Unit | None = Field(
        None, title="Unit", description="What stored numbers become. Empty: as the pack of the training, if they fit."
    )
    scale: float | None = Field(None, title="Scale", description="value = stored × scale + offset. Empty: see unit.")
    offset: float | None = Field(None, title="Offset", description="Empty: 0 where a scale or a unit is given.")
    nodata: float | None = Field(
        None, title="No data", description="Stored number that means not observed; empty: as the file says."
    )
    tile_size: int | None = Field(
        None, ge=16, le=4096, title="Tile size", description="Pixels per side; empty: as the network was trained."
    )
    overlap: int | None = Field(
        None, ge=0, title="Overlap", description="Pixels that neighbouring tiles share; empty: a quarter of a tile."
    )
    batch_size: int = Field(
        16, ge=1, title="Batch size", description="Tiles per forward pass.", json_schema_extra=LOCAL
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, title="Threshold", description="Change is where its probability is this high."
    )
    min_area_m2: float | None = Field(
        None, ge=0, title="Smallest polygon (m²)", description="Of change; empty: nine pixels."
    )
    simplify_px: float = Field(
        1.0, ge=0, le=50, title="Simplification (pixels)",
        description="How far a polygon's outline may move; 0: along the pixels.",
    )  # fmt: skip
    truth: str | None = Field(
        None, title="Truth", description="A raster of class numbers, to show errors and scores; empty: none."
    )
    truth_values: list[Annotated[int, Field(ge=0, le=255)]] = Field(
        [], title="Values of the truth", description="Of each class in order, e.g. 0, 255; empty: 0, 1, 2, …"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", title="Device", json_schema_extra=LOCAL)
    threads: int = Field(0, ge=0, title="CPU threads", json_schema_extra=LOCAL)

    @model_validator(mode="after")
    def _fits_together(self) -> PredictSpec:
        if self.tile_size is not None and self.overlap is not None and 2 * self.overlap > self.tile_size:
            raise ValueError(f"overlap {self.overlap} must be at most half of tile_size {self.tile_size}")
        if self.scale == 0:
            raise ValueError("scale must not be 0")
        if self.unit is None and (self.scale is not None or self.offset is not None):
            raise ValueError("scale and offset need the unit that they lead to: give unit too")
        for field in ("bands", "truth_values"):
            values = getattr(self, field) or []
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names a value twice: {values}")
        if self.truth_values and self.truth is None:
            raise ValueError("truth_values say what the numbers in truth mean: give truth too")
        return self
