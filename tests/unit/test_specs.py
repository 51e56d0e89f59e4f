"""Specs: refusal of what is unknown, presets, settings, and what makes a group."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.errors import RsfmError
from rsfm.registry import METHODS
from rsfm.specs import EvaluateSpec, apply_settings, group_hash, parse_spec, pretrain_spec


@pytest.mark.parametrize(("name", "preset"), [(n, p) for n, m in METHODS.items() for p in m.presets])
def test_every_preset_is_a_valid_spec_and_survives_json(name: str, preset: str) -> None:
    spec = pretrain_spec(name, "pack", preset)
    assert parse_spec(json.loads(spec.model_dump_json())) == spec
    assert spec.optim.steps * spec.optim.batch_size <= spec.optim.samples


def test_a_setting_reaches_its_place_by_path_or_by_last_name() -> None:
    spec = pretrain_spec("mae", "p", "cpu", ["optim.samples=5000", "mask_ratio=0.5", 'bands=["B02","B03"]'])
    assert spec.optim.samples == 5000
    assert spec.params.mask_ratio == 0.5
    assert spec.bands == ["B02", "B03"]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("nope=1", "Unknown setting 'nope'"),
        ("samples", "key=value"),
        ("mask_ratio=1.5", "mask_ratio"),
        ("width=65", "not divisible by heads"),
        ("batch_size=33333333", "less than one batch"),
        ("warmup_samples=99999999", "must be less than samples"),
        ("seed=-1", "seed"),
        ("method_params.nope=1", "Unknown setting"),
        ("device=tpu", "device"),
    ],
)
def test_bad_settings_are_refused_by_name(setting: str, says: str) -> None:
    with pytest.raises(RsfmError, match=says):
        pretrain_spec("mae", "p", "cpu", [setting])


def test_an_ambiguous_setting_asks_for_its_path() -> None:
    with pytest.raises(RsfmError, match="write the whole path"):
        apply_settings({}, ["x=1"], {"a": {"x": 0}, "b": {"x": 0}})


def test_unknown_keys_and_kinds_are_refused() -> None:
    with pytest.raises(RsfmError, match="surprise"):
        parse_spec({"kind": "evaluate", "model": "m", "dataset": "d", "surprise": 1})
    with pytest.raises(RsfmError, match="kind"):
        parse_spec({"kind": "divine"})
    with pytest.raises(RsfmError, match="twice"):
        parse_spec({"kind": "evaluate", "model": "m", "dataset": "d", "severities": [1, 2, 2]})


def test_the_group_folds_seeds_and_places_but_nothing_else() -> None:
    spec = pretrain_spec("mae", "p", "cpu")
    same = [
        pretrain_spec("mae", "p", "cpu", seed=7),
        pretrain_spec("mae", "p", "cpu", ["device=cpu", "threads=3", "log_every_steps=1"]),
    ]
    other = [
        pretrain_spec("mae", "q", "cpu"),
        pretrain_spec("mae", "p", "cpu", ["mask_ratio=0.6"]),
        pretrain_spec("mae", "p", "cpu", ["base_lr=0.001"]),
        pretrain_spec("mae", "p", "cpu", ['bands=["B02"]']),
    ]
    assert {group_hash(s) for s in same} == {group_hash(spec)}
    assert len({group_hash(s) for s in [spec, *other]}) == 5
    evaluation = EvaluateSpec(model="band-stats", dataset="p")
    assert group_hash(evaluation) == group_hash(evaluation.model_copy(update={"eval_seeds": [5], "model_seed": 3}))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(0, 2**31 - 1), st.sampled_from([1, 2, 4]))
def test_settings_round_trip_as_text(ratio: float, seed: int, accumulate: int) -> None:
    lines = [f"mask_ratio={ratio!r}", f"seed={seed}", f"accumulate={accumulate}"]
    spec = pretrain_spec("mae", "p", "cpu", lines)
    assert (spec.params.mask_ratio, spec.seed, spec.optim.accumulate) == (ratio, seed, accumulate)


@pytest.mark.parametrize("value", ["1e999", "NaN", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(value: str) -> None:
    with pytest.raises(RsfmError, match="base_lr"):
        pretrain_spec("mae", "p", "cpu", [f"base_lr={value}"])


@pytest.mark.parametrize("change", [{"eval_seeds": [-1]}, {"bootstrap": 10**9}])
def test_evaluation_limits(change: dict) -> None:
    with pytest.raises(RsfmError, match=next(iter(change))):
        parse_spec({"kind": "evaluate", "model": "m", "dataset": "d", **change})
