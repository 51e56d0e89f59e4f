"""Blocks and scattered patches hidden from a network that sees all others, with a ratio drawn for each image.

Used by iBOT (arXiv 2111.07832) and BEiT (arXiv 2106.08254), whose networks get a mask token in place of what is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def draw_ratios(batch: int, ratios: Sequence[tuple[float, float]], generator: torch.Generator) -> Tensor:
    """A mask ratio for each image: one of the entries, equally likely, then uniform around its mean.

    Args:
        ratios: (mean μ, half-width δ) pairs; each stands for U(μ − δ, μ + δ).

    Returns:
        (B,) float64.
    """
    device = generator.device
    entries = torch.tensor(ratios, dtype=torch.float64, device=device)
    which = torch.randint(len(entries), (batch,), generator=generator, device=device)
    mean, half_width = entries[which].unbind(1)
    place = torch.rand(batch, generator=generator, device=device, dtype=torch.float64)
    return mean + half_width * (2 * place - 1)


def mask_counts(ratios: Tensor, tokens: int) -> Tensor:
    """floor(r N) hidden patches for (B,) float64 ratios: (B,) int64."""
    # The small term keeps 0.29 · 100 from becoming 28.
    return (ratios * tokens + 1e-9).floor().long().clamp(0, tokens)


def random_mask(tokens: int, counts: Tensor, generator: torch.Generator) -> Tensor:
    """(B, N) bool, True at exactly counts[b] places, every subset of that size equally likely."""
    noise = torch.rand(len(counts), tokens, generator=generator, device=generator.device)
    rank = noise.argsort(dim=1).argsort(dim=1)
    return rank < counts.unsqueeze(1)


def block_mask(
    batch: int, grid: tuple[int, int], target: int | Tensor, generator: torch.Generator, *, min_area: float,
    tries: int = 10, aspect: float = 0.3,
) -> Tensor:  # fmt: skip
    """Hide rectangles of patches, one after the other, until `target` patches are hidden or none fits any more.

    A rectangle has an area uniform between `min_area` and what is still to be hidden, a log-uniform aspect ratio and
    a uniform place. It is taken if it hides at least one new patch and not more than are missing; after `tries`
    rectangles in a row that are not taken, the image keeps what it has. So the target may be missed, never exceeded.

    Args:
        grid: rows and columns of patches.
        target: patches to hide, for all images or (B,) int64.
        min_area: in patches; 16 in BEiT, (shorter side // 3)² in iBOT.
        aspect: height over width lies between this and its inverse.

    Returns:
        (B, N) bool on the generator's device, True where hidden, patches row by row.
    """
    device, (rows, columns) = generator.device, grid
    targets = torch.as_tensor(target, device=device).expand(batch)
    mask = torch.zeros(batch, rows, columns, dtype=torch.bool, device=device)
    y = torch.arange(rows, device=device).view(1, -1, 1)
    x = torch.arange(columns, device=device).view(1, 1, -1)
    log_aspect = math.log(aspect)
    missing = targets.clamp(max=rows * columns)
    while bool((missing > 0).any()):
        # All tries of a round see the same mask: only the first that fits changes it.
        draws = torch.rand(4, batch, tries, generator=generator, device=device)
        area = min_area + (missing.unsqueeze(1) - min_area) * draws[0]
        ratio = torch.exp(log_aspect * (1 - 2 * draws[1]))
        height = torch.sqrt(area * ratio).round().long()
        width = torch.sqrt(area / ratio).round().long()
        inside = (height >= 1) & (width >= 1) & (height <= rows) & (width <= columns)
        height, width = height.clamp(1, rows), width.clamp(1, columns)
        top = (draws[2] * (rows - height + 1)).floor().long().clamp(max=rows - height)
        left = (draws[3] * (columns - width + 1)).floor().long().clamp(max=columns - width)
        new = height * width - _count(mask, top, left, height, width)
        fits = inside & (new >= 1) & (new <= missing.unsqueeze(1))
        first = fits.int().argmax(dim=1, keepdim=True)  # argmax of equal values is the first
        top, left, height, width = (v.gather(1, first).unsqueeze(2) for v in (top, left, height, width))
        box = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
        mask |= box & fits.any(dim=1).view(-1, 1, 1)
        missing = torch.where(fits.any(dim=1), missing - new.gather(1, first).squeeze(1), 0)
    return mask.flatten(1)


def _count(mask: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Hidden patches inside each of (B, T) rectangles of (B, rows, columns), from its integral image."""
    batch, rows, columns = mask.shape
    integral = mask.new_zeros(batch, rows + 1, columns + 1, dtype=torch.int64)
    integral[:, 1:, 1:] = mask.cumsum(1).cumsum(2)
    flat = integral.flatten(1)

    def at(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(1, y * (columns + 1) + x)

    bottom, right = top + height, left + width
    return at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
