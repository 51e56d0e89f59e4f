"""Errors of detectors and their calibration: noise, gain and offset, stripes, lost bands.

Values in the bands' units, arrays or tensors (but for noise). Nothing is clipped: an 8-bit band may leave 0..255.
Random numbers belong to a sample and a band and not to a severity: a worse severity is more of the same error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsfm.degrade.draws import DRAWS_VERSION, Draws
from rsfm.degrade.entry import OperatorEntry, Values, like, require_light, require_within, statistics
from rsfm.errors import RsfmError

if TYPE_CHECKING:
    from rsfm.packs import BandInfo


def noise(values: np.ndarray, ratio: float, bands: Sequence[BandInfo], draws: Draws) -> np.ndarray:
    """Additive white Gaussian noise whose standard deviation is `ratio` times that of the signal.

    The signal-to-noise ratio in decibels is −20 log10(ratio). The signal is this image in this band around its own
    mean: what is there to be seen, not the level it sits on. So a constant image gets no noise.
    """
    n, c, height, width = values.shape
    planes = values.reshape(n, c, height * width)
    sigma = (ratio * planes.std(axis=2, dtype=np.float64)).astype(np.float32)
    for i, band in enumerate(bands):
        planes[:, i] += sigma[:, i, None] * draws.normal(band.name, height * width)
    return planes.reshape(values.shape)


def radiometric(values: Values, error: float, bands: Sequence[BandInfo], draws: Draws) -> Values:
    """Wrong calibration: gain 1 ± s and an offset of ± s/2 of the band's standard deviation.

    Both signs are drawn per sample and band. In decibels a gain of the power is an offset, 10 log10(1 ± s).
    """
    for i, band in enumerate(bands):
        gain, offset = draws.signs(band.name, 2).T[:, :, None, None] * np.float32(error)
        offset = offset * np.float32(statistics(band, RADIOMETRIC.title).std / 2)
        if band.unit == "db":
            values[:, i] += like(10 * np.log10(1 + gain) + offset, values)
        else:
            values[:, i] = values[:, i] * like(1 + gain, values) + like(offset, values)
    return values


def striping(values: Values, error: float, bands: Sequence[BandInfo], draws: Draws) -> Values:
    """Push-broom stripes: each column has a detector of its own with gain 1 + s · z, z standard normal.

    The gains belong to a sample and a band.
    """
    for i, band in enumerate(bands):
        gain = 1 + np.float32(error) * draws.normal(band.name, values.shape[3])
        values[:, i] *= like(gain[:, None, :], values)
    return values


def band_loss(values: Values, lost: float, bands: Sequence[BandInfo], draws: Draws) -> Values:
    """As many bands as `lost` become constant, at the band's mean; which ones is drawn per sample.

    Every band draws a lot by its name and the lowest ones go, so a sample that loses two bands loses the one it
    would lose alone, and their order does not matter.
    """
    lots = np.stack([draws.bits(band.name, 1)[:, 0] for band in bands], axis=1)
    gone = lots.argsort(axis=1).argsort(axis=1) < int(lost)
    for i, band in enumerate(bands):
        values[np.flatnonzero(gone[:, i]).tolist(), i] = statistics(band, BAND_LOSS.title).mean
    return values


def _refuse_noise(ratio: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    require_within(NOISE, ratio, 0, 100)


def _refuse_radiometric(error: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    require_within(RADIOMETRIC, error, 0, 0.9)
    for band in bands:
        statistics(band, RADIOMETRIC.title)


def _refuse_striping(error: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    require_within(STRIPING, error, 0, 1)
    for band in bands:
        if band.unit == "db":
            require_light(band, STRIPING.title, "stripes are of detectors in a row, and radar has none")


def _refuse_band_loss(lost: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    if not 0 <= lost < len(bands) or lost != int(lost):
        raise RsfmError(
            f"{BAND_LOSS.title}: {lost:g} of {len(bands)} band(s) cannot be lost; use a whole number from 0 to "
            f"{len(bands) - 1}, so that one is left."
        )
    for band in bands:
        statistics(band, BAND_LOSS.title)


NOISE = OperatorEntry(
    name="noise", title="Gaussian noise", paper="arXiv 1903.12261", severity_name="noise to signal",
    severity_unit="", identity=0, severities=(0, 0.0316, 0.1, 0.316, 1), random=True,
    refuse=_refuse_noise, alter=noise,
    definition={"noise": "gaussian-additive", "signal": "std-of-image-and-band", "draws": DRAWS_VERSION, "v": 1},
)  # fmt: skip
RADIOMETRIC = OperatorEntry(
    name="radiometric", title="Gain and offset errors", paper="", severity_name="relative error", severity_unit="",
    identity=0, severities=(0, 0.05, 0.1, 0.2, 0.4), random=True, refuse=_refuse_radiometric, alter=radiometric,
    definition={
        "gain": "1±s", "offset": "±s/2·std", "decibels": "10·log10(gain)", "per": "sample-band",
        "draws": DRAWS_VERSION, "v": 1,
    },
)  # fmt: skip
STRIPING = OperatorEntry(
    name="striping", title="Push-broom stripes", paper="", severity_name="column gain error", severity_unit="",
    identity=0, severities=(0, 0.01, 0.02, 0.05, 0.1), random=True, refuse=_refuse_striping, alter=striping,
    definition={"gain": "1+s·normal", "along": "columns", "per": "sample-band", "draws": DRAWS_VERSION, "v": 1},
)  # fmt: skip
BAND_LOSS = OperatorEntry(
    name="band_loss", title="Lost bands", paper="", severity_name="bands lost", severity_unit="", identity=0,
    severities=(0, 1, 2), random=True, refuse=_refuse_band_loss, alter=band_loss,
    definition={"value": "mean", "per": "sample", "nested": "yes", "draws": DRAWS_VERSION, "v": 1},
)  # fmt: skip
ENTRIES = (NOISE, RADIOMETRIC, STRIPING, BAND_LOSS)
