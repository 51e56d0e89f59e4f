"""Specs: the validated request for one job.

One pydantic object renders the form in the browser, parses the command line (`--set key=value`), names the group
of runs that differ only in their seed, and lands in `spec.json`. Units are in the field names; every field has a
title and a one-line help for the form.

A field marked `LOCAL` does not change what is learned (where it runs, how often it logs), so it does not count
for the group.
"""

from __future__ import annotations

from rsfm.specs.base import Params, apply_settings, one_line, spec_hash
from rsfm.specs.build import KINDS, Spec, embed_spec, evaluate_spec, group_hash, parse_spec, predict_spec, pretrain_spec
from rsfm.specs.embed import EmbedSpec
from rsfm.specs.evaluate import ADAPTATION_SETTINGS, EvaluateSpec, FitParams, Operator, has_effect, takes_seed
from rsfm.specs.planned import Planned
from rsfm.specs.predict import PredictSpec
from rsfm.specs.prepare import PrepareSpec
from rsfm.specs.pretrain import (
    EncoderParams,
    InitParams,
    OptimParams,
    PretrainSpec,
    ResNetParams,
    RuntimeParams,
    TokenizerParams,
)

__all__ = [
    "ADAPTATION_SETTINGS",
    "KINDS",
    "EmbedSpec",
    "EncoderParams",
    "EvaluateSpec",
    "FitParams",
    "InitParams",
    "Operator",
    "OptimParams",
    "Params",
    "Planned",
    "PredictSpec",
    "PrepareSpec",
    "PretrainSpec",
    "ResNetParams",
    "RuntimeParams",
    "Spec",
    "TokenizerParams",
    "apply_settings",
    "embed_spec",
    "evaluate_spec",
    "group_hash",
    "has_effect",
    "one_line",
    "parse_spec",
    "predict_spec",
    "pretrain_spec",
    "spec_hash",
    "takes_seed",
]
