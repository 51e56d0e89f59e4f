"""The operators on tensors of any device: what jobs on a GPU use in place of `OperatorEntry.apply`.

The same definitions, and the same random numbers for the same ids. Sums run in the order of the arrays, and 8-bit
images are resampled in Pillow's own whole numbers, so that results are those of the arrays bit for bit. Two are equal
to the accuracy of float32 only: resampling of other types (Pillow's last bit), and noise, whose logarithms and sines
are the device's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rsfm.degrade.draws import Draws, halves, random_bits, seeds_of
from rsfm.degrade.entry import OperatorEntry
from rsfm.degrade.kernels import Kernel, axis_weights, taps
from rsfm.degrade.resolution import MTF_SIGMA, coarse_size, nearest_pixels

if TYPE_CHECKING:
    from rsfm.packs import BandInfo

#: Bits behind the point of Pillow's 8-bit weights: 32, less 8 of a value and 2 of a sum's sign and overshoot.
_PILLOW_BITS = 22
#: Values that are resampled at a time: what lies in between takes up to 40 bytes of each.
_PIECE = 1 << 25
#: Operators whose own function takes tensors.
_SHARED = ("haze", "radiometric", "striping", "band_loss", "misregistration")


def degrade_on_device(
    entry: OperatorEntry, stored: Tensor, severity: float, bands: Sequence[BandInfo], ids: Sequence[str],
    layer: str = "image",
) -> Tensor:  # fmt: skip
    """As `OperatorEntry.apply`, on the device where the images are.

    Args:
        entry: one of `ON_DEVICE`.
        stored: (N, C, H, W) as stored: uint8, or float32 with the values of any other type.

    Returns:
        (N, C, H', W') float32 in the bands' units. A new tensor.

    Raises:
        RsfmError: as `OperatorEntry.check`.
    """
    entry.check(severity, *stored.shape[2:], bands)
    if severity == entry.identity:
        return _to_unit(stored, bands)
    if entry.name in _RESAMPLE:
        return _to_unit(_in_pieces(stored, lambda part: _RESAMPLE[entry.name](part, int(severity))), bands)
    values = _to_unit(stored, bands)
    if entry.name == "blur":
        rows, columns = (axis_weights("gaussian", size, size, severity) for size in values.shape[2:])
        return _in_pieces(values, lambda part: _filter(part, rows, columns))
    if entry.name == "noise":
        return _noise(values, severity, bands, ids, layer)
    assert entry.name in _SHARED and entry.alter is not None
    return entry.alter(values, severity, bands, Draws(entry.name, ids, layer))


def _to_unit(stored: Tensor, bands: Sequence[BandInfo]) -> Tensor:
    values = stored.to(torch.float32, copy=True)
    for i, band in enumerate(bands):
        values[:, i].mul_(band.scale).add_(band.offset)
    return values


# -- resampling ----------------------------------------------------------------------------------------------------
def _in_pieces(images: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([function(part) for part in images.split(max(1, _PIECE // max(1, images[:1].numel())))])


def _bilinear(images: Tensor, factor: int) -> Tensor:
    return _pillow(_native(images, factor), images.shape[2:])


def _native(images: Tensor, factor: int) -> Tensor:
    return _pillow(images, coarse_size(*images.shape[2:], factor))


def _nearest(images: Tensor, factor: int) -> Tensor:
    rows, columns = (torch.from_numpy(at).to(images.device) for at in nearest_pixels(*images.shape[2:], factor))
    return images[:, :, rows[:, None], columns]


def _through(kernel: Kernel) -> Callable[[Tensor, int], Tensor]:
    def function(images: Tensor, factor: int) -> Tensor:
        full = images.shape[2:]
        sizes = zip(full, coarse_size(*full, factor), strict=True)
        small = _filter(images.float(), *(axis_weights(kernel, a, b, MTF_SIGMA * a / b) for a, b in sizes))
        return _pillow(small.round().clamp(0, 255).byte() if images.dtype == torch.uint8 else small, full)

    return function


_RESAMPLE: dict[str, Callable[[Tensor, int], Tensor]] = {
    "bilinear": _bilinear,
    "native": _native,
    "nearest": _nearest,
    "area": _through("box"),
    "mtf": _through("gaussian"),
}
ON_DEVICE = frozenset((*_RESAMPLE, *_SHARED, "blur", "noise"))


def _pillow(images: Tensor, size: Sequence[int]) -> Tensor:
    """Pillow's bilinear resize to `size` = (rows, columns): columns first, then rows."""
    return _resized(_resized(images, size[1]).mT, size[0]).mT


def _resized(images: Tensor, size: int) -> Tensor:
    """Along the last axis. Pillow takes 8-bit images with whole-number weights, others in float64."""
    at, weights = taps(axis_weights("triangle", images.shape[-1], size))
    if images.dtype != torch.uint8:
        return _weighted(images, at, weights).float()
    whole = np.floor(weights * 2**_PILLOW_BITS + 0.5).astype(np.int32)
    total = _weighted(images, at, whole) + 2 ** (_PILLOW_BITS - 1)
    return (total >> _PILLOW_BITS).clamp(0, 255).byte()


def _filter(images: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """As `rsfm.degrade.kernels.filter_planes`: rows first, in float32."""
    for weights in (rows, columns):
        at, values = taps(weights)
        images = _weighted(images.mT, at, values.astype(np.float32))
    return images


def _weighted(images: Tensor, at: np.ndarray, weights: np.ndarray) -> Tensor:
    """Σ images[…, at[:, t]] · weights[:, t] over t, one after the other, in the weights' type: (…, target)."""
    where, values = (torch.from_numpy(np.ascontiguousarray(x.T)).to(images.device) for x in (at, weights))
    total = images[..., where[0]].to(values.dtype) * values[0]
    for place, value in zip(where[1:], values[1:], strict=True):
        total += images[..., place].to(values.dtype) * value
    return total


# -- noise ---------------------------------------------------------------------------------------------------------
def _noise(values: Tensor, ratio: float, bands: Sequence[BandInfo], ids: Sequence[str], layer: str) -> Tensor:
    """As `rsfm.degrade.radiometry.noise`; its numbers are too many to be drawn elsewhere."""
    seeds = torch.from_numpy(seeds_of(ids)).to(values.device)
    for i, band in enumerate(bands):
        image = values[:, i]
        sigma = (ratio * image.double().std(dim=(1, 2), correction=0)).float()
        image += sigma[:, None, None] * _normal(seeds, image[0].numel(), "noise", layer, band.name).view_as(image)
    return values


def _normal(seeds: Tensor, count: int, *use: str) -> Tensor:
    """As `rsfm.degrade.draws.Draws.normal`: (N, count)."""
    high, low = halves(random_bits(seeds, torch.arange(1, (count + 1) // 2 + 1, device=seeds.device), *use))
    radius, angle = torch.sqrt(-2 * torch.log(_unit(high))), 2 * math.pi * _unit(low)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]


def _unit(whole: Tensor) -> Tensor:
    return (whole.float() + 0.5) * 2.0**-32
