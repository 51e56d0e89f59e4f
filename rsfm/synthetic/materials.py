"""What surfaces look like: reflectance at any wavelength and day of the year, temperature, radar backscatter.

The curves are hand-drawn typical shapes (the red edge of leaves, the rise of soils, dark water), not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

#: Land-cover classes, the values of segmentation masks.
LAND_COVER: tuple[str, ...] = ("water", "forest", "grassland", "cropland", "bare land", "road", "building")

_NM = np.array([400, 443, 490, 560, 610, 665, 705, 740, 783, 842, 945, 1100, 1375, 1610, 1900, 2200, 2500], float)

# Reflectance at the wavelengths of `_NM`.
_SPECTRA: dict[str, list[float]] = {
    "leaf": [.025, .028, .035, .075, .050, .035, .110, .300, .400, .430, .440, .430, .300, .230, .080, .110, .070],
    "needle": [.018, .020, .024, .045, .032, .024, .060, .150, .200, .220, .225, .220, .150, .110, .040, .050, .035],
    "straw": [.070, .080, .100, .150, .185, .220, .250, .270, .290, .320, .350, .380, .370, .380, .280, .290, .220],
    "litter": [.035, .040, .050, .075, .095, .120, .140, .160, .180, .210, .240, .260, .270, .270, .200, .190, .150],
    "soil": [.050, .058, .072, .105, .135, .160, .175, .190, .205, .230, .260, .285, .310, .330, .300, .310, .280],
    "sand": [.130, .150, .180, .250, .300, .340, .360, .375, .390, .410, .430, .450, .460, .480, .440, .460, .420],
    "bloom": [.030, .035, .050, .220, .250, .230, .260, .380, .440, .460, .460, .450, .320, .250, .090, .120, .080],
    "water": [.040, .042, .042, .038, .024, .018, .014, .010, .009, .007, .005, .003, .001, .001, .001, .001, .001],
    "silt": [.060, .070, .085, .125, .125, .115, .100, .060, .055, .045, .025, .015, .004, .003, .002, .002, .002],
    "asphalt": [.065, .070, .078, .088, .093, .098, .102, .106, .110, .115, .120, .126, .132, .138, .130, .135, .125],
    "concrete": [.160, .175, .195, .225, .240, .252, .260, .266, .270, .276, .285, .295, .300, .305, .280, .280, .250],
    "tile": [.050, .055, .062, .085, .150, .205, .230, .245, .255, .270, .290, .310, .325, .335, .300, .310, .280],
    "slate": [.070, .073, .076, .080, .082, .084, .086, .088, .090, .093, .097, .100, .105, .110, .108, .112, .108],
    "metal": [.250, .265, .280, .290, .295, .300, .300, .295, .290, .285, .280, .290, .295, .300, .280, .280, .260],
}  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """Green cover over the year: rises around `start`, falls around `end` (days of the year)."""

    low: float
    high: float
    start: float = -1e3
    end: float = 1e3
    pace: float = 12.0  # days

    def at(self, day: float) -> float:
        rise = 1 / (1 + np.exp(-(day - self.start) / self.pace))
        fall = 1 / (1 + np.exp((day - self.end) / self.pace))
        return float(self.low + (self.high - self.low) * rise * fall)


@dataclass(frozen=True)
class Material:
    """One surface: `ground` seen through a share of `cover` (leaves over soil, silt in water).

    Attributes:
        land_cover: index into `LAND_COVER`.
        growth: share of `cover` over the year.
        after: the ground once the season is over (stubble), else the same ground.
        bloom: day of flowering, None without.
        grain: standard deviation of the fine brightness texture, relative.
        vigour: how strongly the share of `cover` varies from place to place.
        warm: kelvin above a green meadow at the same time when the surface is dry and bare.
        vv, vh: backscatter in dB of the bare and of the fully covered surface.
    """

    name: str
    land_cover: int
    ground: str
    cover: str
    growth: Growth
    grain: float
    vigour: float
    warm: float
    vv: tuple[float, float]
    vh: tuple[float, float]
    after: str | None = None
    bloom: float | None = None

    def share(self, day: float) -> float:
        return self.growth.at(day)

    def spectrum(self, day: float, wavelengths_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reflectance (C,) on `day`, and its change (C,) when the share of cover grows by one."""
        ground = self.after if self.after is not None and day > self.growth.end else self.ground
        low, high = _reflectance(ground, wavelengths_nm), _reflectance(self.cover, wavelengths_nm)
        if self.bloom is not None:
            flowers = 0.8 * np.exp(-(((day - self.bloom) / 12.0) ** 2))
            high = (1 - flowers) * high + flowers * _reflectance("bloom", wavelengths_nm)
        return low + self.share(day) * (high - low), high - low


def _reflectance(name: str, wavelengths_nm: np.ndarray) -> np.ndarray:
    return np.interp(wavelengths_nm, _NM, _SPECTRA[name])


_ALWAYS = Growth(0.0, 0.0)
_CROP_VV, _CROP_VH = (-13.5, -10.0), (-22.0, -15.5)
_HARD_VV, _HARD_VH = (-4.0, -4.0), (-11.0, -11.0)

