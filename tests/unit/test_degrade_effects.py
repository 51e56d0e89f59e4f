"""Each operator that is not about resolution does what it says, measured."""

from __future__ import annotations

import io

import numpy as np
import pytest
from degrade_world import OPTICAL, RADAR, RGB, band, degrade, ids, optical_images, radar_images, rgb_images, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from rsfm.degrade import OPERATORS
from rsfm.degrade.draws import Draws
from rsfm.degrade.entry import to_unit

SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(4, 20), st.integers(4, 20))


# -- blur ----------------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=30, derandomize=True)
@given(shape=SHAPES, sigma=st.floats(0.01, 4), level=st.floats(-50, 50))
def test_blur_leaves_a_constant_image(shape: tuple[int, ...], sigma: float, level: float) -> None:
    constant = np.full(shape, level, np.float32)
    assert np.allclose(degrade("blur", constant, sigma), constant, rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.7, 1, 2.5])
def test_blur_has_the_asked_width(sigma: float) -> None:
    point = np.zeros((1, 1, 41, 41), np.float32)
    point[..., 20, 20] = 1
    spread = degrade("blur", point, sigma)[0, 0]
    place = np.arange(41) - 20
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    for axis in (0, 1):
        assert (spread.sum(axis=axis) * place**2).sum() == pytest.approx(sigma**2, rel=0.01)
    inside = slice(10, -10)
    expected = ndimage.gaussian_filter(texture((1, 1, 41, 41))[0, 0], sigma)
    result = degrade("blur", texture((1, 1, 41, 41)).astype(np.float32), sigma)[0, 0]
    assert np.allclose(result[inside, inside], expected[inside, inside], atol=2e-3)


# -- noise ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("images", "bands"), [(rgb_images(6), RGB), (radar_images(6), RADAR)], ids=["8-bit", "db"])
@pytest.mark.parametrize("snr_db", [20, 3])
def test_noise_has_the_asked_power(images: np.ndarray, bands: list, snr_db: float) -> None:
    values = to_unit(images, bands)
    z = degrade("noise", images, 10 ** (-snr_db / 20), bands) - values
    sigma = np.sqrt(values.var(axis=(2, 3)) / 10 ** (snr_db / 10))
    assert np.allclose(z.std(axis=(2, 3)) / sigma, 1, atol=0.05)
    assert (np.abs(z.mean(axis=(2, 3))) < 4.5 * sigma / np.sqrt(48 * 64)).all()
    assert abs(np.corrcoef(z.reshape(-1, 48 * 64)) - np.eye(len(z) * len(bands))).max() < 0.1


def test_noise_needs_a_signal() -> None:
    assert (degrade("noise", np.full((1, 3, 8, 8), 77, np.uint8), 1, RGB) == 77).all()


def test_noise_of_a_higher_ratio_is_more_of_the_same() -> None:
    x = radar_images(2)
    mild, strong = (degrade("noise", x, ratio, RADAR) - x for ratio in (0.1, 1))
    assert np.allclose(strong, 10 * mild, atol=1e-4)


# -- gain and offset -----------------------------------------------------------------------------------------------
def test_gain_and_offset_are_the_asked_ones() -> None:
    images, s = optical_images(60, 8, 8), 0.2
    values, result = to_unit(images, OPTICAL), degrade("radiometric", images, s, OPTICAL)
    pairs = []
    for before, after in zip(values.reshape(-1, 64), result.reshape(-1, 64), strict=True):
        gain, offset = np.polyfit(before.astype(float), after.astype(float), 1)
        pairs.append((round((gain - 1) / s, 3), round(offset / (s / 2 * 0.05), 2)))
    kinds, counts = np.unique(pairs, axis=0, return_counts=True)
    assert kinds.tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert counts.min() > 50  # of 300, 75 each expected


def test_gain_of_decibels_is_an_offset() -> None:
    images, s = radar_images(20), 0.4
    change = degrade("radiometric", images, s, RADAR) - images
    assert np.ptp(change, axis=(2, 3)).max() < 1e-5
    allowed = [10 * np.log10(1 + a * s) + b * s / 2 * 3 for a in (-1, 1) for b in (-1, 1)]
    distance = np.abs(change.mean(axis=(2, 3))[..., None] - allowed)
    assert distance.min(axis=2).max() < 1e-4
    assert len(np.unique(distance.argmin(axis=2))) == 4


# -- stripes -------------------------------------------------------------------------------------------------------
def test_stripes_are_gains_of_columns() -> None:
    images, s = optical_images(6, 16, 200), 0.05
    gain = degrade("striping", images, s, OPTICAL) / to_unit(images, OPTICAL)
    assert np.ptp(gain, axis=2).max() < 1e-5
    gain = gain[:, :, 0] - 1
    assert abs(gain.std() / s - 1) < 0.05
    assert abs(gain.mean()) < 0.1 * s
    assert abs(np.corrcoef(gain.reshape(30, 200)) - np.eye(30)).max() < 0.35  # 200 columns
    double = degrade("striping", images, 2 * s, OPTICAL) / to_unit(images, OPTICAL)
    assert np.allclose(double[:, :, 0] - 1, 2 * gain, atol=1e-4)


# -- lost bands ----------------------------------------------------------------------------------------------------
def test_lost_bands() -> None:
    images = optical_images(400, 4, 4)
    values, before = to_unit(images, OPTICAL), np.zeros((400, 5), bool)
    for lost in (1, 2, 4):
        result = degrade("band_loss", images, lost, OPTICAL)
        gone = (result == np.float32(0.2)).all(axis=(2, 3))
        assert (gone.sum(axis=1) == lost).all()
        assert np.array_equal(result[~gone], values[~gone])
        assert (gone | ~before).all()  # those that were lost stay lost
        assert np.allclose(gone.mean(axis=0), lost / 5, atol=0.1)  # every band alike
        before = gone


