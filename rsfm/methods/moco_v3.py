"""MoCo v3 (Chen et al. 2021, "An Empirical Study of Training Self-Supervised Vision Transformers", 2104.02057)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from rsfm.data.augment import Augmenter, View
from rsfm.data.seeding import seeded
from rsfm.data.source import Batch, LayerInput
from rsfm.losses.contrastive import alignment, contrast_signals, info_nce, moco_v3_logits, uniformity
from rsfm.methods.base import LossParts, Method, Panel, Progress, Views, scalar, view_size
from rsfm.methods.pairs import pair_panel, require_others
from rsfm.models.ema import frozen_copy, update_average
from rsfm.models.projectors import moco_v3_predictor, moco_v3_projector
from rsfm.models.vit import ViT, build_encoder
from rsfm.registry.moco_v3 import MoCoV3Params
from rsfm.specs import EncoderParams, PretrainSpec
from rsfm.train.schedules import cosine


def init_moco_v3(encoder: ViT) -> None:
    """Draw anew what MoCo v3 initialises otherwise than MAE: queries, keys and values as three matrices, and a class
    token next to zero."""
    for block in encoder.blocks:
        weight = block.attn.qkv.weight
        # Xavier's fan-out is that of one of the three.
        bound = math.sqrt(6 / (weight.shape[0] // 3 + weight.shape[1]))
        nn.init.uniform_(weight, -bound, bound)
    if encoder.class_token is not None:
        nn.init.normal_(encoder.class_token, std=1e-6)


class MoCoV3(Method):
    """Predict the key of an image's other view, made by a moving average of the network; both ways.

    Views: `view1` and `view2` (B, C, S, S), and `key_momentum` for the log.
    """

    encoder: ViT

    def __init__(self, encoder: ViT, params: MoCoV3Params, layer: LayerInput) -> None:
        super().__init__()
        self.params, self.layer = params, layer.name
        self.augment = Augmenter(
            layer, params.augment, wants_solarize=max(params.solarize_p_1, params.solarize_p_2) > 0
        )  # fmt: skip
        self.remarks += self.augment.remarks
        self.encoder = encoder
        init_moco_v3(encoder)
        hidden, out = params.projector_width, params.projection_dim
        self.projector = moco_v3_projector(encoder.feature_dim, hidden, out, params.projector_layers)
        self.predictor = moco_v3_predictor(out, hidden)
        self.key_encoder, self.key_projector = frozen_copy(self.encoder), frozen_copy(self.projector)
        self.encoder.patch_projection.requires_grad_(not params.freeze_patch_projection)

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput]) -> Self:
        (layer,) = inputs.values()
        params, network = spec.params, spec.encoder
        assert isinstance(params, MoCoV3Params)
        assert isinstance(network, EncoderParams)
        remarks = require_others(spec)
        encoder = build_encoder(network, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        with seeded("moco_v3", spec.seed):
            method = cls(encoder, params, layer)
        method.remarks += remarks
        method.strangers = spec.optim.images_per_pass
        return method

    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        images, p = batch.images[self.layer], self.params
        size, scale = self.encoder.image_size, (p.crop_min_scale, 1.0)
        first = View(size, scale, blur_p=p.blur_p_1, solarize_p=p.solarize_p_1)
        second = View(size, scale, blur_p=p.blur_p_2, solarize_p=p.solarize_p_2)
        return {
            "view1": self.augment(images, first, generator), "view2": self.augment(images, second, generator),
            "key_momentum": scalar(self._momentum(progress), images),
        }  # fmt: skip

    def queries(self, views: Views) -> tuple[Tensor, Tensor]:
        """Predictions (B, d) for both views. BatchNorm sees each view by itself, as in the authors' code."""
        features = self.encoder.features(torch.cat([views["view1"], views["view2"]])).chunk(2)
        q1, q2 = (self.predictor(self.projector(x)) for x in features)
        return q1, q2

    @torch.no_grad()
    def keys(self, views: Views) -> tuple[Tensor, Tensor]:
        """Keys (B, d) of both views, from the moving average."""
        features = self.key_encoder.features(torch.cat([views["view1"], views["view2"]])).chunk(2)
        k1, k2 = (self.key_projector(x) for x in features)
        return k1, k2

    def loss(self, views: Views) -> LossParts:
        (q1, q2), (k1, k2) = self.queries(views), self.keys(views)
        temperature = self.params.temperature
        terms, signals = [], []
        for queries, keys in ((q1, k2), (q2, k1)):
            logits, labels = moco_v3_logits(queries, keys, temperature)
            terms.append(2 * temperature * info_nce(logits, labels))
            signals.append(contrast_signals(logits, labels, temperature))
        total = terms[0] + terms[1]
        logs = {name: (signals[0][name] + signals[1][name]) / 2 for name in signals[0]}
        logs |= {"alignment": alignment(q1.detach(), k2), "uniformity": uniformity(k2)}
        return LossParts(total, {"contrastive": total}, logs | {"key_momentum": views["key_momentum"]})

    def _momentum(self, progress: Progress) -> float:
        return cosine(progress.step, progress.steps, self.params.key_momentum, 1.0)

    def after_step(self, progress: Progress) -> None:
        """The key encoder follows.

        The paper moves it before the keys of the next step are made, with that step's momentum. Moving it here is the
        same, since nothing changes in between and both networks are equal before the first step; and a checkpoint
        holds the result.
        """
        momentum = self._momentum(progress)
        update_average(self.key_encoder, self.encoder, momentum)
        update_average(self.key_projector, self.projector, momentum)

    def views_panel(self, batch: Batch, views: Views) -> Panel:
        return pair_panel(batch.images[self.layer], views)
