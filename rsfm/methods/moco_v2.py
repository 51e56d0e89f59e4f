"""MoCo v2 (Chen et al. 2020, "Improved Baselines with Momentum Contrastive Learning", arXiv 2003.04297)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.data.augment import Augmenter, View
from rsfm.data.seeding import seeded
from rsfm.data.source import Batch, LayerInput
from rsfm.errors import RsfmError
from rsfm.losses.contrastive import alignment, contrast_signals, info_nce, moco_v2_logits, uniformity
from rsfm.losses.gather import gather_detached
from rsfm.methods.base import LossParts, Method, Panel, ParamGroup, Progress, Views, view_size
from rsfm.methods.pairs import pair_panel
from rsfm.models.ema import frozen_copy, update_average
from rsfm.models.projectors import moco_v2_head
from rsfm.models.resnet import ResNet, build_resnet
from rsfm.registry.moco_v2 import MoCoV2Params
from rsfm.specs import PretrainSpec, ResNetParams


def group_size(spec: PretrainSpec, groups: int) -> int:
    """Images per BatchNorm group.

    Raises:
        RsfmError: the images of a pass do not divide into `groups` of two or more.
    """
    images = spec.optim.images_per_pass
    if images % groups or images // groups < 2:
        raise RsfmError(
            f"A forward pass has {images} images (optim.batch_size / optim.accumulate); they do not divide into "
            f"batchnorm_groups={groups} groups of two or more. Choose another number of groups or batch size."
        )
    return images // groups


class MoCoV2(Method):
    """Tell the key of a query's other view from a queue of earlier keys.

    Views: `view1` (queries) and `view2` (keys) (B, C, S, S), `order` (B,) in which the keys pass.

    Attributes:
        queue: (K, d) keys of unit length, first in, first out; random at the start.
        keys_seen: how many keys have entered so far; modulo K, where the next one goes.
    """

    encoder: ResNet

    def __init__(
        self, encoder: ResNet, params: MoCoV2Params, layer: LayerInput, *, batch_size: int, group_size: int
    ) -> None:
        super().__init__()
        if params.queue_size % batch_size:
            raise RsfmError(
                f"queue_size {params.queue_size} is not a multiple of optim.batch_size {batch_size}: a step's keys "
                "take the place of the oldest ones as a whole. Change one of them."
            )
        self.params, self.layer, self.batch_size, self.group_size = params, layer.name, batch_size, group_size
        self.strangers = params.queue_size
        self.augment = Augmenter(layer, params.augment)
        self.remarks += self.augment.remarks
        if params.batchnorm_groups == 1:
            self.remarks.append("One BatchNorm group: its statistics can give away which images belong together.")
        self.encoder = encoder
        self.head = moco_v2_head(encoder.feature_dim, params.projection_dim)
        self.key_encoder, self.key_head = frozen_copy(self.encoder), frozen_copy(self.head)
        self.queue: Tensor
        self.keys_seen: Tensor
        queue = torch.randn(params.queue_size, params.projection_dim)
        self.register_buffer("queue", F.normalize(queue, dim=1))
        self.register_buffer("keys_seen", torch.zeros((), dtype=torch.int64))

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput]) -> Self:
        (layer,) = inputs.values()
        params, network = spec.params, spec.encoder
        assert isinstance(params, MoCoV2Params)
        assert isinstance(network, ResNetParams)
        size = group_size(spec, params.batchnorm_groups)
        encoder = build_resnet(network, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        with seeded("head", spec.seed):
            return cls(encoder, params, layer, batch_size=spec.optim.batch_size, group_size=size)

    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        images = batch.images[self.layer]
        view = View(self.encoder.image_size, (self.params.crop_min_scale, 1.0), blur_p=self.params.blur_p)
        order = torch.rand(len(images), generator=generator, device=generator.device).argsort()
        return {name: self.augment(images, view, generator) for name in ("view1", "view2")} | {"order": order}

    def _embed(self, encoder: ResNet, head: nn.Module, images: Tensor) -> Tensor:
        """(B, d) projections; BatchNorm sees `group_size` images at a time."""
        groups = max(1, round(len(images) / self.group_size))
        return head(torch.cat([encoder.features(part) for part in images.tensor_split(groups)]))

    @torch.no_grad()
    def keys(self, images: Tensor, order: Tensor) -> Tensor:
        """(B, d) keys of unit length, float32.

        The images pass in `order`, so that the groups whose statistics BatchNorm takes are others than the queries':
        otherwise a query could tell its key by them (arXiv 1911.05722, section 3.3).
        """
        shuffled = self._embed(self.key_encoder, self.key_head, images[order])
        return F.normalize(shuffled[order.argsort()].float(), dim=1)

    def loss(self, views: Views) -> LossParts:
        queries = self._embed(self.encoder, self.head, views["view1"])
        keys = self.keys(views["view2"], views["order"])
        self.pending.append({"keys": keys})
        logits = moco_v2_logits(queries, keys, self.queue, self.params.temperature)
        labels = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        total = info_nce(logits, labels)
        logs = contrast_signals(logits, labels, self.params.temperature)
        # Mean age in steps of the real keys: 1 for the last batch's, and so on.
        filled = self.keys_seen.clamp(max=len(self.queue))
        logs |= {
            "alignment": alignment(queries.detach(), keys),
            "uniformity": uniformity(keys),
            "queue_age": (filled / self.batch_size + 1) / 2 * (filled > 0),
            "queue_filled": filled / len(self.queue),
        }
        return LossParts(total, {"contrastive": total}, logs)

    def after_step(self, progress: Progress) -> None:
        """The keys enter the queue, and the key encoder follows.

        The paper moves the key encoder before the next keys are made. That is the same: between here and there
        nothing changes, and before the first step both encoders are equal. Only so does a checkpoint hold the result.
        """
        keys = torch.cat([gather_detached(part["keys"]) for part in self.pending])
        places = (self.keys_seen + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[places] = keys
        self.keys_seen += len(keys)
        update_average(self.key_encoder, self.encoder, self.params.key_momentum)
        update_average(self.key_head, self.head, self.params.key_momentum)

    def parameter_groups(self) -> list[ParamGroup]:
        """One group: the paper decays everything, biases and norms too."""
        return [ParamGroup([p for p in self.parameters() if p.requires_grad])]

    def views_panel(self, batch: Batch, views: Views) -> Panel:
        return pair_panel(batch.images[self.layer], views)