def test_order_of_bands_does_not_matter_to_which_are_lost() -> None:
    images, order = optical_images(20), [3, 0, 4, 2, 1]
    other = OPERATORS["band_loss"].apply(images[:, order], 2, [OPTICAL[i] for i in order], ids(20))
    assert np.array_equal(other, degrade("band_loss", images, 2, OPTICAL)[:, order])


# -- haze ----------------------------------------------------------------------------------------------------------
def test_haze_mixes_in_airlight() -> None:
    images, tau = optical_images(), 0.5
    values, result = to_unit(images, OPTICAL), degrade("haze", images, tau, OPTICAL)
    for i, b in enumerate(OPTICAL):
        t = np.exp(-tau * (550 / b.wavelength_nm) ** 1.3)
        assert np.allclose(result[:, i], values[:, i] * t + 0.35 * (1 - t), atol=1e-6)
    contrast = result.std(axis=(2, 3)) / values.std(axis=(2, 3))
    assert (np.diff(contrast, axis=1) > 0).all()  # blue suffers most


def test_haze_without_a_wavelength_and_at_its_limits() -> None:
    images = rgb_images()
    unknown, green = ([band("x", w)] for w in (None, 550))
    assert np.array_equal(degrade("haze", images[:, :1], 1, unknown), degrade("haze", images[:, :1], 1, green))
    assert np.allclose(degrade("haze", images[:, :1], 20, green), 200, atol=1e-4)  # all airlight
    bright = np.full((1, 3, 4, 4), 200, np.uint8)
    assert np.allclose(degrade("haze", bright, 1, RGB), 200, atol=1e-4)


# -- JPEG ----------------------------------------------------------------------------------------------------------
def pillow_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("quality", [95, 50, 10])
def test_jpeg_is_pillows(quality: int) -> None:
    images = rgb_images()
    colour = [pillow_jpeg(np.ascontiguousarray(x.transpose(1, 2, 0)), quality).transpose(2, 0, 1) for x in images]
    assert np.array_equal(degrade("jpeg", images, 100 - quality, RGB), colour)
    assert np.array_equal(degrade("jpeg", images[:, ::-1], 100 - quality, RGB[::-1]), np.stack(colour)[:, ::-1])
    assert np.array_equal(degrade("jpeg", images.astype(np.float32) + 0.2, 100 - quality, RGB), colour)  # whole levels
    nameless = [b.model_copy(update={"wavelength_nm": None}) for b in RGB]
    assert np.array_equal(degrade("jpeg", images, 100 - quality, nameless), colour)
    grey = [[pillow_jpeg(plane, quality) for plane in x[:2]] for x in images]
    assert np.array_equal(degrade("jpeg", images[:, :2], 100 - quality, RGB[:2]), grey)


def test_jpeg_of_reflectances() -> None:
    """0..255 is p2..p98 widened by half on both sides: -0.025 to 0.475 here."""
    images = optical_images()
    result, values = degrade("jpeg", images, 5, OPTICAL), to_unit(images, OPTICAL)
    assert np.abs(result - values).mean() < 0.005
    assert np.ptp(result) < 0.5 + 1e-6
    levels = (result + 0.025) / (0.5 / 255)
    assert np.allclose(levels, np.rint(levels), atol=1e-2)
    beyond = np.full((1, 5, 8, 8), 65535, np.uint16)
    assert np.allclose(degrade("jpeg", beyond, 5, OPTICAL), 0.475, atol=1e-6)  # clipped


def test_jpeg_of_radar_is_grey() -> None:
    three = [*RADAR, RADAR[0].model_copy(update={"name": "HH"})]
    x = (-12 + 3 * texture((2, 3, 32, 32))).astype(np.float32)
    assert np.array_equal(degrade("jpeg", x, 50, three)[:, 1:2], degrade("jpeg", x[:, 1:2], 50, three[1:2]))


# -- misregistration -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shift", [0.5, 3.25])
def test_misregistration_moves_all_bands_of_a_sample_alike(shift: float) -> None:
    images = optical_images(12, 24, 31)
    values, result = to_unit(images, OPTICAL), degrade("misregistration", images, shift, OPTICAL)
    angles = 2 * np.pi * Draws("misregistration", ids(12), "image").uniform("direction", 1)[:, 0]
    for x, y, angle in zip(values, result, angles, strict=True):
        step = (shift * np.sin(angle), shift * np.cos(angle))
        expected = [ndimage.shift(plane, step, order=1, mode="nearest") for plane in x]
        assert np.allclose(y, expected, atol=1e-5)


def test_misregistration_goes_in_all_directions_by_the_asked_distance() -> None:
    rows, columns = np.mgrid[0:16, 0:16]
    ramps = np.broadcast_to(np.stack([rows, columns]), (200, 2, 16, 16)).astype(np.float32)
    moved = (ramps - degrade("misregistration", ramps, 2))[:, :, 8, 8]
    assert np.allclose(np.hypot(*moved.T), 2, atol=1e-4)
    assert np.abs(moved.mean(axis=0)).max() < 0.3
    quadrants = np.bincount((moved[:, 0] > 0) * 2 + (moved[:, 1] > 0))
    assert quadrants.min() > 30
