"""The published resolution operator (arXiv 2510.17014), pinned to recorded numbers and to Pillow itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from degrade_world import RGB, band, degrade
from PIL import Image

from rsfm.degrade import OPERATORS
from rsfm.degrade.resolution import bilinear

torch.set_num_threads(1)

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
    result = degrade("bilinear", golden_input(), factor, RGB)
    assert result.dtype == np.float32
    assert np.array_equal(result, np.rint(result))
    assert tuple(result[0].sum(axis=(1, 2), dtype=np.int64)) == SUMS[factor]
    if factor > 1:
        assert tuple(result[0, :, 3, 3]) == PIXEL_3_3[factor]
    if factor == 4:
        assert result[0, 0, 0].tolist() == RED_ROW_0_AT_4


def test_factor_one_leaves_the_values_of_the_file() -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (2, 3, 8, 8)).astype(np.uint16)
    result = degrade("bilinear", stored, 1, [band(n, unit="reflectance", scale=1e-4, offset=-0.1) for n in "abc"])
    assert np.array_equal(result, stored.astype(np.float32) * np.float32(1e-4) + np.float32(-0.1))


@pytest.mark.parametrize("shape", [(3, 4, 16, 16), (2, 3, 37, 50), (5, 1, 64, 64)])
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_equals_pillow_band_by_band(shape: tuple[int, ...], factor: int, dtype: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    expected = np.stack([[pillow(plane, factor) for plane in image] for image in images])
    stored = bilinear(images, factor)
    assert stored.dtype == dtype
    assert np.array_equal(stored, expected)
    assert np.array_equal(degrade("bilinear", images, factor), expected.astype(np.float32))


def test_equals_pillow_on_an_rgb_image() -> None:
    image = np.random.default_rng(2).integers(0, 256, (3, 32, 48)).astype(np.uint8)
    expected = pillow(np.ascontiguousarray(image.transpose(1, 2, 0)), 4).transpose(2, 0, 1)
    assert np.array_equal(degrade("bilinear", image[None], 4, RGB)[0], expected)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_anti_aliasing_is_part_of_the_benchmark(factor: int) -> None:
    """torch's anti-aliased bilinear differs by at most 2 grey levels; the plain one by 48 to 64: another benchmark."""
    images = golden_input()
    published = degrade("bilinear", images, factor, RGB)

    def torch_version(antialias: bool) -> np.ndarray:
        x = torch.from_numpy(images).float()
        small = torch.nn.functional.interpolate(
            x, size=(16 // factor, 16 // factor), mode="bilinear", align_corners=False, antialias=antialias
        )
        large = torch.nn.functional.interpolate(
            small.round().clamp(0, 255), size=(16, 16), mode="bilinear", align_corners=False
        )
        return large.round().clamp(0, 255).numpy()

    assert np.abs(torch_version(True) - published).max() <= 2
    assert 48 <= np.abs(torch_version(False) - published).max() <= 64


def test_operator_hashes_are_pinned() -> None:
    """The hash is in every score: it changes only when the operator's result does."""
    assert {name: entry.operator_hash for name, entry in OPERATORS.items()} == {
        "bilinear": "eb0ac3fca5de9d3e",
        "area": "3734795a18c21f9f",
        "mtf": "e6bd7549e9198468",
        "nearest": "256548d07eee9a59",
        "native": "1d4f0aa25d61caf1",
        "blur": "9f2256dbd6455854",
        "haze": "bd283c88c7ff3e62",
        "noise": "c30f1f196024ac6e",
        "radiometric": "22ccd738b7f3b353",
        "striping": "c883bb52f0f22f8b",
        "band_loss": "4f927dbbeb8ad73c",
        "jpeg": "da5b7c820f51d789",
        "misregistration": "29b6593c60d60081",
    }
