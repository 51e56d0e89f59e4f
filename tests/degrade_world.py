"""Bands and textured images for the tests of degradation."""

from __future__ import annotations

import numpy as np

from rsfm.degrade import OPERATORS
from rsfm.packs import BandInfo, BandStatistics

RESOLUTION = ("bilinear", "area", "mtf", "nearest")
ALL = tuple(OPERATORS)
#: Needs no statistics, keeps the grid.
SAME_GRID = tuple(name for name in ALL if name != "native")


def band(
    name: str, wavelength_nm: float | None = 550, unit: str = "uint8", scale: float = 1.0, offset: float = 0.0,
    *, mean: float = 120, std: float = 40, p2: float = 40, p98: float = 200, statistics: bool = True,
) -> BandInfo:  # fmt: skip
    known = BandStatistics(mean=mean, std=std, min=p2 - std, max=p98 + std, p2=p2, p98=p98, count=1000)
    return BandInfo(
        name=name, wavelength_nm=wavelength_nm, gsd_m=10, unit=unit, scale=scale, offset=offset,
        statistics=known if statistics else None,
    )  # fmt: skip


RGB = [band("red", 650), band("green", 550), band("blue", 470)]
#: Sentinel-2 as delivered since 2022: uint16, reflectance = stored / 10000 - 0.1.
OPTICAL = [
    band(name, wavelength, "reflectance", 1e-4, -0.1, mean=0.2, std=0.05, p2=0.1, p98=0.35)
    for name, wavelength in (("B02", 492), ("B03", 560), ("B04", 665), ("B08", 833), ("B11", 1614))
]
RADAR = [band(name, None, "db", mean=-12, std=3, p2=-19, p98=-5) for name in ("VV", "VH")]


def ids(count: int) -> list[str]:
    return [f"sample-{i}" for i in range(count)]


def texture(shape: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
    """float64 (N, C, H, W) of mean 0 and deviation 1: power at all scales, more at the coarse ones."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.fft2(rng.standard_normal(shape))
    rows, columns = np.fft.fftfreq(shape[2])[:, None], np.fft.fftfreq(shape[3])
    images = np.fft.ifft2(spectrum / (0.02 + np.hypot(rows, columns))).real
    images -= images.mean(axis=(2, 3), keepdims=True)
    return images / images.std(axis=(2, 3), keepdims=True)


def rgb_images(count: int = 3, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(N, 3, H, W) uint8."""
    return np.clip(120 + 40 * texture((count, 3, height, width), seed), 0, 255).astype(np.uint8)


def optical_images(count: int = 3, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(N, 5, H, W) uint16, stored as `OPTICAL` says."""
    return np.clip(3000 + 500 * texture((count, 5, height, width), seed), 0, 65535).astype(np.uint16)


def radar_images(count: int = 3, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(N, 2, H, W) float32 decibels."""
    return (-12 + 3 * texture((count, 2, height, width), seed)).astype(np.float32)


def degrade(name: str, images: np.ndarray, severity: float, bands: list[BandInfo] | None = None) -> np.ndarray:
    """Apply to samples named by their position; without bands: values are already in the unit."""
    if bands is None:
        bands = [band(f"b{i}", unit="dn") for i in range(images.shape[1])]
    return OPERATORS[name].apply(images, severity, bands, ids(len(images)))
