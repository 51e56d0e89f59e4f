"""A pack's images as a model wants them: its bands by name, degraded, in the bands' units, on its device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rsfm.bands import require_same_unit, select
from rsfm.data.observed import Observed
from rsfm.degrade import OperatorEntry
from rsfm.degrade.device import ON_DEVICE, degrade_on_device
from rsfm.models.export import FeatureModel
from rsfm.packs import Pack

Rows = slice | np.ndarray


class PackImages:
    """One image layer of a pack, for a model.

    Images for a model on a GPU are degraded there, if the operator can be: 8-bit images bit for bit, others
    (and noise) up to rounding (see `rsfm.degrade.device`).

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
        self.observed = Observed(info, self.positions, where=f"{where}, layer {layer!r}")
        self._ids: dict[str, np.ndarray] = {}

    def read(self, split: str, rows: Rows, severity: float | np.ndarray, draw: str = "") -> Tensor:
        """Samples of a split: (B, C, H, W) float32 in the bands' units, on the model's device.

        What was not observed (see `Observed`), or is not finite, becomes the band's mean first, because a filter would
        spread it.

        Args:
            severity: of all of them, or one for each (then the operator must keep the grid).
            draw: what names the random numbers of operators that draw some, besides the sample: with one name a sample
                always gets the same. For tests it is empty.
        """
        chosen = self.observed.read(self.pack.array(split, self.layer)[rows], only_finite=True)
        ids = self.ids(split)[rows]
        if draw:
            ids = np.array([f"{i}\0{draw}" for i in ids], object)
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
