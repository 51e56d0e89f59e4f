"""Batch normalisation whose statistics are those of all processes, on any device.

With statistics of its own process only, a network can tell by them which views belong together; and a batch in parts
would not train as it does in one. (torch's SyncBatchNorm does the same on CUDA only.)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from rsfm.losses.gather import gather, world

#: What a BatchNorm learns: scale and shift, a scale only, or nothing.
Affine = Literal["full", "scale", "none"]


def _over_all_processes(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, size: int) -> Tensor:
    """A training step's output of `norm` in each of `size` processes, which hold equal batches."""
    dims = [0, *range(2, x.ndim)]
    with torch.autocast(x.device.type, enabled=False):
        values = x.float()
        variance, mean = torch.var_mean(values, dim=dims, correction=0)
        # The variance of all is the mean variance plus the variance of the means.
        means, variances = gather(torch.stack([mean, variance]).unsqueeze(0)).unbind(dim=1)
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        with torch.no_grad():
            count = size * x.numel() // x.shape[1]
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / max(count - 1, 1)), norm.momentum)

        def along(per_channel: Tensor) -> Tensor:
            return per_channel.view(1, -1, *[1] * (x.ndim - 2))

        values = (values - along(mean)) * along(torch.rsqrt(variance + norm.eps))
        if norm.weight is not None:
            values = values * along(norm.weight)
        if norm.bias is not None:
            values = values + along(norm.bias)
    return values.to(x.dtype)


class BatchNorm(nn.BatchNorm1d):
    """Of (B, D) features."""

    def __init__(self, width: int, affine: Affine = "full") -> None:
        super().__init__(width, affine=affine != "none")
        if affine == "scale":
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        _, size = world()
        return _over_all_processes(self, x, size) if self.training and size > 1 else super().forward(x)


class MapBatchNorm(nn.BatchNorm2d):
    """Of (B, D, h, w) maps."""

    def forward(self, x: Tensor) -> Tensor:
        _, size = world()
        return _over_all_processes(self, x, size) if self.training and size > 1 else super().forward(x)
