"""The command line that does the same as a form."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from rsfm.specs import (
    EmbedSpec,
    EvaluateSpec,
    PredictSpec,
    PrepareSpec,
    PretrainSpec,
    Spec,
    embed_spec,
    evaluate_spec,
    predict_spec,
    pretrain_spec,
)


def _changes(base: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`key=value` of every leaf of `other` that differs from `base`."""
    found = []
    for name, value in other.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and isinstance(base.get(name), Mapping):
            found += _changes(base[name], value, f"{path}.")
        elif value != base.get(name):
            # A text is written bare, unless it would be read as JSON.
            found.append(f"{path}={_text(value)}")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return value
    return json.dumps(value)


def _settings(changes: list[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def pretrain_command(spec: PretrainSpec) -> list[str]:
    base = pretrain_spec(spec.method, spec.dataset, spec.preset).model_dump(mode="json")
    wanted = spec.model_dump(mode="json")
    words = ["rsfm", "pretrain", "--method", spec.method, "--dataset", spec.dataset, "--preset", spec.preset]
    if spec.seed:
        words += ["--seed", str(spec.seed)]
    return [*words, *_settings(_changes({**base, "seed": spec.seed}, wanted))]


def evaluate_command(spec: EvaluateSpec) -> list[str]:
    own = {
        "adaptations": ("--adaptation", ",".join(spec.adaptations)),
        "operator": ("--operator", spec.operator),
        "severities": ("--severities", ",".join(f"{s:g}" for s in spec.severities)),
        "eval_seeds": ("--seeds", ",".join(map(str, spec.eval_seeds))),
    }
    base = evaluate_spec(spec.model, spec.dataset, spec.preset).model_dump(mode="json")
    wanted = spec.model_dump(mode="json")
    words = ["rsfm", "evaluate", "--model", spec.model, "--dataset", spec.dataset]
    words += ["--preset", spec.preset] if spec.preset else []
    for name, option in own.items():
        if wanted[name] and wanted[name] != base[name]:
            words += option
            base[name] = wanted[name]
    return [*words, *_settings(_changes(base, wanted))]


def embed_command(spec: EmbedSpec) -> list[str]:
    base = embed_spec(spec.model, spec.dataset).model_dump(mode="json")
    wanted = spec.model_dump(mode="json")
    words = ["rsfm", "embed", "--model", spec.model, "--dataset", spec.dataset]
    if spec.severities:
        words += ["--severities", ",".join(f"{s:g}" for s in spec.severities)]
    return [*words, *_settings(_changes({**base, "severities": wanted["severities"]}, wanted))]


def predict_command(spec: PredictSpec) -> list[str]:
    own = {
        "scene_before": ("--before", spec.scene_before), "truth": ("--truth", spec.truth),
        "bands": ("--bands", ",".join(spec.bands or [])), "unit": ("--unit", spec.unit),
        "adaptation": ("--adaptation", spec.adaptation), "eval_seed": ("--seed", spec.eval_seed),
    }  # fmt: skip
    base = predict_spec(spec.evaluation, spec.scene).model_dump(mode="json")
    wanted = spec.model_dump(mode="json")
    words = ["rsfm", "predict", "--evaluation", spec.evaluation, "--scene", spec.scene]
    for name, (option, value) in own.items():
        if wanted[name] != base[name]:
            words += [option, str(value)]
            base[name] = wanted[name]
    return [*words, *_settings(_changes(base, wanted))]


def prepare_command(spec: PrepareSpec) -> list[str]:
    words = ["rsfm", "data", "prepare", spec.dataset]
    options = {
        "--source": spec.source, "--name": spec.name, "--image-size": spec.image_size, "--tile-size": spec.tile_size,
        "--stride": spec.stride, "--limit": spec.limit, "--on-bad": None if spec.on_bad == "skip" else spec.on_bad,
    }  # fmt: skip
    for option, value in options.items():
        if value is not None:
            words += [option, str(value)]
    return [*words, *_settings([f"{k}={_text(v)}" for k, v in spec.options.items()])]


def command_line(spec: Spec) -> str:
    """What to type in a shell for the same job."""
    match spec:
        case PretrainSpec():
            words = pretrain_command(spec)
        case EvaluateSpec():
            words = evaluate_command(spec)
        case EmbedSpec():
            words = embed_command(spec)
        case PredictSpec():
            words = predict_command(spec)
        case _:
            words = prepare_command(spec)
    if spec.kind != "prepare":
        words.append("--queue")
    return shlex.join(words)
