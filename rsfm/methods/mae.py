"""Masked autoencoder (He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from timm.layers import LayerNorm
from torch import Tensor, nn

from rsfm.data.seeding import seeded
from rsfm.data.source import Batch, LayerInput
from rsfm.data.views import random_crops
from rsfm.errors import RsfmError
from rsfm.losses.reconstruction import EPS, masked_patch_mse, patch_variance, pixel_targets
from rsfm.masking.uniform import uniform_mask, visible_count
from rsfm.methods.base import LossParts, Method, Panel, Progress, Views, view_panel, view_size
from rsfm.models.vit import (
    ViT,
    blank_patches,
    build_encoder,
    init_transformer,
    patchify,
    sincos_positions,
    transformer_blocks,
    unpatchify,
)
from rsfm.registry.mae import MAEParams, ReconstructionParams
from rsfm.specs import PretrainSpec


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """(B, N, D) tokens at (B, K) positions: (B, K, D)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class MAEDecoder(nn.Module):
    """A narrow transformer that fills the hidden places in and predicts their pixels.

    Args:
        encoder_width: D of the incoming tokens.
        patch_values: p² · C values per patch.
        prefix: tokens before the patch tokens (a class token), passed through.
    """

    def __init__(
        self, params: ReconstructionParams, encoder_width: int, grid: tuple[int, int], patch_values: int, prefix: int
    ) -> None:
        super().__init__()
        width = params.decoder_width
        self.prefix = prefix
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(width, grid), persistent=False)
        self.blocks = transformer_blocks(width, params.decoder_depth, params.decoder_heads)
        self.norm = LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, patch_values)
        self.apply(init_transformer)
        nn.init.normal_(self.mask_token, std=0.02)

    def decode(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Fill the hidden places in and let all places see each other.

        Args:
            tokens: (B, prefix + K, D) from the encoder.
            keep: (B, K) where the visible tokens belong.

        Returns:
            (B, N, decoder width), all places in order, before the final norm.
        """
        x = self.embed(tokens)
        visible = x[:, self.prefix :]
        canvas = self.mask_token.to(x.dtype).expand(len(x), len(self.positions), -1)
        filled = canvas.scatter(1, keep.unsqueeze(-1).expand_as(visible), visible) + self.positions
        x = torch.cat([x[:, : self.prefix].to(filled.dtype), filled], dim=1)
        for block in self.blocks:
            x = block(x)
        return x[:, self.prefix :]

    def predict(self, decoded: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Pixels (B, M, P) of patches at (B, M) positions, from what `decode` gives; None: all, in order."""
        return self.head(self.norm(decoded if wanted is None else take(decoded, wanted)))

    def forward(self, tokens: Tensor, keep: Tensor, wanted: Tensor | None = None) -> Tensor:
        """`decode`, then `predict`."""
        return self.predict(self.decode(tokens, keep), wanted)


class MAE(Method):
    """Encode the visible patches, decode all, regress the pixels of the hidden ones.

    Views: `image` (B, C, S, S), `keep` (B, K) and `hidden` (B, N − K) positions of patches.
    """

    encoder: ViT

    def __init__(self, encoder: ViT, params: MAEParams, layer: str = "image") -> None:
        super().__init__()
        self.encoder = encoder
        self.params = params
        self.layer = layer
        self.tokens = encoder.grid[0] * encoder.grid[1]
        visible = visible_count(self.tokens, params.mask_ratio)
        if not 0 < visible < self.tokens:
            raise RsfmError(
                f"mask_ratio {params.mask_ratio} leaves {visible} of {self.tokens} patches visible; at least one must "
                "be visible and one hidden. Use smaller patches or another ratio."
            )
        patch_values = encoder.patch_size**2 * encoder.in_chans
        self.decoder = MAEDecoder(params, encoder.feature_dim, encoder.grid, patch_values, encoder.prefix_tokens)

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput]) -> Self:
        (layer,) = inputs.values()
        params = spec.params
        assert isinstance(params, MAEParams)
        encoder = build_encoder(spec.encoder, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        with seeded("decoder", spec.seed):
            return cls(encoder, params, layer.name)

    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        images = batch.images[self.layer]
        crops = random_crops(
            images, self.encoder.image_size, scale=(self.params.crop_min_scale, 1.0), flips=self.params.flips,
            generator=generator,
        )  # fmt: skip
        keep, hidden = uniform_mask(len(images), self.tokens, self.params.mask_ratio, generator)
        return {"image": crops, "keep": keep, "hidden": hidden}

    def loss(self, views: Views) -> LossParts:
        """Mean squared error of the hidden patches, averaged over all that are not flat.

        Σ mask · e / Σ mask, with e the mean over the values of a patch (section 3 of the paper).
        """
        patches = patchify(views["image"], self.encoder.patch_size)
        tokens = self.encoder.forward_patches(patches, self.encoder.grid, views["keep"])
        prediction = self.decoder(tokens, views["keep"], views["hidden"])
        target, counts = pixel_targets(
            take(patches, views["hidden"]), bands=self.encoder.in_chans, norm_pix=self.params.norm_pix,
            flat_variance=self.params.flat_patch_variance,  # the data are standardised: their variance is 1
        )  # fmt: skip
        total = masked_patch_mse(prediction, target, counts)
        return LossParts(total, {"reconstruction": total}, {"flat_patch_share": (~counts).float().mean()})

    def reconstruct(self, views: Views) -> Tensor:
        """(B, C, S, S): visible patches as they are, hidden ones as predicted; see `reconstruct`."""
        return reconstruct(self.encoder, self.decoder, views, norm_pix=self.params.norm_pix)

    def views_panel(self, batch: Batch, views: Views) -> Panel:
        return view_panel(batch.images[self.layer], views["image"])

    def previews(self, views: Views) -> list[Panel]:
        return [reconstruction_panel(self.encoder, self.decoder, views, norm_pix=self.params.norm_pix)]


def reconstruct(encoder: ViT, decoder: MAEDecoder, views: Views, *, norm_pix: bool) -> Tensor:
    """(B, C, S, S): visible patches as they are, hidden ones as predicted. For display only.

    With `norm_pix` a prediction says how a patch looks relative to its own mean and variance; these are taken
    from the true patch, which the model has not seen.

    Args:
        views: `image` and `keep`, as in `MAE`.
    """
    size, grid, keep = encoder.patch_size, encoder.grid, views["keep"]
    patches = patchify(views["image"], size)
    prediction = decoder(encoder.forward_patches(patches, grid, keep), keep).float()
    if norm_pix:
        mean, variance, _ = patch_variance(patches)
        prediction = prediction * torch.sqrt(variance + EPS) + mean
    where = keep.unsqueeze(-1).expand(-1, -1, patches.shape[-1])
    return unpatchify(prediction.scatter(1, where, patches.gather(1, where)), size, grid)


def hide_patches(images: Tensor, hidden: Tensor, encoder: ViT) -> Tensor:
    """`blank_patches` at (B, M) positions."""
    blank = torch.zeros(len(images), encoder.grid[0] * encoder.grid[1], dtype=torch.bool, device=images.device)
    return blank_patches(images, blank.scatter(1, hidden, True), encoder.patch_size)


def reconstruction_panel(encoder: ViT, decoder: MAEDecoder, views: Views, *, norm_pix: bool) -> Panel:
    """Original, masked and reconstructed views, for people; `views` as in `MAE`."""
    caption = "Hidden patches are predicted, visible ones kept."
    if norm_pix:
        caption += " For display, predictions get the true mean and variance of their patch."
    rows = [
        ("original", views["image"]), ("masked", hide_patches(views["image"], views["hidden"], encoder)),
        ("reconstruction", reconstruct(encoder, decoder, views, norm_pix=norm_pix)),
    ]  # fmt: skip
    return Panel("reconstruction", "Reconstruction", rows, caption)
