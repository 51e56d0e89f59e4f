"""Maps of a frozen encoder, kept in a run's folder while decoders are trained and tested on them.

An encoder that is not trained gives the same maps for the same view of an image, whichever head, evaluation seed or
epoch asks for them. So each view is encoded once: test images once per severity; training images once per flip (and
severity, where they are degraded in training), for the maps of a mirrored image are not the mirrored maps of the image
(positions and convolutions know left from right). Draws of views are the same with and without kept maps.

What cannot be kept, or would not be asked for more often than there are views, is encoded when it is needed: random
crops, jitter, and operators that draw numbers anew for every epoch.

Maps are kept as the encoder gives them, bit for bit: float32, or bfloat16 where it computes in that. Half precision
would save half of the disk, but residual streams of transformers hold values that it rounds coarsely or cannot hold.
What is left is the last bit, which hangs on the other images of a pass (kept maps are made `_PIECE` at a time, others
batch by batch): linear probes do not show it, but a decoder's many steps can make single pixels of it, as another GPU
would. So a run decides once what it keeps: with its maps, an attempt goes on as if there had been no stop.

Maps are large (3 MB for a 256 px image and a ViT-B in float32), so they are not a cache for other runs: they stay over
stops and kills of their run, and are deleted when it is done (`rsfm.evaluation.room`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsfm.errors import RsfmError
from rsfm.evaluation.batches import Batch, LabelledImages, flipped
from rsfm.evaluation.finite import require_finite
from rsfm.evaluation.images import PackImages, Rows
from rsfm.evaluation.networks import autocast, encode, maps_of
from rsfm.evaluation.plan import Plan
from rsfm.evaluation.room import Room
from rsfm.models.export import FeatureModel
from rsfm.specs import EvaluateSpec

#: Images per forward pass: more are slower on a CPU, and enough for a GPU.
_PIECE = 32


@dataclass(frozen=True, eq=False)
class Views:
    """What decoders ask for of one image layer of a split.

    Attributes:
        rows: (n,) sorted rows of the split.
        severities: that are drawn; flips: that are drawn, as numbers (`_number`), none where views are not countable.
        uses: how often an image is asked for: by heads, evaluation seeds, epochs and tests.
    """

    split: str
    layer: str
    rows: np.ndarray
    severities: tuple[float, ...]
    flips: tuple[int, ...]
    uses: int

    @property
    def name(self) -> str:
        severities = f"-{self.severities[0]:g}" if len(self.severities) == 1 else ""
        return f"{self.split}-{self.layer}{severities}"

    @property
    def per_image(self) -> float:
        return len(self.severities) * len(self.flips) or math.inf

    @property
    def encodings(self) -> int:
        """Where they are kept."""
        return len(self.rows) * len(self.severities) * len(self.flips)


def views_asked(spec: EvaluateSpec, what: Plan) -> list[Views]:
    """Everything that decoders on the frozen encoder ask for, whether it can be kept or not."""
    fits = len(spec.eval_seeds) * sum(a != "finetune" for a in what.adaptations)
    if not (what.task.dense and fits):
        return []
    native, fit = what.operator.identity, spec.fit
    _, height, width = what.pack.layer(what.pack.main).shape
    drawn = np.unique(np.concatenate(list(what.draws.values())))
    flips = {"none": 1, "horizontal": 2, "dihedral": 8 if height == width else 4}[fit.flips]
    found = []
    for layer in what.task.layers:
        degraded = what.degraded(layer)
        levels = what.train_severities if degraded else (native,)
        again = what.operator.random and levels != (native,)  # other numbers in every epoch
        countable = fit.crop_min_scale == 1 and not fit.jitter and not again
        codes = tuple(range(flips if countable else 0))
        found.append(Views(what.train_split, layer, drawn, levels, codes, fits * fit.epochs))
        if what.val_split:
            rows = np.arange(what.pack.info.splits[what.val_split])
            found.append(Views(what.val_split, layer, rows, (native,), (0,), fits * fit.epochs))
        tests = [((s,), fits) for s in what.severities] if degraded else [((native,), fits * len(what.severities))]
        found += [Views(what.test_split, layer, np.arange(what.n_test), s, (0,), uses) for s, uses in tests]
    return found


class _Kept:
    """The maps of some views in one file: one line of bytes per image, views one after the other."""

    def __init__(self, views: Views, layer: PackImages, levels: list[Tensor], folder: Path) -> None:
        self.views, self.layer, self.filled = views, layer, False
        self.levels = [(tuple(level.shape[1:]), level.dtype) for level in levels]
        # An attempt on another device may compute, and so keep, in another type.
        types = "-".join(str(dtype).removeprefix("torch.") for _, dtype in self.levels)
        self.file = folder / f"{views.name}-{types}.maps"
        self.sizes = [level[0].numel() * level.element_size() for level in levels]
        self.line = sum(self.sizes)
        self.bytes = self.line * views.encodings

    @property
    def part(self) -> Path:
        return self.file.with_suffix(".part")

    def positions(self, rows: np.ndarray, severity: float | np.ndarray, flips: np.ndarray) -> np.ndarray:
        """Lines of the file."""
        views = self.views
        levels = np.argmax(np.equal.outer(np.broadcast_to(severity, rows.shape), views.severities), axis=1)
        return (levels * len(views.flips) + flips) * len(views.rows) + np.searchsorted(views.rows, rows)

    def to_bytes(self, levels: list[Tensor]) -> bytes:
        lines = [level.contiguous().flatten(1).view(torch.uint8) for level in levels]
        return torch.cat(lines, dim=1).cpu().numpy().tobytes()

    def read(self, positions: np.ndarray, device: torch.device) -> list[Tensor]:
        lines = np.memmap(self.file, np.uint8, "r", shape=(self.views.encodings, self.line))
        data = torch.from_numpy(np.asarray(lines[positions])).to(device)
        parts = data.split(self.sizes, dim=1)
        return [
            part.clone(memory_format=torch.contiguous_format).view(dtype).view(len(data), *shape)
            for part, (shape, dtype) in zip(parts, self.levels, strict=True)
        ]


class FrozenMaps:
    """Batches for decoders on a frozen encoder: the encoder's maps where they are kept, images where not.

    Attributes:
        remarks: what is kept, and what does not fit.
        encodings: of all images, over the whole evaluation.
    """

    def __init__(
        self, spec: EvaluateSpec, what: Plan, model: FeatureModel, images: LabelledImages, room: Room
    ) -> None:  # fmt: skip
        """No map is written yet."""
        self.model, self.images, self.device, self.room = model, images, model.mean.device, room
        self.precision, self._levels = spec.fit.precision, {}
        asked = views_asked(spec, what)
        learnt = next(model.parameters(), None) is not None  # without weights there is nothing to spare
        worth = [self._described(v) for v in asked if learnt and v.uses > v.per_image]
        allowed = room.claim(sum(kept.bytes for kept in worth), spec.maps_gb * 1e9) if worth else 0
        self._at: dict[tuple[str, str, float], _Kept] = {}
        self.kept: list[_Kept] = []
        too_large: list[_Kept] = []
        left = allowed
        for kept in sorted(worth, key=lambda k: k.views.per_image / k.views.uses):
            views = kept.views
            if kept.bytes > left:
                too_large.append(kept)
                continue
            left -= kept.bytes
            self.kept.append(kept)
            self._at.update({(views.split, views.layer, severity): kept for severity in views.severities})
        mine = {id(kept.views) for kept in self.kept}
        self.encodings = sum(v.encodings if id(v) in mine else len(v.rows) * v.uses for v in asked)
        self.remarks = _remarks(self.kept, too_large, allowed)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of training images."""
        _, height, width = self.images.what.pack.layer(self.images.what.pack.main).shape
        return height, width

    @property
    def to_keep(self) -> int:
        return sum(kept.views.encodings for kept in self.kept)

    def fill(self, split: str, severities: Iterable[float], after_batch: Callable[[int], None]) -> None:
        """Encode what is to be kept of a split at some severities, and is not yet; goes on where an attempt ended.

        Args:
            after_batch: called with the number of encoded images; may raise to stop.

        Raises:
            RsfmError: the disk is full, or maps are not finite.
        """
        for severity in severities:
            for layer in self.images.layers:
                kept = self._at.get((split, layer.layer, self._level(layer.layer, severity)))
                if kept and not kept.filled:
                    self._fill(kept, after_batch)
                    kept.filled = True

    def read(
        self, split: str, rows: Rows, severity: float | np.ndarray, draw: str = "", flips: Tensor | None = None
    ) -> Batch:
        """As `LabelledImages.read`, with maps of images that are flipped already; other images still have to be."""
        found: list[Tensor | list[Tensor]] = []
        for layer in self.images.layers:
            level = self._level(layer.layer, severity)
            kept = self._at.get((split, layer.layer, float(np.min(level))))
            if kept is None:
                found.append(layer.read(split, rows, level, draw))
                continue
            chosen = np.arange(len(layer.ids(split)))[rows]
            codes = np.zeros(len(chosen), int) if flips is None else _number(flips)
            found.append(kept.read(kept.positions(chosen, level, codes), self.device))
        return Batch(found, self.images.targets(split, rows))

    def _level(self, layer: str, severity: float | np.ndarray) -> float | np.ndarray:
        what = self.images.what
        return severity if what.degraded(layer) else what.operator.identity

    def _described(self, views: Views) -> _Kept:
        (layer,) = (layer for layer in self.images.layers if layer.layer == views.layer)
        size = layer.read(views.split, views.rows[:1], views.severities[0]).shape[-2:]
        if size not in self._levels:
            with autocast(self.precision, self.device):
                self._levels[size] = maps_of(self.model, size)
        return _Kept(views, layer, self._levels[size], self.room.folder)

    @torch.no_grad()
    def _fill(self, kept: _Kept, after_batch: Callable[[int], None]) -> None:
        views, count = kept.views, len(kept.views.rows)
        if kept.file.is_file() and kept.file.stat().st_size == kept.bytes:
            return after_batch(views.encodings)
        done = kept.part.stat().st_size // kept.line if kept.part.is_file() else 0
        done -= done % count % _PIECE  # the same images in each pass as in an attempt that was not cut off
        after_batch(done)
        with kept.part.open("ab") as file:
            file.truncate(done * kept.line)
            while done < views.encodings:
                number, start = divmod(done, count)
                rows = views.rows[start : start + _PIECE]
                severity, flip = views.severities[number // len(views.flips)], views.flips[number % len(views.flips)]
                images = kept.layer.read(views.split, rows, severity)
                images = flipped(images, _coins(flip, len(rows), images.device))
                with autocast(self.precision, self.device):
                    levels = encode(self.model, images)
                require_finite(levels, kept.layer, views.split, rows, severity, self.model.name)
                lines = kept.to_bytes(levels)
                try:
                    file.write(lines)
                    file.flush()
                except OSError as error:
                    raise RsfmError(f"{kept.part} cannot be written: {error}. Lower maps_gb.") from error
                done += len(rows)
                after_batch(len(rows))
        kept.part.replace(kept.file)


def _number(flips: Tensor) -> np.ndarray:
    """(B, 3) flips as of `random_flips` to one number each."""
    return flips.cpu().numpy() @ np.array([1, 2, 4])


def _coins(number: int, count: int, device: torch.device) -> Tensor:
    """The flips of that number, (count, 3) bool."""
    return torch.tensor([[bool(number & bit) for bit in (1, 2, 4)]], device=device).expand(count, 3)


def _remarks(kept: list[_Kept], too_large: list[_Kept], allowed: int) -> list[str]:
    found = []
    if kept:
        views, size = sum(k.views.encodings for k in kept), sum(k.bytes for k in kept)
        found.append(
            f"{views:,} views of images go through the frozen encoder once; their maps stay in the run's folder until "
            f"it is done ({size / 1e9:.1f} GB)."
        )
    if too_large:
        names, size = ", ".join(k.views.name for k in too_large), sum(k.bytes for k in too_large)
        found.append(
            f"Maps of {names} ({size / 1e9:.1f} GB) do not fit into {allowed / 1e9:.1f} GB (maps_gb, and at most half "
            "of the free disk): these images go through the frozen encoder again whenever they are used."
        )
    return found
