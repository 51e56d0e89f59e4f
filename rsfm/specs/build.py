"""Specs made of presets and settings, and read from files."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from rsfm.errors import RsfmError
from rsfm.specs.base import Params, apply_settings, for_group, one_line, spec_hash
from rsfm.specs.embed import EmbedSpec
from rsfm.specs.evaluate import EvaluateSpec
from rsfm.specs.predict import PredictSpec
from rsfm.specs.prepare import PrepareSpec
from rsfm.specs.pretrain import PretrainSpec

Spec = PretrainSpec | EvaluateSpec | EmbedSpec | PredictSpec | PrepareSpec
KINDS: dict[str, type[Params]] = {
    "pretrain": PretrainSpec,
    "evaluate": EvaluateSpec,
    "embed": EmbedSpec,
    "predict": PredictSpec,
    "prepare": PrepareSpec,
}


def parse_spec(data: dict[str, Any]) -> Spec:
    """Validate a spec of any kind.

    Raises:
        RsfmError: unknown kind, unknown key, or a value out of range; all problems in one line.
    """
    kind = data.get("kind")
    if kind not in KINDS:
        raise RsfmError(f"A spec needs kind = one of {', '.join(KINDS)}; got {kind!r}.")
    try:
        return KINDS[kind].model_validate(data)  # type: ignore[return-value]
    except ValidationError as error:
        raise RsfmError(f"Bad {kind} spec: {one_line(error)}.") from error


def group_hash(spec: Spec) -> str:
    """Equal for specs that differ only in their seeds or in where they run."""
    data = for_group(spec)
    for key in ("seed", "model_seed", "eval_seeds"):
        data.pop(key, None)
    return spec_hash(data)


def pretrain_spec(
    method_name: str, dataset: str, preset: str = "cpu", settings: list[str] | None = None, **values: Any
) -> PretrainSpec:
    """A pretraining spec from a method's preset, then `values` (top-level fields), then `--set` settings."""
    from rsfm.registry import method

    entry = method(method_name)
    if preset not in entry.presets:
        raise RsfmError(f"Method {method_name!r} has no preset {preset!r}; it has {', '.join(entry.presets)}.")
    data: dict[str, Any] = {
        **json.loads(json.dumps(entry.presets[preset].values)),
        "kind": "pretrain", "method": method_name, "dataset": dataset, "preset": preset, **values,
    }  # fmt: skip
    known = parse_spec(data).model_dump(mode="json")
    return parse_spec(apply_settings(data, settings or [], known))  # type: ignore[return-value]


def evaluate_spec(model: str, dataset: str, preset: str = "", settings: list[str] | None = None) -> EvaluateSpec:
    """An `EvaluateSpec` from a preset and `key=value` settings.

    Raises:
        RsfmError: an unknown preset or setting, or a value that does not fit.
    """
    from rsfm.registry.evaluation import evaluation_values

    try:
        values = evaluation_values(preset)
    except ValueError as error:
        raise RsfmError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
    data = {"kind": "evaluate", **values, "model": model, "dataset": dataset, "preset": preset}
    if settings:
        data = apply_settings(data, settings, parse_spec(data).model_dump(mode="json"))
    return parse_spec(data)  # type: ignore[return-value]


def embed_spec(model: str, dataset: str, settings: list[str] | None = None) -> EmbedSpec:
    """An `EmbedSpec` from `key=value` settings.

    Raises:
        RsfmError: an unknown setting, or a value that does not fit.
    """
    data = {"kind": "embed", "model": model, "dataset": dataset}
    return parse_spec(apply_settings(data, settings or [], parse_spec(data).model_dump(mode="json")))  # type: ignore[return-value]


def predict_spec(evaluation: str, scene: str, settings: list[str] | None = None) -> PredictSpec:
    """A `PredictSpec` from `key=value` settings.

    Raises:
        RsfmError: an unknown setting, or a value that does not fit.
    """
    data = {"kind": "predict", "evaluation": evaluation, "scene": scene}
    known = parse_spec(data).model_dump(mode="json")
    return parse_spec(apply_settings(data, settings or [], known))  # type: ignore[return-value]
