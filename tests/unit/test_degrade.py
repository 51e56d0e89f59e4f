"""What every degradation keeps: per-sample determinism, units, growing damage, and what it refuses."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from degrade_world import (
    ALL,
    OPTICAL,
    RADAR,
    RGB,
    SAME_GRID,
    band,
    degrade,
    ids,
    optical_images,
    radar_images,
    rgb_images,
    texture,
)

from rsfm.degrade import OPERATORS, operator
from rsfm.degrade.draws import Draws, random_bits, seeds_of
from rsfm.degrade.entry import to_unit
from rsfm.errors import RsfmError
from rsfm.packs import BandInfo
from rsfm.specs import EvaluateSpec

RADAR_TOO = [name for name in ALL if name not in ("haze", "striping", "band_loss")]


def damage(name: str, images: np.ndarray, bands: list[BandInfo], severity: float) -> float:
    """Mean squared error against the values in the unit, in units of the bands' variance."""
    entry = OPERATORS[name]
    difference = entry.apply(images, severity, bands, ids(len(images))) - to_unit(images, bands)
    return float(np.mean(difference.astype(float) ** 2) / bands[0].statistics.std ** 2)


# -- the ladder ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SAME_GRID)
def test_damage_grows_along_the_ladder(name: str) -> None:
    entry = OPERATORS[name]
    worlds = [(rgb_images(8), RGB), (optical_images(8), OPTICAL)]
    if name in RADAR_TOO:
        worlds.append((radar_images(8), RADAR))
    for images, bands in worlds:
        errors = [damage(name, images, bands, s) for s in entry.severities]
        assert errors[0] == 0
        assert all(b > 1.05 * a + 1e-6 for a, b in pairwise(errors)), errors


@pytest.mark.parametrize("name", ALL)
def test_ladder_begins_at_the_identity_and_gets_worse(name: str) -> None:
    entry = OPERATORS[name]
    assert entry.severities[0] == entry.identity
    assert (np.diff(entry.severities) > 0).all()
    for severity in entry.severities:
        entry.check(severity, 64, 64, RGB)


# -- purity --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ALL)
def test_each_sample_by_itself(name: str) -> None:
    """Batching, order and data type change nothing."""
    images, names = rgb_images(5), ids(5)
    entry = OPERATORS[name]
    severity = entry.severities[2]
    whole = entry.apply(images, severity, RGB, names)
    order = [3, 0, 4, 1, 2]
    assert np.array_equal(entry.apply(images[order], severity, RGB, [names[i] for i in order]), whole[order])
    for i in range(5):
        assert np.array_equal(entry.apply(images[i : i + 1], severity, RGB, names[i : i + 1])[0], whole[i])
    wide = entry.apply(images.astype(np.uint16), severity, RGB, names)
    assert np.array_equal(wide, entry.apply(images.astype(np.float64), severity, RGB, names))
    if entry.resample is None:  # on other types than uint8 resampling does not round
        assert np.array_equal(wide, whole)


@pytest.mark.parametrize("name", [n for n in ALL if n not in ("band_loss", "jpeg")])
def test_each_band_by_itself(name: str) -> None:
    """A band is degraded the same way whatever comes with it; lost bands and colour JPEG are about several bands."""
    images, entry = optical_images(), OPERATORS[name]
    severity = entry.severities[-1]
    whole = entry.apply(images, severity, OPTICAL, ids(3))
    some = entry.apply(images[:, [4, 1]], severity, [OPTICAL[4], OPTICAL[1]], ids(3))
    assert np.array_equal(some, whole[:, [4, 1]])


@pytest.mark.parametrize("name", [n for n in ALL if OPERATORS[n].random])
def test_random_operators_draw_by_sample_and_layer(name: str) -> None:
    images = np.repeat(optical_images(1), 4, axis=0)
    entry = OPERATORS[name]

    def results(names: list[str], layer: str = "image") -> np.ndarray:
        return entry.apply(images, entry.severities[1], OPTICAL, names, layer)

    assert np.array_equal(results(ids(4)), results(ids(4)))
    assert len(np.unique(results(ids(4)).reshape(4, -1), axis=0)) > 1
    assert not np.array_equal(results(ids(4)), results(ids(4), "image_post"))
    assert not np.array_equal(results(ids(4)), results([f"other-{i}" for i in range(4)]))


