"""Projection and prediction heads of contrastive methods, as each paper has them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from rsfm.losses.gather import gather, world

#: What a BatchNorm learns: scale and shift, a scale only, or nothing.
Affine = Literal["full", "scale", "none"]


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of (B, D) over the batches of all processes, on any device.

    With statistics of its own process only, a network can tell by them which views belong together; so they are
    always shared. (torch's SyncBatchNorm does the same on CUDA only.)
    """

    def __init__(self, width: int, affine: Affine = "full") -> None:
        super().__init__(width, affine=affine != "none")
        if affine == "scale":
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        _, size = world()
        if not self.training or size == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            variance, mean = torch.var_mean(values, dim=0, correction=0)
            # Equal batches everywhere: the variance of all is the mean variance plus the variance of the means.
            means, variances = gather(torch.stack([mean, variance]).unsqueeze(0)).unbind(dim=1)
            mean = means.mean(dim=0)
            variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
            with torch.no_grad():
                count = size * len(x)
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
            values = (values - mean) * torch.rsqrt(variance + self.eps)
            if self.weight is not None:
                values = values * self.weight
            if self.bias is not None:
                values = values + self.bias
        return values.to(x.dtype)


def _mlp(sizes: Sequence[int], last: Affine | None) -> nn.Sequential:
    """Linear layers without bias, BatchNorm after each, ReLU between them.

    Args:
        last: the BatchNorm after the last layer; None: there is none.
    """
    layers: list[nn.Module] = []
    for number, (wide, narrow) in enumerate(itertools.pairwise(sizes), start=1):
        layers.append(nn.Linear(wide, narrow, bias=False))
        if number < len(sizes) - 1:
            layers += [BatchNorm(narrow), nn.ReLU(inplace=True)]
        elif last is not None:
            layers.append(BatchNorm(narrow, last))
    return nn.Sequential(*layers)


def simclr_projector(width: int, hidden: int, out: int, layers: int) -> nn.Sequential:
    """SimCLR's projection head (arXiv 2002.05709, 2006.10029): BatchNorm after every layer, the last without shift.

    Args:
        width: of the features; hidden: of the layers between; out: of the projection.
        layers: 2 in the first paper, 3 in the second.
    """
    return _mlp([width, *[hidden] * (layers - 1), out], "scale")


def moco_v2_head(width: int, out: int) -> nn.Sequential:
    """MoCo v2's head (arXiv 2003.04297): Linear, ReLU, Linear; with biases, without BatchNorm."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, out))


def moco_v3_projector(width: int, hidden: int, out: int, layers: int = 3) -> nn.Sequential:
    """MoCo v3's projector (arXiv 2104.02057): BatchNorm after every layer, the last without scale and shift."""
    return _mlp([width, *[hidden] * (layers - 1), out], "none")


def moco_v3_predictor(width: int, hidden: int) -> nn.Sequential:
    """MoCo v3's predictor for Vision Transformers: two layers, BatchNorm as in the projector."""
    return _mlp([width, hidden, width], "none")
