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


def random_flips(count: int, flips: str, generator: torch.Generator) -> Tensor:
    """(count, 3) bool: mirror columns, mirror rows, transpose.

    Args:
        flips: `none`, `horizontal`, or `dihedral` (both flips and the quarter turns, all eight equally likely).
    """
    coins = torch.rand(count, 3, generator=generator, device=generator.device) < 0.5
    allowed = {"none": (False, False, False), "horizontal": (True, False, False), "dihedral": (True, True, True)}
    return coins & torch.tensor(allowed[flips], device=coins.device)


def view_matrices(
    boxes: Tensor, flips: Tensor, height: int, width: int, size: int | tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Weights along rows (B, h, height) and columns (B, w, width): crop, resampling and mirroring in one.

    Args:
        size: pixels per side of the view, or its height and width.
    """
    tall, wide = (size, size) if isinstance(size, int) else size
    rows = resampling_matrix(boxes[:, 0], boxes[:, 2], height, tall)
    columns = resampling_matrix(boxes[:, 1], boxes[:, 3], width, wide)
    columns = torch.where(flips[:, 0, None, None], columns.flip(1), columns)
    return torch.where(flips[:, 1, None, None], rows.flip(1), rows), columns


def apply_view(images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
    """`apply_matrices`, then the transposition of `flips`: (B, C, H, W) to (B, C, h, w).

    Raises:
        ValueError: a view that is not square is to be transposed.
    """
    views = apply_matrices(images, rows, columns)
    if views.shape[2] != views.shape[3]:
        if flips[:, 2].any():
            raise ValueError(f"views of {views.shape[2]} x {views.shape[3]} pixels are not square: no transposition")
        return views
    # A transposition after independent flips of both axes: together the eight symmetries of the square.
    return torch.where(flips[:, 2, None, None, None], views.mT, views)


def cut(images: Tensor, size: int, boxes: Tensor, flips: Tensor) -> Tensor:
    """Given boxes (B, 4) and flips (B, 3), resampled: (B, C, H, W) to (B, C, size, size)."""
    rows, columns = view_matrices(boxes, flips, images.shape[2], images.shape[3], size)
    return apply_view(images, rows, columns, flips)


def random_crops(
    images: Tensor, size: int, *, scale: tuple[float, float], flips: str, generator: torch.Generator
) -> Tensor:
    """Random-resized-crop and flips (see `random_flips`), each image its own: (B, C, H, W) to (B, C, size, size)."""
    boxes = random_boxes(len(images), images.shape[2], images.shape[3], scale=scale, generator=generator)
    return cut(images, size, boxes, random_flips(len(images), flips, generator))
