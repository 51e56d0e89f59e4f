"""What the form of a pretraining starts from, and which models its open groups have: the method decides both."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from app.components.spec_fields import defaults_of, merged
from rsfm.registry import MethodEntry
from rsfm.specs import PretrainSpec


def groups_of(entry: MethodEntry) -> dict[str, type[BaseModel]]:
    """Models of the fields whose model depends on the method."""
    return {"method_params": entry.params, "encoder": entry.encoder}


def start_of(entry: MethodEntry, preset: str) -> dict[str, Any]:
    """Plain values of a preset, on top of the defaults of the spec, the encoder and the method."""
    own = {name: defaults_of(model) for name, model in groups_of(entry).items()}
    return merged({**defaults_of(PretrainSpec), **own}, entry.presets[preset].values)
