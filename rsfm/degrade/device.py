"""The operators on tensors of any device, another severity for every sample: degradation while training.

The same definitions as on numpy, with the same random numbers for the same ids. Two differences: values arrive in the
bands' units as float32, so nothing is rounded to grey levels (up to two of 255 from the 8-bit operators), and `jpeg`
and `native` do not exist here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rsfm.data.views import apply_matrices
from rsfm.degrade import operator
from rsfm.degrade.draws import halves, random_bits, seeds_of
from rsfm.degrade.entry import statistics
from rsfm.degrade.kernels import GAUSSIAN_REACH, Kernel, axis_weights
from rsfm.degrade.optics import transmission
from rsfm.degrade.resolution import MTF_SIGMA
from rsfm.errors import RsfmError

if TYPE_CHECKING:
    from rsfm.packs import BandInfo

_KERNELS: dict[str, tuple[Kernel, Kernel]] = {  # down, up
    "bilinear": ("triangle", "triangle"),
    "area": ("box", "triangle"),
    "mtf": ("gaussian", "triangle"),
    "nearest": ("nearest", "nearest"),
}


def degrade_on_device(
    name: str,
    values: Tensor,
    severities: Tensor,
    bands: Sequence[BandInfo],
    seeds: Tensor | Sequence[str],
    layer: str = "image",
) -> Tensor:
    """Degrade every sample of a batch by its own severity.

    Args:
        name: of an operator.
        values: (B, C, H, W) float32 in the bands' units, finite.
        severities: (B,), best on the CPU: what they are decides what is computed, so they are read there.
        bands: the C bands, with their statistics.
        seeds: the B sample ids, for what evaluation draws for them; or (B,) int64 for anything else.
        layer: enters the random numbers.

    Returns:
        (B, C, H, W) on the same device; rows at the operator's identity come back bit for bit.

    Raises:
        RsfmError: an operator that does not exist or not here, shapes that do not fit, or as `OperatorEntry.check`.
    """
    entry = operator(name)
    if name not in _KERNELS and name not in _FUNCTIONS:
        raise RsfmError(
            f"{entry.title} ({name}) cannot be done while training: "
            + ("JPEG is coded on the CPU, image by image." if entry.keeps_grid else "images of a batch keep one size.")
        )
    count, channels, height, width = values.shape
    if values.dtype != torch.float32 or {len(severities), len(seeds)} != {count} or len(bands) != channels:
        raise RsfmError(
            f"Degradation on the device takes float32 (B, C, H, W) with B severities and seeds and C bands; got "
            f"{values.dtype} {tuple(values.shape)}, {len(severities)} severities, {len(seeds)} seeds and {len(bands)} "
            "bands."
        )
    wanted = severities.tolist()
    for severity in set(wanted):
        entry.check(severity, height, width, bands)
    identity = torch.tensor([s == entry.identity for s in wanted], device=values.device)
    if all(s == entry.identity for s in wanted):
        return values.clone()
    if not isinstance(seeds, Tensor):
        seeds = torch.from_numpy(seeds_of(seeds))
    draws = _Draws(seeds.to(values.device, torch.int64), (name, layer))
    # Half precision has fewer steps than the images.
    with torch.autocast(values.device.type, enabled=False):
        if name in _KERNELS:
            worse = _coarser(name, values, wanted)
        else:
            worse = _FUNCTIONS[name](values, severities.to(values.device, torch.float32), bands, draws)
    return torch.where(identity.view(-1, 1, 1, 1), values, worse)


class _Draws:
    """As `rsfm.degrade.draws.Draws`, on a device."""

    def __init__(self, seeds: Tensor, use: tuple[str, str]) -> None:
        self._seeds, self._use = seeds, use

    def bits(self, what: str, count: int) -> Tensor:
        return random_bits(self._seeds, torch.arange(1, count + 1, device=self._seeds.device), *self._use, what)

    def signs(self, what: str, count: int) -> Tensor:
        return 1.0 - 2.0 * (self.bits(what, count) < 0).float()

    def uniform(self, what: str, count: int) -> Tensor:
        return _unit(halves(self.bits(what, count))[0])

    def normal(self, what: str, count: int) -> Tensor:
        high, low = halves(self.bits(what, (count + 1) // 2))
        radius, angle = torch.sqrt(-2 * torch.log(_unit(high))), 2 * math.pi * _unit(low)
        return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]


def _unit(whole: Tensor) -> Tensor:
    return (whole.float() + 0.5) * 2.0**-32


def _coarser(name: str, values: Tensor, factors: list[float]) -> Tensor:
    """Down and up again as one matrix per axis and factor."""
    distinct = sorted(set(factors))
    which = torch.tensor([distinct.index(f) for f in factors], device=values.device)
    down, up = _KERNELS[name]
    rows, columns = [], []
    for factor in distinct:
        for size, matrices in ((values.shape[2], rows), (values.shape[3], columns)):
            small = size // int(factor)
            sigma = MTF_SIGMA * size / small if down == "gaussian" else 0.0
            both = axis_weights(up, small, size) @ axis_weights(down, size, small, sigma)
            matrices.append(torch.from_numpy(both).float())
    return apply_matrices(values, *(torch.stack(m).to(values.device)[which] for m in (rows, columns)))


def _blur(values: Tensor, sigma: Tensor, bands: Sequence[BandInfo], draws: _Draws) -> Tensor:
    def matrix(size: int) -> Tensor:
        place = torch.arange(size, device=values.device, dtype=torch.float32)
        distance = (place[:, None] - place).abs()
        s = sigma.view(-1, 1, 1).clamp(min=1e-3)
        weights = torch.exp(-0.5 * (distance / s) ** 2) * (distance <= GAUSSIAN_REACH * s)
        return weights / weights.sum(dim=-1, keepdim=True)

    return apply_matrices(values, matrix(values.shape[2]), matrix(values.shape[3]))


def _haze(values: Tensor, optical_depth: Tensor, bands: Sequence[BandInfo], draws: _Draws) -> Tensor:
    depth = _per_band([-math.log(transmission(band, 1.0)) for band in bands], values)
    airlight = _per_band([statistics(band, "haze").p98 for band in bands], values)
    t = torch.exp(-optical_depth.view(-1, 1, 1, 1) * depth)
    return values * t + airlight * (1 - t)


def _noise(values: Tensor, ratio: Tensor, bands: Sequence[BandInfo], draws: _Draws) -> Tensor:
    count, _, height, width = values.shape
    sigma = values.std(dim=(2, 3), correction=0) * ratio.view(-1, 1)
    result = torch.empty_like(values)
    for i, band in enumerate(bands):
        z = draws.normal(band.name, height * width).view(count, height, width)
        result[:, i] = values[:, i] + sigma[:, i, None, None] * z
    return result


def _radiometric(values: Tensor, error: Tensor, bands: Sequence[BandInfo], draws: _Draws) -> Tensor:
    signs = torch.stack([draws.signs(band.name, 2) for band in bands], dim=1) * error.view(-1, 1, 1)
    gain, offset = signs[..., 0, None, None], signs[..., 1, None, None]
    offset = offset * _per_band([statistics(band, "radiometric").std / 2 for band in bands], values)
    decibels = _per_band([float(band.unit == "db") for band in bands], values) > 0
    return torch.where(decibels, values + 10 * torch.log10(1 + gain), values * (1 + gain)) + offset


def _striping(values: Tensor, error: Tensor, bands: Sequence[BandInfo], draws: _Draws) -> Tensor:
    z = torch.stack([draws.normal(band.name, values.shape[3]) for band in bands], dim=1)
    return values * (1 + error.view(-1, 1, 1, 1) * z[:, :, None])


def _band_loss(values: Tensor, lost: Tensor, bands: Sequence[BandInfo], draws: _Draws) -> Tensor:
    lots = torch.cat([draws.bits(band.name, 1) for band in bands], dim=1)
    gone = lots.argsort(dim=1).argsort(dim=1) < lost.view(-1, 1)
    mean = _per_band([statistics(band, "band_loss").mean for band in bands], values)
    return torch.where(gone[..., None, None], mean, values)


def _misregistration(values: Tensor, shift: Tensor, bands: Sequence[BandInfo], draws: _Draws) -> Tensor:
    angle = 2 * math.pi * draws.uniform("direction", 1)[:, 0]

    def matrix(size: int, step: Tensor) -> Tensor:
        place = torch.arange(size, device=values.device, dtype=torch.float32)
        position = (place - step[:, None]).clamp(0, size - 1)
        return (1 - (position[:, :, None] - place).abs()).clamp(min=0)  # linear interpolation

    rows, columns = shift * torch.sin(angle), shift * torch.cos(angle)
    return apply_matrices(values, matrix(values.shape[2], rows), matrix(values.shape[3], columns))


def _per_band(numbers: list[float], values: Tensor) -> Tensor:
    return torch.tensor(numbers, device=values.device, dtype=torch.float32).view(1, -1, 1, 1)


_FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Sequence[BandInfo], _Draws], Tensor]] = {
    "blur": _blur,
    "haze": _haze,
    "noise": _noise,
    "radiometric": _radiometric,
    "striping": _striping,
    "band_loss": _band_loss,
    "misregistration": _misregistration,
}
