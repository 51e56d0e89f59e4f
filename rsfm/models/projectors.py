"""Projection and prediction heads of contrastive methods, as each paper has them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from rsfm.models.norms import Affine, BatchNorm


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
