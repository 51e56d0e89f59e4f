"""Give synthetic images the per-band mean and standard deviation of a real pack.

One affine map per band, then the rounding and clipping of the sensor's own storage. Since clipping moves both moments
(a dark band piles up at its lowest number), the map is fitted through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsfm.bands import Band, require_same_unit
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.synthetic.render import Instrument, store

_ROUNDS = 12


@dataclass(frozen=True)
class Target:
    """(C,) mean and standard deviation to take on, in the bands' unit."""

    mean: np.ndarray
    std: np.ndarray


def target(pack: Pack, bands: Sequence[Band]) -> Target:
    """The statistics of the named bands in the pack's first image layer.

    Raises:
        RsfmError: the pack lacks a band or its statistics, has it in another unit, or the band is constant there.
    """
    layer = next((x for x in pack.info.layers if x.role == "image"), None)
    known = {b.name: b for b in layer.bands} if layer else {}
    if missing := [b.name for b in bands if b.name not in known or known[b.name].statistics is None]:
        raise RsfmError(
            f"Statistics cannot be matched to pack {pack.name!r}: it has none for band {', '.join(missing)}."
        )
    found = []
    for band in bands:
        require_same_unit(band, known[band.name].band(), where=f"Matching statistics to pack {pack.name!r}")
        found.append(known[band.name].statistics)
    if flat := [b.name for b, s in zip(bands, found, strict=True) if not s.std > 0]:
        raise RsfmError(
            f"Statistics cannot be matched to pack {pack.name!r}: band {', '.join(flat)} is constant there."
        )
    return Target(np.array([s.mean for s in found]), np.array([s.std for s in found]))


def fit(values: np.ndarray, wanted: Target, device: Instrument) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset (C,) float32, so that the stored images have the wanted moments.

    Args:
        values: (N, C, H, W) in unit, not yet rounded or clipped; a fair sample of the images.
        wanted: what they should have.
        device: whose rounding and clipping the images go through.
    """
    values = values[:, :, ::2, ::2]  # every other pixel: the moments need no more
    mean = values.mean(axis=(0, 2, 3), dtype=np.float64)
    std = values.std(axis=(0, 2, 3), dtype=np.float64)
    gain = wanted.std / std
    offset = wanted.mean - gain * mean
    for _ in range(_ROUNDS):
        mapped = values * gain.astype(np.float32)[:, None, None] + offset.astype(np.float32)[:, None, None]
        stored = store(mapped, device).astype(np.float32) * np.float32(device.scale) + np.float32(device.offset)
        got_mean, got_std = stored.mean(axis=(0, 2, 3), dtype=np.float64), stored.std(axis=(0, 2, 3), dtype=np.float64)
        grow = wanted.std / np.maximum(got_std, 1e-9)
        # Turn around the centre, then move it.
        centre = (wanted.mean - offset) / gain
        gain = gain * grow
        offset = wanted.mean - gain * centre + (wanted.mean - got_mean)
    return gain.astype(np.float32), offset.astype(np.float32)
