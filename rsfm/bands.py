"""Sensors and bands as first-class objects, and the rule from a stored number to a physical unit.

A band is found by name, never by position. A stored value becomes a value in the band's unit through
`value = stored * scale + offset`; converting between units that have no such rule is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rsfm.errors import RsfmError

Unit = Literal["dn", "reflectance", "db", "uint8"]
UNITS: tuple[Unit, ...] = ("dn", "reflectance", "db", "uint8")
#: Colour -> wavelength in nm, and how far a band's centre may be from it.
RGB_NM: dict[str, float] = {"red": 665.0, "green": 560.0, "blue": 490.0}
RGB_TOLERANCE_NM = 40.0


@dataclass(frozen=True)
class Band:
    """One band as stored in one dataset.

    Attributes:
        name: the sensor's own name, e.g. `B8A`, `VV`, `red`.
        wavelength_nm: centre wavelength in nanometres; None where there is none (radar).
        gsd_m: native ground sampling distance in metres (B11 of Sentinel-2: 20, also when resampled to 10).
        unit: the physical unit that `scale` and `offset` lead to.
        scale, offset: `value_in_unit = stored * scale + offset`.
    """

    name: str
    wavelength_nm: float | None
    gsd_m: float
    unit: Unit
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise RsfmError(f"Band {self.name!r}: unknown unit {self.unit!r}; use one of {', '.join(UNITS)}.")
        if not self.gsd_m > 0:
            raise RsfmError(f"Band {self.name!r}: gsd_m must be positive, got {self.gsd_m}.")
        if self.scale == 0 or not math.isfinite(self.scale) or not math.isfinite(self.offset):
            raise RsfmError(f"Band {self.name!r}: scale and offset must be finite, and scale not 0.")

    def to_unit(self, stored: np.ndarray) -> np.ndarray:
        """Stored values of any shape to float32 values in `unit`."""
        return stored.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)


@dataclass(frozen=True)
class Sensor:
    """An instrument: its bands in their usual order, each in its usual unit with scale 1."""

    name: str
    title: str
    bands: tuple[Band, ...]

    def band(self, name: str) -> Band:
        for band in self.bands:
            if band.name == name:
                return band
        raise RsfmError(f"Sensor {self.name!r} has no band {name!r}; it has {', '.join(b.name for b in self.bands)}.")

    def stored_as(
        self, names: Sequence[str], *, unit: Unit | None = None, scale: float = 1.0, offset: float = 0.0
    ) -> tuple[Band, ...]:
        """The named bands, in the given (file) order, with the storage rule of one dataset."""
        return tuple(replace(self.band(n), unit=unit or self.band(n).unit, scale=scale, offset=offset) for n in names)


def _bands(unit: Unit, rows: Sequence[tuple[str, float | None, float]]) -> tuple[Band, ...]:
    return tuple(Band(name, wavelength, gsd, unit) for name, wavelength, gsd in rows)


# Centre wavelengths and native ground sampling distances as the agencies publish them for the instruments.
SENSORS: dict[str, Sensor] = {
    s.name: s
    for s in (
        Sensor(
            "sentinel-2",
            "Sentinel-2 MSI",
            _bands(
                "reflectance",
                [
                    ("B01", 443, 60), ("B02", 492, 10), ("B03", 560, 10), ("B04", 665, 10), ("B05", 704, 20),
                    ("B06", 740, 20), ("B07", 783, 20), ("B08", 833, 10), ("B8A", 865, 20), ("B09", 945, 60),
                    ("B10", 1374, 60), ("B11", 1614, 20), ("B12", 2202, 20),
                ],
            ),
        ),
        Sensor(
            "sentinel-1",
            "Sentinel-1 C-SAR GRD",
            _bands("db", [("VV", None, 10), ("VH", None, 10)]),
        ),
        Sensor(
            "landsat-7",
            "Landsat 7 ETM+",
            _bands(
                "uint8",
                [
                    ("B1", 485, 30), ("B2", 560, 30), ("B3", 660, 30), ("B4", 835, 30), ("B5", 1650, 30),
                    ("B6", 11450, 60), ("B7", 2220, 30),
                ],
            ),
        ),
        Sensor(
            "landsat-8",
            "Landsat 8 OLI/TIRS",
            _bands(
                "reflectance",
                [
                    ("B1", 443, 30), ("B2", 482, 30), ("B3", 561, 30), ("B4", 655, 30), ("B5", 865, 30),
                    ("B6", 1609, 30), ("B7", 2201, 30), ("B9", 1373, 30),
                ],
            ),
        ),
        Sensor(
            "rgb",
            "Aerial or satellite RGB, 8-bit",
            _bands("uint8", [("red", 650, 1), ("green", 550, 1), ("blue", 470, 1)]),
        ),
    )
}  # fmt: skip


def sensor(name: str) -> Sensor:
    """Look a sensor up by name."""
    try:
        return SENSORS[name]
    except KeyError:
        raise RsfmError(f"Unknown sensor {name!r}; known: {', '.join(sorted(SENSORS))}.") from None


def select(bands: Sequence[Band], names: Sequence[str], *, where: str) -> list[int]:
    """Positions of the named bands in `bands`, in the order of `names`.

    Raises:
        RsfmError: a name is missing or asked for twice; `where` says in which pack or model.
    """
    position = {band.name: i for i, band in enumerate(bands)}
    missing = [n for n in names if n not in position]
    if missing:
        raise RsfmError(f"{where} has no band {', '.join(missing)}; it has {', '.join(position)}.")
    if len(set(names)) != len(names):
        raise RsfmError(f"A band is named twice in {', '.join(names)}.")
    return [position[n] for n in names]


def require_same_unit(expected: Band, actual: Band, *, where: str) -> None:
    """Refuse to feed values of one unit to something that was made for another."""
    if expected.unit != actual.unit:
        raise RsfmError(
            f"{where}: band {actual.name} is in {actual.unit}, but {expected.unit} is needed, and there is no rule "
            "between the two. Prepare the data in the needed unit."
        )


def rgb_bands(bands: Sequence[Band], *, where: str) -> list[str]:
    """Names of the bands that are red, green and blue, in that order: by name, else by the nearest wavelength.

    Raises:
        RsfmError: a colour has no band within `RGB_TOLERANCE_NM`.
    """
    chosen = []
    for colour, wavelength in RGB_NM.items():
        named = [b.name for b in bands if b.name.lower() == colour]
        near = sorted(
            (abs(b.wavelength_nm - wavelength), b.name)
            for b in bands
            if b.wavelength_nm is not None and abs(b.wavelength_nm - wavelength) <= RGB_TOLERANCE_NM
        )
        if not named and not near:
            raise RsfmError(
                f"{where} has no {colour} band (within {RGB_TOLERANCE_NM:g} nm of {wavelength:g} nm), which this model "
                "needs: name three bands for red, green and blue yourself, or choose another model."
            )
        chosen.append(named[0] if named else near[0][1])
    return chosen
