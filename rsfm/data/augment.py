"""Random views for contrastive and self-distilling methods: crop, flip, blur, degrade; then radiometry and colour.

Everything that is linear along rows and columns (crop, resampling, flips, blur, resolution degradation) is one matrix
per axis and image, so a view costs two matrix products whatever it combines. Radiometry acts on values in the band's
own unit: a gain for reflectances, digital numbers and grey levels, an offset for decibels. Colour (saturation, hue,
grayscale, solarise) is applied only to three bands of red, green and blue light in one unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rsfm.data.source import LayerInput
from rsfm.data.views import (
    apply_matrices,
    apply_view,
    random_boxes,
    random_flips,
    resampling_matrix,
    view_matrices,
)
from rsfm.model_info import ModelBand
from rsfm.registry.augmentation import AugmentParams

#: Luma weights of red, green and blue (ITU-R BT.601), as in common image libraries.
LUMA = (0.299, 0.587, 0.114)
_RANGES_NM = ((600, 700), (500, 600), (400, 500))  # red, green, blue


@dataclass(frozen=True)
class View:
    """One kind of view.

    Attributes:
        size: pixels per side.
        scale: smallest and largest area share of its crop.
        blur_p, solarize_p: chances of blur and (colour images) solarisation.
        degrade_p: chance of a resolution degradation by a factor log-uniform in [1, `degrade_factor`].
        beside: side of the views that it belongs to, whose pixels blur is measured in; None: it is one of them.
    """

    size: int
    scale: tuple[float, float]
    blur_p: float = 0.0
    solarize_p: float = 0.0
    degrade_p: float = 0.0
    degrade_factor: float = 8.0
    beside: int | None = None


def colour_order(bands: list[ModelBand]) -> list[int] | None:
    """Positions of red, green and blue, where these are all the bands, in one unit of light; else None."""
    units = {band.unit for band in bands}
    if len(bands) != 3 or len(units) != 1 or units == {"db"}:
        return None
    order = []
    for low, high in _RANGES_NM:
        hits = [i for i, b in enumerate(bands) if b.wavelength_nm is not None and low <= b.wavelength_nm < high]
        if len(hits) != 1:
            return None
        order.append(hits[0])
    return order


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def chance(count: int, p: float, generator: torch.Generator) -> Tensor:
    """(count,) bool, True with probability p; draws even where p is 0, so that settings do not shift other draws."""
    return torch.rand(count, generator=generator, device=generator.device) < p


def blur_matrix(sigma: Tensor, size: int) -> Tensor:
    """(B, size, size) Gaussian weights along one axis for (B,) sigmas in pixels; rows sum to 1; sigma 0: identity."""
    place = torch.arange(size, device=sigma.device, dtype=torch.float32)
    distance = place.view(1, -1, 1) - place.view(1, 1, -1)
    weights = torch.exp(-0.5 * (distance / sigma.clamp(min=1e-3).view(-1, 1, 1)) ** 2)
    return weights / weights.sum(dim=-1, keepdim=True)


def degradation_table(size: int, largest: float, device: torch.device) -> Tensor:
    """(size + 1, size, size): entry n goes down to n pixels and up again with the triangle filter of the benchmark.

    Entries below size / largest are not filled (they are never asked for).
    """
    table = torch.zeros(size + 1, size, size, device=device)
    zero, length = torch.zeros(1, device=device), torch.full((1,), float(size), device=device)
    for n in range(max(1, math.floor(size / largest)), size):
        down = resampling_matrix(zero, length, size, n, kernel="triangle")
        up = resampling_matrix(zero, torch.full_like(length, float(n)), n, size, kernel="triangle")
        table[n] = (up @ down)[0]
    table[size] = torch.eye(size, device=device)
    return table


class Augmenter(nn.Module):
    """Views of one layer of standardised images.

    Attributes:
        remarks: what was left out because the bands do not allow it.
    """

    def __init__(self, layer: LayerInput, params: AugmentParams, *, wants_solarize: bool = False) -> None:
        super().__init__()
        self.params, self.layer = params, layer
        self.colour = colour_order(layer.bands)
        self.remarks: list[str] = []
        asked = [
            name
            for name, wanted in (
                ("saturation", params.saturation > 0), ("hue", params.hue > 0), ("grayscale", params.grayscale_p > 0),
                ("solarise", wants_solarize),
            )
            if wanted
        ]  # fmt: skip
        self.bounded = self.colour is not None and layer.bands[0].unit == "uint8"
        if self.colour is None and asked:
            settings = {"brightness": params.brightness, "contrast": params.contrast, "gain per band": params.band_gain}
            left = [name for name, wanted in settings.items() if wanted > 0]
            self.remarks.append(
                f"Views without {', '.join(asked)}: the {len(layer.bands)} band(s) are not red, green and blue. "
                f"What is left of the jitter: {', '.join(left) or 'nothing'}."
            )
        elif wants_solarize and not self.bounded:
            self.remarks.append("Views without solarise: it needs 8-bit images.")
        if self.colour is not None:
            usual = AugmentParams().band_gain  # what nobody changed needs no remark
            of_bands = {"band drop": params.band_drop_p > 0, "gain per band": params.band_gain not in (0, usual)}
            left_out = [name for name, wanted in of_bands.items() if wanted]
            if left_out:
                self.remarks.append(f"Views without {' and '.join(left_out)}: the bands are red, green and blue.")
        mean = torch.tensor([b.mean for b in layer.bands])
        std = torch.tensor([b.std for b in layer.bands])
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, -1, 1, 1), persistent=False)
        decibels = torch.tensor([b.unit == "db" for b in layer.bands])
        self.register_buffer("decibels", decibels.view(1, -1, 1, 1), persistent=False)
        self._tables: dict[tuple[int, float, torch.device], Tensor] = {}

    # -- geometry --------------------------------------------------------------------------------------------------
    def boxes(self, images: Tensor, view: View, generator: torch.Generator) -> Tensor:
        """(B, 4) random crops (top, left, height, width) in source pixels."""
        return random_boxes(len(images), images.shape[2], images.shape[3], scale=view.scale, generator=generator)

    def flips(self, count: int, generator: torch.Generator) -> Tensor:
        """(B, 3) bool: mirror columns, mirror rows, transpose."""
        return random_flips(count, self.params.flips, generator)

    def forward(
        self, images: Tensor, view: View, generator: torch.Generator, *, boxes: Tensor | None = None,
        flips: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, C, H, W) standardised images to (B, C, size, size) standardised views.

        Args:
            boxes, flips: as from `boxes` and `flips`; drawn here where None.
        """
        count, _, height, width = images.shape
        boxes = self.boxes(images, view, generator) if boxes is None else boxes
        flips = self.flips(count, generator) if flips is None else flips
        rows, columns = view_matrices(boxes, flips, height, width, view.size)
        if view.blur_p > 0:
            sigma = uniform((count,), self.params.blur_sigma_min, self.params.blur_sigma_max, generator)
            sigma = torch.where(chance(count, view.blur_p, generator), sigma * (view.beside or view.size) / 224, 0.0)
            blur = blur_matrix(sigma, view.size)
            rows, columns = blur @ rows, blur @ columns
        if view.degrade_p > 0:
            degrade = self._degradations(count, view, generator)
            rows, columns = degrade @ rows, degrade @ columns
        return self.radiometry(apply_view(images, rows, columns, flips), view, generator)

    def degrade(self, views: Tensor, view: View, generator: torch.Generator) -> Tensor:
        """Finished (B, C, size, size) views, coarser by chance as `view` says, and otherwise as they are."""
        matrices = self._degradations(len(views), view, generator)
        return apply_matrices(views, matrices, matrices)

    def _degradations(self, count: int, view: View, generator: torch.Generator) -> Tensor:
        """(B, size, size), one for both axes of each image; the identity where it is not degraded."""
        factor = torch.exp(uniform((count,), 0.0, math.log(view.degrade_factor), generator))
        coarse = (view.size / factor).round().clamp(min=1).long()
        coarse = torch.where(chance(count, view.degrade_p, generator), coarse, view.size)
        return self._table(view, generator.device)[coarse]

    def _table(self, view: View, device: torch.device) -> Tensor:
        key = (view.size, view.degrade_factor, device)
        if key not in self._tables:
            self._tables[key] = degradation_table(view.size, view.degrade_factor, device)
        return self._tables[key]

    # -- radiometry and colour -------------------------------------------------------------------------------------
    def radiometry(self, views: Tensor, view: View, generator: torch.Generator) -> Tensor:
        """Jitter of standardised values, done in the bands' units."""
        if self.colour is not None:
            return self._colour_jitter(views, view, generator)
        p, count, bands = self.params, views.shape[0], views.shape[1]
        if p.brightness or p.contrast or p.band_gain:
            gain = uniform((count, 1, 1, 1), 1 - p.brightness, 1 + p.brightness, generator)
            gain = gain * uniform((count, bands, 1, 1), 1 - p.band_gain, 1 + p.band_gain, generator)
            contrast = uniform((count, 1, 1, 1), 1 - p.contrast, 1 + p.contrast, generator)
            on = chance(count, p.jitter_p, generator).view(-1, 1, 1, 1)
            gain, contrast = torch.where(on, gain, 1.0), torch.where(on, contrast, 1.0)
            # value · gain, seen from standardised values; decibels: value + 10 log10(gain).
            offset = torch.where(
                self.decibels, 10 * torch.log10(gain.clamp(min=1e-3)) / self.std, (gain - 1) * self.mean / self.std
            )
            factor = torch.where(self.decibels, 1.0, gain)
            centre = views.mean(dim=(2, 3), keepdim=True)
            # Contrast around the image's mean, then the gain: one multiplication and one addition per value.
            views = views * (factor * contrast) + (factor * (1 - contrast) * centre + offset)
        if p.band_drop_p:
            keep = torch.rand(count, bands, 1, 1, generator=generator, device=generator.device) >= p.band_drop_p
            views = views * keep
        return views

    def _colour_jitter(self, views: Tensor, view: View, generator: torch.Generator) -> Tensor:
        """Brightness, contrast, saturation, hue and grayscale as one 3×3 matrix and one offset per image.

        Hue is a rotation in the plane of the YIQ colour space (linear, unlike the hue of HSV).
        """
        p, count = self.params, len(views)
        on = chance(count, p.jitter_p, generator).view(-1, 1, 1)
        one = torch.ones(count, 1, 1, device=views.device)

        def factor(half_width: float) -> Tensor:
            return torch.where(on, uniform((count, 1, 1), 1 - half_width, 1 + half_width, generator), one)

        brightness, contrast, saturation = factor(p.brightness), factor(p.contrast), factor(p.saturation)
        angle = torch.where(on, uniform((count, 1, 1), -p.hue, p.hue, generator) * 2 * math.pi, 0 * one)
        grey = chance(count, p.grayscale_p, generator).view(-1, 1, 1)
        solarize = chance(count, view.solarize_p, generator).view(-1, 1, 1, 1)
        order = self.colour
        assert order is not None
        luma = torch.zeros(3, device=views.device)
        luma[order] = torch.tensor(LUMA, device=views.device)
        identity = torch.eye(3, device=views.device)
        to_grey = torch.ones(3, 1, device=views.device) * luma  # every channel becomes the luma
        matrix = self._hue_rotation(angle, luma, order) @ (saturation * identity + (1 - saturation) * to_grey)
        matrix = torch.where(grey, to_grey @ matrix, matrix)
        values = (views * self.std + self.mean).flatten(2)
        mean_grey = (luma.view(1, 3, 1) * values).sum(dim=1, keepdim=True).mean(dim=2, keepdim=True)
        values = matrix @ (brightness * (contrast * values + (1 - contrast) * mean_grey))
        if self.bounded:
            values = values.clamp(0, 255)
        values = values.view_as(views)
        if view.solarize_p > 0 and self.bounded:
            values = torch.where(solarize & (values >= 128), 255 - values, values)
        return (values - self.mean) / self.std

    def _hue_rotation(self, angle: Tensor, luma: Tensor, order: list[int]) -> Tensor:
        """(B, 3, 3): rotate the two colour axes of YIQ by `angle` (B, 1, 1), keep the luma."""
        yiq = torch.tensor(
            [list(LUMA), [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], device=luma.device
        )  # fmt: skip
        to_yiq = torch.zeros_like(yiq)
        to_yiq[:, order] = yiq
        cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
        turn = torch.cat(
            [torch.cat([one, zero, zero], 2), torch.cat([zero, cos, -sin], 2), torch.cat([zero, sin, cos], 2)], 1
        )
        return torch.linalg.inv(to_yiq) @ turn @ to_yiq