@pytest.mark.parametrize("name", ALL)
def test_the_others_do_not_draw(name: str) -> None:
    entry = OPERATORS[name]
    images = np.repeat(optical_images(1), 4, axis=0)
    same = len(np.unique(entry.apply(images, entry.severities[1], OPTICAL, ids(4)).reshape(4, -1), axis=0)) == 1
    assert same == (not entry.random)


@pytest.mark.parametrize("name", ALL)
def test_input_is_neither_written_to_nor_handed_back(name: str) -> None:
    images = (120 + 40 * texture((2, 3, 16, 16))).astype(np.float32)
    copy, entry = images.copy(), OPERATORS[name]
    for severity in entry.severities[:2]:
        result = entry.apply(images, severity, RGB, ids(2))
        assert np.array_equal(images, copy)
        assert not np.shares_memory(result, images)
    assert np.array_equal(entry.apply(images, entry.identity, RGB, ids(2)), images)


# -- units ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ALL)
def test_storage_does_not_matter(name: str) -> None:
    """Counts with a scale and an offset, or the reflectances themselves: the same images come out."""
    stored, entry = optical_images(), OPERATORS[name]
    plain = [b.model_copy(update={"scale": 1.0, "offset": 0.0}) for b in OPTICAL]
    for severity in (entry.identity, entry.severities[-1]):
        expected = entry.apply(to_unit(stored, OPTICAL), severity, plain, ids(3))
        result = entry.apply(stored, severity, OPTICAL, ids(3))
        assert result.dtype == np.float32
        assert np.allclose(result, expected, atol=2e-6)
        assert 0.1 < result.mean() < 0.4  # reflectances


# -- random numbers ------------------------------------------------------------------------------------------------
def test_random_numbers_are_pinned() -> None:
    """Integer arithmetic: the same on every machine and with every version of the libraries."""
    assert seeds_of(["a", "b"]).tolist() == [1702698405120146464, 4226560797588928834]
    assert random_bits(seeds_of(["a"]), np.arange(1, 4), "noise", "image", "B02").tolist() == [
        [2348253275676787592, 1095932617193546132, -2714659713254666081]
    ]


