"""Bands are found by name and carry their unit."""

from __future__ import annotations

import numpy as np
import pytest

from rsfm.bands import SENSORS, Band, require_same_unit, select, sensor
from rsfm.errors import RsfmError


def test_selection_is_by_name_whatever_the_file_order() -> None:
    s2 = sensor("sentinel-2")
    file_order = [b.name for b in s2.bands if b.name != "B8A"] + ["B8A"]
    stored = s2.stored_as(file_order, scale=1e-4)
    positions = select(stored, ["B8A", "B04"], where="pack eurosat")
    assert [stored[i].name for i in positions] == ["B8A", "B04"]
    assert positions[0] == 12


def test_selection_refuses_what_is_not_there_and_doubles() -> None:
    bands = sensor("rgb").bands
    with pytest.raises(RsfmError, match="pack x has no band nir"):
        select(bands, ["red", "nir"], where="pack x")
    with pytest.raises(RsfmError, match="twice"):
        select(bands, ["red", "red"], where="pack x")


def test_stored_values_become_units() -> None:
    band = Band("B04", 665, 10, "reflectance", scale=1e-4, offset=-0.1)
    values = band.to_unit(np.array([1000, 11000], np.uint16))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [0.0, 1.0], atol=1e-6)


def test_units_do_not_mix() -> None:
    reflectance = Band("B04", 665, 10, "reflectance")
    with pytest.raises(RsfmError, match=r"dn.*reflectance"):
        require_same_unit(reflectance, Band("B04", 665, 10, "dn"), where="pack p")
    require_same_unit(reflectance, Band("B04", 665, 10, "reflectance", scale=1e-4), where="pack p")


@pytest.mark.parametrize("fields", [{"unit": "kelvin"}, {"gsd_m": 0}, {"scale": 0}])
def test_nonsense_bands_are_refused(fields: dict) -> None:
    with pytest.raises(RsfmError, match="Band 'x'"):
        Band(**{"name": "x", "wavelength_nm": 500, "gsd_m": 10, "unit": "dn", **fields})


def test_sensor_tables_are_consistent() -> None:
    for s in SENSORS.values():
        names = [b.name for b in s.bands]
        assert len(set(names)) == len(names)
    assert len(sensor("sentinel-2").bands) == 13
    assert {b.gsd_m for b in sensor("sentinel-2").bands} == {10, 20, 60}
