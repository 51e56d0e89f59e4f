"""Small MoCo methods: v2 with a network of its own, v3 with a tiny ViT."""

from __future__ import annotations

import torch
from pair_world import build, layer, wave
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.methods.base import Method
from rsfm.methods.moco_v2 import MoCoV2
from rsfm.models.vit import Encoder
from rsfm.registry.moco_v2 import MoCoV2Params

QUEUE = F.normalize(wave(6, 8, 0.45, 1), dim=1)
RESNET = {"layers": "resnet18", "stem": "imagenet"}


class Small(Encoder):
    """A convolutional network with BatchNorm, quick enough for tests."""

    architecture = "small"
    pooling = "mean_map"

    def __init__(self, in_chans: int = 4) -> None:
        super().__init__()
        self.in_chans, self.image_size, self.feature_dim = in_chans, 32, 24
        self.network = nn.Sequential(
            nn.Conv2d(in_chans, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 24, 4, stride=4), nn.BatchNorm2d(24),
        )  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        return self.network(x).mean(dim=(2, 3))


def small(groups: int = 2, batch_size: int = 16, seed: int = 0, **params) -> MoCoV2:
    values = {"queue_size": 32, "projection_dim": 16, "batchnorm_groups": groups, **params}
    torch.manual_seed(seed)
    return MoCoV2(Small(), MoCoV2Params(**values), layer(), batch_size=batch_size, group_size=batch_size // groups)  # type: ignore[arg-type]


def v3(**settings) -> Method:
    return build("moco_v3", **{"projector_width": 48, "projection_dim": 16, **settings})
