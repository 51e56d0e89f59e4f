"""What an operator is: its axis of severity, what it refuses, and how it is applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rsfm.degrade.draws import Draws
from rsfm.errors import RsfmError
from rsfm.specs import spec_hash

if TYPE_CHECKING:
    from rsfm.packs import BandInfo, BandStatistics

#: Raises RsfmError for (severity, height, width, bands) that cannot be; never asked about the identity or NaN.
Refuse = Callable[[float, int, int, "Sequence[BandInfo]"], None]
#: (stored values (N, C, H, W), severity) -> stored values (N, C, H', W').
Resample = Callable[[np.ndarray, float], np.ndarray]
#: An array, or where it is said a torch tensor on any device: nothing here imports torch.
Values = Any
#: (float32 values in the bands' unit (N, C, H, W), severity, bands, draws) -> the same shape; may write to its input.
Alter = Callable[[Values, float, "Sequence[BandInfo]", Draws], Values]


@dataclass(frozen=True)
class OperatorEntry:
    """One way to make an image worse.

    Attributes:
        paper: where it is from; empty where it is defined here.
        severity_name, severity_unit: what the severity is, for axes: "factor", "×".
        identity: the severity at which the input comes back untouched.
        severities: the usual ladder, mildest first, beginning with the identity.
        changes_gsd: whether the severity multiplies the effective ground sampling distance.
        keeps_grid: whether images keep their number of pixels.
        pairs_only: whether it says something only about one image of a pair against the other.
        random: whether it draws random numbers (the same ones for the same sample at every severity).
        definition: everything that fixes the result; hashed into `operator_hash`.
        refuse: raises for what cannot be.
        resample, alter: what it does; one of the two. `resample` sees the values as they are stored, so that 8-bit
            images are treated as the published operator treats them; `alter` sees values in the bands' units.
    """

    name: str
    title: str
    paper: str
    severity_name: str
    severity_unit: str
    identity: float
    severities: tuple[float, ...]
    definition: dict[str, str | int | float]
    refuse: Refuse
    resample: Resample | None = None
    alter: Alter | None = None
    changes_gsd: bool = False
    keeps_grid: bool = True
    pairs_only: bool = False
    random: bool = False

    @property
    def operator_hash(self) -> str:
        """Equal for equal definitions, on every machine."""
        return spec_hash({"operator": self.name, **self.definition})

    def check(self, severity: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
        """Refuse what cannot be done to images of that size and those bands. The identity always can.

        Raises:
            RsfmError: the severity is out of range, or a band has the wrong unit or lacks statistics.
        """
        if severity == self.identity:
            return
        if math.isnan(severity):
            raise RsfmError(f"{self.title}: the {self.severity_name} is not a number.")
        self.refuse(severity, height, width, bands)

    def apply(
        self, values: np.ndarray, severity: float, bands: Sequence[BandInfo], ids: Sequence[str], layer: str = "image"
    ) -> np.ndarray:
        """Degrade a batch of one layer; a pure function of what is passed, sample by sample.

        Args:
            values: (N, C, H, W) as stored (any real type); what is not finite must have been filled before.
            bands: the C bands of those channels.
            ids: the N sample ids; randomness depends on operator, id, layer and band name only.

        Returns:
            float32 (N, C, H', W') in the bands' units; H', W' = H, W where `keeps_grid`. A new array.

        Raises:
            RsfmError: as `check`, or the shapes do not fit each other.
        """
        if values.ndim != 4 or (len(ids), len(bands)) != values.shape[:2]:
            raise RsfmError(
                f"Degradation takes images (N, C, H, W) with N ids and C bands; got shape {values.shape} with "
                f"{len(ids)} ids and {len(bands)} bands."
            )
        self.check(severity, values.shape[2], values.shape[3], bands)
        if severity == self.identity:
            return to_unit(values, bands)
        if self.resample is not None:
            return to_unit(self.resample(values, severity), bands)
        assert self.alter is not None
        return self.alter(to_unit(values, bands), severity, bands, Draws(self.name, ids, layer))

    def effective_gsd_m(self, gsd_m: float | None, severity: float) -> float | None:
        """Ground sampling distance in metres of what is left of the information; None where the grid's is unknown."""
        if gsd_m is None:
            return None
        return gsd_m * severity if self.changes_gsd else gsd_m


def to_unit(stored: np.ndarray, bands: Sequence[BandInfo]) -> np.ndarray:
    """Stored (N, C, H, W) to a new float32 array in the bands' units."""
    values = np.empty(stored.shape, np.float32)
    for i, band in enumerate(bands):
        values[:, i] = band.band().to_unit(stored[:, i])
    return values


def like(numbers: np.ndarray, values: Values) -> Values:
    """float32 numbers as what `values` are: an array, or a tensor on their device."""
    return numbers if isinstance(values, np.ndarray) else values.new_tensor(numbers)


def statistics(band: BandInfo, title: str) -> BandStatistics:
    """The band's statistics, in its unit.

    Raises:
        RsfmError: it has none, or they are not finite.
    """
    s = band.statistics
    if s is None or not all(math.isfinite(x) for x in (s.mean, s.std, s.p2, s.p98)):
        raise RsfmError(
            f"{title} needs the statistics of band {band.name}, and there are no usable ones. Prepare the pack again."
        )
    return s


def require_light(band: BandInfo, title: str, why: str) -> None:
    """Refuse bands that are not reflected light.

    Raises:
        RsfmError: the band is in decibels, or its wavelength is thermal (above 4 µm, where the ground's own
            radiation outweighs the sun's).
    """
    if band.unit == "db" or (band.wavelength_nm is not None and band.wavelength_nm > 4000):
        kind = "in decibels" if band.unit == "db" else f"thermal ({band.wavelength_nm:g} nm)"
        raise RsfmError(f"{title}: band {band.name} is {kind}, but {why}. Leave the band out.")


def require_within(entry: OperatorEntry, severity: float, low: float, high: float) -> None:
    """Refuse a severity outside [low, high].

    Raises:
        RsfmError: as said.
    """
    if not low <= severity <= high:
        raise RsfmError(
            f"{entry.title}: {entry.severity_name} {severity:g} is out of range; use {low:g} to {high:g}"
            f"{' ' + entry.severity_unit if entry.severity_unit else ''} ({entry.identity:g} changes nothing)."
        )
