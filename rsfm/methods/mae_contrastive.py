"""Masked autoencoder with contrast, after CAN (Mishra et al. 2022, "A simple, efficient and scalable contrastive masked
autoencoder for learning visual representations", arXiv 2210.16870); without noise prediction unless it is switched on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.data.augment import Augmenter, View, uniform
from rsfm.data.seeding import seeded
from rsfm.data.source import Batch, LayerInput
from rsfm.errors import RsfmError
from rsfm.losses.contrastive import alignment, contrast_signals, info_nce, nt_xent_logits, uniformity
from rsfm.losses.reconstruction import masked_patch_mse, pixel_targets
from rsfm.masking.uniform import uniform_mask, visible_count
from rsfm.methods.base import LossParts, Method, Panel, Progress, Views, scalar, view_size
from rsfm.methods.mae import MAEDecoder, hide_patches, reconstruction_panel, take
from rsfm.methods.pairs import require_others
from rsfm.models.projectors import simclr_projector
from rsfm.models.vit import ViT, build_encoder, init_transformer, patchify
from rsfm.registry.mae_contrastive import MAEContrastiveParams
from rsfm.specs import EncoderParams, PretrainSpec


def task_gradients(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Norms of each task's gradient on shared parameters; of contrast and reconstruction also the ratio and cosine.

    The graph stays for the backward pass.
    """
    gradients = {}
    for name, loss in losses.items():
        parts = torch.autograd.grad(loss, parameters, retain_graph=True)
        gradients[name] = torch.cat([part.flatten().float() for part in parts])
    signals = {f"grad_norm/{name}": gradient.norm() for name, gradient in gradients.items()}
    if {"contrastive", "reconstruction"} <= gradients.keys():
        contrast, reconstruction = gradients["contrastive"], gradients["reconstruction"]
        signals["grad_ratio"] = contrast.norm() / reconstruction.norm().clamp(min=1e-12)
        signals["grad_cosine"] = F.cosine_similarity(contrast, reconstruction, dim=0)
    return signals


