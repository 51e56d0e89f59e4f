"""What any resolution degradation must keep, and what sets its kinds apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from degrade_world import OPTICAL, RESOLUTION, RGB, degrade, ids, optical_images, rgb_images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rsfm.degrade import OPERATORS
from rsfm.degrade.kernels import axis_weights
from rsfm.degrade.resolution import MTF_AT_NYQUIST, MTF_SIGMA

NAMES = st.sampled_from([*RESOLUTION, "native"])
FACTORS = st.integers(2, 8)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(8, 24), st.integers(8, 24))
PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)


def random_images(shape: tuple[int, ...], seed: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@PROPERTY
@given(name=NAMES, shape=SHAPES, factor=FACTORS, level=st.integers(0, 255))
def test_constant_image_is_unchanged(name: str, shape: tuple[int, ...], factor: int, level: int) -> None:
    assert (degrade(name, np.full(shape, level, np.uint8), factor) == level).all()
    assert np.allclose(degrade(name, np.full(shape, level / 7, np.float32), factor), level / 7, rtol=1e-5)


@PROPERTY
@given(name=NAMES, shape=SHAPES, factor=FACTORS, dtype=st.sampled_from(["uint8", "uint16", "float32"]))
def test_shape_range_and_independence_of_bands(name: str, shape: tuple[int, ...], factor: int, dtype: str) -> None:
    x = random_images(shape, 0, dtype)
    whole = degrade(name, x, factor)
    size = shape if name != "native" else (*shape[:2], shape[2] // factor, shape[3] // factor)
    assert whole.shape == size
    assert whole.dtype == np.float32
    assert np.array_equal(whole[-1:, -1:], degrade(name, x[-1:, -1:], factor))
    assert whole.min() >= x.min() - 1e-3
    assert whole.max() <= x.max() + 1e-3


@PROPERTY
@given(name=NAMES, shape=SHAPES, factor=FACTORS, scale=st.floats(1e-4, 10), offset=st.floats(-5, 5))
def test_commutes_with_affine_maps_on_float(
    name: str, shape: tuple[int, ...], factor: int, scale: float, offset: float
) -> None:
    """So it does not matter whether stored values or values in the unit are degraded."""
    x = random_images(shape, 1, "float32")
    after = degrade(name, x, factor) * np.float32(scale) + np.float32(offset)
    before = degrade(name, x * np.float32(scale) + np.float32(offset), factor)
    assert np.allclose(after, before, rtol=1e-4, atol=1e-3 * scale + 1e-4)


@PROPERTY
@given(name=NAMES, shape=SHAPES, factor=FACTORS, seed=st.integers(0, 99))
def test_float_path_is_the_8_bit_path_without_rounding(
    name: str, shape: tuple[int, ...], factor: int, seed: int
) -> None:
    """At most four passes round by at most half a level each, and no filter here makes an error larger."""
    x = random_images(shape, seed)
    assert np.abs(degrade(name, x.astype(np.float32), factor) - degrade(name, x, factor)).max() <= 2 + 1e-3


@pytest.mark.parametrize("name", [*RESOLUTION, "native"])
def test_stored_values_reach_the_unit(name: str) -> None:
    stored = optical_images()
    expected = degrade(name, stored.astype(np.float32), 4) * 1e-4 - 0.1
    assert np.allclose(degrade(name, stored, 4, OPTICAL), expected, atol=1e-6)


def test_area_is_the_mean_of_blocks() -> None:
    x = random_images((2, 3, 24, 32), 0, "float32")
    means = x.reshape(2, 3, 6, 4, 8, 4).mean(axis=(3, 5))
    expected = [
        [np.asarray(Image.fromarray(plane).resize((32, 24), Image.Resampling.BILINEAR)) for plane in image]
        for image in means
    ]
    assert np.allclose(degrade("area", x, 4), expected, atol=1e-3)
    rounded = degrade("area", x.astype(np.uint8), 4)
    assert np.abs(rounded - expected).max() <= 1.5 + 1e-3  # the coarse image once, Pillow's two passes up
    assert np.array_equal(rounded, np.rint(rounded))


@pytest.mark.parametrize("size", [32, 33])
def test_area_weights_are_pillows(size: int) -> None:
    plane = random_images((size, 7), 2, "float32").T.copy()
    expected = np.asarray(Image.fromarray(plane).resize((size // 4, 7), Image.Resampling.BOX))
    assert np.allclose(plane @ axis_weights("box", size, size // 4).T, expected, atol=1e-3)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_what_is_left_at_the_new_nyquist_frequency(factor: int) -> None:
    """A wave of two coarse pixels, with its crests at their centres: the coarse values are ± the filter's transfer."""
    size = 16 * factor
    wave = np.cos(np.pi * (np.arange(size) + 0.5 - factor / 2) / factor)
    signs = (-1.0) ** np.arange(16)
    inner = slice(4, -4)

    def transfer(kernel: str, sigma: float = 0.0) -> np.ndarray:
        return (axis_weights(kernel, size, 16, sigma) @ wave * signs)[inner]

    assert np.allclose(transfer("gaussian", MTF_SIGMA * factor), MTF_AT_NYQUIST, atol=2e-3)
    if factor == 8:  # close enough to a continuous aperture
        assert np.allclose(transfer("box"), 2 / math.pi, atol=0.01)
        assert np.allclose(transfer("triangle"), (2 / math.pi) ** 2, atol=0.01)


