"""Random views, batched and on the device.

A crop, its resampling and its flips are two small matrices per image, one for rows and one for columns: the view is
rows · image · columnsᵀ. The matrices hold the weights of anti-aliased bicubic interpolation, so that a view is
exactly what cropping and resizing one image at a time would give, for any number of bands.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CUBIC = -0.5  # Keys' coefficient, as in PIL and in torch's anti-aliased bicubic


def random_boxes(
    count: int, height: int, width: int, *, scale: tuple[float, float], generator: torch.Generator,
    ratio: tuple[float, float] = (3 / 4, 4 / 3), tries: int = 10,
) -> Tensor:  # fmt: skip
    """Boxes of random-resized-crop: area share uniform in `scale`, aspect ratio log-uniform in `ratio`.

    The first of `tries` draws that fits is taken; where none fits, the largest centred box of an allowed ratio.

    Returns:
        (count, 4) float32 on the generator's device: top, left, height, width in whole pixels.
    """
    device = generator.device
    draws = torch.rand(count, tries, 2, generator=generator, device=device)
    area = (scale[0] + (scale[1] - scale[0]) * draws[..., 0]) * (height * width)
    aspect = torch.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draws[..., 1])
    w = torch.sqrt(area * aspect).round()
    h = torch.sqrt(area / aspect).round()
    fits = (w >= 1) & (h >= 1) & (w <= width) & (h <= height)
    first = fits.int().argmax(dim=1, keepdim=True)  # argmax of equal values is the first
    w, h = w.gather(1, first).squeeze(1), h.gather(1, first).squeeze(1)
    whole = min(max(width / height, ratio[0]), ratio[1])
    fallback_w, fallback_h = min(width, round(height * whole)), min(height, round(width / whole))
    none = ~fits.any(dim=1)
    w = torch.where(none, torch.full_like(w, fallback_w), w)
    h = torch.where(none, torch.full_like(h, fallback_h), h)
    place = torch.rand(count, 2, generator=generator, device=device)
    top = torch.where(none, ((height - h) / 2).floor(), (place[:, 0] * (height - h + 1)).floor())
    left = torch.where(none, ((width - w) / 2).floor(), (place[:, 1] * (width - w + 1)).floor())
    return torch.stack([top, left, h, w], dim=1)


def resampling_matrix(start: Tensor, length: Tensor, source: int, target: int, *, kernel: str = "cubic") -> Tensor:
    """Weights of anti-aliased interpolation along one axis: `cubic`, or `triangle` (bilinear).

    Args:
        start, length: (B,) first pixel and number of pixels of the piece that is resampled; pixels outside it are
            not looked at, as if it had been cut out first.
        source, target: pixels of the image's axis and of the view's.

    Returns:
        (B, target, source) float32; each row sums to 1.
    """
    ratio = (length / target).view(-1, 1, 1)
    support = ratio.clamp(min=1.0)  # the kernel widens when shrinking, never narrows
    pixels = torch.arange(source, device=start.device, dtype=torch.float32).view(1, 1, -1) + 0.5
    centres = torch.arange(target, device=start.device, dtype=torch.float32).view(1, -1, 1) + 0.5
    x = ((pixels - start.view(-1, 1, 1) - centres * ratio) / support).abs()
    inside = (pixels > start.view(-1, 1, 1)) & (pixels < (start + length).view(-1, 1, 1))
    if kernel == "triangle":
        weights = (1 - x).clamp(min=0) * inside
        return weights / weights.sum(dim=-1, keepdim=True)
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
    far = _CUBIC * (((x - 5) * x + 8) * x - 4)
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x))) * inside
    return weights / weights.sum(dim=-1, keepdim=True)


def apply_matrices(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows · image · columnsᵀ for every image and band: (B, C, H, W), (B, h, H), (B, w, W) to (B, C, h, w)."""
    b, c, h, w = images.shape
    narrow = torch.bmm(images.reshape(b, c * h, w), columns.mT).view(b, c, h, -1)
    return torch.matmul(rows.unsqueeze(1), narrow)


def resize(images: Tensor, size: int) -> Tensor:
    """Whole images to (size, size), anti-aliased bicubic; unchanged where they have that size."""
    b, _, h, w = images.shape
    if (h, w) == (size, size):
        return images
    zero = torch.zeros(1, device=images.device)
    rows = resampling_matrix(zero, zero + h, h, size).expand(b, -1, -1)
    columns = resampling_matrix(zero, zero + w, w, size).expand(b, -1, -1)
    return apply_matrices(images, rows, columns)


def random_crops(
    images: Tensor, size: int, *, scale: tuple[float, float], flips: str, generator: torch.Generator
) -> Tensor:
    """Random-resized-crop and flips, each image its own: (B, C, H, W) to (B, C, size, size).

    Args:
        flips: `none`, `horizontal`, or `dihedral` (both flips and the quarter turns, all eight equally likely).
    """
    b, _, h, w = images.shape
    boxes = random_boxes(b, h, w, scale=scale, generator=generator)
    rows = resampling_matrix(boxes[:, 0], boxes[:, 2], h, size)
    columns = resampling_matrix(boxes[:, 1], boxes[:, 3], w, size)
    coins = torch.rand(b, 3, generator=generator, device=images.device) < 0.5
    if flips != "none":
        columns = torch.where(coins[:, 0, None, None], columns.flip(1), columns)
    if flips == "dihedral":
        rows = torch.where(coins[:, 1, None, None], rows.flip(1), rows)
    views = apply_matrices(images, rows, columns)
    if flips == "dihedral":
        # A transposition after independent flips of both axes: together the eight symmetries of the square.
        views = torch.where(coins[:, 2, None, None, None], views.mT, views)
    return views
