"""The instruments: from a landscape to the pixels of one sensor.

Each band is blurred by a Gaussian point spread whose width follows from the modulation transfer at Nyquist, averaged
over the band's own pixel, and, where that is coarser than the grid (Sentinel-2's 20 and 60 m bands), interpolated to
the grid. Both steps are linear and separable, so a band is `S @ plane @ S.T` with one small matrix S.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy.special import ndtr

from rsfm.bands import Band, sensor
from rsfm.errors import RsfmError
from rsfm.synthetic import materials
from rsfm.synthetic.fields import Canvas
from rsfm.synthetic.world import Landscape

Array = np.ndarray
_F = np.float32


@dataclass(frozen=True)
class Instrument:
    """How a sensor's values are made and stored.

    Attributes:
        kind: `toa` top-of-atmosphere reflectance, `etm` ETM+ numbers, `photo` contrast-stretched 8-bit, `radar` dB.
        dtype, scale, offset: `value in unit = stored * scale + offset`.
        lowest, highest: range of the stored numbers (0 is "no data" in most products).
        mtf: modulation transfer at Nyquist of the whole instrument, detector included.
        noise: standard deviation of the reflectance noise at zero signal; it grows with the signal.
        detail_pixels: size of the world's fine detail in pixels of this sensor.
    """

    sensor: str
    kind: Literal["toa", "etm", "photo", "radar"]
    dtype: str
    scale: float = 1.0
    offset: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0
    mtf: float = 0.25
    noise: float = 0.001
    detail_pixels: float = 1.0

    @property
    def gsd_m(self) -> float:
        """Of the sensor's finest band."""
        return min(b.gsd_m for b in sensor(self.sensor).bands)

    def bands(self, names: list[str] | None = None, gsd_m: float = 0.0) -> tuple[Band, ...]:
        """The bands as they are stored, all or the named ones in the given order, none finer than `gsd_m`."""
        known = sensor(self.sensor)
        stored = known.stored_as(names or [b.name for b in known.bands], scale=self.scale, offset=self.offset)
        return tuple(replace(b, gsd_m=max(b.gsd_m, gsd_m)) for b in stored)


INSTRUMENTS: dict[str, Instrument] = {
    i.sensor: i
    for i in (
        Instrument("sentinel-2", "toa", "uint16", scale=1e-4, lowest=1, highest=65535, mtf=0.24),
        Instrument("landsat-7", "etm", "uint8", lowest=1, highest=255, mtf=0.28, noise=0.002),
        Instrument("landsat-8", "toa", "uint16", scale=2e-5, offset=-0.1, lowest=1, highest=65535, mtf=0.30),
        Instrument("rgb", "photo", "uint8", lowest=0, highest=255, mtf=0.20, noise=0.002, detail_pixels=2.0),
        Instrument("sentinel-1", "radar", "float32", mtf=0.30),
    )
}

# ETM+ calibration (Landsat 7 handbook): solar irradiance in W/(m2 um), radiance at the smallest and largest number.
_ETM = {
    "B1": (1970.0, -6.2, 191.6), "B2": (1842.0, -6.4, 196.5), "B3": (1547.0, -5.0, 152.9), "B4": (1044.0, -5.1, 241.1),
    "B5": (225.7, -1.0, 31.06), "B7": (82.06, -0.35, 10.80), "B6": (0.0, 3.2, 12.65),
}  # fmt: skip
_ETM_K1, _ETM_K2 = 666.09, 1282.71

# Share of the modulation at Nyquist that the square detector alone lets through: sinc(1/2).
_DETECTOR_MTF = 2 / np.pi

# Equivalent number of looks of a ground-range detected Sentinel-1 image, and its noise floor as power.
_LOOKS, _NOISE_FLOOR = 4.4, 10 ** (-24 / 10)


def instrument(name: str) -> Instrument:
    """Look an instrument up by its sensor's name."""
    try:
        return INSTRUMENTS[name]
    except KeyError:
        raise RsfmError(f"The synthetic world has no sensor {name!r}; it has {', '.join(INSTRUMENTS)}.") from None


