"""What any resolution degradation must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.degrade import OPERATORS, operator
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec

DEGRADE = OPERATORS["bilinear"]
FACTORS = st.sampled_from([2, 3, 4, 8])
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(8, 24), st.integers(8, 24))


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, factor=FACTORS, level=st.integers(0, 255))
def test_constant_image_is_unchanged(shape: tuple[int, ...], factor: int, level: int) -> None:
    assert (DEGRADE(np.full(shape, level, np.uint8), factor) == level).all()
    assert np.allclose(DEGRADE(np.full(shape, level, np.float32), factor), level, rtol=1e-6)


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, factor=FACTORS, scale=st.floats(1e-4, 10), offset=st.floats(-5, 5), seed=st.integers(0, 99))
def test_commutes_with_affine_maps_on_float(
    shape: tuple[int, ...], factor: int, scale: float, offset: float, seed: int
) -> None:
    """So it does not matter whether stored values or values in the unit are degraded."""
    x = np.random.default_rng(seed).uniform(0, 1000, shape).astype(np.float32)
    after = DEGRADE(x, factor) * np.float32(scale) + np.float32(offset)
    before = DEGRADE(x * np.float32(scale) + np.float32(offset), factor)
    assert np.allclose(after, before, rtol=1e-4, atol=1e-3 * scale + 1e-4)


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, factor=FACTORS, seed=st.integers(0, 99))
def test_float_path_is_the_uint8_path_without_rounding(shape: tuple[int, ...], factor: int, seed: int) -> None:
    """Four passes round by at most half a level each, and a convex filter does not make an error larger."""
    x = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    difference = np.abs(DEGRADE(x.astype(np.float32), factor) - DEGRADE(x, factor).astype(np.float32))
    assert difference.max() <= 2.0 + 1e-3


@settings(deadline=None, max_examples=25)
@given(shape=SHAPES, factor=FACTORS, seed=st.integers(0, 99))
def test_each_band_and_image_by_itself(shape: tuple[int, ...], factor: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(0, 10_000, shape).astype(np.uint16)
    whole = DEGRADE(x, factor)
    assert whole.shape == x.shape
    assert whole.dtype == np.float32
    assert np.array_equal(whole[-1:, -1:], DEGRADE(x[-1:, -1:], factor))
    assert whole.min() >= x.min()
    assert whole.max() <= x.max()


def test_detail_above_the_new_nyquist_goes_and_below_it_stays() -> None:
    j = np.arange(64)
    fine = np.broadcast_to(np.sin(2 * np.pi * j / 3), (1, 1, 64, 64)).astype(np.float32)
    coarse = np.broadcast_to(np.sin(2 * np.pi * j / 64), (1, 1, 64, 64)).astype(np.float32)
    assert DEGRADE(fine, 4).std() < 0.1 * fine.std()
    assert DEGRADE(coarse, 4).std() > 0.9 * coarse.std()


def test_input_is_not_written_to() -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16)).astype(np.uint8)
    copy = x.copy()
    DEGRADE(x, 4)
    assert np.array_equal(x, copy)


@pytest.mark.parametrize("factor", [0, 17, 2.5, -1])
def test_impossible_factor_is_refused(factor: float) -> None:
    with pytest.raises(RsfmError, match="Resolution factor"):
        DEGRADE(np.zeros((1, 1, 16, 16), np.uint8), factor)


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(RsfmError, match=r"\(N, C, H, W\)"):
        DEGRADE(np.zeros((3, 16, 16), np.uint8), 2)


def test_effective_gsd() -> None:
    assert DEGRADE.effective_gsd_m(10.0, 4) == 40.0
    assert DEGRADE.effective_gsd_m(None, 4) is None


def test_every_operator_a_spec_may_name_exists() -> None:
    allowed = EvaluateSpec.model_json_schema()["properties"]["operator"]
    names = allowed.get("enum") or [allowed["const"]]
    assert set(names) == set(OPERATORS)
    with pytest.raises(RsfmError, match="Unknown degradation"):
        operator("lanczos")
