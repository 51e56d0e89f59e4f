"""What is trained on a task: an encoder, frozen or not, and a head on top of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.errors import RsfmError
from rsfm.models.export import FeatureModel, standardise, state_differences
from rsfm.models.upernet import UPerNet, ViTNeck
from rsfm.specs import FitParams
from rsfm.tasks import Adaptation, Task

#: Without weight decay though they are no vectors: tokens and positions.
_NO_DECAY = ("class_token", "positions", "cls_token", "reg_token", "pos_embed", "*relative_position_bias_table")

#: An image (B, C, H, W) in the bands' units, or what an encoder gives for it: maps, or one feature vector.
Image = Tensor | list[Tensor]


class TaskNetwork(nn.Module):
    """Images in the bands' units to logits.

    Attributes:
        model: the encoder with its standardisation; a copy where it is trained.
        frozen: whether only the head is trained. A frozen encoder stays in eval mode: it must not use dropout, drop
            path or batch statistics.
    """

    def __init__(self, model: FeatureModel, *, frozen: bool) -> None:
        super().__init__()
        self.frozen = frozen
        self.model = model if frozen else copy.deepcopy(model)
        if not frozen:
            self.model.unfreeze()

    def train(self, mode: bool = True) -> TaskNetwork:
        super().train(mode)
        self.model.eval()
        if not self.frozen:
            self.model.trainable.train(mode)
        return self

    def encoded(self, images: Sequence[Image]) -> list[list[Tensor]]:
        """What the encoder gives for each image, as `forward` takes it too; what is encoded already stays as it is."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return [self._encoded(image) if isinstance(image, Tensor) else image for image in images]

    def _encoded(self, image: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def head_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.named_parameters() if not n.startswith("model.")]

    def trained_state(self) -> dict[str, Tensor]:
        """What training changes: all but a frozen encoder."""
        state = self.state_dict()
        return {n: t for n, t in state.items() if not self.frozen or not n.startswith("model.")}

    def load_trained(self, state: dict[str, Tensor]) -> None:
        """Take in what `trained_state` gave; every key must fit."""
        if set(state) != set(self.trained_state()):
            raise RsfmError("The saved weights are those of another network.")
        self.load_state_dict({**self.state_dict(), **state})

    def parameter_groups(self, fit: FitParams) -> list[dict[str, Any]]:
        """For AdamW: `lr_scale` is the share of the learning rate, by depth (arXiv 2106.08254)."""
        groups: list[dict[str, Any]] = []
        for decays in (True, False):
            chosen = [p for _, p in self.head_parameters() if (p.ndim > 1) == decays]
            if chosen:
                groups.append({"params": chosen, "weight_decay": fit.weight_decay if decays else 0.0, "lr_scale": 1.0})
        if not self.frozen:
            for group in param_groups_layer_decay(
                self.model.trainable, fit.weight_decay, _NO_DECAY, layer_decay=fit.layer_decay
            ):
                groups.append({**group, "lr_scale": group["lr_scale"] * fit.layer_decay})  # the head is one layer more
        return groups


class LabelNetwork(TaskNetwork):
    """A linear layer on the feature vector."""

    def __init__(self, model: FeatureModel, outputs: int, *, frozen: bool) -> None:
        super().__init__(model, frozen=frozen)
        self.head = nn.Linear(model.feature_dim, outputs)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def _encoded(self, image: Tensor) -> list[Tensor]:
        return [self.model.features(standardise(image, self.model.mean, self.model.std))]

    def forward(self, images: Sequence[Image], size: Sequence[int] | None = None) -> Tensor:
        """One (B, C, H, W), or what `encoded` makes of it, to (B, outputs)."""
        ((features,),) = self.encoded(images)
        return self.head(features)


class PixelHead(nn.Module):
    """The linear probe of maps: all levels at the finest one's size, standardised, and a 1×1 convolution."""

    def __init__(self, channels: Sequence[int], classes: int, fusion: str) -> None:
        super().__init__()
        self.fusion = fusion
        total = sum(channels) * (2 if fusion == "concat" else 1)
        self.norm = nn.BatchNorm2d(total, affine=False)
        self.head = nn.Conv2d(total, classes, 1)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, first: Sequence[Tensor], second: Sequence[Tensor] | None, size: Sequence[int]) -> Tensor:
        a, b = _stacked(first), None if second is None else _stacked(second)
        if b is not None:
            a = torch.cat([a, b], dim=1) if self.fusion == "concat" else b - a
            a = a.abs() if self.fusion == "abs" else a
        logits = self.head(self.norm(a))
        return _resized(logits, size)


