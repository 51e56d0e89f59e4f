"""Labelled batches of a pack: read ahead, degraded where asked, cropped and flipped together with their maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rsfm.data.augment import Augmenter, View
from rsfm.data.seeding import derive_seed
from rsfm.data.source import LayerInput
from rsfm.data.views import apply_view, random_boxes, random_flips, view_matrices
from rsfm.evaluation.images import PackImages, Rows
from rsfm.evaluation.networks import Image
from rsfm.evaluation.plan import Plan
from rsfm.model_info import ModelBand
from rsfm.models.export import FeatureModel
from rsfm.registry.augmentation import AugmentParams
from rsfm.specs import FitParams

#: In a target: a pixel that does not count.
IGNORE = -1


@dataclass(frozen=True)
class Batch:
    """Images in the bands' units, one per date on the model's device, and what they are labelled with.

    Attributes:
        images: or the maps of a frozen encoder in the place of one (see `rsfm.evaluation.maps`).
        target: (B,) int64, (B, K) bool, or (B, H, W) int64 with `IGNORE`.
    """

    images: list[Image]
    target: Tensor

    @property
    def size(self) -> torch.Size:
        """Height and width of the images, as they are in training."""
        tensors = [*(i for i in self.images if isinstance(i, Tensor)), self.target]
        return tensors[0].shape[-2:]

    def to(self, device: torch.device) -> Batch:
        def moved(x: Image) -> Image:
            return x.to(device, non_blocking=True) if isinstance(x, Tensor) else [level.to(device) for level in x]

        return Batch([moved(i) for i in self.images], self.target.to(device, non_blocking=True))


class LabelledImages:
    """Samples of a pack as batches, for one model."""

    def __init__(self, what: Plan, model: FeatureModel) -> None:
        self.what = what
        self.layers = [PackImages(what.pack, model, what.operator, layer) for layer in what.task.layers]

    def read(self, split: str, rows: Rows, severity: float | np.ndarray, draw: str = "") -> Batch:
        """Those samples, with the image that is the plan's target degraded (`draw` as in `PackImages.read`)."""
        native = self.what.operator.identity
        images = [
            layer.read(split, rows, severity if self.what.degraded(layer.layer) else native, draw)
            for layer in self.layers
        ]
        return Batch(images, self.targets(split, rows))

    def targets(self, split: str, rows: Rows) -> Tensor:
        what = self.what
        if what.task.dense:
            mask = what.pack.array(split, "mask")[rows][:, 0].astype(np.int64)
            ignored = what.mask.ignore_value
            return torch.from_numpy(mask if ignored is None else np.where(mask == ignored, IGNORE, mask))
        labels = what.labels[split]
        assert labels is not None
        return torch.tensor(labels[rows])


#: Of one batch: rows, severities, and the name of the draw (see `PackImages.read`).
Part = tuple[np.ndarray, float | np.ndarray, str]