def psf_sigma(pixel: float, mtf: float) -> float:
    """Width of the Gaussian point spread in front of a square pixel, so that both together pass `mtf` at Nyquist.

    A Gaussian passes exp(-2 pi^2 sigma^2 f^2); Nyquist is f = 1 / (2 pixel).
    """
    optics = mtf / _DETECTOR_MTF
    if not 0 < optics < 1:
        raise RsfmError(f"The modulation transfer at Nyquist must lie between 0 and {_DETECTOR_MTF:.3f}, got {mtf}.")
    return float(pixel * np.sqrt(-2 * np.log(optics)) / np.pi)


def _pixels(canvas: Canvas, first: float, pitch: float, count: int, sigma: float) -> Array:
    """(count, n) weights of pixels `pitch` wide, the first centred at `first`: box blurred by a Gaussian."""
    axis = canvas.axis().astype(np.float64)[None, :]
    centre = (first + pitch * np.arange(count))[:, None]
    if sigma > 0:
        weights = ndtr((axis - centre + pitch / 2) / sigma) - ndtr((axis - centre - pitch / 2) / sigma)
    else:
        weights = np.clip((pitch + canvas.step) / 2 - np.abs(axis - centre), 0, min(canvas.step, pitch))
    return weights / weights.sum(axis=1, keepdims=True)


@lru_cache(maxsize=256)
def sampling(canvas: Canvas, size: int, pixel: float, native: float, mtf: float | None) -> Array:
    """(size, n) matrix from canvas samples to a row of `size` pixels.

    Args:
        canvas: where the samples lie.
        size: pixels per row of the grid, beginning at 0.
        pixel: grid spacing; native: the band's own sampling distance, both in the canvas's units.
        mtf: modulation transfer at Nyquist; None: area average without blur.
    """
    sigma = 0.0 if mtf is None else psf_sigma(native, mtf)
    if native <= pixel * 1.001:
        return _pixels(canvas, pixel / 2, pixel, size, sigma).astype(_F)
    position = ((np.arange(size) + 0.5) * pixel + native / 2) / native
    left = np.floor(position).astype(int)
    # Not one more than is needed: it might lie wholly outside the canvas and have no weights at all.
    count = int(left[-1]) + 2
    coarse = _pixels(canvas, -native / 2, native, count, sigma)
    between = np.zeros((size, count))
    between[np.arange(size), left] = 1 - (position - left)
    between[np.arange(size), left + 1] = position - left
    return (between @ coarse).astype(_F)


def land_cover_map(landscape: Landscape, size: int) -> Array:
    """(size, size) uint8: the land cover with the largest area in each pixel."""
    canvas = landscape.canvas
    pixel = canvas.side / size
    area = sampling(canvas, size, pixel, pixel, None)
    cover = landscape.land_cover
    shares = [area @ (cover == c).astype(_F) @ area.T for c in range(len(materials.LAND_COVER))]
    return np.stack(shares).argmax(axis=0).astype(np.uint8)


def render(
    landscape: Landscape, device: Instrument, bands: tuple[Band, ...], size: int, day: int, rng: np.random.Generator
) -> Array:
    """One acquisition.

    Args:
        landscape: the ground.
        device: the instrument.
        bands: which of its bands, in the order of the result.
        size: pixels per side; they cover the landscape's extent.
        day: day of the year (phenology, warmth).
        rng: weather and noise of this acquisition.

    Returns:
        (C, size, size) float32 in the bands' unit, not yet rounded or clipped.
    """
    if device.kind == "radar":
        return _radar(landscape, device, bands, size, day, rng)
    gain, haze = 1 + 0.05 * rng.standard_normal(), 0.6 + rng.gamma(2.0, 0.2)
    wavelengths = np.array([b.wavelength_nm for b in bands], float)
    thermal = wavelengths > 5000
    warm = _sampled(landscape, device, bands, size, np.flatnonzero(thermal), *materials.temperature_table(day), False)
    base, slope = materials.reflectance_table(day, tuple(wavelengths[~thermal]))
    surface = _sampled(landscape, device, bands, size, np.flatnonzero(~thermal), base, slope, True)
    path, through = _atmosphere(wavelengths[~thermal], haze)
    top = path + through * _F(gain) * surface
    noise = rng.standard_normal((len(bands), size, size), dtype=_F)
    top += noise[~thermal] * _F(device.noise) * (1 + 2 * top)
    if device.kind == "toa":
        return top
    if device.kind == "photo":
        return 255 * np.clip((top - 0.8 * path) / 0.32, 0, None) ** _F(1 / 1.6)
    result = np.empty((len(bands), size, size), _F)
    result[~thermal] = _etm_reflective([bands[i] for i in np.flatnonzero(~thermal)], top)
    result[thermal] = _etm_thermal(warm + _F(0.25) * noise[thermal])
    return result


