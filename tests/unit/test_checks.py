"""A file of another scale than its dataset is found by its brightness; clouds, snow and water are not."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog.checks import SCALE_RATIO, band_medians, check_sample, check_scale, usual_medians
from data_catalog.readers.base import BadFile, Sample
from rsfm.packs import BandInfo, LayerInfo

LAND = np.array([0.08, 0.07, 0.07, 0.25, 0.20, 0.12])  # blue, green, red, near infrared, two of shortwave infrared
CLOUD = np.array([0.60, 0.58, 0.58, 0.62, 0.45, 0.35])
SNOW = np.array([0.85, 0.85, 0.82, 0.75, 0.15, 0.10])
WATER = np.array([0.09, 0.06, 0.04, 0.02, 0.01, 0.01])


def layer(bands: int = 6, unit: str = "reflectance") -> LayerInfo:
    described = [
        BandInfo(name=f"b{i}", wavelength_nm=400 + 200 * i, gsd_m=10, unit=unit, scale=1e-4) for i in range(bands)
    ]
    return LayerInfo(dtype="uint16", shape=(bands, 8, 8), bands=described)


def sample(reflectance: np.ndarray) -> Sample:
    stored = np.broadcast_to((reflectance * 10_000)[:, None, None], (len(reflectance), 8, 8))
    return Sample({"image": stored.astype(np.uint16)})


@pytest.fixture
def usual():
    rng = np.random.default_rng(0)
    seen = [band_medians(sample(LAND * rng.uniform(0.6, 1.6)), [layer()]) for _ in range(30)]
    return usual_medians(seen)


@pytest.mark.parametrize("factor", [6.5535, 1 / 6.5535, 10, 0.1])
def test_another_scale_is_named_with_its_size(usual, factor):
    with pytest.raises(BadFile, match=r"wrongly scaled: all its bands are .* times as bright as usual"):
        check_scale(sample(LAND * factor), [layer()], usual, "file.tif")


@pytest.mark.parametrize("surface", [LAND, CLOUD, SNOW, WATER, LAND * (SCALE_RATIO - 0.6)])
def test_natural_surfaces_pass(usual, surface):
    check_scale(sample(surface), [layer()], usual, "file.tif")


def test_no_verdict_without_grounds(usual):
    few = usual_medians([band_medians(sample(LAND), [layer()])] * 5)
    assert few == {}
    check_scale(sample(LAND * 10), [layer()], few, "file.tif")
    assert band_medians(sample(LAND[:3]), [layer(3)]) == {}  # three bands are too few
    assert band_medians(sample(LAND), [layer(unit="dn")]) == {}


@pytest.mark.parametrize(
    ("value", "ignored", "fits"), [(1, None, True), (2, None, False), (255, 255, True), (255, 7, False)]
)
def test_a_mask_holds_classes_or_what_is_ignored(value, ignored, fits):
    mask = LayerInfo(name="mask", role="mask", dtype="uint8", shape=(1, 8, 8), classes=["a", "b"], ignore_value=ignored)
    array = np.zeros((1, 8, 8), np.uint8)
    array[0, 3, 4] = value
    if fits:
        check_sample(Sample({"mask": array}), [mask], "m.png", resample=False)
    else:
        with pytest.raises(BadFile, match=rf"has \[{value}\] in its mask, which has 2 classes"):
            check_sample(Sample({"mask": array}), [mask], "m.png", resample=False)


def test_only_a_part_of_an_image_may_be_of_one_value():
    flat = sample(np.full(6, 0.3))
    with pytest.raises(BadFile, match="constant"):
        check_sample(flat, [layer()], "file.tif", resample=False)
    flat.part = True
    check_sample(flat, [layer()], "file.tif", resample=False)
