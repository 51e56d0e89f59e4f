"""What happens to light on its way to the detector: haze and defocus. Values in the bands' units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsfm.degrade.draws import Draws
from rsfm.degrade.entry import OperatorEntry, Values, require_light, require_within, statistics
from rsfm.degrade.kernels import GAUSSIAN_REACH, axis_weights, filter_planes

if TYPE_CHECKING:
    from rsfm.packs import BandInfo

#: Exponent with which the optical depth of haze falls with wavelength (Ångström 1929), usual over land.
ANGSTROM = 1.3
#: Wavelength in nanometres at which the optical depth is given.
REFERENCE_NM = 550.0


def blur(values: np.ndarray, sigma: float, bands: Sequence[BandInfo], draws: Draws) -> np.ndarray:
    """Gaussian blur with a standard deviation of `sigma` pixels; decibels are blurred as decibels."""
    n, c, height, width = values.shape
    rows, columns = (axis_weights("gaussian", size, size, sigma) for size in (height, width))
    return filter_planes(values.reshape(n * c, height, width), rows, columns).reshape(values.shape)


def transmission(band: BandInfo, optical_depth: float) -> float:
    """Share of the ground's light that reaches the sensor; a band without a wavelength counts as 550 nm."""
    wavelength = band.wavelength_nm or REFERENCE_NM
    return float(np.exp(-optical_depth * (REFERENCE_NM / wavelength) ** ANGSTROM))


def haze(values: Values, optical_depth: float, bands: Sequence[BandInfo], draws: Draws) -> Values:
    """A uniform layer of haze: value · t + airlight · (1 - t), airlight = the band's 98th percentile.

    A mixture of two values of one band, so it is the same haze whatever offset the unit has. Arrays or tensors.
    """
    for i, band in enumerate(bands):
        t = transmission(band, optical_depth)
        values[:, i] = values[:, i] * t + statistics(band, HAZE.title).p98 * (1 - t)
    return values


def _refuse_blur(sigma: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    require_within(BLUR, sigma, 0, min(height, width))


def _refuse_haze(optical_depth: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    require_within(HAZE, optical_depth, 0, 20)
    for band in bands:
        require_light(band, HAZE.title, "haze is sunlight scattered by the air")
        statistics(band, HAZE.title)


BLUR = OperatorEntry(
    name="blur", title="Gaussian blur", paper="arXiv 1903.12261", severity_name="sigma", severity_unit="px",
    identity=0, severities=(0, 0.5, 1, 2, 4), refuse=_refuse_blur, alter=blur,
    definition={"kernel": "gaussian", "reach": GAUSSIAN_REACH, "edges": "renormalised", "v": 1},
)  # fmt: skip
HAZE = OperatorEntry(
    name="haze", title="Haze", paper="Koschmieder 1924; Ångström 1929", severity_name="optical depth at 550 nm",
    severity_unit="", identity=0, severities=(0, 0.25, 0.5, 1, 2), refuse=_refuse_haze, alter=haze,
    definition={"airlight": "p98", "angstrom": ANGSTROM, "reference_nm": REFERENCE_NM, "v": 1},
)  # fmt: skip
ENTRIES = (BLUR, HAZE)
