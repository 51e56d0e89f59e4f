"""Settings that methods share which predict the tokens of hidden patches (BEiT, arXiv 2106.08254)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rsfm.specs import Params


class TokenMIMParams(Params):
    """Hide blocks of patches and predict their tokens."""

    mask_ratio: float = Field(
        0.383, gt=0, lt=1, title="Mask ratio",
        description="Largest share of patches hidden from the encoder; 75 of 196 in the paper.",
    )  # fmt: skip
    min_block: float = Field(
        0.082, gt=0, le=1, title="Smallest block", description="Share of the patches; 16 of 196 in the paper."
    )
    crop_min_scale: float = Field(
        0.2, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop."
    )
    flips: Literal["none", "horizontal", "dihedral"] = Field(
        "dihedral", title="Flips", description="dihedral: all 8 flips and quarter turns (nadir imagery has no up)."
    )
    jitter: float = Field(
        0.0, ge=0, le=1, title="Jitter",
        description="Half-width of random brightness and contrast (and saturation of colour images) of the encoder's "
        "view; tokens always come from the image as it is. May keep features from lining up along brightness.",
    )  # fmt: skip