def test_mtf_is_its_weights_then_bilinear_up() -> None:
    plane = random_images((24, 30), 3, "float32")
    rows, columns = axis_weights("gaussian", 24, 6, MTF_SIGMA * 4), axis_weights("gaussian", 30, 7, MTF_SIGMA * 30 / 7)
    small = (rows @ plane @ columns.T).astype(np.float32)
    expected = np.asarray(Image.fromarray(small).resize((30, 24), Image.Resampling.BILINEAR))
    assert np.allclose(degrade("mtf", plane[None, None], 4)[0, 0], expected, atol=1e-3)


def test_nearest_takes_one_pixel_of_each_block() -> None:
    x = random_images((2, 1, 16, 24), 4, "uint16")
    block = x[:, :, 2::4, 2::4]  # right and below of the centre
    assert np.array_equal(degrade("nearest", x, 4), block.repeat(4, axis=2).repeat(4, axis=3))
    odd = random_images((1, 1, 15, 9), 5)
    assert np.array_equal(degrade("nearest", odd, 3), odd[:, :, 1::3, 1::3].repeat(3, axis=2).repeat(3, axis=3))


def test_native_is_bilinear_before_going_up() -> None:
    x = rgb_images()
    small = degrade("native", x, 4, RGB)
    assert small.shape == (3, 3, 12, 16)
    up = np.asarray(Image.fromarray(small[1, 2].astype(np.uint8)).resize((64, 48), Image.Resampling.BILINEAR))
    assert np.array_equal(up, degrade("bilinear", x, 4, RGB)[1, 2])
    assert not OPERATORS["native"].keeps_grid


def test_detail_above_the_new_nyquist_goes_and_below_it_stays() -> None:
    j = np.arange(96)
    fine, coarse = (
        np.broadcast_to(np.sin(2 * np.pi * j / period), (1, 1, 96, 96)).astype(np.float32) for period in (3, 96)
    )
    for name in RESOLUTION:
        assert degrade(name, coarse, 4).std() > 0.9 * coarse.std()
        left = degrade(name, fine, 4).std() / fine.std()
        assert left > 0.5 if name == "nearest" else left < 0.25, (name, left)  # nearest aliases it, on purpose


@pytest.mark.parametrize("name", RESOLUTION)
def test_nothing_to_do_for_no_samples(name: str) -> None:
    assert OPERATORS[name].apply(np.zeros((0, 3, 16, 16), np.uint8), 4, RGB, ids(0)).shape == (0, 3, 16, 16)
