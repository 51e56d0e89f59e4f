"""The published resolution operator (arXiv 2510.17014), pinned to recorded numbers and to Pillow itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rsfm.degrade import OPERATORS, operator

DEGRADE = OPERATORS["bilinear"]
SUMS = {
    1: (32640, 27840, 32640),
    2: (33047, 28299, 32664),
    4: (33458, 29002, 32736),
    8: (33892, 29828, 32640),
}
PIXEL_3_3 = {2: (58, 64, 120), 4: (62, 64, 127), 8: (81, 89, 127)}
RED_ROW_0_AT_4 = [36, 36, 37, 40, 43, 46, 49, 52, 55, 58, 60, 63, 65, 68, 69, 69]


def golden_input() -> np.ndarray:
    """(1, 3, 16, 16) uint8: R = (16i + 3j) mod 256, G = 7ij mod 256, B = checkerboard of 2×2 blocks."""
    i, j = np.mgrid[0:16, 0:16]
    return np.stack([(16 * i + 3 * j) % 256, (7 * i * j) % 256, 255 * ((i // 2 + j // 2) % 2)])[None].astype(np.uint8)


def pillow(plane: np.ndarray, factor: int) -> np.ndarray:
    """The operator spelled out for one band or one RGB image."""
    height, width = plane.shape[:2]
    small = Image.fromarray(plane).resize((width // factor, height // factor), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_golden_vector(factor: int) -> None:
    result = DEGRADE(golden_input(), factor)
    assert result.dtype == np.uint8
    assert tuple(result[0].sum(axis=(1, 2), dtype=np.int64)) == SUMS[factor]
    if factor > 1:
        assert tuple(result[0, :, 3, 3]) == PIXEL_3_3[factor]
    if factor == 4:
        assert result[0, 0, 0].tolist() == RED_ROW_0_AT_4


def test_factor_one_is_bit_identical() -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (2, 3, 8, 8)).astype(np.uint16)
    result = DEGRADE(stored, 1)
    assert result.dtype == np.uint16
    assert np.array_equal(result, stored)


@pytest.mark.parametrize("shape", [(3, 4, 16, 16), (2, 3, 37, 50), (5, 1, 64, 64)])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_equals_pillow_band_by_band(shape: tuple[int, ...], factor: int, dtype: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    expected = np.stack([[pillow(plane, factor) for plane in image] for image in images])
    assert np.array_equal(DEGRADE(images, factor), expected)


def test_equals_pillow_on_an_rgb_image() -> None:
    image = np.random.default_rng(2).integers(0, 256, (3, 32, 48)).astype(np.uint8)
    expected = pillow(np.ascontiguousarray(image.transpose(1, 2, 0)), 4).transpose(2, 0, 1)
    assert np.array_equal(DEGRADE(image[None], 4)[0], expected)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_anti_aliasing_is_part_of_the_benchmark(factor: int) -> None:
    """torch's anti-aliased bilinear differs by at most 2 grey levels; the plain one by 48 to 64: another benchmark."""
    images = golden_input()
    published = DEGRADE(images, factor).astype(int)

    def torch_version(antialias: bool) -> np.ndarray:
        x = torch.from_numpy(images).float()
        small = torch.nn.functional.interpolate(
            x, size=(16 // factor, 16 // factor), mode="bilinear", align_corners=False, antialias=antialias
        )
        large = torch.nn.functional.interpolate(
            small.round().clamp(0, 255), size=(16, 16), mode="bilinear", align_corners=False
        )
        return large.round().clamp(0, 255).numpy().astype(int)

    assert np.abs(torch_version(True) - published).max() <= 2
    assert 48 <= np.abs(torch_version(False) - published).max() <= 64


def test_operator_hash_is_pinned() -> None:
    """The hash is in every score: it changes only when the operator's result does."""
    assert operator("bilinear").operator_hash == "eb0ac3fca5de9d3e"
