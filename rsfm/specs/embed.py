"""The request for one embedding job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rsfm.specs.base import LOCAL, Params
from rsfm.specs.evaluate import Operator


class EmbedSpec(Params):
    """Features of one model on one pack, as a map that people can read (UMAP; PCA beside it)."""

    kind: Literal["embed"] = "embed"
    model: str = Field(..., title="Model", description="A run's id, or a baseline such as random:vit-nano.")
    dataset: str = Field(..., title="Pack", description="With or without labels.")
    splits: list[str] = Field(
        [], title="Splits", description="Empty: all of them.", json_schema_extra={"blank": "All of them"}
    )
    image: Literal["auto", "pre", "post"] = Field(
        "auto", title="Image of a pair", description="auto: the later one (post)."
    )
    operator: Operator = Field("bilinear", title="Degradation")
    severities: list[Annotated[float, Field(ge=0, le=1000)]] = Field(
        [], title="Severities",
        description="Empty: the images as they are. All are laid out on one map.",
        json_schema_extra={"blank": "As they are"},
    )  # fmt: skip
    bands: list[str] | None = Field(None, title="Bands", description="By name; empty: the model's own choice.")
    model_seed: int = Field(
        0, ge=0, title="Model seed", description="Initialisation of random: models; others have their own."
    )
    max_samples: int = Field(
        100_000,
        ge=10,
        le=100_000,
        title="Most samples",
        description="Of more, a random sample is embedded; a map holds at most 100,000 points over all severities.",
    )
    neighbors: int = Field(
        15, ge=2, le=200, title="UMAP neighbours", description="Few: fine structure. Many: the overall shape."
    )
    min_dist: float = Field(0.1, ge=0, le=1, title="UMAP distance", description="How tightly points may be packed.")
    metric: Literal["cosine", "euclidean"] = Field("cosine", title="Distance", description="Between features.")
    seed: int = Field(0, ge=0, lt=2**31, title="Seed", description="Of the sample drawn, and of UMAP.")
    images_per_pass: int = Field(256, ge=1, title="Images per pass", json_schema_extra=LOCAL)
    device: Literal["auto", "cpu", "cuda"] = Field("auto", title="Device", json_schema_extra=LOCAL)
    threads: int = Field(0, ge=0, title="CPU threads", json_schema_extra=LOCAL)

    @model_validator(mode="after")
    def _distinct(self) -> EmbedSpec:
        for field in ("severities", "splits"):
            values = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names a value twice: {values}")
        return self
