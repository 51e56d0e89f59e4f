"""A feature pyramid from a ViT, and a decoder on it for maps: segmentation of one image, or change between two.

After UPerNet (arXiv 1807.10221) in the shape used for change detection in arXiv 2510.17014: the pyramid is summed, not
concatenated, and there are no smoothing convolutions and no auxiliary head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.errors import RsfmError
from rsfm.models.norms import MapBatchNorm

Fusion = Literal["none", "concat", "diff", "abs"]


def _resize(x: Tensor, size: Sequence[int], mode: str = "bilinear") -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode=mode, align_corners=False if mode == "bilinear" else None)


def _block(inputs: int, outputs: int, *, norm: bool = True) -> nn.Sequential:
    """1×1 convolution, batch normalisation (instead of a bias), ReLU."""
    parts: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, bias=not norm)]
    if norm:
        parts.append(MapBatchNorm(outputs))
    return nn.Sequential(*parts, nn.ReLU())


class ViTNeck(nn.Module):
    """Maps of one size to a pyramid: per level a 1×1 convolution, a change of size, a 3×3 convolution.

    Args:
        width: D of the incoming maps.
        outputs: channels of each level; None: D.
        scales: size of each level relative to the incoming maps.
        layer_norm: normalise each place of the incoming maps over its channels first.
        batch_norm: batch normalisation after each convolution.
    """

    def __init__(
        self, width: int, outputs: int | None = None, *, scales: Sequence[float] = (4, 2, 1, 0.5),
        layer_norm: bool = False, batch_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.scales = tuple(scales)
        self.channels = [outputs or width] * len(self.scales)

        def conv(inputs: int, channels: int, kernel: int) -> nn.Sequential:
            layer = nn.Conv2d(inputs, channels, kernel, padding=kernel // 2, bias=not batch_norm)
            return nn.Sequential(layer, MapBatchNorm(channels)) if batch_norm else nn.Sequential(layer)

        norms = [nn.LayerNorm(width, eps=1e-6) if layer_norm else nn.Identity() for _ in self.scales]
        self.norms = nn.ModuleList(norms)
        self.before = nn.ModuleList(conv(width, channels, 1) for channels in self.channels)
        self.after = nn.ModuleList(conv(channels, channels, 3) for channels in self.channels)
        self.apply(_init)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, D, h, w) for each level, finest first, to (B, channels, scale · h, scale · w)."""
        levels = []
        for x, scale, norm, before, after in zip(maps, self.scales, self.norms, self.before, self.after, strict=True):
            x = before(norm(x.movedim(1, -1)).movedim(-1, 1))
            size = [max(1, round(side * scale)) for side in x.shape[-2:]]
            levels.append(after(_resize(x, size)))
        return levels


class PyramidPooling(nn.Module):
    """The map beside its means over grids of several sizes (arXiv 1612.01105)."""

    def __init__(self, inputs: int, width: int, bins: Sequence[int]) -> None:
        super().__init__()
        self.bins = tuple(bins)
        # One value per channel and image has no variance to normalise where the batch is one image.
        self.branches = nn.ModuleList(_block(inputs, width, norm=size > 1) for size in self.bins)
        self.channels = inputs + width * len(self.bins)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, channels, h, w)."""
        pooled = [
            _resize(branch(F.adaptive_avg_pool2d(x, size)), x.shape[-2:])
            for size, branch in zip(self.bins, self.branches, strict=True)
        ]
        return torch.cat([x, *pooled], dim=1)


class UPerNet(nn.Module):
    """A pyramid, or two of them fused level by level, to a map of classes.

    Args:
        channels: of each level, finest first.
        fusion: none for one image; concat, diff (second − first) or abs (its magnitude) for two.
        width, pool_width: channels of the pyramid inside, and of each branch of the pooling.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, *, fusion: Fusion = "none", width: int = 256,
        pool_width: int = 512, bins: Sequence[int] = (1, 2, 3, 6),
    ) -> None:  # fmt: skip
        super().__init__()
        self.fusion = fusion
        fused = [2 * count if fusion == "concat" else count for count in channels]
        self.pooling = PyramidPooling(fused[-1], pool_width, bins)
        self.coarsest = _block(self.pooling.channels, width)
        self.laterals = nn.ModuleList(_block(count, width) for count in fused[:-1])
        self.mix = _block(width, width, norm=False)
        self.head = nn.Conv2d(width, classes, 1)
        self.apply(_init)
        nn.init.xavier_uniform_(self.head.weight)

    def fuse(self, first: Sequence[Tensor], second: Sequence[Tensor] | None) -> list[Tensor]:
        if (second is None) != (self.fusion == "none"):
            raise RsfmError(f"A decoder with fusion={self.fusion} takes {'one image' if second else 'two images'}.")
        if second is None:
            return list(first)
        if self.fusion == "concat":
            return [torch.cat([a, b], dim=1) for a, b in zip(first, second, strict=True)]
        levels = [b - a for a, b in zip(first, second, strict=True)]
        return [level.abs() for level in levels] if self.fusion == "abs" else levels

    def forward(self, first: Sequence[Tensor], second: Sequence[Tensor] | None, size: Sequence[int]) -> Tensor:
        """Pyramids of (B, channels, h, w), finest first, to (B, classes, *size) logits."""
        levels = self.fuse(first, second)
        x = self.coarsest(self.pooling(levels[-1]))
        pyramid = [x]
        for level, lateral in zip(reversed(levels[:-1]), reversed(self.laterals), strict=True):
            x = _resize(x, level.shape[-2:], "nearest") + lateral(level)
            pyramid.append(x)
        total = torch.stack([_resize(p, x.shape[-2:]) for p in pyramid]).sum(dim=0)
        return _resize(self.head(self.mix(total)), size)


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