class MAEContrastive(Method):
    """Reconstruct the hidden patches of two views from their visible ones, and contrast the means of these.

    Views: `image` (V·B, C, S, S), the views one after the other; `keep` (V·B, K) and `hidden` (V·B, N − K) positions
    of patches; with denoising, `noise` like the image and `noise_level` (V·B, 1, 1, 1); `compare_gradients` on the
    steps on which the tasks' gradients are compared.
    """

    encoder: ViT

    def __init__(self, encoder: ViT, params: MAEContrastiveParams, layer: LayerInput, seed: int = 0) -> None:
        super().__init__()
        self.encoder, self.params, self.layer = encoder, params, layer.name
        self.augment = Augmenter(layer, params.augment)
        self.remarks += self.augment.remarks
        self.tokens = encoder.grid[0] * encoder.grid[1]
        visible = visible_count(self.tokens, params.mask_ratio)
        if visible == 0 or (visible == self.tokens and params.reconstruction_weight):
            raise RsfmError(
                f"mask_ratio {params.mask_ratio} leaves {visible} of {self.tokens} patches visible; at least one must "
                "be visible, and one hidden to be reconstructed. Use another ratio, smaller patches, or "
                "reconstruction_weight=0."
            )
        self.decoder: MAEDecoder | None = None
        self.noise_head: nn.Linear | None = None
        self.projector: nn.Sequential | None = None
        patch_values, width = encoder.patch_size**2 * encoder.in_chans, encoder.feature_dim
        if params.reconstruction_weight or params.denoising_weight:
            with seeded("decoder", seed):
                self.decoder = MAEDecoder(params, width, encoder.grid, patch_values, encoder.prefix_tokens)
        if params.denoising_weight:
            with seeded("noise", seed):
                self.noise_head = nn.Linear(params.decoder_width, patch_values)
                init_transformer(self.noise_head)
        if params.contrastive_weight:
            with seeded("projector", seed):
                self.projector = simclr_projector(
                    width, params.projector_width or width, params.projection_dim, params.projector_layers
                )

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput]) -> Self:
        (layer,) = inputs.values()
        params, network = spec.params, spec.encoder
        assert isinstance(params, MAEContrastiveParams)
        assert isinstance(network, EncoderParams)
        remarks = require_others(spec) if params.contrastive_weight else []
        encoder = build_encoder(network, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        method = cls(encoder, params, layer, spec.seed)
        method.remarks += remarks
        method.strangers = spec.optim.images_per_pass if params.contrastive_weight else 0
        return method

    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        images, p = batch.images[self.layer], self.params
        view = View(self.encoder.image_size, (p.crop_min_scale, 1.0), blur_p=p.blur_p)
        both = torch.cat([self.augment(images, view, generator) for _ in range(p.view_count)])
        keep, hidden = uniform_mask(len(both), self.tokens, p.mask_ratio, generator)
        views = {"image": both, "keep": keep, "hidden": hidden}
        if p.denoising_weight:
            views["noise"] = torch.randn(both.shape, generator=generator, device=both.device)
            views["noise_level"] = uniform((len(both), 1, 1, 1), 0.0, p.noise_max, generator)
        if p.gradients_every_steps and progress.step % p.gradients_every_steps == 0:
            views["compare_gradients"] = scalar(1.0, both)
        return views

    def loss(self, views: Views) -> LossParts:
        image, keep, p = views["image"], views["keep"], self.params
        seen = image + views["noise_level"] * views["noise"] if p.denoising_weight else image
        tokens = self.encoder.forward_patches(patchify(seen, self.encoder.patch_size), self.encoder.grid, keep)
        parts: dict[str, Tensor] = {}
        logs: dict[str, Tensor] = {}
        if self.decoder is not None:
            decoded = self.decoder.decode(tokens, keep)
            if p.reconstruction_weight:
                error, flat = self._reconstruction(decoded, image, views["hidden"])
                parts["reconstruction"] = p.reconstruction_weight * error
                logs |= {"reconstruction_error": error, "flat_patch_share": flat}
        if self.projector is not None:
            z1, z2 = self.projector(self.encoder.pool(tokens)).chunk(2)
            logits, partners = nt_xent_logits(z1, z2, p.temperature)
            contrast = info_nce(logits, partners)
            parts["contrastive"] = p.contrastive_weight * contrast
            logs |= contrast_signals(logits, partners, p.temperature) | {"nt_xent": contrast}
            logs |= {"alignment": alignment(z1.detach(), z2.detach()), "uniformity": uniformity(z1.detach())}
        if self.noise_head is not None:
            assert self.decoder is not None
            # Where the noise can be seen: on visible patches.
            prediction = self.noise_head(self.decoder.norm(take(decoded, keep)))
            target = take(patchify(views["noise"], self.encoder.patch_size), keep)
            error = F.mse_loss(prediction.float(), target)
            parts["denoising"] = p.denoising_weight * error
            logs["denoising_error"] = error
        if "compare_gradients" in views and torch.is_grad_enabled():
            logs |= task_gradients(parts, list(self.encoder.blocks[-1].parameters()))
        return LossParts(sum(parts.values(), torch.zeros((), device=image.device)), parts, logs)

    def _reconstruction(self, decoded: Tensor, image: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over the views of the masked autoencoder's loss, and the share of flat patches."""
        assert self.decoder is not None
        count = self.params.view_count
        target, counts = pixel_targets(
            take(patchify(image, self.encoder.patch_size), hidden), bands=self.encoder.in_chans,
            norm_pix=self.params.norm_pix, flat_variance=self.params.flat_patch_variance,
        )  # fmt: skip
        prediction = self.decoder.predict(decoded, hidden)
        per_view = zip(prediction.chunk(count), target.chunk(count), counts.chunk(count), strict=True)
        error = torch.stack([masked_patch_mse(*tensors) for tensors in per_view]).mean()
        return error, (~counts).float().mean()

    # -- what people see -------------------------------------------------------------------------------------------
    def views_panel(self, batch: Batch, views: Views) -> Panel:
        rows = [("stored", batch.images[self.layer])]
        count = self.params.view_count
        masked = hide_patches(views["image"], views["hidden"], self.encoder)
        for number, (view, seen) in enumerate(
            zip(views["image"].chunk(count), masked.chunk(count), strict=True), start=1
        ):  # fmt: skip
            rows += [(f"view {number}", view), (f"view {number}, visible", seen)]
        return Panel(
            "views", "First batch", rows, "What is stored, the augmented views, and what the encoder sees of them."
        )  # fmt: skip

    def previews(self, views: Views) -> list[Panel]:
        if not self.params.reconstruction_weight:
            return []
        assert self.decoder is not None
        first = {name: views[name].chunk(self.params.view_count)[0] for name in ("image", "keep", "hidden")}
        return [reconstruction_panel(self.encoder, self.decoder, first, norm_pix=self.params.norm_pix)]