MATERIALS: tuple[Material, ...] = (
    Material("clear water", 0, "water", "silt", Growth(0.1, 0.1), 0.01, 0.25, -6, (-20, -19), (-27, -26)),
    Material("silty water", 0, "water", "silt", Growth(0.7, 0.7), 0.01, 0.25, -5, (-19, -18), (-26, -25)),
    Material("conifers", 1, "litter", "needle", Growth(0.92, 0.92), 0.14, 0.12, 4, (-9.5, -8.5), (-15, -14)),
    Material(
        "broadleaf trees", 1, "litter", "leaf", Growth(0.25, 0.95, 112, 292), 0.13, 0.12, 6, (-10, -8.5), (-15.5, -13.5)
    ),
    Material("grass", 2, "soil", "leaf", Growth(0.45, 0.80, 85, 300), 0.04, 0.10, 8, (-13, -11.5), (-21, -17.5)),
    Material("dry grass", 2, "straw", "leaf", Growth(0.20, 0.45, 85, 200), 0.05, 0.09, 10, (-13, -12), (-21, -18.5)),
    Material(
        "winter cereal", 3, "soil", "leaf", Growth(0.12, 0.95, 95, 187, 10), 0.04, 0.12, 13, _CROP_VV, _CROP_VH,
        after="straw",
    ),
    Material(
        "rapeseed", 3, "soil", "leaf", Growth(0.15, 0.95, 82, 178, 9), 0.04, 0.10, 13, _CROP_VV, (-22, -14),
        after="straw", bloom=128,
    ),
    Material("maize", 3, "soil", "leaf", Growth(0.03, 0.95, 168, 268, 10), 0.04, 0.10, 14, _CROP_VV, _CROP_VH),
    Material("sugar beet", 3, "soil", "leaf", Growth(0.03, 1.00, 152, 297, 10), 0.04, 0.10, 14, _CROP_VV, _CROP_VH),
    Material("fallow", 3, "soil", "leaf", Growth(0.08, 0.08), 0.05, 0.08, 14, (-13.5, -12), (-23, -20)),
    Material("bare soil", 4, "soil", "leaf", Growth(0.05, 0.05), 0.05, 0.08, 14, (-13.5, -12), (-23, -20)),
    Material("sand", 4, "sand", "soil", Growth(0.45, 0.45), 0.04, 0.15, 15, (-15, -14), (-24, -23)),
    Material("asphalt", 5, "asphalt", "soil", _ALWAYS, 0.04, 0.10, 18, (-17, -16), (-24, -23)),
    Material("gravel track", 5, "sand", "soil", Growth(0.25, 0.25), 0.04, 0.20, 15, (-16, -15), (-24, -23)),
    Material("concrete", 5, "concrete", "asphalt", Growth(0.25, 0.25), 0.06, 0.25, 16, (-13, -13), (-21, -21)),
    Material("tile roof", 6, "tile", "slate", Growth(0.15, 0.15), 0.12, 0.25, 17, _HARD_VV, _HARD_VH),
    Material("slate roof", 6, "slate", "concrete", Growth(0.10, 0.10), 0.12, 0.15, 19, _HARD_VV, _HARD_VH),
    Material("metal roof", 6, "metal", "slate", Growth(0.15, 0.15), 0.10, 0.25, 12, (-2.0, -2.0), (-9.0, -9.0)),
)  # fmt: skip

_GREEN = (1, 2, 3)  # land covers whose plants cool them

_INDEX = {m.name: i for i, m in enumerate(MATERIALS)}

#: (M,) land-cover index of each material.
LAND_COVER_OF = np.array([m.land_cover for m in MATERIALS], np.uint8)
#: (M,) grain and vigour of each material.
GRAIN = np.array([m.grain for m in MATERIALS], np.float32)
VIGOUR = np.array([m.vigour for m in MATERIALS], np.float32)


def code(name: str) -> int:
    """The number that stands for a material in a landscape."""
    return _INDEX[name]


@lru_cache(maxsize=4096)
def reflectance_table(day: int, wavelengths_nm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(C, M) surface reflectance of every material on a day of the year, and (C, M) its change per unit of vigour."""
    rows = [m.spectrum(day, np.asarray(wavelengths_nm)) for m in MATERIALS]
    base, slope = (np.stack(part, axis=1).astype(np.float32) for part in zip(*rows, strict=True))
    return base, slope


@lru_cache(maxsize=1024)
def temperature_table(day: int) -> tuple[np.ndarray, np.ndarray]:
    """(1, M) surface temperature in kelvin on a clear forenoon, and (1, M) its change per unit of vigour."""
    meadow = 291.0 + 11.0 * np.cos(2 * np.pi * (day - 200) / 365)
    base = [meadow + m.warm * (1 - (m.share(day) if m.land_cover in _GREEN else 0)) for m in MATERIALS]
    slope = [-m.warm if m.land_cover in _GREEN else 0.0 for m in MATERIALS]
    return np.array([base], np.float32), np.array([slope], np.float32)


@lru_cache(maxsize=1024)
def backscatter_table(day: int, polarisation: str) -> tuple[np.ndarray, np.ndarray]:
    """(1, M) backscatter as linear power on a day of the year, and (1, M) its change per unit of vigour."""
    pairs = [m.vv if polarisation == "VV" else m.vh for m in MATERIALS]
    power = [tuple(10 ** (x / 10) for x in pair) for pair in pairs]
    base = [lo + m.share(day) * (hi - lo) for m, (lo, hi) in zip(MATERIALS, power, strict=True)]
    slope = [hi - lo for lo, hi in power]
    return np.array([base], np.float32), np.array([slope], np.float32)
