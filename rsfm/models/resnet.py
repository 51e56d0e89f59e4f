"""Residual networks (He et al. 2015, arXiv 1512.03385) on any number of bands, from timm."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from rsfm.data.seeding import from_seed
from rsfm.errors import RsfmError
from rsfm.models.vit import Encoder
from rsfm.specs import ResNetParams


class ResNet(Encoder):
    """A ResNet whose features are the global average of the last stage."""

    architecture = "resnet"
    pooling = "mean_map"

    def __init__(self, params: ResNetParams, in_chans: int, image_size: int) -> None:
        super().__init__()
        self.params, self.in_chans, self.image_size = params, in_chans, image_size
        self.network = timm.create_model(params.layers, pretrained=False, in_chans=in_chans, num_classes=0)
        if params.stem == "small":
            # The stem of the CIFAR variants: tiny images would be gone after a stride of 32.
            self.network.conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(self.network.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.network.maxpool = nn.Identity()
        self.feature_dim = self.network.num_features

    def config(self) -> dict[str, Any]:
        return self.params.model_dump(mode="json")

    @classmethod
    def from_config(cls, config: dict[str, Any], in_chans: int, image_size: int) -> ResNet:
        return cls(ResNetParams.model_validate(config), in_chans, image_size)

    def ends(self) -> tuple[nn.Module, nn.Module]:
        return self.network.layer1, self.network.layer4

    def features(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.in_chans:
            raise RsfmError(f"This encoder takes {self.in_chans} bands, got {x.shape[1]}.")
        return self.network(x)

    def maps(self, x: Tensor) -> list[Tensor]:
        """The ends of the four stages, at strides 4, 8, 16 and 32 (with the small stem 1, 2, 4 and 8)."""
        return self.network.forward_intermediates(x, indices=4, intermediates_only=True)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters form a layer, as `timm.optim` asks for it."""
        return {"stem": r"^network\.conv1|^network\.bn1", "blocks": r"^network\.layer(\d+)\.(\d+)"}

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def build_resnet(params: ResNetParams, in_chans: int, image_size: int, seed: int) -> ResNet:
    """A freshly initialised ResNet, a function of `seed`; the global random state stays as it is."""
    with from_seed(seed):
        return ResNet(params, in_chans, image_size)
