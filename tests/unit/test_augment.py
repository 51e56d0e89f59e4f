"""Random views: geometry against plain cutting and resizing, radiometry in units, colour where there is colour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import rsfm.data.augment as augmentation
from rsfm.data.augment import Augmenter, View, blur_matrix, colour_order, degradation_table
from rsfm.data.source import LayerInput
from rsfm.data.views import resampling_matrix
from rsfm.degrade.resolution import bilinear
from rsfm.model_info import ModelBand
from rsfm.registry.augmentation import AugmentParams

RGB = [("red", 660.0), ("green", 560.0), ("blue", 480.0)]
PLAIN = AugmentParams(flips="none", jitter_p=0, grayscale_p=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer(bands=RGB, unit="uint8", mean=100.0, std=50.0, size=32) -> LayerInput:
    described = [
        ModelBand(name=n, wavelength_nm=w, gsd_m=1, unit=unit, mean=mean, std=std * (1 + i))
        for i, (n, w) in enumerate(bands)
    ]
    return LayerInput("image", described, size, size)


def images(count=6, bands=3, size=32) -> torch.Tensor:
    values = torch.randint(0, 256, (count, bands, size, size), generator=generator(1)).float()
    return (values - 100) / (50 * torch.arange(1, bands + 1).view(1, -1, 1, 1))


def test_a_view_is_its_crop_resized():
    augment, x = Augmenter(layer(), PLAIN), images(1)
    view = augment(x, View(16, (1, 1)), generator(), boxes=torch.tensor([[4.0, 6.0, 20.0, 24.0]]))
    expected = F.interpolate(x[..., 4:24, 6:30], (16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(view, expected, atol=2e-5, rtol=0)


def test_same_generator_same_view_other_seed_other_view():
    augment, x, view = Augmenter(layer(), AugmentParams()), images(), View(16, (0.2, 1), blur_p=0.5, solarize_p=0.2)
    torch.testing.assert_close(augment(x, view, generator(3)), augment(x, view, generator(3)), atol=0, rtol=0)
    assert (augment(x, view, generator(3)) - augment(x, view, generator(4))).abs().max() > 0.1


def test_dihedral_flips_reach_all_eight_symmetries():
    augment, x = Augmenter(layer(), PLAIN.model_copy(update={"flips": "dihedral"})), images(1).expand(400, -1, -1, -1)
    whole = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).expand(400, -1)
    views = augment(x, View(32, (1, 1)), generator(), boxes=whole)
    kinds = {tuple(v[0, ::31, ::31].flatten().round(decimals=3).tolist()) for v in views}
    symmetries = [torch.rot90(y, k, (-2, -1)) for y in (x[0], x[0].flip(-1)) for k in range(4)]
    assert kinds == {tuple(s[0, ::31, ::31].flatten().round(decimals=3).tolist()) for s in symmetries}
    assert len(kinds) == 8


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_degraded_views_are_the_benchmarks_operator(factor):
    x = images(2)
    table = degradation_table(32, 8.0, torch.device("cpu"))
    matrix = table[32 // factor]
    ours = matrix @ x @ matrix.T
    torch.testing.assert_close(ours, torch.from_numpy(bilinear(x.numpy(), factor)), atol=2e-5, rtol=0)
    assert torch.equal(table[32], torch.eye(32))


def test_degrading_takes_detail_away_only_where_chance_says_so():
    augment, x = Augmenter(layer(), PLAIN), images(200)
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).expand(200, -1)
    sharp = augment(x, View(32, (1, 1)), generator(), boxes=boxes)
    torch.testing.assert_close(sharp, x, atol=1e-4, rtol=0)
    mixed = augment(x, View(32, (1, 1), degrade_p=0.5), generator(), boxes=boxes)
    untouched = ((mixed - x).abs().amax(dim=(1, 2, 3)) < 1e-4).float().mean()
    assert 0.4 < untouched < 0.65  # factors next to 1 leave the size unchanged too
    later = augment.degrade(x, View(32, (1, 1), degrade_p=0.5), generator())
    untouched = ((later - x).abs().amax(dim=(1, 2, 3)) < 1e-4).float().mean()
    assert 0.4 < untouched < 0.65
    torch.testing.assert_close(later.mean(), x.mean(), atol=0.05, rtol=0)


def test_blur_keeps_constants_and_spreads_by_sigma():
    matrix = blur_matrix(torch.tensor([0.0, 2.0]), 33)
    torch.testing.assert_close(matrix[0], torch.eye(33))
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 33))
    place = torch.arange(33.0) - 16
    assert (matrix[1, 16] * place**2).sum().sqrt().item() == pytest.approx(2.0, rel=1e-2)


@pytest.mark.parametrize(("beside", "sigma"), [(None, 1.0), (64, 2.0)])
def test_blur_is_measured_in_pixels_of_the_global_views(monkeypatch, beside, sigma):
    taken = []
    monkeypatch.setattr(augmentation, "blur_matrix", lambda s, n: taken.append(s) or blur_matrix(s, n))
    params = PLAIN.model_copy(update={"blur_sigma_min": 7.0, "blur_sigma_max": 7.0})
    Augmenter(layer(), params)(images(3), View(32, (0.2, 1), blur_p=1.0, beside=beside), generator())
    torch.testing.assert_close(taken, [torch.full((3,), sigma)])


def test_triangle_rows_sum_to_one():
    start, length = torch.tensor([2.0]), torch.tensor([24.0])
    torch.testing.assert_close(resampling_matrix(start, length, 32, 7, kernel="triangle").sum(-1), torch.ones(1, 7))


def test_colour_needs_red_green_and_blue_in_one_unit():
    assert colour_order(layer().bands) == [0, 1, 2]
    assert colour_order(layer([("blue", 480.0), ("green", 560.0), ("red", 660.0)]).bands) == [2, 1, 0]
    assert colour_order(layer([("nir", 830.0), *RGB[1:]]).bands) is None
    assert colour_order(layer([*RGB, ("nir", 830.0)]).bands) is None
    assert colour_order(layer([("VV", None), ("VH", None), ("HH", None)], unit="db").bands) is None


def test_what_is_left_out_is_said():
    four = layer([*RGB, ("nir", 830.0)], unit="reflectance")
    (remark,) = Augmenter(four, AugmentParams(), wants_solarize=True).remarks
    assert "saturation, hue, grayscale, solarise" in remark and "4 band" in remark
    assert Augmenter(layer(), AugmentParams(), wants_solarize=True).remarks == []
    (remark,) = Augmenter(layer(unit="reflectance"), AugmentParams(), wants_solarize=True).remarks
    assert "8-bit" in remark
    (remark,) = Augmenter(layer(), AugmentParams(band_drop_p=0.2)).remarks
    assert "band drop:" in remark
    (remark,) = Augmenter(layer(), AugmentParams(band_drop_p=0.2, band_gain=0.3)).remarks
    assert "band drop and gain per band" in remark


def test_gain_is_a_factor_in_units_and_an_offset_in_decibels():
    bands = [("a", 500.0), ("b", 900.0)]
    only_gain = AugmentParams(jitter_p=1, brightness=0.3, contrast=0, band_gain=0, saturation=0, hue=0, grayscale_p=0)
    x = images(4, 2)
    for unit in ("reflectance", "db"):
        described = layer(bands, unit=unit)
        augment = Augmenter(described, only_gain)
        mean, std = augment.mean, augment.std
        before, after = x * std + mean, augment.radiometry(x, View(32, (1, 1)), generator()) * std + mean
        if unit == "db":
            change = (after - before).flatten(1)
            assert change.std(dim=1).max() < 1e-3 and change.abs().max() > 0.1
            assert change.abs().max() <= -10 * np.log10(0.7) + 1e-3
        else:
            ratio = (after / before)[before.abs() > 1]
            assert ratio.min() > 0.69 and ratio.max() < 1.31
            torch.testing.assert_close(
                after[0] / after[0, 0, 0, 0], before[0] / before[0, 0, 0, 0], rtol=1e-3, atol=1e-3
            )


def test_colour_jitter_keeps_grey_grey_and_stays_in_eight_bits():
    augment = Augmenter(layer(), AugmentParams(jitter_p=1, grayscale_p=0))
    grey = torch.full((50, 3, 8, 8), 120.0)
    standard = (grey - augment.mean) / augment.std
    values = augment.radiometry(standard, View(8, (1, 1)), generator()) * augment.std + augment.mean
    torch.testing.assert_close(values[:, 0], values[:, 1], atol=0.2, rtol=0)
    torch.testing.assert_close(values[:, 1], values[:, 2], atol=0.2, rtol=0)
    wild = augment.radiometry(images(50), View(32, (1, 1)), generator()) * augment.std + augment.mean
    assert wild.min() >= -1e-3 and wild.max() <= 255.001


def test_grayscale_and_solarise_of_colour_images():
    augment = Augmenter(layer(), AugmentParams(jitter_p=0, grayscale_p=1))
    x = images(3)
    values = augment.radiometry(x, View(32, (1, 1)), generator()) * augment.std + augment.mean
    stored = x * augment.std + augment.mean
    luma = (stored * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    for band in range(3):
        torch.testing.assert_close(values[:, band], luma, atol=1e-2, rtol=0)
    augment = Augmenter(layer(), AugmentParams(jitter_p=0, grayscale_p=0), wants_solarize=True)
    values = augment.radiometry(x, View(32, (1, 1), solarize_p=1), generator()) * augment.std + augment.mean
    torch.testing.assert_close(values, torch.where(stored >= 128, 255 - stored, stored), atol=1.01, rtol=0)


def test_dropped_bands_become_their_mean():
    bands = [(f"b{i}", 400.0 + 100 * i) for i in range(5)]
    augment = Augmenter(layer(bands), AugmentParams(jitter_p=0, band_drop_p=0.5, saturation=0, hue=0, grayscale_p=0))
    out = augment.radiometry(images(100, 5), View(32, (1, 1)), generator())
    dropped = (out == 0).all(dim=(2, 3)).float().mean()
    assert 0.4 < dropped < 0.6
