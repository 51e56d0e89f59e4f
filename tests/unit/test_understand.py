"""What is understood of a user's own data, and what is shown as a guess."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from rasters import write_tif

from data_catalog.add import understand
from data_catalog.entry import entry, write_registered
from data_catalog.guess import EUROSAT_ORDER
from data_catalog.prepare import prepare
from rsfm.errors import RsfmError
from rsfm.specs import PrepareSpec

#: Median Level-1C reflectance of the 13 bands over land, in the order of the files; B10 sees nearly nothing.
_LAND = dict(
    zip(EUROSAT_ORDER, [1300, 1100, 1000, 900, 1200, 2000, 2400, 2300, 730, 12, 1800, 1100, 2600], strict=True)
)


def land(order, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = np.array([_LAND[b] for b in order], float)[:, None, None]
    return (means * rng.uniform(0.7, 1.3, (len(order), 16, 16)) * scale).astype(np.uint16)


def finding(found, subject):
    return next(f for f in found.findings if f.subject == subject)


@pytest.mark.parametrize("order", [EUROSAT_ORDER, tuple(sorted(_LAND, key=lambda b: b.replace("B8A", "B08.5")))])
def test_the_cirrus_band_gives_the_order_of_thirteen_bands_away(tmp_path, order):
    for i in range(4):
        write_tif(tmp_path / f"{i}.tif", land(order, seed=i))
    found = understand(tmp_path)
    assert [b.name for b in found.entry.bands] == list(order)
    assert finding(found, "bands").certain and "cirrus" in finding(found, "bands").text


def test_thirteen_bands_without_a_dark_one_are_a_guess(tmp_path):
    write_tif(tmp_path / "0.tif", np.random.default_rng(0).integers(900, 1200, (13, 16, 16)).astype(np.uint16))
    assert not finding(understand(tmp_path), "bands").certain


@pytest.mark.parametrize(
    ("factor", "scale", "certain"),
    [(1.0, 1e-4, True), (6.5535, 1 / 65535, True), (2.2, 1e-4, False)],
)
def test_scaling_from_the_values(tmp_path, factor, scale, certain):
    for i in range(3):
        write_tif(tmp_path / f"{i}.tif", land(EUROSAT_ORDER, factor, seed=i))
    found = understand(tmp_path)
    unit = finding(found, "unit")
    assert (found.entry.bands[0].unit, found.entry.bands[0].scale) == ("reflectance", pytest.approx(scale))
    assert unit.certain is certain
    assert "65535" in unit.text and "10000" in unit.text


def test_scaling_from_words_is_checked_against_the_values(tmp_path):
    write_tif(tmp_path / "0.tif", land(EUROSAT_ORDER))
    (tmp_path / "README.md").write_text("Sentinel-2. Values: reflectance = DN / 65535.")
    unit = finding(understand(tmp_path), "unit")
    assert "DN / 65535" in unit.text and not unit.certain  # it would be as dark as night
    (tmp_path / "README.md").write_text("Sentinel-2. Values: reflectance x 10000.")
    assert finding(understand(tmp_path), "unit").certain


def test_known_facts_win(tmp_path):
    write_tif(tmp_path / "0.tif", land(EUROSAT_ORDER)[:4])
    found = understand(
        tmp_path, "mine", bands=["B02", "B03", "B04", "B08"], sensor_name="sentinel-2", unit="reflectance", scale=2e-4,
        gsd_m=10,
    )  # fmt: skip
    bands = found.entry.bands
    assert [b.name for b in bands] == ["B02", "B03", "B04", "B08"] and {b.scale for b in bands} == {2e-4}
    assert bands[3].wavelength_nm == 833 and found.entry.gsd_m == 10 and found.entry.name == "mine"


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"bands": ["B02"]}, "1 bands are named"),
        ({"bands": ["B02", "B02", "B03"]}, "twice"),
        ({"bands": ["B02", "B03", "B99"], "sensor_name": "sentinel-2"}, "no band B99"),
        ({"sensor_name": "hubble"}, "Unknown sensor"),
        ({"unit": "kelvin"}, "Unknown unit"),
        ({"scale": 2.0}, "needs its unit"),
        ({"name": "../x"}, "cannot be a name"),
    ],
)
def test_overrides_that_cannot_be(tmp_path, known, message):
    write_tif(tmp_path / "0.tif", land(EUROSAT_ORDER)[:3])
    with pytest.raises(RsfmError, match=message):
        understand(tmp_path, **known)


def test_decibels_and_unit_reflectance(tmp_path):
    rng = np.random.default_rng(0)
    write_tif(tmp_path / "s1" / "a.tif", rng.normal(-14, 4, (2, 16, 16)).astype(np.float32))
    write_tif(tmp_path / "refl" / "a.tif", rng.uniform(0.02, 0.5, (4, 16, 16)).astype(np.float32))
    assert understand(tmp_path / "s1").entry.bands[0].unit == "db"
    assert understand(tmp_path / "refl").entry.bands[0].unit == "reflectance"


def test_eight_bit_pictures(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(4):
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)).save(
                tmp_path / label / f"{i}.png"
            )
    found = understand(tmp_path, "pics")
    assert [b.name for b in found.entry.bands] == ["red", "green", "blue"]
    assert found.entry.task == "classification" and found.entry.classes == ["a", "b"]
    assert not finding(found, "ground").certain
    assert "20%" in finding(found, "splits").text


def test_one_file_per_band_is_not_a_class_folder(tmp_path):
    for patch in ("P1", "P2"):
        for band in ("B02", "B03"):
            write_tif(tmp_path / patch / f"{patch}_{band}.tif", np.ones((1, 8, 8), np.uint16))
    with pytest.raises(RsfmError, match="one file per band"):
        understand(tmp_path)


def test_mixed_kinds_are_named(tmp_path):
    write_tif(tmp_path / "a.tif", land(EUROSAT_ORDER))
    write_tif(tmp_path / "b.tif", land(EUROSAT_ORDER)[:2])
    with pytest.raises(RsfmError, match=r"a\.tif has 13 bands.*b\.tif has 2 bands"):
        understand(tmp_path)


def test_nothing_usable(tmp_path):
    with pytest.raises(RsfmError, match="nothing at"):
        understand(tmp_path / "nowhere")
    with pytest.raises(RsfmError, match="no image"):
        understand(tmp_path)
    (tmp_path / "a.tif").write_bytes(b"")
    with pytest.raises(RsfmError, match="empty"):
        understand(tmp_path)


def test_kinds_of_data_need_no_registration_where_nothing_is_ambiguous(tmp_path, workspace):
    for i in range(5):
        write_tif(tmp_path / "clear" / f"{i}.tif", land(EUROSAT_ORDER, seed=i))
        write_tif(tmp_path / "unclear" / f"{i}.tif", land(EUROSAT_ORDER, seed=i)[:5])
    info = prepare(PrepareSpec(dataset="image-folder", source=str(tmp_path / "clear"), name="x"), workspace)
    assert info.splits == {"train": 5} and info.layers[0].bands[12].name == "B8A"
    unclear = PrepareSpec(dataset="image-folder", source=str(tmp_path / "unclear"), name="y")
    with pytest.raises(RsfmError, match="cannot be told from the files"):
        prepare(unclear, workspace)
    told = {"bands": ["B01", "B02", "B03", "B04", "B05"], "sensor": "sentinel-2", "unit": "reflectance", "scale": 1e-4}
    info = prepare(unclear.model_copy(update={"options": told}), workspace)
    assert info.layers[0].bands[0].scale == 1e-4
    with pytest.raises(RsfmError, match="no option nonsense"):
        prepare(unclear.model_copy(update={"options": {**told, "nonsense": 1}}), workspace)
    for missing in ({"source": None}, {"name": None}):
        with pytest.raises(RsfmError, match="--source"):
            prepare(unclear.model_copy(update=missing), workspace)
    with pytest.raises(RsfmError, match="folder of images"):
        prepare(PrepareSpec(dataset="scene", source=str(tmp_path / "clear"), name="x"), workspace)


def test_registered_data_can_be_prepared_by_name(tmp_path, workspace):
    folder = tmp_path / "mine"
    write_tif(folder / "a.tif", land(EUROSAT_ORDER))
    write_registered(understand(folder, "mine").entry, workspace)
    assert entry("mine", workspace).registered
    assert prepare(PrepareSpec(dataset="mine"), workspace).dataset == "mine"
    folder.rename(tmp_path / "moved")
    with pytest.raises(RsfmError, match="not there any more"):
        prepare(PrepareSpec(dataset="mine"), workspace)