def test_distributions_of_the_draws() -> None:
    draws = Draws("noise", ids(40), "image")
    z, u, s = draws.normal("B02", 2001), draws.uniform("B02", 2001), draws.signs("B02", 2001)
    assert z.shape == u.shape == s.shape == (40, 2001)
    assert z.dtype == u.dtype == s.dtype == np.float32
    assert abs(z.mean()) < 0.015
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1
    assert abs((np.abs(z) > 2).mean() - 0.0455) < 0.003
    assert 0 < u.min() < u.max() <= 1
    assert np.abs(np.quantile(u, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.01
    assert set(np.unique(s)) == {-1, 1}
    assert abs(s.mean()) < 0.015
    for a in (z, u, s):  # neighbours, samples and bands know nothing of each other
        other = getattr(draws, {id(z): "normal", id(u): "uniform", id(s): "signs"}[id(a)])("B03", 2001)
        assert abs(np.corrcoef(a[:, :-1].ravel(), a[:, 1:].ravel())[0, 1]) < 0.015
        assert abs(np.corrcoef(a[:-1].ravel(), a[1:].ravel())[0, 1]) < 0.015
        assert abs(np.corrcoef(a.ravel(), other.ravel())[0, 1]) < 0.015
    halves = z[:, :1001], z[:, 1001:]  # of one radius and angle each
    assert abs(np.corrcoef(halves[0][:, :1000].ravel(), halves[1].ravel())[0, 1]) < 0.015


# -- refusals ------------------------------------------------------------------------------------------------------
THERMAL = [band("red", 650), band("TIRS", 10_900)]
UNKNOWN = [band("red", 650, "reflectance", statistics=False)]
CONSTANT = [band("red", 650, "reflectance", p2=3, p98=3)]


@pytest.mark.parametrize(
    ("name", "severity", "bands", "message"),
    [
        *(("bilinear", f, RGB, "Resolution factor .* whole number from 1 to 16") for f in (0, 17, 2.5, -1, math.inf)),
        *((name, 17, RGB, "Resolution factor") for name in ("area", "mtf", "nearest", "native")),
        *((name, math.nan, RGB, "not a number") for name in ALL),
        ("blur", -1, RGB, "sigma -1 is out of range; use 0 to 16 px"),
        ("blur", math.inf, RGB, "out of range"),
        ("noise", -0.1, RGB, "noise to signal -0.1 is out of range"),
        ("radiometric", -0.1, RGB, "out of range"),
        ("radiometric", 1, RGB, "out of range; use 0 to 0.9"),
        ("radiometric", 0.1, UNKNOWN, "needs the statistics of band red"),
        *(("jpeg", q, RGB, "whole number from 5") for q in (1, 100, 50.5, -math.inf)),
        ("jpeg", 50, UNKNOWN, "needs the statistics of band red"),
        ("jpeg", 50, CONSTANT, "no range to map to 8 bits"),
        ("haze", -1, RGB, "out of range"),
        ("haze", 1, RADAR, "VV is in decibels, but haze is sunlight"),
        ("haze", 1, THERMAL, "TIRS is thermal"),
        ("haze", 1, UNKNOWN, "needs the statistics"),
        ("striping", -0.1, RGB, "out of range"),
        ("striping", 0.1, RADAR, "VV is in decibels, but stripes"),
        *(("band_loss", k, RGB, "whole number from 0 to 2") for k in (-1, 3, 1.5, math.inf)),
        ("band_loss", 1, [band("red", 650)], "0 to 0, so that one is left"),
        ("band_loss", 1, UNKNOWN * 2, "needs the statistics"),
        ("misregistration", -1, RGB, "out of range; use 0 to 8 px"),
        ("misregistration", 9, RGB, "out of range"),
    ],
)
def test_what_cannot_be_is_refused(name: str, severity: float, bands: list[BandInfo], message: str) -> None:
    entry = OPERATORS[name]
    with pytest.raises(RsfmError, match=message):
        entry.check(severity, 16, 16, bands)
    with pytest.raises(RsfmError, match=message):
        entry.apply(np.zeros((1, len(bands), 16, 16), np.uint8), severity, bands, ids(1))


@pytest.mark.parametrize("name", ALL)
def test_the_identity_is_always_possible(name: str) -> None:
    for bands in (RADAR, UNKNOWN, THERMAL):
        OPERATORS[name].check(OPERATORS[name].identity, 16, 16, bands)


@pytest.mark.parametrize(
    ("shape", "count"), [((3, 16, 16), 3), ((2, 3, 16, 16), 1), ((2, 4, 16, 16), 2)], ids=["dims", "ids", "bands"]
)
def test_what_does_not_fit_together_is_refused(shape: tuple[int, ...], count: int) -> None:
    with pytest.raises(RsfmError, match=r"\(N, C, H, W\)"):
        OPERATORS["bilinear"].apply(np.zeros(shape, np.uint8), 2, RGB, ids(count))


# -- the list ------------------------------------------------------------------------------------------------------
def test_effective_gsd() -> None:
    assert OPERATORS["mtf"].effective_gsd_m(10.0, 4) == 40.0
    assert OPERATORS["mtf"].effective_gsd_m(None, 4) is None
    assert OPERATORS["blur"].effective_gsd_m(10.0, 4) == 10.0


def test_every_operator_a_spec_may_name_exists() -> None:
    allowed = EvaluateSpec.model_json_schema()["properties"]["operator"]
    names = allowed.get("enum") or [allowed["const"]]
    assert set(names) == set(OPERATORS)
    assert all(entry.name == name for name, entry in OPERATORS.items())
    with pytest.raises(RsfmError, match="Unknown degradation"):
        operator("lanczos")


def test_one_hash_per_operator() -> None:
    assert len({entry.operator_hash for entry in OPERATORS.values()}) == len(OPERATORS)


def test_no_torch() -> None:
    """Pages of the dashboard import this."""
    code = "import rsfm.degrade, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bands_of_a_single_image_stay_apart() -> None:
    """One band's texture never shows up in another, except through colour JPEG."""
    images = np.zeros((1, 3, 32, 32), np.uint8)
    images[:, 0] = rgb_images(1, 32, 32)[:, 0]
    for name in SAME_GRID:
        if name not in ("jpeg", "band_loss"):
            result = degrade(name, images, OPERATORS[name].severities[-1], RGB)[0, 1]
            assert result.std() == 0, name
