"""The request for one preparation of a pack."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rsfm.specs.base import Params


class PrepareSpec(Params):
    """Turn one dataset into a pack."""

    kind: Literal["prepare"] = "prepare"
    dataset: str = Field(..., title="Dataset", description="A catalog entry's name.")
    source: str | None = Field(None, title="Folder", description="Where the data is; empty: the entry's default.")
    name: str | None = Field(None, title="Pack name", description="Empty: the dataset's name.")
    image_size: int | None = Field(
        None, ge=8, title="Image size", description="Resample images to this size; empty: keep."
    )
    tile_size: int | None = Field(None, ge=8, title="Tile size", description="Scenes are cut into tiles of this size.")
    stride: int | None = Field(
        None, ge=1, title="Tile stride",
        description="Empty: the tile size (no overlap). Where pixels have labels: of tiles that are not for training, "
        "and every pixel counts once.",
    )  # fmt: skip
    limit: int | None = Field(None, ge=1, title="Limit", description="At most this many samples per split.")
    on_bad: Literal["skip", "refuse"] = Field("skip", title="Bad files", description="Skip and report, or stop.")
    #: What the entry's reader understands beyond this (the synthetic world: sensor, seed, counts).
    options: dict[str, Any] = Field({})
