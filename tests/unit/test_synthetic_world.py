"""Landscapes: pure functions of seed and number, with plausible cover and honest changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.errors import RsfmError
from rsfm.geo import footprint as bounds
from rsfm.synthetic import fields, materials, scenes
from rsfm.synthetic.fields import Canvas
from rsfm.synthetic.render import land_cover_map
from rsfm.synthetic.world import SPLITS, World

WORLD = World(seed=7, size=32, gsd_m=10.0, detail_m=10.0)


def paint_bytes(landscape):
    paint = landscape.paint
    return paint.material.tobytes() + paint.brightness.tobytes() + paint.vigour.tobytes()


@pytest.mark.parametrize("name", list(scenes.PATTERNS))
def test_a_tile_depends_on_seed_split_and_index_only(name):
    alone = paint_bytes(WORLD.scene("train", 5, name))
    for other in (3, 4):
        WORLD.scene("train", other, name)
    assert paint_bytes(World(7, 32, 10.0, 10.0).scene("train", 5, name)) == alone
    for different in (World(8, 32, 10.0, 10.0).scene("train", 5, name), WORLD.scene("test", 5, name)):
        assert paint_bytes(different) != alone


@pytest.mark.parametrize("name", list(scenes.PATTERNS))
def test_patterns_paint_valid_and_finite_land(name):
    for index in range(4):
        land = WORLD.scene("val", index, name)
        assert land.paint.material.max() < len(materials.MATERIALS)
        assert land.paint.material.dtype == np.uint8 and land.paint.brightness.dtype == np.float32
        assert np.isfinite(land.paint.brightness).all() and np.isfinite(land.paint.vigour).all()
        assert land.paint.brightness.min() > 0
        assert land.paint.material.shape == (land.canvas.count,) * 2


def share(names, pattern, cover):
    tiles = [WORLD.scene("train", i, pattern).land_cover for i in range(40)]
    return float(np.mean([np.isin(t, [materials.LAND_COVER.index(n) for n in names]).mean() for t in tiles]))


@pytest.mark.parametrize(
    ("fine", "coarse", "cover"),
    [
        ("strip fields", "broad fields", "cropland"),
        ("plantation", "open woodland", "forest"),
        ("residential", "industrial", "building"),
        ("river", "lake", "water"),
    ],
)
def test_pairs_are_made_of_the_same_surfaces_in_the_same_shares(fine, coarse, cover):
    one, other = share([cover], fine, cover), share([cover], coarse, cover)
    assert one > 0.08 and abs(one - other) < 0.06


def test_each_main_cover_prevails_in_its_scenes():
    assert share(["forest"], "forest", None) > 0.6
    assert share(["grassland"], "grassland", None) > 0.6
    assert share(["cropland"], "strip fields", None) > 0.6


def test_change_happens_only_where_land_cover_differs_and_leaves_the_rest_alone():
    changed_tiles, kinds = 0, set()
    for index in range(40):
        before, after = WORLD.pair("train", index)
        assert paint_bytes(before) == paint_bytes(WORLD.mixed("train", index))
        same = before.paint.material == after.paint.material
        differs = before.land_cover != after.land_cover
        assert not (differs & same).any()
        changed_tiles += bool(differs.any())
        kinds |= set(zip(before.land_cover[differs].tolist(), after.land_cover[differs].tolist(), strict=True))
        mask = land_cover_map(before, 32) != land_cover_map(after, 32)
        if not differs.any():
            assert not mask.any()
    names = {(materials.LAND_COVER[a], materials.LAND_COVER[b]) for a, b in kinds}
    assert 20 <= changed_tiles < 40
    assert ("forest", "bare land") in names
    assert any(b == "building" for _, b in names) and any(b == "water" for _, b in names)
    # Nothing but construction, clearing and flood on land that they can touch.
    assert not any(a in ("water", "road", "building") for a, _ in names)


def test_land_that_did_not_change_keeps_its_texture():
    pairs = (WORLD.pair("train", i) for i in range(20))
    before, after = next((a, b) for a, b in pairs if (a.land_cover != b.land_cover).mean() > 0.05)
    same = before.paint.material == after.paint.material
    assert same.mean() > 0.5
    agree = np.isclose(before.paint.brightness, after.paint.brightness) & np.isclose(
        before.paint.vigour, after.paint.vigour
    )
    assert (agree & same).sum() / same.sum() > 0.9


def test_a_crop_tile_is_mostly_that_crop():
    wanted = materials.code("maize")
    shares = [np.mean(WORLD.crop("train", i, "maize").paint.material == wanted) for i in range(12)]
    assert np.mean(shares) > 0.6


def test_the_same_place_at_two_resolutions():
    fine = World(3, 64, 10.0, 10.0).mixed("train", 2)
    coarse = World(3, 32, 20.0, 10.0).mixed("train", 2)
    assert fine.extent_m == coarse.extent_m == 640
    assert (land_cover_map(fine, 32) == land_cover_map(coarse, 32)).mean() > 0.97


def test_footprints_do_not_overlap_and_lie_on_land_that_exists():
    boxes = []
    for split in SPLITS:
        for index in (0, 1, 39, 40, 41, 1000):
            place = WORLD.footprint(split, index)
            west, south, east, north = bounds(place.crs, place.transform(10.0), 32, 32)
            assert 3 < west < east < 30 and 40 < south < north < 70
            assert east - west == pytest.approx(320 / (111_320 * np.cos(np.radians(south))), rel=0.05)
            boxes.append((place.crs, place.easting, place.northing))
    for i, (crs, x, y) in enumerate(boxes):
        for other, u, v in boxes[:i]:
            assert crs != other or abs(x - u) >= 320 or abs(y - v) >= 320


def test_a_full_zone_goes_on_in_the_next():
    world = World(0, 256, 100.0, 100.0)
    assert world.footprint("train", 0).crs == "EPSG:32632"
    assert world.footprint("train", 3 * 62).crs == "EPSG:32633"
    with pytest.raises(RsfmError, match="no room"):
        world.footprint("train", 10_000_000)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1, 64, 10.0, 10.0), "seed >= 0"),
        ((0, 4, 10.0, 10.0), "size >= 8"),
        ((0, 64, 0.0, 10.0), "gsd_m > 0"),
        ((0, 64, 30.0, 1.0), "at most"),
    ],
)
def test_impossible_worlds_are_refused(arguments, text):
    with pytest.raises(RsfmError, match=text):
        World(*arguments)


def test_unknown_tiles_are_refused():
    with pytest.raises(RsfmError, match="not 0 of 'dev'"):
        WORLD.rng("dev", 0)


# -- building blocks -------------------------------------------------------------------------------------------------
canvases = st.builds(
    lambda side, step: Canvas.make(side, 5.0, step), st.floats(8, 40), st.sampled_from([1 / 3, 0.5, 0.25])
)


@given(canvas=canvases, seed=st.integers(0, 2**31), scale=st.floats(0.6, 8))
@settings(deadline=None, max_examples=20)
def test_smooth_noise_is_finite_and_about_unit(canvas, seed, scale):
    noise = fields.smooth_noise(canvas, np.random.default_rng(seed), scale)
    assert noise.shape == (canvas.count, canvas.count) and np.isfinite(noise).all()
    cells = (canvas.reach / scale) ** 2
    assert noise.std() == pytest.approx(1, abs=0.15 + 6 / np.sqrt(cells))


@given(canvas=canvases, seed=st.integers(0, 2**31), angle=st.floats(-7, 7), low=st.floats(0.8, 9), grow=st.floats(1, 2))
@settings(deadline=None, max_examples=30)
def test_parcels_cover_the_canvas(canvas, seed, angle, low, grow):
    found = fields.parcels(canvas, np.random.default_rng(seed), angle, (low, low * grow), (low, 3 * low))
    assert found.index.min() >= 0 and found.index.max() < found.shape[0] * found.shape[1]
    assert found.inset.min() >= -1 / 16 and found.inset.max() <= low * grow / 2 + 1 / 16
    table = np.random.default_rng(0).random(found.shape)
    assert np.array_equal(found.each(table), table.ravel()[found.index])


@given(share=st.floats(0.02, 0.98), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_upper_share_takes_that_share(share, seed):
    field = np.random.default_rng(seed).standard_normal((120, 120))
    assert fields.upper_share(field, share).mean() == pytest.approx(share, abs=0.04)


def test_shifted_moves_and_clears():
    canvas = Canvas.make(8, 0, 1.0)
    mask = np.zeros((8, 8), bool)
    mask[2, 3] = mask[7, 7] = True
    moved = fields.shifted(mask, canvas, 1, -2)
    assert np.argwhere(moved).tolist() == [[3, 1]]


def test_winding_line_passes_the_centre_at_its_offset():
    canvas = Canvas.make(40, 5, 0.25)
    distance = fields.winding(canvas, np.random.default_rng(0), 0.6, swing=0.0, scale=20, offset=3.0)
    _, across = canvas.turned(0.6)
    assert np.allclose(distance, np.abs(across - 3), atol=1e-4)
