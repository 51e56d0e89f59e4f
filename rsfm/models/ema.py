"""Moving averages of networks: teachers and key encoders."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """An exact copy without gradients: a teacher starts as its student, never as a second random draw."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, online: nn.Module, momentum: float) -> None:
    """average ← momentum · average + (1 − momentum) · online, for all parameters; buffers stay as they are."""
    ours, theirs = list(average.parameters()), list(online.parameters())
    torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
