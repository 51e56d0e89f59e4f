"""Instruments: units, types, ranges, point spread, native resolution, matched statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.synthetic import matching, materials, render, scenes
from rsfm.synthetic.fields import Canvas
from rsfm.synthetic.world import Landscape, World


def uniform(name, size=16, pixel_m=30.0):
    """A landscape of one surface without texture."""
    canvas = World(0, size, pixel_m, pixel_m).canvas
    shape = (canvas.count, canvas.count)
    paint = scenes.Paint(np.full(shape, materials.code(name), np.uint8), np.ones(shape), np.zeros(shape))
    return Landscape(canvas, pixel_m, paint)


def see(land, sensor, size, day=180, seed=0, **changes):
    device = replace(render.instrument(sensor), **changes)
    bands = device.bands()
    return {b.name: v for b, v in zip(bands, render.render(land, device, bands, size, day, rng(seed)), strict=True)}


def rng(seed=0):
    return np.random.default_rng(seed)


# -- units and ranges ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sensor", list(render.INSTRUMENTS))
def test_every_sensor_gives_its_dtype_and_plausible_values(sensor):
    device = render.instrument(sensor)
    bands = device.bands()
    world = World(1, 64, device.gsd_m, device.gsd_m)
    values = np.stack(
        [
            render.render(world.scene("train", i, p), device, bands, 64, 180, rng(i))
            for i, p in enumerate(scenes.PATTERNS)
        ]
    )
    stored = render.store(values, device)
    assert stored.shape == (10, len(bands), 64, 64) and stored.dtype == np.dtype(device.dtype)
    assert np.isfinite(values).all()
    if device.kind == "toa":
        assert values.min() > -0.02 and values.max() < 1.2 and stored.min() >= 1
        back = np.stack([b.to_unit(stored[:, i]) for i, b in enumerate(bands)], axis=1)
        assert np.abs(back - np.maximum(values, bands[0].to_unit(np.array(1)))).max() <= device.scale
    elif device.kind == "radar":
        assert np.array_equal(stored, values)
        assert -40 < values.min() < -20 and -5 < values.max() < 15
    else:
        assert stored.max() > 150 and np.mean((stored == device.lowest) | (stored == 255)) < 0.05


def test_spectra_have_the_features_that_indices_use():
    leaves, water, soil = (see(uniform(n, pixel_m=10.0), "sentinel-2", 16) for n in ("grass", "clear water", "sand"))

    def mean(values, band):
        return float(values[band].mean())

    assert mean(leaves, "B08") > 3 * mean(leaves, "B04")  # red edge
    assert mean(leaves, "B03") > mean(leaves, "B04")
    assert mean(water, "B03") > mean(water, "B08") > mean(water, "B12")
    assert mean(soil, "B11") > mean(soil, "B04") > mean(soil, "B02")
    for surface in (leaves, water, soil):
        assert mean(surface, "B10") < 0.02  # the atmosphere is closed at 1375 nm
        assert mean(surface, "B09") < max(mean(surface, "B8A"), 0.03)


def test_crops_grow_and_are_harvested():
    def index(crop, day):
        seen = see(uniform(crop, pixel_m=10.0), "sentinel-2", 16, day)
        red, infrared = seen["B04"].mean(), seen["B08"].mean()
        return (infrared - red) / (infrared + red)

    assert index("winter cereal", 140) > 0.6 > 0.25 > index("winter cereal", 240)
    assert index("maize", 220) > 0.6 > 0.3 > index("maize", 140)
    assert index("conifers", 60) > 0.5
    blooming = see(uniform("rapeseed", pixel_m=10.0), "sentinel-2", 16, 128)
    assert blooming["B04"].mean() > 1.5 * see(uniform("maize", pixel_m=10.0), "sentinel-2", 16, 220)["B04"].mean()


def test_thermal_band_sees_warmth_and_no_light():
    def warmth(name, day=200):
        return float(see(uniform(name), "landsat-7", 16, day)["B6"].mean())

    assert warmth("asphalt") > warmth("fallow") > warmth("grass") > warmth("clear water")
    assert warmth("asphalt", 200) > warmth("asphalt", 20) + 20
    land = uniform("asphalt")
    bright = Landscape(land.canvas, land.detail_m, replace(land.paint, brightness=land.paint.brightness * 1.5))
    one, other = see(land, "landsat-7", 16), see(bright, "landsat-7", 16)
    assert np.array_equal(one["B6"], other["B6"])
    assert other["B3"].mean() > 1.2 * one["B3"].mean()


def test_speckle_is_multiplicative_and_unbiased():
    land = uniform("broadleaf trees", size=128, pixel_m=10.0)
    power = 10 ** (see(land, "sentinel-1", 128)["VV"] / 10)
    looks = power.mean() ** 2 / power.var()
    assert looks == pytest.approx(4.4, rel=0.05)
    base, _ = materials.backscatter_table(180, "VV")
    assert 10 * np.log10(power.mean()) == pytest.approx(
        10 * np.log10(base[0, materials.code("broadleaf trees")] + 10 ** (-2.4)), abs=0.1
    )


# -- point spread ----------------------------------------------------------------------------------------------------
@given(mtf=st.floats(0.02, 0.6), pixel=st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None, max_examples=25)
def test_modulation_at_nyquist_is_as_asked(mtf, pixel):
    canvas = Canvas.make(64, 8, 0.05)
    rows = render.sampling(canvas, int(64 / pixel), pixel, pixel, mtf)
    axis = canvas.axis()
    row = rows[len(rows) // 2]
    centre = (len(rows) // 2 + 0.5) * pixel
    assert row @ np.cos(np.pi * (axis - centre) / pixel) == pytest.approx(mtf, abs=0.02)


def test_more_blur_leaves_less_fine_detail():
    land = World(0, 64, 10.0, 10.0).scene("train", 0, "strip fields")

    def high_frequency(mtf):
        image = see(land, "sentinel-2", 64, mtf=mtf, noise=0.0)["B08"]
        spectrum = np.abs(np.fft.fft2(image - image.mean())) ** 2
        f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :])
        return spectrum[f > 0.3].sum()

    sharp, usual, soft = (high_frequency(m) for m in (0.55, 0.24, 0.05))
    assert sharp > 1.5 * usual > 3 * soft


def test_coarse_bands_are_smoother_on_the_fine_grid():
    land = World(0, 64, 10.0, 10.0).scene("train", 0, "residential")
    seen = see(land, "sentinel-2", 64, noise=0.0)

    def detail(band):
        image = seen[band]
        return np.diff(image, axis=1).std() / image.std()

    assert detail("B08") > 1.5 * detail("B8A")
    assert detail("B8A") > 1.5 * detail("B09")


@given(
    size=st.integers(8, 40), native=st.sampled_from([0.5, 1.0, 2.0, 6.0]), mtf=st.one_of(st.none(), st.floats(0.1, 0.5))
)
@settings(deadline=None, max_examples=30)
@example(size=31, native=6.0, mtf=None)
def test_sampling_keeps_constants_and_ramps(size, native, mtf):
    canvas = Canvas.make(size, 5.0, 1 / 3)
    matrix = render.sampling(canvas, size, 1.0, native, mtf)
    assert matrix.shape == (size, canvas.count)
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
    if native <= 1:
        inner = slice(2, -2)
        assert np.allclose((matrix @ canvas.axis())[inner], (np.arange(size) + 0.5)[inner], atol=0.06)


def test_images_and_masks_lie_on_the_same_grid():
    """A field of water with one corner of concrete: every pixel that is surely one or the other looks like it."""
    land = uniform("clear water", size=32, pixel_m=10.0)
    axis = land.canvas.axis()
    corner = (axis[:, None] < 9) & (axis[None, :] > 20)
    land.paint.material[corner] = materials.code("concrete")
    mask = render.land_cover_map(land, 32)
    expected = np.zeros((32, 32), np.uint8)
    expected[:9, 20:] = materials.LAND_COVER.index("road")
    assert np.array_equal(mask, expected)
    infrared = see(land, "sentinel-2", 32, noise=0.0)["B08"]
    threshold = (infrared[0, 31] + infrared[31, 0]) / 2
    assert np.array_equal(infrared > threshold, expected > 0)


def test_area_shares_decide_the_mask():
    land = uniform("grass", size=8, pixel_m=10.0)
    axis = land.canvas.axis()
    land.paint.material[:, axis < 3.4] = materials.code("clear water")
    land.paint.material[:, (axis > 5.6)] = materials.code("clear water")
    assert (render.land_cover_map(land, 8)[0] == 0).tolist() == [True] * 3 + [False] * 2 + [False] + [True] * 2


def test_an_acquisition_is_repeatable():
    land = World(0, 32, 10.0, 10.0).mixed("train", 0)
    for sensor in render.INSTRUMENTS:
        one, other, third = (see(land, sensor, 32, seed=s) for s in (1, 1, 2))
        assert all(np.array_equal(one[b], other[b]) for b in one)
        assert not any(np.array_equal(one[b], third[b]) for b in one)


def test_bands_are_chosen_by_name():
    land = World(0, 32, 10.0, 10.0).mixed("train", 0)
    device = replace(render.instrument("sentinel-2"), noise=0.0)
    few = device.bands(["B8A", "B02"])
    every = see(land, "sentinel-2", 32, noise=0.0)
    chosen = render.render(land, device, few, 32, 180, rng())
    assert np.allclose(chosen[0], every["B8A"], atol=1e-6) and np.allclose(chosen[1], every["B02"], atol=1e-6)
    with pytest.raises(RsfmError, match="no band"):
        device.bands(["B99"])
    with pytest.raises(RsfmError, match="no sensor 'modis'"):
        render.instrument("modis")
    with pytest.raises(RsfmError, match="Nyquist"):
        render.psf_sigma(1.0, 0.7)


def test_no_band_is_finer_than_the_grid():
    assert {b.gsd_m for b in render.instrument("rgb").bands(None, 2.0)} == {2.0}
    assert [b.gsd_m for b in render.instrument("sentinel-2").bands(["B01", "B02", "B05"], 20.0)] == [60, 20, 20]


# -- matched statistics ----------------------------------------------------------------------------------------------
@given(
    mean=st.floats(30, 200), std=st.floats(5, 40), seed=st.integers(0, 1000), skew=st.booleans(), gain=st.floats(0.2, 5)
)
@settings(deadline=None, max_examples=30)
def test_fit_takes_on_the_moments_through_rounding_and_clipping(mean, std, seed, skew, gain):
    noise = np.random.default_rng(seed)
    values = (noise.gamma(2, 1, (20, 1, 32, 32)) if skew else noise.normal(0, 1, (20, 1, 32, 32))) * gain
    device = render.instrument("landsat-7")
    wanted = matching.Target(np.array([mean]), np.array([std]))
    gains, offsets = matching.fit(values.astype(np.float32), wanted, device)
    stored = render.store(values * gains[0] + offsets[0], device)
    assert stored.mean() == pytest.approx(mean, abs=0.05 * std + 0.5)
    assert stored.std() == pytest.approx(std, rel=0.08)


def test_store_rounds_and_clips():
    device = render.instrument("landsat-8")
    band = device.bands()[0]
    assert isinstance(band, Band) and band.scale == 2e-5 and band.offset == -0.1
    stored = render.store(np.array([[[-5.0, 0.0, 0.25, 9.0]]], np.float32), device)
    assert stored.ravel().tolist() == [1, 5000, 17500, 65535]
