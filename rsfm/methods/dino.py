"""DINO (Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", arXiv 2104.14294)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from rsfm.data.augment import Augmenter, View
from rsfm.data.seeding import seeded
from rsfm.data.source import Batch, LayerInput
from rsfm.errors import RsfmError
from rsfm.losses.self_distillation import (
    between_views,
    centred_targets,
    entropy,
    moved_centre,
    sinkhorn_targets,
    winner_signals,
)
from rsfm.methods.base import LossParts, Method, Panel, Progress, Views, scalar, view_size
from rsfm.models.ema import frozen_copy, update_average
from rsfm.models.prototypes import DINOHead, init_truncated
from rsfm.models.vit import ViT, build_encoder, patchify
from rsfm.registry.dino import DINOParams
from rsfm.specs import EncoderParams, PretrainSpec
from rsfm.train.schedules import cosine, linear_warmup


class DINO(Method):
    """A student matches its own moving average, the teacher, across crops of an image.

    Views: `global` (G, B, C, S, S) for both networks; `local` (L, B, C, s, s) for the student; `student`, as `global`,
    where the student sees these crops coarser than the teacher does; `boxes` (G, B, 4) and `flips` (G, B, 3) of the
    global crops; scalars that schedules give.

    Attributes:
        encoder: the teacher's backbone; it is what is evaluated and exported.
        student, head: what is trained.
    """

    encoder: ViT

    def __init__(self, student: ViT, params: DINOParams, layer: LayerInput) -> None:
        super().__init__()
        if student.class_token is None:
            raise RsfmError("This method learns on the class token: set encoder.class_token=true.")
        if params.local_crops and params.local_size % student.patch_size:
            raise RsfmError(
                f"local_size {params.local_size} is not divisible by the patch size {student.patch_size}: choose "
                "another, or local_crops=0."
            )
        self.params, self.layer = params, layer.name
        self.student = student
        # Without drop path; every weight is the student's.
        quiet = student.params.model_copy(update={"drop_path": 0.0})
        self.encoder = ViT(quiet, student.in_chans, student.image_size)
        self.encoder.load_state_dict(student.state_dict())
        self.encoder.requires_grad_(False)
        self.head = self.make_head(params, student.feature_dim)
        self.teacher_head = frozen_copy(self.head)
        self.register_buffer("centre", torch.zeros(params.prototypes))
        self.augment = Augmenter(layer, params.augment, wants_solarize=params.solarize_p > 0)
        self.remarks += self.augment.remarks
        degrade = {"degrade_p": params.view_degrade_p, "degrade_factor": params.view_degrade_factor}
        self.first_view = View(student.image_size, (params.global_min_scale, 1.0), params.blur_p_first)
        self.second_view = View(student.image_size, self.first_view.scale, params.blur_p_second, params.solarize_p)
        scale = (params.local_min_scale, params.local_max_scale)
        # Blurred by as many pixels as the global views, as in the authors' code: local ones lose more of their detail.
        self.local_view = View(params.local_size, scale, params.blur_p_local, **degrade, beside=student.image_size)
        self.coarse_view = View(student.image_size, self.first_view.scale, **degrade)

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput]) -> Self:
        (layer,) = inputs.values()
        params = spec.params
        assert isinstance(params, DINOParams)
        assert isinstance(spec.encoder, EncoderParams)
        student = build_encoder(spec.encoder, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        with seeded("self-distillation", spec.seed):
            if params.backbone_init == "normal":
                student.blocks.apply(init_truncated)
                # As convolutions start: outputs of the same size for any number of bands.
                student.patch_projection.reset_parameters()
            return cls(student, params, layer)

    def make_head(self, params: DINOParams, width: int) -> DINOHead:
        return DINOHead(
            width, params.prototypes, hidden=params.head_hidden, bottleneck=params.bottleneck,
            free_gain=params.free_gain,
        )  # fmt: skip

    @property
    def trained(self) -> ViT:
        return self.student

    # -- views -----------------------------------------------------------------------------------------------------
    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        images, p = batch.images[self.layer], self.params
        count = len(images)
        boxes = self._global_boxes(images, generator)
        shared = self.augment.flips(count, generator) if p.shared_flip else None
        flips = [self.augment.flips(count, generator) if shared is None else shared for _ in boxes]
        kinds = [self.first_view] + [self.second_view] * (p.global_crops - 1)
        crops = [
            self.augment(images, kind, generator, boxes=box, flips=flip)
            for kind, box, flip in zip(kinds, boxes, flips, strict=True)
        ]
        views = {"global": torch.stack(crops), "boxes": torch.stack(boxes), "flips": torch.stack(flips)}
        if p.view_degrade_p:
            coarse = torch.stack([self.augment.degrade(crop, self.coarse_view, generator) for crop in crops])
            views["global" if p.view_degrade_of == "all" else "student"] = coarse
        if p.local_crops:
            views["local"] = torch.stack(
                [self.augment(images, self.local_view, generator, flips=shared) for _ in range(p.local_crops)]
            )
        warm = (progress.samples, p.temperature_warmup_samples)
        views["temperature"] = scalar(linear_warmup(*warm, p.teacher_temperature_start, p.teacher_temperature), images)
        views["momentum"] = scalar(self._momentum(progress.step, progress.steps), images)
        return views

    def _global_boxes(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """(B, 4) boxes of each global crop; at equal scale, the others have the first one's height and width."""
        boxes = [self.augment.boxes(images, self.first_view, generator) for _ in range(self.params.global_crops)]
        if self.params.equal_scale:
            size = boxes[0][:, 2:]
            room = torch.tensor(images.shape[2:], device=size.device) - size + 1
            for number in range(1, len(boxes)):
                place = torch.rand(size.shape, generator=generator, device=size.device)
                boxes[number] = torch.cat([(place * room).floor(), size], dim=1)
        return boxes

    def _momentum(self, step: int, steps: int) -> float:
        return cosine(step, steps, self.params.ema_start, self.params.ema_end)

    # -- loss ------------------------------------------------------------------------------------------------------
    def encode(
        self, views: Views, hidden: Tensor | None = None, mask_token: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of all views, one pass for each network and size of crop.

        Args:
            hidden: (G·B, N) patches that the student does not see.

        Returns:
            teacher's (G·B, T, D) and student's (G·B, T, D) tokens of global crops; student's class tokens of all
            crops (V·B, D), global ones first.
        """
        # Both networks cut alike: once is enough where they see the same.
        patches = patchify(views["global"].flatten(0, 1), self.student.patch_size)
        with torch.no_grad():
            teacher = self.encoder.forward_patches(patches, self.encoder.grid)
        if "student" in views:
            patches = patchify(views["student"].flatten(0, 1), self.student.patch_size)
        student = self.student.forward_patches(patches, self.student.grid, hidden=hidden, mask_token=mask_token)
        classes = student[:, 0]
        if "local" in views:
            local = self.student.forward_tokens(views["local"].flatten(0, 1))
            classes = torch.cat([classes, local[:, 0]])
        return teacher, student, classes

    def loss(self, views: Views) -> LossParts:
        teacher, _, classes = self.encode(views)
        with torch.no_grad():
            targets = self.teacher_head(teacher[:, 0])
        total, logs = self.class_term(targets, self.head(classes), views)
        self.pending.append(sums("class", targets.sum(dim=0), len(targets)))
        return LossParts(total, {"class": total}, logs)

    def class_term(self, teacher: Tensor, student: Tensor, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """DINO's loss between views and its logs, from (G·B, K) and (V·B, K) logits."""
        count, views_seen = self.params.prototypes, len(views["global"])
        targets = self.targets(teacher, self.centre, views["temperature"]).unflatten(0, (views_seen, -1))
        student = student.unflatten(0, (-1, targets.shape[1]))
        value = between_views(targets, student, self.params.student_temperature)
        with torch.no_grad():
            winners, spread = targets.argmax(dim=-1), entropy(targets).mean()
            logs = {
                "class_ce": value.detach(), "class_entropy": spread, "class_kl": value.detach() - spread,
                "teacher_entropy_share": spread / math.log(count),
                **winner_signals(winners.flatten(), count),
                "view_agreement": (winners[0] == winners[1]).float().mean(),
                "centre_norm": self.centre.norm(), "teacher_temperature": views["temperature"],
                "teacher_momentum": views["momentum"],
            }  # fmt: skip
        return value, logs

    def targets(self, logits: Tensor, centre: Tensor, temperature: Tensor) -> Tensor:
        """(B, K) teacher logits to probabilities."""
        if self.params.centring == "sinkhorn":
            return sinkhorn_targets(logits, temperature)
        return centred_targets(logits, centre, temperature)

    # -- state -----------------------------------------------------------------------------------------------------
    def frozen_at_first(self) -> Iterable[nn.Parameter]:
        """The head's last layer."""
        return self.head.prototypes.parameters()

    def after_backward(self, progress: Progress) -> None:
        if progress.samples < self.params.freeze_prototypes_samples:
            for parameter in self.frozen_at_first():
                parameter.grad = None

    def after_step(self, progress: Progress) -> None:
        # The momentum of the step that was just made.
        momentum = self._momentum(progress.step - 1, progress.steps)
        update_average(self.encoder, self.student, momentum)
        update_average(self.teacher_head, self.head, momentum)
        self.move_centre(self.centre, "class")

    def move_centre(self, centre: Tensor, name: str) -> None:
        """Take the teacher's outputs of this step into a centre, in place."""
        if self.pending and self.params.centring == "centre":
            total = torch.stack([left[f"{name}_total"] for left in self.pending]).sum(dim=0)
            count = torch.stack([left[f"{name}_count"] for left in self.pending]).sum()
            centre.copy_(moved_centre(centre, total, count, self.params.centre_momentum))

    # -- what people see -------------------------------------------------------------------------------------------
    def views_panel(self, batch: Batch, views: Views) -> Panel:
        rows = [("stored", batch.images[self.layer])]
        rows += [(f"global view {i + 1}", crop) for i, crop in enumerate(views["global"])]
        if "student" in views:
            rows.append(("global view 1, as the student sees it", views["student"][0]))
        rows += [(f"local view {i + 1}", crop) for i, crop in enumerate(views.get("local", [])[:2])]
        caption = "What is stored, and views of it. The teacher sees the global ones."
        return Panel("views", "First batch", rows, caption)

    def previews(self, views: Views) -> list[Panel]:
        """Patch features of the teacher, their three main directions as colours."""
        images = views["global"][0]
        tokens = self.encoder.forward_tokens(images)[:, self.encoder.prefix_tokens :].float()
        flat = (tokens.flatten(0, 1) - tokens.mean(dim=(0, 1))).nan_to_num(0, 0, 0)
        _, _, directions = torch.linalg.svd(flat, full_matrices=False)
        scores = flat @ directions[:3].T
        scores = scores * scores.pow(3).sum(dim=0).sign()  # a direction has no sign of its own
        scores = scores / scores.std(dim=0).clamp(min=1e-6)
        maps = scores.view(len(images), *self.encoder.grid, -1).permute(0, 3, 1, 2)
        maps = maps.repeat_interleave(self.encoder.patch_size, 2).repeat_interleave(self.encoder.patch_size, 3)
        # Bands that lie side by side, as those shown as red, green and blue do, get different directions.
        maps = maps[:, torch.arange(images.shape[1], device=maps.device) % maps.shape[1]]
        caption = "Patches that look alike to the teacher have like colours (three main directions of its features)."
        return [Panel("features", "Patch features", [("global view 1", images), ("features", maps)], caption)]


def sums(name: str, total: Tensor, count: int | Tensor) -> dict[str, Tensor]:
    """What a pass leaves for a centre: the sum of the teacher's logits, and how many they were."""
    return {f"{name}_total": total.detach(), f"{name}_count": torch.as_tensor(count).to(total)}
