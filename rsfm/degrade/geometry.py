"""Errors of position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsfm.degrade.draws import DRAWS_VERSION, Draws
from rsfm.degrade.entry import OperatorEntry, Values, like, require_within

if TYPE_CHECKING:
    from rsfm.packs import BandInfo


def misregistration(values: Values, shift: float, bands: Sequence[BandInfo], draws: Draws) -> Values:
    """One image of a pair moved by `shift` pixels in a direction drawn per sample, the same for all its bands.

    Values between pixels are interpolated linearly, and edge pixels are repeated. Arrays or tensors.
    """
    angle = 2 * np.float32(math.pi) * draws.uniform("direction", 1)[:, 0]
    for image, a in zip(values, angle, strict=True):
        for axis, step in ((1, np.sin(a)), (2, np.cos(a))):
            image[:] = _moved(image, axis, np.float32(shift) * step)
    return values


def _moved(image: Values, axis: int, step: np.float32) -> Values:
    """(C, H, W) with content moved by `step` pixels along one axis."""
    last = image.shape[axis] - 1
    position = np.clip(np.arange(last + 1, dtype=np.float32) - step, 0, last)
    below = np.floor(position).astype(int)
    share = (position - below).astype(np.float32)
    share = like(share[:, None] if axis == 1 else share, image)
    before, after = (image[(*[slice(None)] * axis, at.tolist())] for at in (below, np.minimum(below + 1, last)))
    return before * (1 - share) + after * share


def _refuse(shift: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    require_within(MISREGISTRATION, shift, 0, min(height, width) / 2)


MISREGISTRATION = OperatorEntry(
    name="misregistration", title="Misregistration of a pair", paper="doi:10.1109/36.718860", severity_name="shift",
    severity_unit="px", identity=0, severities=(0, 0.5, 1, 2, 4), pairs_only=True, random=True, refuse=_refuse,
    alter=misregistration,
    definition={
        "interpolation": "bilinear", "edges": "replicated", "direction": "per-sample", "draws": DRAWS_VERSION, "v": 1,
    },
)  # fmt: skip
ENTRIES = (MISREGISTRATION,)