def _stacked(levels: Sequence[Tensor]) -> Tensor:
    return torch.cat([_resized(level, levels[0].shape[-2:]) for level in levels], dim=1)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bf16 where it is asked for, or on a GPU that has it; float32 else."""
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def encode(model: FeatureModel, image: Tensor) -> list[Tensor]:
    """(B, C, H, W) in the bands' units to the model's maps."""
    return model.maps(standardise(image, model.mean, model.std))


@torch.no_grad()
def maps_of(model: FeatureModel, image_size: Sequence[int]) -> list[Tensor]:
    """One image's maps, to see how many there are, of which sizes.

    Raises:
        RsfmError: there are none, or they are not a pyramid.
    """
    image = torch.zeros(1, len(model.bands), *image_size, device=model.mean.device)
    try:
        found = model.maps(image)
    except (AssertionError, AttributeError, IndexError, NotImplementedError, TypeError, ValueError) as error:
        raise RsfmError(
            f"Model {model.name} gives no maps that a decoder could use ({type(error).__name__}: {error}): it cannot "
            "segment or detect change. Choose another model."
        ) from error
    shapes = [tuple(level.shape) for level in found]
    if any(len(shape) != 4 for shape in shapes) or any(a[2] < b[2] or a[3] < b[3] for a, b in pairwise(shapes)):
        raise RsfmError(
            f"The maps of model {model.name} are no pyramid from fine to coarse ({shapes}): it cannot segment or "
            "detect change. Choose another model."
        )
    return found


class MapNetwork(TaskNetwork):
    """A decoder on the encoder's maps; of a pair, the maps of both dates meet level by level."""

    def __init__(
        self, model: FeatureModel, classes: int, image_size: Sequence[int], *, adaptation: Adaptation, pairs: bool,
        fit: FitParams,
    ) -> None:  # fmt: skip
        super().__init__(model, frozen=adaptation != "finetune")
        probe = maps_of(model, image_size)
        channels = [level.shape[1] for level in probe]
        fusion = fit.fusion if pairs else "none"
        begun = fit.decoder_start == "pretrained" and pairs and adaptation != "linear"
        self.neck: ViTNeck | None = None
        self.decoder: nn.Module
        if adaptation == "linear":
            self.decoder = PixelHead(channels, classes, fusion)
            return
        if len(probe) < 2:
            raise RsfmError(f"Model {model.name} has no feature pyramid: use the linear adaptation.")
        if len({tuple(level.shape[-2:]) for level in probe}) == 1:  # a plain ViT's
            self.neck = ViTNeck(channels[0], layer_norm=begun, batch_norm=begun)
            channels = self.neck.channels
        self.decoder = UPerNet(channels, classes, fusion=fusion, width=fit.decoder_width, pool_width=fit.pool_width)
        if begun:
            self._begin(fit)

    def _begin(self, fit: FitParams) -> None:
        """Take over the decoder that was trained with the model, but for its last layer: that is of other classes."""
        found = self.model.pair_decoder()
        if found is None:
            raise RsfmError(
                f"No decoder was trained with model {self.model.name} (iBOT with lambda_overlap above 0 leaves one): "
                "set fit.decoder_start=new, or choose another model."
            )
        if fit.fusion != "concat":
            raise RsfmError(
                f"A pretrained decoder joins two images by concat, not {fit.fusion}: set fit.fusion=concat."
            )
        last = "decoder.head."
        state = {n: t for n, t in found.items() if not n.startswith(last)}
        wanted = {n: t for n, t in self.state_dict().items() if n.startswith(("neck.", "decoder.")) and last not in n}
        missing, extra, misshapen = state_differences(state, wanted)
        if missing or extra or misshapen:
            pooled = found["decoder.pooling.branches.0.0.weight"].shape[0]
            raise RsfmError(
                f"The decoder that was trained with model {self.model.name} is another one than asked for: set "
                f"fit.decoder_width={found['decoder.mix.0.weight'].shape[0]} and fit.pool_width={pooled}."
            )
        self.load_state_dict({**self.state_dict(), **state})

    def _encoded(self, image: Tensor) -> list[Tensor]:
        return encode(self.model, image)

    def forward(self, images: Sequence[Image], size: Sequence[int]) -> Tensor:
        """One or two (B, C, H, W), or what `encoded` makes of them, to (B, classes, *size) float32 logits."""
        maps = [levels if self.neck is None else self.neck(levels) for levels in self.encoded(images)]
        return self.decoder(maps[0], maps[1] if len(maps) > 1 else None, size).float()


def build(
    model: FeatureModel, task: Task, adaptation: Adaptation, classes: int, image_size: Sequence[int], fit: FitParams
) -> TaskNetwork:
    """The network for one adaptation of a model; its head is initialised from the global random state.

    Raises:
        RsfmError: the model has no maps, or nothing to fine-tune.
    """
    if task.dense:
        return MapNetwork(model, classes, image_size, adaptation=adaptation, pairs=task.pairs, fit=fit)
    return LabelNetwork(model, classes, frozen=adaptation != "finetune")
