"""When each alarm of a training rings, and when it does not."""

from __future__ import annotations

import math

import pytest
import torch

from rsfm import alarms
from rsfm.train.monitors import collapse_monitors

D = 192
HEALTHY = {
    "feature_dim": float(D), "std_l2": 1 / math.sqrt(D), "top1_eigen_share": 0.35, "teacher_entropy_share": 0.6,
    "patch_entropy_share": 0.55, "prototype_use": 0.8, "alignment": 0.35, "uniformity": -3.4, "contrastive_top1": 0.6,
    "codebook_use": 0.6, "token_gain": 0.4, "skipped_steps": 0.0,
}  # fmt: skip
#: Alarm -> values that just ring it, and values that just do not.
EDGES = {
    "constant-collapse": ({"std_l2": 0.09 / math.sqrt(D)}, {"std_l2": 0.11 / math.sqrt(D)}),
    "constant-targets": (
        {"teacher_entropy_share": 0.01, "prototype_use": 0.04}, {"teacher_entropy_share": 0.01, "prototype_use": 0.06},
    ),
    "uniform-collapse": ({"teacher_entropy_share": 0.985}, {"teacher_entropy_share": 0.975}),
    "uniform-patches": ({"patch_entropy_share": 0.985}, {"patch_entropy_share": 0.975}),
    "collapsed-projections": (
        {"alignment": 0.01, "uniformity": -0.05}, {"alignment": 0.01, "uniformity": -3.0},
    ),
    "partners-given-away": ({"contrastive_top1": 0.995}, {"contrastive_top1": 0.985}),
    "dimensional-collapse": ({"top1_eigen_share": 0.51}, {"top1_eigen_share": 0.49}),
    "codebook-collapse": ({"codebook_use": 0.29}, {"codebook_use": 0.31}),
    "tokens-not-learned": ({"token_gain": 0.0}, {"token_gain": 0.01}),
    "non-finite-steps": ({"skipped_steps": 1.0}, {"skipped_steps": 0.0}),
}  # fmt: skip


def ringing(values: dict[str, float]) -> set[str]:
    return {alarm.name for alarm in alarms.standing(alarms.evaluate(values))}


def test_a_healthy_run_rings_nothing_and_denies_everything() -> None:
    assert alarms.evaluate(HEALTHY) == {f"alarm/{name}": 0.0 for name in EDGES}


@pytest.mark.parametrize("name", EDGES)
def test_each_alarm_rings_for_its_failure_alone(name: str) -> None:
    bad, good = EDGES[name]
    assert ringing(HEALTHY | bad) == {name}
    assert ringing(HEALTHY | good) == set()


@pytest.mark.parametrize("name", EDGES)
def test_an_alarm_whose_values_are_missing_or_no_numbers_says_nothing(name: str) -> None:
    for needed in alarms.ALARMS[name].needs:
        known = HEALTHY | EDGES[name][0]
        assert f"alarm/{name}" not in alarms.evaluate({k: v for k, v in known.items() if k != needed})
        assert f"alarm/{name}" not in alarms.evaluate(known | {needed: math.nan})


def test_alarms_ring_for_features_that_have_collapsed() -> None:
    noise = torch.randn(512, D, generator=torch.Generator().manual_seed(0))
    one_direction = noise[:, :1] * torch.ones(D) + 0.1 * noise
    for features, expected in (
        (noise, set()),
        (5 + 0.01 * noise, {"constant-collapse"}),
        (one_direction, {"dimensional-collapse"}),
    ):
        assert ringing({"feature_dim": float(D), **collapse_monitors(features)}) == expected
