"""The plan of a scene's tiles: every pixel counts once, whatever the sizes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsfm.errors import RsfmError
from rsfm.inference.windows import left_out, plan_axis


@st.composite
def axes(draw) -> tuple[int, int, int]:
    """Length, tile and overlap."""
    tile = draw(st.integers(1, 70))
    return draw(st.integers(1, 400)), tile, draw(st.integers(0, tile // 2))


@given(axes())
def test_weights_sum_to_one_at_every_pixel(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    total = np.zeros(length)
    for span in plan_axis(length, tile, overlap):
        assert span.weights.shape == (span.stop - span.start,) and (span.weights >= 0).all()
        total[span.start : span.stop] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(axes())
def test_tiles_cover_the_length_in_order_and_share_enough(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    spans = plan_axis(length, tile, overlap)
    assert spans[0].start == 0 and spans[-1].stop == length
    assert all(span.stop - span.start == min(tile, length) for span in spans)
    for one, two in pairwise(spans):
        assert one.start < two.start
        assert one.stop - two.start >= overlap
    fewer = len(spans) - 1
    assert fewer == 0 or tile + (fewer - 1) * (tile - overlap) < length, "no more tiles than needed"


@given(axes())
def test_what_a_tile_sees_without_context_is_left_to_its_neighbour(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    spans = plan_axis(length, tile, overlap)
    for one, two in pairwise(spans):
        edge = left_out(one.stop - two.start)
        assert edge >= overlap // 4
        assert not two.weights[:edge].any() and not one.weights[len(one.weights) - edge :].any()


@given(st.integers(40, 400), st.integers(8, 20))
def test_weights_change_smoothly(length: int, overlap: int) -> None:
    """A step between pixels is at most twice that of the steepest place of a fade (where three tiles overlap)."""
    for span in plan_axis(length, 40, overlap):
        inner = np.concatenate([[0] if span.start else [], span.weights, [0] if span.stop < length else []])
        assert np.abs(np.diff(inner)).max() < np.pi / (overlap - 2 * left_out(overlap))


def test_a_plan_by_hand() -> None:
    spans = plan_axis(20, 12, 4)
    assert [(s.start, s.stop) for s in spans] == [(0, 12), (8, 20)]
    fade = np.sin(np.pi / 2 * np.array([0.25, 0.75])) ** 2
    np.testing.assert_allclose(spans[1].weights, [0, *fade, 1, *[1] * 8], atol=1e-7)
    np.testing.assert_allclose(spans[0].weights, spans[1].weights[::-1], atol=1e-7)


@pytest.mark.parametrize("bad", [(0, 8, 0), (10, 0, 0), (10, 8, 5), (10, 8, -1)])
def test_what_cannot_be_planned_is_refused(bad: tuple[int, int, int]) -> None:
    with pytest.raises(RsfmError):
        plan_axis(*bad)
