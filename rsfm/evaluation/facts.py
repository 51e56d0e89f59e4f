"""What an evaluation tells the result lint of its features and inputs; `rsfm.store.lint` says what is made of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rsfm.evaluation.batches import LabelledImages
from rsfm.models.export import FeatureModel
from rsfm.store.lint import farthest_band
from rsfm.train.monitors import rankme

#: So many feature vectors are looked at, and the inputs of so many images.
_VECTORS, _INPUTS = 2048, 64
#: Of fewer images nothing can be said: two differ in one direction only.
_FEWEST = 8
#: Maps are looked at in at most so many places along each side.
_SIDE = 4


class Looked:
    """Features of the first test images, one vector each, or of maps one for each of a few places.

    Whether maps have collapsed cannot be told from their means: those of tiles of one landscape are alike by right.
    And what differs between places only is the position, not the image. So each place is compared between images.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []  # (images, places, D)

    @property
    def enough(self) -> bool:
        return sum(part.shape[0] * part.shape[1] for part in self._parts) >= _VECTORS

    def add(self, features: Tensor) -> None:
        """(B, D) features, or (B, D, h, w) maps, of which the deepest say most of the encoder."""
        if self.enough:
            return
        if features.ndim == 4:
            height, width = (min(side, _SIDE) for side in features.shape[-2:])
            features = F.adaptive_avg_pool2d(features.float(), (height, width)).flatten(2).mT
        else:
            features = features[:, None]
        self._parts.append(features[:_VECTORS].float().cpu())

    def facts(self) -> dict[str, float]:
        """`feature_dim`, `feature_std_l2` and `feature_rank` of a score row; nothing where too few were looked at."""
        found = torch.cat(self._parts).double() if self._parts else torch.empty(0, 1, 1)
        found = found[: max(1, _VECTORS // found.shape[1])]
        if len(found) < _FEWEST:
            return {}
        return {
            "feature_dim": found.shape[2], "feature_std_l2": F.normalize(found, dim=2).std(dim=0).mean().item(),
            "feature_rank": rankme((found - found.mean(dim=0)).flatten(0, 1)),
        }  # fmt: skip


def input_facts(images: LabelledImages, model: FeatureModel) -> dict[str, Any]:
    """`input_band` and its numbers: the standardised input of some test images as they are, of a pair both."""
    what, names, means, stds = images.what, [], [], []
    for layer in images.layers:
        values = layer.read(what.test_split, slice(0, _INPUTS), what.operator.identity)
        inputs = (values - model.mean) / model.std  # not `standardise`: it hides what is not finite
        std, mean = torch.std_mean(inputs.double(), dim=(0, 2, 3), correction=0)
        date = f" ({layer.layer.removeprefix('image_')})" if what.task.pairs else ""
        names += [f"{name}{date}" for name in layer.names]
        means += mean.tolist()
        stds += std.tolist()
    return farthest_band(names, means, stds)