def store(values: Array, device: Instrument) -> Array:
    """Values in unit to stored numbers: rounded and clipped to what the product can hold."""
    if device.dtype == "float32":
        return values.astype(_F)
    stored = np.rint((values - _F(device.offset)) / _F(device.scale))
    return np.clip(stored, device.lowest, device.highest).astype(device.dtype)


def _sampled(
    landscape: Landscape,
    device: Instrument,
    bands: tuple[Band, ...],
    size: int,
    which: Array,
    base: Array,
    slope: Array,
    lit: bool,
) -> Array:
    """(len(which), size, size): (base + vigour * slope) of each sample's material, seen by each band."""
    canvas, paint = landscape.canvas, landscape.paint
    pixel = canvas.side / size
    code = paint.material.astype(np.intp)
    result = np.empty((len(which), size, size), _F)
    for row, i in enumerate(which):
        plane = slope[min(row, len(slope) - 1)].take(code)
        plane *= paint.vigour
        plane += base[min(row, len(base) - 1)].take(code)
        np.maximum(plane, 1e-4, out=plane)
        if lit:
            plane *= paint.brightness
        matrix = sampling(canvas, size, pixel, bands[i].gsd_m / landscape.detail_m, device.mtf)
        result[row] = matrix @ plane @ matrix.T
    return result


def _atmosphere(wavelengths_nm: Array, haze: float) -> tuple[Array, Array]:
    """(C, 1, 1) path reflectance and transmission of a clear sky with some haze."""
    short = 550 / wavelengths_nm
    path = 0.045 * short**4 + 0.012 * haze * short**1.2
    through = np.exp(-0.10 * short**4 - 0.08 * haze * short**1.2)
    # Water vapour around 940 nm and, all but closed, 1375 nm.
    through *= 1 - 0.55 * np.exp(-(((wavelengths_nm - 943) / 25) ** 2))
    vapour = 1 - 0.985 * np.exp(-(((wavelengths_nm - 1375) / 30) ** 2))
    return (path * vapour)[:, None, None].astype(_F), (through * vapour)[:, None, None].astype(_F)


def _etm_reflective(bands: list[Band], reflectance: Array) -> Array:
    """ETM+ numbers: L = rho * E_sun * cos(zenith) / pi, linear between the calibration's ends."""
    rows = np.array([_ETM[b.name] for b in bands], _F)[:, :, None, None]
    radiance = reflectance * rows[:, 0] * _F(np.cos(np.radians(32.0)) / np.pi)
    return 1 + 254 * (radiance - rows[:, 1]) / (rows[:, 2] - rows[:, 1])


def _etm_thermal(kelvin: Array) -> Array:
    """ETM+ band 6, high gain: L = K1 / (exp(K2 / T) - 1)."""
    _, low, high = _ETM["B6"]
    return 1 + 254 * (_ETM_K1 / (np.exp(_ETM_K2 / kelvin) - 1) - low) / (high - low)


def _radar(
    landscape: Landscape, device: Instrument, bands: tuple[Band, ...], size: int, day: int, rng: np.random.Generator
) -> Array:
    """Backscatter in dB with multiplicative speckle (gamma distributed power)."""
    tables = [materials.backscatter_table(day, b.name) for b in bands]
    base, slope = (np.concatenate(part) for part in zip(*tables, strict=True))
    power = _sampled(landscape, device, bands, size, np.arange(len(bands)), base, slope, False) + _F(_NOISE_FLOOR)
    speckle = rng.gamma(_LOOKS, 1 / _LOOKS, power.shape).astype(_F)
    return 10 * np.log10(np.maximum(power * speckle, _F(1e-6)))
