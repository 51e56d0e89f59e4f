"""A pack's images as a model wants them: its bands by name, degraded, in the bands' units, on its device."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rsfm.bands import require_same_unit, select
from rsfm.degrade import OperatorEntry
from rsfm.degrade.device import ON_DEVICE, degrade_on_device
from rsfm.errors import RsfmError
from rsfm.models.export import FeatureModel
from rsfm.packs import Pack

Rows = slice | np.ndarray


def storable(nodata: float | None, dtype: np.dtype) -> float | int | None:
    """The `nodata` of a layer as a value of its arrays; None where they cannot hold it, or it is not finite."""
    if nodata is None or not math.isfinite(nodata):
        return None
    if dtype.kind == "f":
        return nodata
    limits = np.iinfo(dtype)
    return int(nodata) if nodata == int(nodata) and limits.min <= nodata <= limits.max else None


class PackImages:
    """One image layer of a pack, for a model.

    Images for a model on a GPU are degraded there, if the operator can be: the results are equal (see
    `rsfm.degrade.device`).

    Raises:
        RsfmError: a band is missing or in another unit.
    """

    def __init__(self, pack: Pack, model: FeatureModel, operator: OperatorEntry, layer: str = "image") -> None:
        info, where = pack.layer(layer), f"Pack {pack.name!r}"
        self.pack, self.operator, self.layer, self.device = pack, operator, layer, model.mean.device
        self.on_device = self.device.type != "cpu" and operator.name in ON_DEVICE
        self.names = [band.name for band in model.bands]
        stored = pack.bands(layer)
        self.positions = select(stored, self.names, where=where)
        self.infos = [info.bands[p] for p in self.positions]
        self.bands = [stored[p] for p in self.positions]
        for wanted, band in zip(model.bands, self.bands, strict=True):
            require_same_unit(wanted.band(), band, where=f"Model {model.name} on pack {pack.name!r}")
        # Stored value that stands in for one that was not observed: the band's mean, which is 0 once standardised with
        # the pack's statistics (of integers within half a step), and near the ground for a model that has its own.
        means = [b.statistics.mean if b.statistics else math.nan for b in self.infos]
        self.fill = np.array([(m - b.offset) / b.scale for m, b in zip(means, self.bands, strict=True)])
        self.nodata = storable(info.nodata, np.dtype(info.dtype))
        if np.dtype(info.dtype).kind != "f":
            if self.nodata is not None and not np.isfinite(self.fill).all():
                raise RsfmError(f"{where}, layer {layer!r}: bands without statistics. Prepare the pack again.")
            limits = np.iinfo(info.dtype)
            self.fill = np.rint(self.fill).clip(limits.min, limits.max)
        self._ids: dict[str, np.ndarray] = {}

    def read(self, split: str, rows: Rows, severity: float | np.ndarray) -> Tensor:
        """Samples of a split: (B, C, H, W) float32 in the bands' units, on the model's device.

        Values that were not observed (`nodata` of the layer, or not finite) become the band's mean first, because a
        filter would spread them.

        Args:
            severity: of all of them, or one for each (then the operator must keep the grid).
        """
        array = self.pack.array(split, self.layer)[rows]
        chosen = array if self.positions == list(range(array.shape[1])) else array[:, self.positions]
        missing = ~np.isfinite(chosen) if chosen.dtype.kind == "f" else None
        if self.nodata is not None:
            missing = (chosen == self.nodata) | (False if missing is None else missing)
        if missing is not None:
            chosen = np.where(missing, self.fill[None, :, None, None].astype(chosen.dtype), chosen)
        ids = self.ids(split)[rows]
        if np.ndim(severity) == 0:
            return self._apply(chosen, float(severity), ids)
        values = torch.empty(chosen.shape, device=self.device)
        for level in np.unique(severity):
            some = np.flatnonzero(np.asarray(severity) == level)
            values[some] = self._apply(chosen[some], float(level), ids[some])
        return values

    def _apply(self, stored: np.ndarray, severity: float, ids: np.ndarray) -> Tensor:
        if not self.on_device:
            values = self.operator.apply(stored, severity, self.infos, list(ids), layer=self.layer)
            return torch.from_numpy(values).to(self.device)
        # A copy, for a pack may not be written to; 8-bit images travel as they are.
        images = torch.from_numpy(stored.astype(np.uint8 if stored.dtype == np.uint8 else np.float32)).to(self.device)
        return degrade_on_device(self.operator, images, severity, self.infos, list(ids), self.layer)

    def ids(self, split: str) -> np.ndarray:
        """Sample ids in the order of the rows."""
        if split not in self._ids:
            self._ids[split] = self.pack.split_samples(split)["id"].to_numpy()
        return self._ids[split]
