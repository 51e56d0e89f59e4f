"""Features of all processes in one batch, with gradients; without a process group, the batch itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """Rank of this process and number of processes: (0, 1) without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Every process' loss looks at these features: their gradients add up.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x: Tensor) -> Tensor:
    """(B, ...) of this process to (world · B, ...) in the order of the ranks; gradients flow to every process.

    With losses that are means over a process' own anchors, and gradients averaged over the processes (as DDP does),
    loss and gradient equal those of one process on the whole batch.
    """
    return x if world()[1] == 1 else _Gather.apply(x)


@torch.no_grad()
def gather_detached(x: Tensor) -> Tensor:
    """As `gather`, without gradients: for keys, queues and centres."""
    return gather(x.detach())


@torch.no_grad()
def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, without gradients."""
    if world()[1] == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x


@torch.no_grad()
def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of `x` over all processes, without gradients."""
    return sum_over_processes(x) / world()[1]
