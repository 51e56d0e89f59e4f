"""timm's families as encoders: maps of plain and hierarchical networks, and what has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from foreign_parts import S2, described, randomised
from torch import Tensor, nn

from rsfm.errors import RsfmError
from rsfm.evaluation.networks import LabelNetwork, MapNetwork
from rsfm.models.foreign import inputs
from rsfm.models.foreign.model import ForeignModel
from rsfm.models.foreign.network import TimmNetwork, timm_encoder
from rsfm.specs import FitParams

FIT = FitParams(decoder_width=8, pool_width=8)
#: Architecture, what makes it small, and side and width of its maps for an image of 224 pixels.
FAMILIES: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "hiera_tiny_224": (
        {"embed_dim": 16, "num_heads": 1, "stages": (1, 2, 2, 1)}, [(56, 16), (28, 32), (14, 64), (7, 128)]
    ),
    "hieradet_small": (
        {"embed_dim": 16, "num_heads": 1, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)},
        [(56, 16), (28, 32), (14, 64), (7, 128)],
    ),
    "levit_128s": (
        {"embed_dim": (32, 48, 64), "num_heads": (2, 3, 4), "depth": (1, 1, 1)},
        [(14, 32), (7, 48), (4, 64)],
    ),
    "convnext_atto": ({"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}, [(56, 8), (28, 16), (14, 24), (7, 32)]),
    "beit_base_patch16_224": ({"depth": 5, "embed_dim": 32, "num_heads": 2}, [(14, 32)] * 4),
    "swin_tiny_patch4_window7_224": (
        {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}, [(56, 8), (28, 16), (14, 32), (7, 64)]
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def model(encoder: nn.Module, size: int = 224) -> ForeignModel:
    feed = inputs.fed([inputs.Wanted("B04", 665, "reflectance")], described(S2), None, "x")
    return ForeignModel(
        TimmNetwork(encoder), feed, name="timm:x", title="X", group="x", size=size, settings={}, remarks=[]
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_of_every_layout(name: str) -> None:
    small, expected = FAMILIES[name]
    encoder = model(randomised(timm_encoder(name, in_chans=1, **small)))
    x = torch.rand(2, 1, 224, 224, generator=torch.Generator().manual_seed(1))
    maps = encoder.maps(x)
    assert [(m.shape[2], m.shape[1]) for m in maps] == expected
    assert all(m.shape[2] == m.shape[3] and torch.isfinite(m).all() and m.std() > 1e-4 for m in maps)
    assert encoder.features(x).shape == (2, encoder.feature_dim)
    network = MapNetwork(encoder, 3, (224, 224), adaptation="finetune", pairs=False, fit=FIT).train()
    network([x], (224, 224)).square().mean().backward()
    reached = [p.grad is not None for p in network.model.trainable.parameters()]
    assert sum(reached) > 0.7 * len(reached)


def test_a_level_follows_its_place_in_the_image() -> None:
    """Hiera keeps its tokens in an order of its own: maps must be rows and columns again."""
    small, _ = FAMILIES["hiera_tiny_224"]
    encoder = model(randomised(timm_encoder("hiera_tiny_224", in_chans=1, **small)))
    x = torch.zeros(2, 1, 224, 224)
    x[1, :, 96:128, 160:192] = 1.0  # one cell of the coarsest map
    for level in encoder.maps(x)[:2]:
        changed = (level[1] - level[0]).abs().sum(dim=0)
        side = level.shape[-1] // 7
        inside = changed[3 * side : 4 * side, 5 * side : 6 * side]
        assert inside.mean() > 5 * changed.mean()


class Odd(nn.Module):
    """A network with maps of a layout that no decoder takes."""

    head_hidden_size = 4

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.stem = kind, nn.Conv2d(1, 4, 16, 16)
        if kind != "unknown":
            self.feature_info = [{"reduction": r} for r in (4, 8, 16, 32)]

    def forward(self, x: Tensor) -> Tensor:
        return self.stem(x).mean(dim=(2, 3))

    def forward_intermediates(self, x: Tensor, **options: Any) -> list[Tensor]:
        assert self.kind != "refuses", "not supported"
        maps = [self.stem(x), nn.functional.interpolate(self.stem(x), scale_factor=2)]
        return [m.flatten(2) for m in maps] if self.kind == "tokens" else maps


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("refuses", r"timm:x gives no maps that a decoder could use \(AssertionError: not supported"),
        ("tokens", "timm:x are no pyramid"), ("coarse first", "timm:x are no pyramid"),
        ("unknown", "timm:x gives no maps: it cannot segment"),
    ],
)  # fmt: skip
def test_other_layouts_are_refused_by_name(kind: str, message: str) -> None:
    odd = model(Odd(kind), 64)
    with pytest.raises(RsfmError, match=message):
        MapNetwork(odd, 3, (64, 64), adaptation="decoder", pairs=False, fit=FIT)
    assert LabelNetwork(odd, 2, frozen=True)((torch.zeros(1, 1, 64, 64),)).shape == (1, 2), "whole images still work"
