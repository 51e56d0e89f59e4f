"""The decoder for maps: sizes of every level, what fusion does, and that its parts do what they say."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from rsfm.errors import RsfmError
from rsfm.models.upernet import UPerNet, ViTNeck
from rsfm.models.vit import pyramid_blocks

torch.set_num_threads(1)


def _maps(count: int = 2, width: int = 12, grid: tuple[int, int] = (4, 4), levels: int = 4) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(count)
    return [torch.randn(count, width, *grid, generator=g) for _ in range(levels)]


@pytest.mark.parametrize(("depth", "blocks"), [(12, [3, 6, 9, 12]), (24, [6, 12, 18, 24]), (4, [1, 2, 3, 4])])
def test_pyramid_blocks(depth, blocks):
    assert pyramid_blocks(depth) == blocks


def test_a_shallow_network_serves_all_levels():
    for depth in range(1, 40):
        blocks = pyramid_blocks(depth)
        assert blocks == sorted(blocks)
        assert blocks[0] >= 1
        assert blocks[-1] == depth


def test_sizes_of_a_vit_b_at_224():
    neck = ViTNeck(32, layer_norm=True, batch_norm=True)
    levels = neck(_maps(1, 32, (14, 14)))
    assert [tuple(level.shape[1:]) for level in levels] == [(32, s, s) for s in (56, 28, 14, 7)]
    decoder = UPerNet(neck.channels, 2, fusion="concat", width=16, pool_width=8)
    assert decoder.eval()(levels, levels, (224, 224)).shape == (1, 2, 224, 224)
    assert decoder.laterals[0][0].in_channels == 64


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (7, 4)])
def test_any_grid(grid):
    neck = ViTNeck(12, 8)
    decoder = UPerNet(neck.channels, 5, width=8, pool_width=4).eval()
    assert decoder(neck(_maps(grid=grid)), None, (40, 24)).shape == (2, 5, 40, 24)


def test_native_pyramids_of_different_widths():
    maps = [torch.randn(2, c, s, s) for c, s in ((8, 16), (16, 8), (32, 4))]
    decoder = UPerNet([8, 16, 32], 3, fusion="abs", width=8, pool_width=4)
    assert decoder(maps, maps, (64, 64)).shape == (2, 3, 64, 64)


def test_fusion():
    first, second = _maps(2), [x + 1 for x in _maps(2)]
    made = {f: UPerNet([12] * 4, 2, fusion=f, width=8, pool_width=4).fuse for f in ("concat", "diff", "abs")}
    assert made["concat"](first, second)[0].shape[1] == 24
    torch.testing.assert_close(made["diff"](first, second)[0], torch.ones(2, 12, 4, 4))
    torch.testing.assert_close(made["diff"](second, first)[0], -torch.ones(2, 12, 4, 4))
    torch.testing.assert_close(made["abs"](second, first)[0], torch.ones(2, 12, 4, 4))
    for fusion, second_pyramid in (("none", second), ("diff", None)):
        with pytest.raises(RsfmError, match=f"fusion={fusion}"):
            UPerNet([12] * 4, 2, fusion=fusion, width=8, pool_width=4)(first, second_pyramid, (32, 32))


def test_the_neck_normalises_tokens():
    neck = ViTNeck(12, layer_norm=True)
    maps = _maps()
    again = neck([5 * x + 3 for x in maps])
    for level, other in zip(neck(maps), again, strict=True):
        torch.testing.assert_close(level, other, atol=1e-4, rtol=1e-3)
    assert not list(ViTNeck(12).norms.parameters())


def test_one_image_is_enough_for_training():
    """The pooled branch of one value per channel has no batch statistics, which one image could not give."""
    decoder = UPerNet([12] * 4, 2, fusion="diff", width=8, pool_width=4)
    sizes = (16, 8, 4, 2)
    maps = [torch.randn(1, 12, s, s) for s in sizes]
    decoder(maps, [2 * x for x in maps], (32, 32)).sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())


def test_learns_where_two_images_differ():
    torch.manual_seed(0)
    neck = ViTNeck(12, 8)
    decoder = UPerNet(neck.channels, 2, fusion="diff", width=16, pool_width=8)
    g = torch.Generator().manual_seed(1)
    first = torch.randn(8, 12, 8, 8, generator=g)
    changed = (torch.rand(8, 1, 4, 4, generator=g) < 0.5).float().repeat_interleave(2, 2).repeat_interleave(2, 3)
    second = torch.where(changed.bool(), -first, first)
    label = F.interpolate(changed, 32, mode="nearest")[:, 0].long()
    parameters = [*neck.parameters(), *decoder.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        logits = decoder(neck([first] * 4), neck([second] * 4), (32, 32))
        loss = F.cross_entropy(logits, label)
        loss.backward()
        optimiser.step()
    assert (logits.argmax(dim=1) == label).float().mean() > 0.9
