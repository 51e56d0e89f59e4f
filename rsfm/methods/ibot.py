"""iBOT (Zhou et al. 2021, "Image BERT Pre-Training with Online Tokenizer", arXiv 2111.07832).

With what remote sensing adds to it in arXiv 2510.17014's pretraining on MillionAID: global crops of one scale, one
flip for all views (both in DINO's views), and the segmentation of the overlap of two crops.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.data.source import Batch, LayerInput
from rsfm.losses.reconstruction import flat_patches
from rsfm.losses.self_distillation import entropy, image_weights, on_patches, winner_signals
from rsfm.masking.block import block_mask, draw_ratios, mask_counts, random_mask
from rsfm.methods.base import LossParts, Panel, Progress, Views, scalar
from rsfm.methods.dino import DINO, sums
from rsfm.models.prototypes import DINOHead
from rsfm.models.upernet import UPerNet, ViTNeck
from rsfm.models.vit import ViT, blank_patches
from rsfm.registry.dino import DINOParams
from rsfm.registry.ibot import IBOTParams
from rsfm.train.schedules import linear_warmup


def overlap_label(first: Tensor, second: Tensor, flips: Tensor, size: int) -> Tensor:
    """Where the second crop lies in the first one's view.

    Args:
        first, second: (B, 4) boxes: top, left, height, width in source pixels.
        flips: (B, 3) of the first view: mirror columns, mirror rows, transpose.

    Returns:
        (B, size, size) bool, True where the source pixel nearest to the view's pixel is in the second crop.
    """

    def axis(number: int, mirrored: Tensor) -> Tensor:
        """(B, size): which rows or columns are covered."""
        start, length = first[:, number, None], first[:, number + 2, None]
        place = torch.arange(size, device=first.device).unsqueeze(0)
        source = start + ((place + 0.5) * length / size).floor()
        low, high = second[:, number, None], second[:, number, None] + second[:, number + 2, None]
        covered = (source >= low) & (source < high)
        return torch.where(mirrored.unsqueeze(1), covered.flip(1), covered)

    label = axis(0, flips[:, 1]).unsqueeze(2) & axis(1, flips[:, 0]).unsqueeze(1)
    return torch.where(flips[:, 2, None, None], label.mT, label)


class OverlapDecoder(nn.Module):
    """Two pyramids, fused by concatenation, to two classes; change detection can begin with it."""

    def __init__(self, encoder: ViT, width: int, pool_width: int) -> None:
        super().__init__()
        self.neck = ViTNeck(encoder.feature_dim, layer_norm=True, batch_norm=True)
        self.decoder = UPerNet(self.neck.channels, 2, fusion="concat", width=width, pool_width=pool_width)

    def forward(self, first: list[Tensor], second: list[Tensor], size: int) -> Tensor:
        # One pass of the neck, so that its batch statistics are those of both views.
        levels = self.neck([torch.cat(pair) for pair in zip(first, second, strict=True)])
        halves = [level.chunk(2) for level in levels]
        return self.decoder([a for a, _ in halves], [b for _, b in halves], (size, size))


class IBOT(DINO):
    """DINO on masked global crops, and the teacher's view of every hidden patch as the student's target there.

    Views: DINO's, and `hidden` and `flat` (G, B, N) bool; `overlap` (B, S, S) bool where the overlap is learned. Flat
    patches (without observation, or open water) are hidden like others, and do not count: they say nothing. What is
    without observation is flat whatever the jitter: each of its bands is constant.
    """

    params: IBOTParams

    def __init__(self, student: ViT, params: IBOTParams, layer: LayerInput) -> None:
        super().__init__(student, params, layer)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, student.feature_dim))
        self.register_buffer("patch_centre", torch.zeros(params.prototypes))
        self.overlap: OverlapDecoder | None = None
        if params.lambda_overlap:
            self.overlap = OverlapDecoder(student, params.overlap_width, params.overlap_pool_width)

    @property
    def pair_decoder(self) -> OverlapDecoder | None:
        return self.overlap

    def make_head(self, params: DINOParams, width: int) -> DINOHead:
        assert isinstance(params, IBOTParams)
        return DINOHead(
            width, params.prototypes, hidden=params.head_hidden, bottleneck=params.bottleneck,
            free_gain=params.free_gain, shared=params.shared_head,
        )  # fmt: skip

    # -- views -----------------------------------------------------------------------------------------------------
    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        views, p = dict(super().views(batch, generator, progress)), self.params
        crops = views["global"]
        views["hidden"] = self._masks(crops.shape[0] * crops.shape[1], generator).unflatten(0, crops.shape[:2])
        views["flat"] = flat_patches(crops.flatten(0, 1), self.student.patch_size).unflatten(0, crops.shape[:2])
        value = linear_warmup(
            progress.samples, p.temperature_warmup_samples, p.patch_temperature_start, p.patch_temperature
        )
        views["patch_temperature"] = scalar(value, crops)
        if self.overlap is not None:
            boxes, size = views["boxes"], self.student.image_size
            views["overlap"] = overlap_label(boxes[0], boxes[1], views["flips"][0], size)
        return views

    def _masks(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, N) bool, with a ratio of its own for each view of each image."""
        p, grid = self.params, self.student.grid
        ratios = draw_ratios(count, list(zip(p.mask_ratios, p.mask_spreads, strict=True)), generator)
        counts = mask_counts(ratios, grid[0] * grid[1])
        if p.mask_kind == "random":
            return random_mask(grid[0] * grid[1], counts, generator)
        return block_mask(count, grid, counts, generator, min_area=(min(grid) // 3) ** 2)

    # -- loss ------------------------------------------------------------------------------------------------------
    def loss(self, views: Views) -> LossParts:
        p, hidden = self.params, views["hidden"].flatten(0, 1)
        teacher, student, classes = self.encode(views, hidden, self.mask_token)
        counted = views["hidden"] & ~views["flat"]
        # The one place whose size depends on the data: a compiled loss falls into two graphs here.
        where = counted.flatten().nonzero().squeeze(1)
        patches = student[:, self.student.prefix_tokens :].flatten(0, 1)[where]
        z = self.head.embed(torch.cat([classes, patches]))
        z_class, z_patch = z[: len(classes)], z[len(classes) :]
        with torch.no_grad():
            targets, patch_logits, left = self._teacher_logits(teacher, where)
        self.pending.append(left)
        value, logs = self.class_term(targets, self.head.prototypes(z_class), views)
        parts = {"class": p.lambda_class * value}
        weights = image_weights(counted).flatten()[where]
        value, more = self._patch_term(patch_logits, self.head.patch_prototypes(z_patch), weights, views)
        parts["patch"] = p.lambda_patch * value
        logs |= more
        if self.overlap is not None:
            value, more = self._overlap_term(views)
            parts["overlap"] = p.lambda_overlap * value
            logs |= more
        # Compiled, it is two graphs; an output of the second whose gradient nobody asks for makes it fail.
        shown = {name: part.detach() for name, part in parts.items()}
        return LossParts(torch.stack(list(parts.values())).sum(), shown, logs)

    def _teacher_logits(self, tokens: Tensor, where: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """From the teacher's tokens and the places (M,) of patches that count: (G·B, K) logits of the images, (M, K) of
        these patches, and what the centres need."""
        head, patches = self.teacher_head, tokens[:, self.encoder.prefix_tokens :].flatten(0, 1)
        images = head(tokens[:, 0])
        left = sums("class", images.sum(dim=0), len(images))
        if self.params.patch_centre == "hidden" or self.params.centring == "sinkhorn":  # which has no centre to move
            hidden = head.patch_prototypes(head.embed(patches[where]))
            return images, hidden, left | sums("patch", hidden.sum(dim=0), len(hidden))
        z = head.embed(patches)
        # Prototypes are linear: the sum over all patches needs no logits of each.
        total = head.patch_prototypes(z.sum(dim=0, keepdim=True))[0]
        return images, head.patch_prototypes(z[where]), left | sums("patch", total, len(z))

    def _patch_term(
        self, teacher: Tensor, student: Tensor, weights: Tensor, views: Views
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The patch loss and its logs, from (M, K) logits of both networks on the patches that count; (M,) weights."""
        count = self.params.prototypes
        targets = self.targets(teacher, self.patch_centre, views["patch_temperature"])
        value = on_patches(targets, student, weights, self.params.student_temperature)
        with torch.no_grad():
            # Means over the views that hide something, unlike the loss.
            share = weights.sum().clamp(min=1e-6)
            ce, spread = value.detach() / share, (weights * entropy(targets)).sum() / share
            winners = targets.argmax(dim=-1)
            logs = {
                "patch_ce": ce, "patch_entropy": spread, "patch_kl": ce - spread,
                "patch_entropy_share": spread / math.log(count),
                **{f"patch_{name}": value for name, value in winner_signals(winners, count).items()},
                "patch_agreement": ((winners == student.argmax(-1)) * weights).sum() / share,
                "patch_centre_norm": self.patch_centre.norm(), "patch_temperature": views["patch_temperature"],
                "mask_share": views["hidden"].float().mean(),
                "flat_patch_share": views["flat"].float().mean(),
            }  # fmt: skip
        return value, logs

    def _overlap_term(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of each pixel of the first view: in the second crop or not."""
        label = views["overlap"]
        logits = self._overlap_logits(views)
        value = F.cross_entropy(logits.float(), label.long())
        right = (logits.argmax(dim=1) == label).float().mean()
        return value, {"overlap_accuracy": right, "overlap_share": label.float().mean()}

    def _overlap_logits(self, views: Views) -> Tensor:
        assert self.overlap is not None
        with torch.no_grad():
            second = self.encoder.maps(views["global"][1])
        first = self.student.maps(views.get("student", views["global"])[0])
        return self.overlap(first, second, self.student.image_size)

    # -- state -----------------------------------------------------------------------------------------------------
    def frozen_at_first(self) -> Iterable[nn.Parameter]:
        yield from super().frozen_at_first()
        if self.head.own_patch_prototypes is not None:
            yield from self.head.own_patch_prototypes.parameters()

    def after_step(self, progress: Progress) -> None:
        super().after_step(progress)
        self.move_centre(self.patch_centre, "patch")

    # -- what people see -------------------------------------------------------------------------------------------
    def views_panel(self, batch: Batch, views: Views) -> Panel:
        panel = super().views_panel(batch, views)
        seen = views.get("student", views["global"])[0]
        blank = blank_patches(seen, views["hidden"][0], self.student.patch_size)
        panel.rows.append(("global view 1, masked for the student", blank))
        if self.overlap is not None:
            panel.rows.append(("where global view 2 lies in view 1", _shown(views["overlap"], seen)))
        return panel

    def previews(self, views: Views) -> list[Panel]:
        panels = super().previews(views)
        if self.overlap is not None:
            crops = views["global"]
            found = self._overlap_logits(views).float().softmax(dim=1)[:, 1]
            rows = [
                ("global view 1", crops[0]), ("global view 2", crops[1]),
                ("where view 2 lies", _shown(views["overlap"], crops[0])), ("found", _shown(found, crops[0])),
            ]  # fmt: skip
            panels.append(Panel("overlap", "Overlap of two crops", rows, "Bright: view 2 covers this part of view 1."))
        return panels


def _shown(share: Tensor, like: Tensor) -> Tensor:
    """(B, S, S) in 0 to 1 as a grey image with the bands of `like`: −2 to 2 standard deviations."""
    return (4 * share.float() - 2).unsqueeze(1).expand_as(like)
