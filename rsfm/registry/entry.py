"""What the lab knows of a pretraining method without importing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rsfm.specs import EncoderParams, Params, ResNetParams, TokenizerParams

#: How often the presets log, look at the model and save.
SMOKE_RUNTIME: dict[str, Any] = {"log_every_steps": 1, "monitor_every_steps": 8, "checkpoint_every_steps": 8}
CPU_RUNTIME: dict[str, Any] = {"log_every_steps": 5, "monitor_every_steps": 50, "checkpoint_every_steps": 50}
GPU_RUNTIME: dict[str, Any] = {
    "workers": 8, "log_every_steps": 20, "monitor_every_steps": 1000, "checkpoint_every_steps": 1000,
}  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A named starting point: the part of a `PretrainSpec` that it fixes."""

    title: str
    values: dict[str, Any]


@dataclass(frozen=True)
class MethodEntry:
    """One pretraining objective."""

    name: str
    title: str
    label: str  # short, for charts
    family: str
    paper: str
    inputs: str
    summary: str
    target: str  # "module:Class", imported in a job process only
    params: type[Params]
    encoder: type[EncoderParams] | type[ResNetParams] | type[TokenizerParams] = EncoderParams
    presets: dict[str, Preset] = field(default_factory=dict)
    healthy: str = ""  # what a healthy run looks like, shown beside its curves
    no_alarms: tuple[str, ...] = ()  # of `rsfm.alarms`, those that mean nothing for its features
