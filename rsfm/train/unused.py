"""What a pretraining sets in vain, refused: no run may be thought to rest on what it does not rest on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rsfm.errors import RsfmError
from rsfm.registry import method
from rsfm.specs import PretrainSpec, pretrain_spec

Values = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """Settings of one part of the spec (`optim`, `method_params`) that need another one there.

    Attributes:
        key: that other one, for methods that have it; needs: as people would write it; met: whether it is so.
    """

    part: str
    settings: tuple[str, ...]
    key: str
    needs: str
    met: Callable[[Values], bool]


def _above_zero(settings: tuple[str, ...], key: str, part: str = "method_params") -> Rule:
    return Rule(part, settings, key, f"{key} above 0", lambda values: values[key] > 0)


RULES = (
    Rule("optim", ("beta2",), "optimizer", "optimizer=adamw", lambda v: v["optimizer"] == "adamw"),
    _above_zero(("clip_norm",), "grad_clip", part="optim"),
    _above_zero(("local_size", "local_min_scale", "local_max_scale", "blur_p_local"), "local_crops"),
    _above_zero(("view_degrade_factor", "view_degrade_of"), "view_degrade_p"),
    Rule(
        "method_params", ("centre_momentum", "patch_centre"), "centring", "centring=centre",
        lambda v: v["centring"] == "centre",
    ),
    _above_zero(("teacher_temperature_start", "patch_temperature_start"), "temperature_warmup_samples"),
    _above_zero(("teacher_temperature_start", "teacher_temperature"), "lambda_class"),
    _above_zero(("patch_temperature_start", "patch_temperature", "patch_centre"), "lambda_patch"),
    _above_zero(("overlap_width", "overlap_pool_width"), "lambda_overlap"),
    _above_zero(("temperature", "projector_layers", "projector_width", "projection_dim"), "contrastive_weight"),
    _above_zero(("norm_pix", "flat_patch_variance"), "reconstruction_weight"),
    _above_zero(("noise_max",), "denoising_weight"),
    Rule(
        "method_params", ("decoder_width", "decoder_depth", "decoder_heads"), "denoising_weight",
        "reconstruction_weight or denoising_weight above 0",
        lambda v: v["reconstruction_weight"] > 0 or v["denoising_weight"] > 0,
    ),
)  # fmt: skip


def refuse_unused(spec: PretrainSpec) -> None:
    """Refuse settings that are not as usual (of the preset) though nothing that is asked for uses them.

    Raises:
        RsfmError: names all of them, and what would use them.
    """
    known = spec.preset in method(spec.method).presets
    plain = PretrainSpec(method=spec.method, dataset=spec.dataset)
    usual = pretrain_spec(spec.method, spec.dataset, spec.preset) if known else plain
    asked, like = spec.model_dump(mode="json"), usual.model_dump(mode="json")
    told: dict[str, str] = {}
    for rule in RULES:
        mine, theirs = asked[rule.part], like[rule.part]
        if rule.key in mine and not rule.met(mine):
            told |= {
                name: f"{rule.part}.{name}={mine[name]} (usual: {theirs[name]}), for {rule.needs}"
                for name in rule.settings
                if name in mine and mine[name] != theirs[name]
            }
    if told:
        raise RsfmError(
            f"Nothing here would use these settings: {'; '.join(told.values())}. Leave them as usual, or ask for what "
            "uses them."
        )