def ahead(reads: Sequence[Callable[[], Batch]]) -> Iterator[Batch]:
    """The batches that `reads` give, each read while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(read) for read in reads[:2]]
        for number in range(len(reads)):
            batch = waiting.pop(0).result()
            if number + 2 < len(reads):
                waiting.append(pool.submit(reads[number + 2]))
            yield batch


def epoch_parts(what: Plan, fit: FitParams, seed: int, epoch: int) -> list[Part]:
    """The batches of one epoch: a function of the seed and the epoch.

    So are the numbers of an operator that draws some: a sample that came back with the same noise in every epoch would
    be learnt by heart, noise and all.

    A remainder of a single sample is left out, because batch normalisation has nothing to normalise there.
    """
    rng = np.random.default_rng(derive_seed("order", seed, epoch))
    rows = rng.permutation(what.draws[seed])
    levels = np.full(len(rows), what.operator.identity)
    if fit.train_degrade:
        levels = rng.choice(np.asarray(what.train_severities), len(rows))
    parts = []
    for start in range(0, len(rows), fit.batch_size):
        some = slice(start, start + fit.batch_size)
        if len(rows[some]) > 1 or start == 0 or fit.batch_size == 1:
            severity = levels[some] if fit.train_degrade else float(what.operator.identity)
            parts.append((rows[some], severity, f"training\0{seed}\0{epoch}" if fit.train_degrade else ""))
    return parts


def view_remarks(fit: FitParams, bands: list[ModelBand], height: int, width: int) -> list[str]:
    """What of the settings of training views does not suit the images, and so is not done."""
    remarks = TrainingViews(fit, bands, torch.device("cpu")).augmenter.remarks if fit.jitter else []
    if fit.flips == "dihedral" and height != width:
        remarks = [*remarks, f"Views are mirrored but not turned: images of {height}×{width} pixels are not square."]
    return remarks


class TrainingViews:
    """Random crops, flips and jitter; the same for both dates and the map of a sample.

    A view has the shape of the image, and a crop on average its proportions. Images that are not square are mirrored
    but not turned.
    """

    def __init__(self, fit: FitParams, bands: list[ModelBand], device: torch.device) -> None:
        self.fit = fit
        params = AugmentParams(
            flips=fit.flips, jitter_p=1.0, brightness=fit.jitter, contrast=fit.jitter, saturation=fit.jitter, hue=0,
            grayscale_p=0, band_gain=0,
        )  # fmt: skip
        self.augmenter = Augmenter(LayerInput("image", bands, 0, 0), params).to(device)

    def flips(self, count: int, size: Sequence[int], generator: torch.Generator) -> Tensor:
        """(count, 3) flips: the first that is drawn from the generator."""
        height, width = size
        flips = random_flips(count, self.fit.flips, generator)
        if height != width:
            flips[:, 2] = False
        return flips

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Everything random comes from `generator`. Maps of a frozen encoder are of flipped images already."""
        height, width = batch.size
        flips = self.flips(len(batch.target), batch.size, generator)
        if self.fit.crop_min_scale < 1:
            boxes = random_boxes(
                len(flips), height, width, scale=(self.fit.crop_min_scale, 1.0), generator=generator,
                ratio=(3 / 4 * width / height, 4 / 3 * width / height),
            )  # fmt: skip
        else:
            whole = torch.tensor([0.0, 0.0, height, width], device=generator.device)
            boxes = whole.expand(len(flips), 4)
        images = batch.images
        if self.fit.crop_min_scale < 1:
            rows, columns = view_matrices(boxes, flips, height, width, (height, width))
            images = [apply_view(image, rows, columns, flips) for image in images]
        else:
            images = [flipped(image, flips) if isinstance(image, Tensor) else image for image in images]
        if self.fit.jitter:
            state, mean, std = generator.get_state(), self.augmenter.mean, self.augmenter.std
            jittered = []
            for image in images:
                generator.set_state(state)  # both dates alike: a change of light is not a change of the ground
                view = self.augmenter.radiometry((image - mean) / std, View(height, scale=(1, 1)), generator)
                jittered.append(view * std + mean)
            images = jittered
        target = batch.target
        if target.ndim == 3:
            target = _map_view(target, boxes, flips) if self.fit.crop_min_scale < 1 else flipped(target, flips)
        return Batch(images, target)


def flipped(x: Tensor, flips: Tensor) -> Tensor:
    """(B, …, H, W) with flips (B, 3): mirror columns, mirror rows, transpose. Exact."""
    shape = (-1, *[1] * (x.ndim - 1))
    x = torch.where(flips[:, 0].view(shape), x.flip(-1), x)
    x = torch.where(flips[:, 1].view(shape), x.flip(-2), x)
    return torch.where(flips[:, 2].view(shape), x.mT, x) if x.shape[-1] == x.shape[-2] else x


def _map_view(target: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """(B, H, W) labels of the cropped and flipped view: each pixel the label at its centre."""
    height, width = target.shape[-2:]
    steps = (torch.arange(height, device=target.device) + 0.5) / height
    across = (torch.arange(width, device=target.device) + 0.5) / width
    rows = (boxes[:, 0:1] + steps * boxes[:, 2:3]).floor().long().clamp(0, height - 1)
    columns = (boxes[:, 1:2] + across * boxes[:, 3:4]).floor().long().clamp(0, width - 1)
    picked = target[torch.arange(len(target), device=target.device)[:, None, None], rows[:, :, None], columns[:, None]]
    return flipped(picked, flips)
