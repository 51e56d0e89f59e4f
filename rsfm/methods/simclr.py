"""SimCLR (Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", 2002.05709)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch

from rsfm.data.augment import Augmenter, View
from rsfm.data.seeding import seeded
from rsfm.data.source import Batch, LayerInput
from rsfm.losses.contrastive import alignment, contrast_signals, info_nce, nt_xent_logits, uniformity
from rsfm.methods.base import LossParts, Method, Panel, Progress, Views, view_size
from rsfm.methods.pairs import pair_panel, require_others
from rsfm.models.projectors import simclr_projector
from rsfm.models.vit import Encoder, build_encoder
from rsfm.registry.simclr import SimCLRParams
from rsfm.specs import EncoderParams, PretrainSpec


class SimCLR(Method):
    """Project two views of each image, and tell each one's partner from all other views.

    Views: `view1` and `view2` (B, C, S, S).
    """

    def __init__(self, encoder: Encoder, params: SimCLRParams, layer: LayerInput) -> None:
        super().__init__()
        self.encoder, self.params, self.layer = encoder, params, layer.name
        self.augment = Augmenter(layer, params.augment)
        self.remarks += self.augment.remarks
        width = encoder.feature_dim
        self.projector = simclr_projector(
            width, params.projector_width or width, params.projection_dim, params.projector_layers
        )

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput]) -> Self:
        (layer,) = inputs.values()
        params, network = spec.params, spec.encoder
        assert isinstance(params, SimCLRParams)
        assert isinstance(network, EncoderParams)
        remarks = require_others(spec)
        encoder = build_encoder(network, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        with seeded("projector", spec.seed):
            method = cls(encoder, params, layer)
        method.remarks += remarks
        method.strangers = spec.optim.images_per_pass
        return method

    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        images = batch.images[self.layer]
        view = View(self.encoder.image_size, (self.params.crop_min_scale, 1.0), blur_p=self.params.blur_p)
        return {name: self.augment(images, view, generator) for name in ("view1", "view2")}

    def loss(self, views: Views) -> LossParts:
        # Both views in one batch, so that BatchNorm sees them alike.
        both = torch.cat([views["view1"], views["view2"]])
        z1, z2 = self.projector(self.encoder.features(both)).chunk(2)
        temperature = self.params.temperature
        logits, partners = nt_xent_logits(z1, z2, temperature)
        total = info_nce(logits, partners)
        logs = contrast_signals(logits, partners, temperature)
        logs |= {"alignment": alignment(z1.detach(), z2.detach()), "uniformity": uniformity(z1.detach())}
        return LossParts(total, {"contrastive": total}, logs)

    def views_panel(self, batch: Batch, views: Views) -> Panel:
        return pair_panel(batch.images[self.layer], views)
