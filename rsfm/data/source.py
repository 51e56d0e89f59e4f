"""Stored values of a pack, chosen by band name, and the way from them to standardised values on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from rsfm.bands import Band, select
from rsfm.data.observed import Observed
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand
from rsfm.packs import LayerInfo, Pack

#: Samples that are copied into memory at once.
_PIECE = 256


@dataclass(frozen=True)
class LayerInput:
    """What a method is told about one layer of images before it sees any.

    Attributes:
        bands: in the order of the channels, with unit and standardisation.
        height, width: pixels of the stored images.
    """

    name: str
    bands: list[ModelBand]
    height: int
    width: int
    sensor: str | None = None
    gsd_m: float | None = None


def layer_input(pack: Pack, layer: str, names: Sequence[str] | None) -> tuple[LayerInput, list[int]]:
    """The chosen bands of a layer, and their positions in the stored arrays.

    Args:
        names: bands by name, in the order wanted; None: all, in the pack's order.

    Raises:
        RsfmError: an unknown band, or one without usable statistics.
    """
    info = pack.layer(layer)
    where = f"Pack {pack.name!r}, layer {layer!r}"
    positions = list(range(len(info.bands))) if names is None else select(pack.bands(layer), names, where=where)
    if not positions:
        raise RsfmError(f"{where}: no band to use.")
    bands = []
    for position in positions:
        band = info.bands[position]
        statistics = band.statistics
        if statistics is None or not (np.isfinite(statistics.mean) and np.isfinite(statistics.std)):
            raise RsfmError(f"{where}: band {band.name} has no usable statistics. Prepare the pack again.")
        bands.append(
            ModelBand(
                name=band.name, wavelength_nm=band.wavelength_nm, gsd_m=band.gsd_m, unit=band.unit,
                mean=statistics.mean,
                # A constant band carries nothing: it becomes 0 everywhere instead of 0/0.
                std=statistics.std if statistics.std > 0 else 1.0,
            )
        )  # fmt: skip
    _, height, width = info.shape
    return LayerInput(layer, bands, height, width, info.sensor, info.gsd_m), positions


class PackSource:
    """Stored values of some bands of one layer, over several splits laid end to end.

    Held in memory where it takes at most a quarter of what is free, else read by memory map. Pixels that were not
    observed hold the bands' means (see `Observed`).

    Args:
        names: as in `layer_input`.
        in_memory: overrides the choice.

    Raises:
        RsfmError: an unknown split or band, no samples, or the layer is a mask.
    """

    def __init__(
        self, pack: Pack, splits: Sequence[str], layer: str = "image", names: Sequence[str] | None = None, *,
        in_memory: bool | None = None,
    ) -> None:  # fmt: skip
        info: LayerInfo = pack.layer(layer)
        if info.role != "image":
            raise RsfmError(f"Pack {pack.name!r}: layer {layer!r} is a mask, not an image.")
        if len(set(splits)) != len(splits) or not splits:
            raise RsfmError(f"Name each split once, and at least one; got {', '.join(splits) or 'none'}.")
        self.input, self._positions = layer_input(pack, layer, names)
        self.stored_bands: list[Band] = [info.bands[p].band() for p in self._positions]
        self.is_float = np.dtype(info.dtype).kind == "f"
        self._observed = Observed(info, self._positions, where=f"Pack {pack.name!r}, layer {layer!r}")
        arrays = [pack.array(split, layer) for split in splits]
        self._ends = np.cumsum([len(a) for a in arrays])
        if self._ends[-1] == 0:
            raise RsfmError(f"Pack {pack.name!r} has no samples in {', '.join(splits)}.")
        self._all_bands = self._positions == list(range(info.shape[0]))
        self.bytes = len(self) * len(self._positions) * int(np.prod(info.shape[1:])) * np.dtype(info.dtype).itemsize
        if in_memory is None:
            in_memory = self.fits_memory
        if in_memory:
            shape = (len(self), len(self._positions), *info.shape[1:])
            whole = np.empty(shape, arrays[0].dtype)
            start = 0
            for array in arrays:
                for first in range(0, len(array), _PIECE):
                    piece = array[first : first + _PIECE]
                    whole[start : start + len(piece)] = self._observed.read(piece)
                    start += len(piece)
            arrays, self._ends = [whole], self._ends[-1:]
        self._arrays, self._in_memory = arrays, in_memory

    @property
    def fits_memory(self) -> bool:
        """Whether it is held in memory, where nobody says otherwise."""
        return self.bytes <= psutil.virtual_memory().available / 4

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, indices: np.ndarray) -> Tensor:
        """(B, C, H, W) tensor of stored values (stored dtype) of the samples at `indices`."""
        indices = np.asarray(indices)
        if len(self._arrays) == 1:
            return torch.from_numpy(self._take(self._arrays[0], indices))
        which = np.searchsorted(self._ends, indices, side="right")
        shape = (len(indices), len(self._positions), *self._arrays[0].shape[2:])
        result = np.empty(shape, self._arrays[0].dtype)
        for number in np.unique(which):
            here = which == number
            first = self._ends[number - 1] if number else 0
            result[here] = self._take(self._arrays[number], indices[here] - first)
        return torch.from_numpy(result)

    def _take(self, array: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if self._in_memory:
            return np.asarray(array[rows])
        if self._all_bands or self._observed.nodata is not None:
            return self._observed.read(np.asarray(array[rows]))
        return np.asarray(array[rows[:, None], np.asarray(self._positions)[None, :]])


class Standardiser(nn.Module):
    """Stored values to (value in unit − mean) / std, as one multiplication and one addition per band."""

    def __init__(self, source: PackSource) -> None:
        super().__init__()
        scale = [b.scale / m.std for b, m in zip(source.stored_bands, source.input.bands, strict=True)]
        shift = [(b.offset - m.mean) / m.std for b, m in zip(source.stored_bands, source.input.bands, strict=True)]
        self.check = source.is_float
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, stored: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) stored values to float32 standardised ones; and how many were not finite.

        Values that are not finite become 0, the band's mean. Integers cannot be such: then the count is None.
        """
        values = stored.to(torch.float32, copy=True)
        values.mul_(self.scale).add_(self.shift)
        if not self.check:
            return values, None
        bad = (~torch.isfinite(values)).sum()
        return torch.nan_to_num_(values, nan=0.0, posinf=0.0, neginf=0.0), bad


@dataclass
class Batch:
    """Images on the device, standardised.

    Attributes:
        images: layer name to (B, C, H, W) float32.
        index: (B,) int64 positions in the source.
        non_finite: number of values that had to be replaced, or None where there can be none.
    """

    images: dict[str, Tensor]
    index: Tensor
    non_finite: Tensor | None = field(default=None)
