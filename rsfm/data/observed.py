"""Pixels of a layer of images that were not observed, and what stands in for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rsfm.errors import RsfmError
from rsfm.packs import LayerInfo


def storable(nodata: float | None, dtype: np.dtype) -> float | int | None:
    """The `nodata` of a layer as a value of its arrays; None where they cannot hold it, or it is not finite."""
    if nodata is None or not math.isfinite(nodata):
        return None
    if dtype.kind == "f":
        return nodata
    limits = np.iinfo(dtype)
    return int(nodata) if nodata == int(nodata) and limits.min <= nodata <= limits.max else None


def unobserved(stored: np.ndarray, nodata: float | int | None) -> np.ndarray | None:
    """Where nothing was observed; None where that can be nowhere.

    A pixel was not observed where all bands hold `nodata` (or, of floats, no finite number): in some bands alone it is
    a value like any other, such as the red of a dark pixel where `nodata` is 0. A `nodata` below zero, such as −9999,
    is never a value: each band that holds it was not observed.

    Args:
        stored: (B, C, H, W), all bands of the layer.
        nodata: as `storable` gives it.

    Returns:
        (B, C, H, W) or (B, 1, H, W) flags.
    """
    if nodata is None:
        return None
    held = stored == nodata
    absent = (held | ~np.isfinite(stored) if stored.dtype.kind == "f" else held).all(axis=1, keepdims=True)
    absent = absent & held.any(axis=1, keepdims=True)  # without any, it is damage: whoever asks may count it
    return absent | held if nodata < 0 else absent


class Observed:
    """The chosen bands of a layer, with the bands' means where nothing was observed.

    What was not observed is decided from all bands of the layer, whichever are chosen (`unobserved`).

    The mean is 0 once standardised with the pack's statistics (of integers within half a step), and near the ground for
    a model that has its own.

    Attributes:
        fill: (c,) stored values of the chosen bands that stand in.

    Raises:
        RsfmError: `nodata` is set, but a band has no statistics.
    """

    def __init__(self, info: LayerInfo, positions: Sequence[int], *, where: str) -> None:
        self.positions = list(positions)
        self._whole = self.positions == list(range(info.shape[0]))
        chosen = [info.bands[p] for p in self.positions]
        means = [b.statistics.mean if b.statistics else math.nan for b in chosen]
        self.fill = np.array([(mean - b.offset) / b.scale for mean, b in zip(means, chosen, strict=True)])
        dtype = np.dtype(info.dtype)
        self.nodata = storable(info.nodata, dtype)
        if dtype.kind != "f":
            if self.nodata is not None and not np.isfinite(self.fill).all():
                raise RsfmError(f"{where}: bands without statistics. Prepare the pack again.")
            limits = np.iinfo(dtype)
            self.fill = np.rint(self.fill).clip(limits.min, limits.max)

    def read(self, stored: np.ndarray, *, only_finite: bool = False) -> np.ndarray:
        """The chosen bands of all that are stored: (B, C, H, W) to (B, c, H, W), of the same dtype.

        Args:
            only_finite: each number that is not finite becomes its band's mean as well.
        """
        chosen = stored if self._whole else stored[:, self.positions]
        floats = stored.dtype.kind == "f"
        missing = ~np.isfinite(chosen) if only_finite and floats else None
        absent = unobserved(stored, self.nodata)
        if absent is not None:
            if absent.shape[1] > 1 and not self._whole:
                absent = absent[:, self.positions]
            missing = absent if missing is None else missing | absent
        if missing is None or not missing.any():
            return chosen
        return np.where(missing, self.fill[None, :, None, None].astype(chosen.dtype), chosen)
