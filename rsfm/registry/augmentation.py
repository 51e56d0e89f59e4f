"""Settings that several methods share: how views are cut from images and changed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rsfm.specs import Params


class AugmentParams(Params):
    """Random views. What needs colour is left out, with a remark, where the bands are not red, green and blue."""

    flips: Literal["none", "horizontal", "dihedral"] = Field(
        "dihedral", title="Flips", description="dihedral: all 8 flips and quarter turns (nadir imagery has no up)."
    )
    jitter_p: float = Field(
        0.8, ge=0, le=1, title="Jitter probability", description="Of radiometric and colour jitter."
    )
    brightness: float = Field(
        0.4, ge=0, le=1, title="Brightness",
        description="Half-width of a gain common to all bands, on values in the band's unit (decibels: an offset).",
    )  # fmt: skip
    contrast: float = Field(
        0.4, ge=0, le=1, title="Contrast", description="Half-width of the gain around the image's mean."
    )
    saturation: float = Field(0.2, ge=0, le=1, title="Saturation", description="Colour images only.")
    hue: float = Field(0.1, ge=0, le=0.5, title="Hue", description="Share of the colour circle. Colour images only.")
    grayscale_p: float = Field(0.2, ge=0, le=1, title="Grayscale probability", description="Colour images only.")
    band_gain: float = Field(
        0.1, ge=0, le=1, title="Gain per band",
        description="Half-width of a gain of each band by itself. Not for colour images: these have hue instead.",
    )  # fmt: skip
    band_drop_p: float = Field(
        0.0, ge=0, lt=1, title="Band drop", description="Chance that a band is set to its mean (no colour images)."
    )
    blur_sigma_min: float = Field(0.1, gt=0, title="Least blur", description="Sigma; pixels of global views of 224.")
    blur_sigma_max: float = Field(2.0, gt=0, title="Most blur", description="Sigma; pixels of global views of 224.")

    @model_validator(mode="after")
    def _order(self) -> AugmentParams:
        if self.blur_sigma_min > self.blur_sigma_max:
            raise ValueError(f"blur_sigma_min {self.blur_sigma_min} is above blur_sigma_max {self.blur_sigma_max}")
        return self
