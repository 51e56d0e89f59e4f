"""Clipping tensor by tensor, and what optimisers are given."""

from __future__ import annotations

import pytest
import torch

from rsfm.methods.base import ParamGroup
from rsfm.specs import OptimParams
from rsfm.train.optimizers import build_optimizer, clip_each


def test_each_tensor_is_clipped_by_its_own_norm() -> None:
    """Norms of 10 and 0.1 with a bound of 3: the small one stays, which a common norm would not let it."""
    large, small, none = torch.tensor([[6.0, 8.0]]), torch.tensor([0.06, 0.08]), torch.zeros(3)
    clip_each([large, small, none], 3.0)
    torch.testing.assert_close(large, torch.tensor([[1.8, 2.4]]))
    assert torch.equal(small, torch.tensor([0.06, 0.08]))
    assert torch.equal(none, torch.zeros(3))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_groups_keep_scale_and_decay(optimizer: str) -> None:
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [ParamGroup(parameters[:1], True, 0.5), ParamGroup(parameters[1:], False)]
    optim = OptimParams(optimizer=optimizer, weight_decay=0.05, beta1=0.8, beta2=0.9)  # type: ignore[arg-type]
    found = build_optimizer(optim, groups).param_groups
    assert [(g["weight_decay"], g["lr_scale"], g["decay"]) for g in found] == [(0.05, 0.5, True), (0.0, 1.0, False)]
    name, value = ("betas", (0.8, 0.9)) if optimizer == "adamw" else ("momentum", 0.8)
    assert all(g[name] == value for g in found)
