"""Masks of iBOT and BEiT: exact counts, never too many, each image its own, a function of the seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.masking.block import block_mask, draw_ratios, mask_counts, random_mask

torch.set_num_threads(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("target", "mean", "least"),
    [(75, 74.5, 60), (137, 136.4, 116)],  # recorded over 3000 draws: BEiT's setting, and iBOT's
)
def test_block_masks_nearly_reach_their_target_and_never_exceed_it(target, mean, least):
    counts = block_mask(3000, (14, 14), target, generator(), min_area=16).sum(dim=1)
    assert counts.float().mean().item() == pytest.approx(mean, abs=0.15)
    assert counts.max() <= target
    assert counts.min() >= least  # the smallest of 3000 scatters: 66 and 123 were seen elsewhere


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12), columns=st.integers(1, 12), share=st.floats(0, 1), min_area=st.integers(1, 20),
    seed=st.integers(0, 10_000),
)  # fmt: skip
def test_block_masks_on_any_grid(rows, columns, share, min_area, seed):
    target = int(share * rows * columns)
    mask = block_mask(5, (rows, columns), target, generator(seed), min_area=min_area)
    assert mask.shape == (5, rows * columns)
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).max() <= target
    assert torch.equal(mask, block_mask(5, (rows, columns), target, generator(seed), min_area=min_area))


def test_block_masks_have_a_target_for_each_image():
    targets = torch.tensor([0, 10, 40, 64, 200]).repeat(200)
    counts = block_mask(1000, (8, 8), targets, generator(), min_area=4).sum(dim=1).view(200, 5)
    assert (counts <= targets.view(200, 5).clamp(max=64)).all()
    assert counts[:, 0].max() == 0
    assert counts[:, 1].float().mean() > 9
    assert counts[:, 2].float().mean() > 38


def test_block_masks_are_made_of_blocks_everywhere():
    masks = block_mask(4000, (14, 14), 30, generator(), min_area=16).view(-1, 14, 14).float()
    # Neighbours agree far more often than those of scattered patches (0.15² + 0.85² = 0.74).
    assert (masks[:, 1:] == masks[:, :-1]).float().mean() > 0.9
    share = masks.mean(dim=0)
    assert (share - share.flip(0)).abs().max() < 0.05
    assert (share - share.mT).abs().max() < 0.05
    assert share.min() > 0.01  # the corners too
    assert len({tuple(m.flatten().tolist()) for m in masks[:200]}) == 200


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(1, 200), ratio=st.floats(0, 1), seed=st.integers(0, 10_000))
def test_random_masks_are_exact(tokens, ratio, seed):
    counts = mask_counts(torch.tensor([ratio, 0.0, 1.0], dtype=torch.float64), tokens)
    assert counts.tolist()[1:] == [0, tokens]
    assert abs(counts[0].item() - ratio * tokens) < 1 + 1e-6
    mask = random_mask(tokens, counts, generator(seed))
    assert torch.equal(mask.sum(dim=1), counts)
    assert torch.equal(mask, random_mask(tokens, counts, generator(seed)))


@pytest.mark.parametrize(("ratio", "tokens", "count"), [(0.3, 10, 3), (0.29, 100, 29), (0.7, 196, 137), (0.999, 4, 3)])
def test_counts_are_the_floor_of_the_share(ratio, tokens, count):
    assert mask_counts(torch.tensor([ratio], dtype=torch.float64), tokens).item() == count


def test_random_masks_hide_every_place_equally_often_and_each_image_by_itself():
    mask = random_mask(16, torch.full((4000,), 4), generator())
    assert (mask.sum(dim=0) - 1000).abs().max() < 150
    assert len({tuple(m.tolist()) for m in mask}) > 1500  # of 1820 subsets


@pytest.mark.parametrize(
    ("ratios", "hidden", "low", "high"),
    [([(0.0, 0.0), (0.3, 0.2)], 0.149, 0.1, 0.5), ([(0.0, 0.0), (0.7, 0.05)], 0.349, 0.65, 0.75)],
)
def test_half_of_the_ratios_are_zero_and_the_rest_uniform(ratios, hidden, low, high):
    drawn = draw_ratios(20_000, ratios, generator())
    some = drawn[drawn > 0]
    assert len(some) / len(drawn) == pytest.approx(0.5, abs=0.02)
    assert low <= some.min() < low + 0.01
    assert high - 0.01 < some.max() <= high
    assert some.mean().item() == pytest.approx((low + high) / 2, abs=0.01)
    counts = mask_counts(drawn, 196)
    assert counts.double().mean().item() / 196 == pytest.approx(hidden, abs=0.005)
