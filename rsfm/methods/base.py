"""The contract between a pretraining method and the training that drives it.

A method holds an encoder, its own heads and state (as buffers, so that checkpoints hold them), and four things:
`views` (on the device, batched), `loss` (float32), `after_step` (moving averages, centres, queues) and
`parameter_groups`. Optimiser, schedules, precision, logging, monitors and checkpoints are not its business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from rsfm.data.source import Batch, LayerInput, PackSource
from rsfm.errors import RsfmError
from rsfm.models.vit import Encoder
from rsfm.packs import Pack
from rsfm.specs import PretrainSpec
from rsfm.workspace import Workspace

#: What `loss` looks at, by name: images (B, C, H, W), masks, positions, partners.
Views = Mapping[str, Tensor]


@dataclass
class LossParts:
    """A scalar float32 loss; `parts` sum up to it (with the method's weights), `logs` are further scalars."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far the training is, after `step` optimiser steps."""

    step: int
    steps: int
    samples: int


@dataclass
class ParamGroup:
    """Parameters that share their settings; the learning rate is the schedule's times `lr_scale`."""

    parameters: list[nn.Parameter]
    decay: bool = True
    lr_scale: float = 1.0


@dataclass
class Panel:
    """Images for people: each row is a kind of image with its name, standardised values (n, C, H, W)."""

    what: str  # "views" or "reconstruction": part of the file's name
    title: str
    rows: list[tuple[str, Tensor]]
    caption: str = ""


def decay_groups(named: Iterable[tuple[str, nn.Parameter]], lr_scale: float = 1.0) -> list[ParamGroup]:
    """Two groups: with weight decay, and without (biases, norms, everything of one dimension, tokens, positions)."""
    decayed, free = [], []
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        last = name.rpartition(".")[2]
        exempt = parameter.ndim <= 1 or last == "bias" or last.endswith(("token", "positions", "position_bias_table"))
        (free if exempt else decayed).append(parameter)
    groups = [ParamGroup(decayed, True, lr_scale), ParamGroup(free, False, lr_scale)]
    return [group for group in groups if group.parameters]


class Method(nn.Module):
    """Base of all pretraining objectives.

    Attributes:
        encoder: what is monitored and exported (a student, or its moving average, as the paper says).
        remarks: what people should know about how the settings meet the data (e.g. colour jitter left out because
            the bands have no colour); shown by the dry run and at the start.
        strangers: how many images a view's partner is to be told from at a time; 0: nothing is contrasted.
    """

    encoder: Encoder
    strangers: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[str] = []
        #: What the finite passes of this optimiser step leave for `after_step` (teacher outputs, keys). Never applied
        #: in `loss`: a step that turns out not finite must change nothing.
        self.pending: list[dict[str, Tensor]] = []

    @property
    def trained(self) -> Encoder:
        """The encoder that gradients reach: `encoder`, unless that is a moving average."""
        return self.encoder

    @property
    def pair_decoder(self) -> nn.Module | None:
        """What was trained on maps of two images (`neck` and `decoder`), for change detection to begin with."""
        return None

    def backbones(self) -> list[Encoder]:
        """Every copy of the encoder: the one that learns and its moving average, where there is one."""
        alike = [m for m in self.modules() if isinstance(m, Encoder) and m.architecture == self.encoder.architecture]
        shapes = {name: tensor.shape for name, tensor in self.encoder.state_dict().items()}
        return [m for m in alike if {n: t.shape for n, t in m.state_dict().items()} == shapes]

    @classmethod
    def prepare(cls, spec: PretrainSpec, workspace: Workspace, sources: Mapping[str, PackSource]) -> dict[str, Any]:
        """What `build` takes beyond the layers' descriptions, by name: another run's model, a look at the images.

        By default nothing. A function of the spec and of what lies in the workspace.

        Raises:
            RsfmError: something is missing or does not fit, and how to get it.
        """
        return {}

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput]) -> Self:
        """The method of a spec, initialised as a function of `spec.seed`.

        Args:
            inputs: the layers of `layers`, by name. A method that overrides `prepare` takes its values as well.

        Raises:
            RsfmError: the settings do not go together (e.g. image size and patch size).
        """
        raise NotImplementedError

    @classmethod
    def layers(cls, pack: Pack) -> list[str]:
        """Which image layers of the pack the method learns from; by default the only one, or the one named `image`.

        Raises:
            RsfmError: the pack does not have what the method needs.
        """
        names = [layer.name for layer in pack.info.layers if layer.role == "image"]
        if "image" in names:
            return ["image"]
        if len(names) != 1:
            raise RsfmError(
                f"Pack {pack.name!r} has the image layers {', '.join(names) or '(none)'}; this method needs one."
            )
        return names

    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        """Everything random about a step, drawn from `generator`: augmented images, masks. On the batch's device.

        Args:
            progress: before this step. What a schedule says (a temperature) goes into the views as a scalar tensor,
                so that `loss` needs nothing else.
        """
        raise NotImplementedError

    def loss(self, views: Views) -> LossParts:
        """The objective; a function of the views and the method's state only. Changes no state but `pending`."""
        raise NotImplementedError

    def after_backward(self, progress: Progress) -> None:
        """Runs once the gradients of a step are complete, before they are clipped (to freeze a layer, for one)."""

    def after_step(self, progress: Progress) -> None:
        """Runs inside the optimiser step, after the weights changed and before any checkpoint.

        Moving averages, centres and queues are updated here, from `pending`; the training empties it.
        """

    def parameter_groups(self) -> list[ParamGroup]:
        return decay_groups(self.named_parameters())

    def views_panel(self, batch: Batch, views: Views) -> Panel | None:
        """Originals beside augmented views, shown once at the start: most data bugs are visible here."""
        return None

    def previews(self, views: Views) -> list[Panel]:
        """What the model makes of some views, shown at every monitoring (without gradients, in eval mode)."""
        return []


def view_panel(stored: Tensor, view: Tensor) -> Panel:
    """What is stored beside the one view of it, (B, C, H, W) each."""
    caption = "What is stored, and the augmented view that the model gets."
    return Panel("views", "First batch", [("stored", stored), ("view", view)], caption)


def scalar(value: float, like: Tensor) -> Tensor:
    """A float32 scalar on the device of `like`: how schedules reach `loss`."""
    return torch.tensor(value, dtype=torch.float32, device=like.device)


def view_size(spec: PretrainSpec, layer: LayerInput) -> int:
    """Pixels per side of a view: the spec's, else the shorter side of the pack's images."""
    return spec.image_size or min(layer.height, layer.width)
