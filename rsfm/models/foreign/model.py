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
        size: pixels per side in training (see `size_taken`).
        settings: all else that decides the features (wavelengths, ground sampling distance, pooling).
        resampling: how its training resized images.
    """

    def __init__(
        self, network: Network, feed: Feed, *, name: str, title: str, group: str, size: int, settings: dict[str, Any],
        remarks: Sequence[str], resampling: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:  # fmt: skip
        fields = {
            "weights": weights_hash(network.state_dict()), "settings": settings, "size": size, "fixed": network.fixed,
            "divisor": network.divisor, "resampling": resampling,
            "bands": [b.model_dump(mode="json") for b in feed.bands],
            "limits": [repr(v) for v in (*feed.low, *feed.high)],  # infinity has no JSON
        }  # fmt: skip
        super().__init__(
            key=spec_hash(fields), name=name, title=title, group=group, seed=0, bands=feed.bands,
            feature_dim=network.feature_dim,
        )  # fmt: skip
        self.network = network.eval()
        self.freeze()
        self.size, self.resampling = size, resampling
        self.remarks = (*feed.remarks, *remarks, self._size_in_words())
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
        size = self.size_taken(height, width)
        if size != (height, width):
            x = nn.functional.interpolate(x, size, mode=self.resampling, align_corners=False, antialias=True)
        return x

    def size_taken(self, height: int, width: int) -> tuple[int, int]:
        """What images of `height` × `width` pixels are resized to.

        A network whose positions are fixed takes the size of training, whatever the image. All others see an image
        at its own size, so that a pixel stays what it is on the ground and a large image keeps its detail: sides
        become the next multiple of the patch. Smaller images than those of training are enlarged to them, as their
        few patches or their last map of 2 × 2 would see next to nothing.
        """
        if self.network.fixed:
            return self.size, self.size
        enlarge, divisor = max(1.0, self.size / min(height, width)), self.network.divisor
        rows, columns = (-(-round(side * enlarge) // divisor) * divisor for side in (height, width))
        return rows, columns

    def _size_in_words(self) -> str:
        if self.network.fixed:
            return f"Images are resized to {self.size} × {self.size} pixels, the only size that this network takes."
        words = f"Images with a side below {self.size} pixels are enlarged to it; larger ones keep their size"
        return f"{words}." if self.network.divisor == 1 else f"{words}, or the next multiple of {self.network.divisor}."
