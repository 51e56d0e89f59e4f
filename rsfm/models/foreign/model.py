"""An encoder of others as a model for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rsfm.models.export import FeatureModel, weights_hash
from rsfm.models.foreign.inputs import Feed
from rsfm.models.foreign.network import Network
from rsfm.specs import spec_hash


class ForeignModel(FeatureModel):
    """A network with what it must be fed: a pack's bands in its order, scaling and size.

    Args:
        size: pixels per side in training: images are resized to it where the network is fixed; else smaller ones are
            enlarged to it.
        settings: all else that decides the features (wavelengths, ground sampling distance, pooling).
        resampling: how its training resized images.
    """

    def __init__(
        self, network: Network, feed: Feed, *, name: str, title: str, group: str, size: int, settings: dict[str, Any],
        remarks: Sequence[str], resampling: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:  # fmt: skip
        fields = {
            "weights": weights_hash(network.state_dict()), "settings": settings, "size": size, "fixed": network.fixed,
            "resampling": resampling,
            "bands": [b.model_dump(mode="json") for b in feed.bands],
            "limits": [repr(v) for v in (*feed.low, *feed.high)],  # infinity has no JSON
        }  # fmt: skip
        super().__init__(
            key=spec_hash(fields), name=name, title=title, group=group, seed=0, bands=feed.bands,
            feature_dim=network.feature_dim,
        )  # fmt: skip
        self.network = network.eval().requires_grad_(False)
        self.size, self.resampling = size, resampling
        how = "Images are resized to" if network.fixed else "Smaller images are enlarged to"
        self.remarks = (*feed.remarks, *remarks, f"{how} {size} × {size} pixels.")
        self.register_buffer("low", torch.tensor(feed.low).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("high", torch.tensor(feed.high).view(1, -1, 1, 1), persistent=False)

    def features(self, x: Tensor) -> Tensor:
        return self.network.encode(self.as_trained(x))

    def maps(self, x: Tensor) -> list[Tensor]:
        found = self.network.pyramid(self.as_trained(x))
        return super().maps(x) if found is None else found

    @property
    def trainable(self) -> nn.Module:
        return self.network.trainable

    def as_trained(self, x: Tensor) -> Tensor:
        """Standardised values, cut off as in training, at the network's size (anti-aliased, as Pillow does it)."""
        x = torch.minimum(torch.maximum(x, self.low), self.high)
        height, width = x.shape[-2:]
        enlarge = max(1.0, self.size / min(height, width))
        size = (self.size, self.size) if self.network.fixed else (round(height * enlarge), round(width * enlarge))
        if size != (height, width):
            x = nn.functional.interpolate(x, size, mode=self.resampling, align_corners=False, antialias=True)
        return x
