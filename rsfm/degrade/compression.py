"""Lossy compression."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rsfm.degrade.draws import Draws
from rsfm.degrade.entry import OperatorEntry, statistics
from rsfm.errors import RsfmError

if TYPE_CHECKING:
    from rsfm.packs import BandInfo


def jpeg(values: np.ndarray, lost: float, bands: Sequence[BandInfo], draws: Draws) -> np.ndarray:
    """To JPEG of quality 100 − `lost` and back with Pillow's own settings (4:2:0).

    Three bands of light are one RGB image (the longest wavelength is red; bands without wavelengths are taken as they
    come); otherwise every band is a grey image. 8-bit bands go in as they are. Others are mapped to 8 bits: 0..255 is
    the band's range from its 2nd to its 98th percentile, widened by half of itself on both sides. What lies beyond is
    clipped, and a step of 1/255 of that range is lost even at the best quality.
    """
    scales = [_eight_bit(band) for band in bands]
    low, step = (np.array(x, np.float32)[:, None, None] for x in zip(*scales, strict=True))
    if len(bands) == 3 and all(band.unit != "db" for band in bands):
        wavelengths = [band.wavelength_nm for band in bands]
        known = [w for w in wavelengths if w is not None]
        groups = [np.argsort(known)[::-1].tolist() if len(known) == 3 else [0, 1, 2]]
    else:
        groups = [[i] for i in range(len(bands))]
    for image in values:
        grey = np.rint((image - low) / step).clip(0, 255).astype(np.uint8)
        for group in groups:
            grey[group] = _compress(grey[group], 100 - int(lost))
        image[:] = grey * step + low
    return values


def _compress(planes: np.ndarray, quality: int) -> np.ndarray:
    """(3 or 1, H, W) uint8 to the same."""
    picture = np.ascontiguousarray(planes.transpose(1, 2, 0)) if len(planes) == 3 else planes[0]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    read = np.asarray(Image.open(file))
    return read.transpose(2, 0, 1) if len(planes) == 3 else read[None]


def _eight_bit(band: BandInfo) -> tuple[float, float]:
    """(value of grey level 0, values per grey level)."""
    if band.unit == "uint8":
        return 0.0, 1.0
    s = statistics(band, JPEG.title)
    spread = s.p98 - s.p2
    if not spread > 0:
        raise RsfmError(
            f"{JPEG.title}: band {band.name} has no range to map to 8 bits (its 2nd and 98th percentile are both "
            f"{s.p2:g}). Leave the band out."
        )
    return s.p2 - spread / 2, 2 * spread / 255


def _refuse(lost: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    if not 5 <= lost <= 99 or lost != int(lost):
        raise RsfmError(
            f"{JPEG.title}: {lost:g} of the quality cannot be lost; use 0, or a whole number from 5 (quality 95) to 99."
        )
    for band in bands:
        _eight_bit(band)


JPEG = OperatorEntry(
    name="jpeg", title="JPEG compression", paper="arXiv 1903.12261", severity_name="quality lost", severity_unit="",
    identity=0, severities=(0, 10, 25, 50, 75, 90), refuse=_refuse, alter=jpeg,
    definition={"codec": "pillow-jpeg", "colour": "rgb-of-3", "range": "p2..p98 widened by 1/2", "v": 1},
)  # fmt: skip
ENTRIES = (JPEG,)
