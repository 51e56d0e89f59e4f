"""Predict the tokens of hidden patches (BEiT, Bao et al. 2021, arXiv 2106.08254), wherever the tokens come from."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn

from rsfm.data.augment import Augmenter, View
from rsfm.data.seeding import seeded
from rsfm.data.source import Batch, LayerInput
from rsfm.data.views import cut
from rsfm.errors import RsfmError
from rsfm.losses.gather import sum_over_processes
from rsfm.losses.reconstruction import flat_patches
from rsfm.losses.tokens import entropy_of_counts, masked_token_loss, token_counts
from rsfm.masking.block import block_mask
from rsfm.methods.base import LossParts, Method, Panel, Progress, Views, view_size
from rsfm.models.vit import ViT, blank_patches, build_encoder
from rsfm.registry.augmentation import AugmentParams
from rsfm.registry.token_mim import TokenMIMParams
from rsfm.specs import EncoderParams, PretrainSpec

TOKEN_PIXELS = 8  # per side of a token, in the view that tokens come from
_FREQUENCY_MOMENTUM = 0.99  # of the counts that the entropy of the tokens is computed from


class TokenSource(nn.Module):
    """Where tokens come from. Frozen.

    Attributes:
        codes: number of different tokens, V.
    """

    codes: int

    def tokens(self, images: Tensor) -> Tensor:
        """(B, C, 8·rows, 8·columns) standardised values to (B, rows · columns) int64 tokens, row by row."""
        raise NotImplementedError

    def show(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """What (B, N) tokens stand for: (B, C, 8·rows, 8·columns) standardised values."""
        raise NotImplementedError


@torch.no_grad()
def init_beit(encoder: ViT) -> None:
    """Normal weights of deviation 0.02 cut at ±0.02; what leaves block l is divided by √(2 l), l = 1, 2, ….

    The bias on keys stays where the paper's code has none: it adds the same to all scores of a query, so that
    attention does not depend on it.
    """
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            cut_normal(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if encoder.class_token is not None:
        cut_normal(encoder.class_token)
    for number, block in enumerate(encoder.blocks, start=1):
        for last in (block.attn.proj, block.mlp.fc2):
            last.weight.div_(math.sqrt(2 * number))


def cut_normal(weight: Tensor) -> None:
    """Fill with normal values of deviation 0.02, none beyond one deviation."""
    nn.init.trunc_normal_(weight, std=0.02, a=-0.02, b=0.02)


class TokenMIM(Method):
    """Hide blocks of patches, encode the whole image, classify the hidden places.

    Views: `image` (B, C, S, S), `hidden` (B, N) bool, `token_view` (B, C, 8·rows, 8·columns): the same crop and flips,
    `tokens` (B, N) int64.

    Attributes:
        frequency: (V,) moving average of how often each token occurs per step, in patches that are not flat.
    """

    encoder: ViT

    def __init__(self, encoder: ViT, source: TokenSource, params: TokenMIMParams, layer: LayerInput) -> None:
        super().__init__()
        self.encoder, self.source, self.params, self.layer = encoder, source, params, layer.name
        rows, columns = encoder.grid
        self.target = math.floor(params.mask_ratio * rows * columns + 1e-9)
        self.min_area = max(1, round(params.min_block * rows * columns))
        if self.target < self.min_area:
            raise RsfmError(
                f"mask_ratio {params.mask_ratio} hides at most {self.target} of {rows * columns} patches, fewer than "
                f"the smallest block of {self.min_area} (min_block {params.min_block}). Use smaller patches, a higher "
                "mask_ratio or a smaller min_block."
            )
        j = params.jitter
        self.augment = Augmenter(
            layer,
            AugmentParams(
                flips=params.flips, jitter_p=1.0, brightness=j, contrast=j, saturation=j, hue=0, grayscale_p=0,
                band_gain=0,
            ),
        )  # fmt: skip
        self.remarks += self.augment.remarks
        self.mask_token = nn.Parameter(torch.zeros(1, 1, encoder.feature_dim))
        self.head = nn.Linear(encoder.feature_dim, source.codes)
        cut_normal(self.mask_token)
        cut_normal(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.frequency: Tensor
        self.register_buffer("frequency", torch.zeros(source.codes))

    @classmethod
    def build_with(cls, spec: PretrainSpec, layer: LayerInput, source: TokenSource) -> Self:
        """The method with its tokens; a function of `spec.seed` besides them."""
        params = spec.params
        assert isinstance(params, TokenMIMParams)
        assert isinstance(spec.encoder, EncoderParams)
        encoder = build_encoder(spec.encoder, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        with seeded("token-mim", spec.seed):
            init_beit(encoder)
            return cls(encoder, source, params, layer)

    # -- training --------------------------------------------------------------------------------------------------
    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        images, encoder = batch.images[self.layer], self.encoder
        view, size = View(encoder.image_size, (self.params.crop_min_scale, 1.0)), TOKEN_PIXELS * encoder.grid[0]
        boxes, flips = self.augment.boxes(images, view, generator), self.augment.flips(len(images), generator)
        image = self.augment(images, view, generator, boxes=boxes, flips=flips)
        # The same crop and flips in another size, without jitter.
        same = size == view.size and self.params.jitter == 0
        token_view = image if same else cut(images, size, boxes, flips)
        hidden = block_mask(len(images), encoder.grid, self.target, generator, min_area=self.min_area)
        return {
            "image": image, "hidden": hidden, "flat": flat_patches(token_view, TOKEN_PIXELS),
            "token_view": token_view, "tokens": self.source.tokens(token_view),
        }  # fmt: skip

    def logits(self, views: Views, where: Tensor) -> Tensor:
        """(M, V) scores at (B, N) bool places of the batch, image by image."""
        tokens = self.encoder.forward_tokens(views["image"], hidden=views["hidden"], mask_token=self.mask_token)
        return self.head(tokens[:, self.encoder.prefix_tokens :][where])

    def loss(self, views: Views) -> LossParts:
        """Cross-entropy at the hidden places that are not flat; beside it, how far it is below the tokens' entropy."""
        counted = views["hidden"] & ~views["flat"]
        total, accuracy = masked_token_loss(self.logits(views, counted), views["tokens"][counted])
        # Of the tokens that the loss is about: those of flat patches are mostly one and the same.
        counts = token_counts(views["tokens"], self.source.codes, ~views["flat"])
        self.pending.append({"counts": counts})
        # Over many batches: the entropy of a few counts of many tokens would come out too low.
        entropy = entropy_of_counts(torch.lerp(self.frequency, counts, 1 - _FREQUENCY_MOMENTUM))
        logs = {
            "masked_accuracy": accuracy, "token_entropy": entropy, "token_gain": entropy - total.detach(),
            "codebook_use": entropy.exp() / self.source.codes, "masked_share": views["hidden"].float().mean(),
            "flat_patch_share": views["flat"].float().mean(),
        }  # fmt: skip
        return LossParts(total, {"cross_entropy": total}, logs)

    def after_step(self, progress: Progress) -> None:
        counts = torch.stack([part["counts"] for part in self.pending]).sum(dim=0)
        self.frequency.lerp_(sum_over_processes(counts), 1 - _FREQUENCY_MOMENTUM)

    # -- what people see -------------------------------------------------------------------------------------------
    def masked(self, views: Views) -> Tensor:
        """(B, C, S, S): the encoder's view with hidden patches at the bands' means."""
        return blank_patches(views["image"], views["hidden"], self.encoder.patch_size)

    def views_panel(self, batch: Batch, views: Views) -> Panel:
        shown = self.source.show(views["tokens"], self.encoder.grid)
        rows = [
            ("stored", batch.images[self.layer]), ("view", views["image"]), ("masked", self.masked(views)),
            ("view for the tokens", views["token_view"]), ("its tokens", shown),
        ]  # fmt: skip
        return Panel("views", "First batch", rows, "What is stored, what the encoder gets, and where tokens come from.")

    def previews(self, views: Views) -> list[Panel]:
        grid, true = self.encoder.grid, views["tokens"]
        likeliest = self.logits(views, views["hidden"]).argmax(dim=-1)
        predicted = true.masked_scatter(views["hidden"], likeliest)
        rows = [
            ("view for the tokens", views["token_view"]), ("masked", self.masked(views)),
            ("its tokens", self.source.show(true, grid)), ("predicted tokens", self.source.show(predicted, grid)),
        ]  # fmt: skip
        caption = "What tokens stand for. Predicted: the likeliest token at hidden places, the true one elsewhere."
        return [Panel("reconstruction", "Predicted tokens", rows, caption)]
