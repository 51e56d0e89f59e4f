"""When each alarm of a training rings, and when it does not."""

from __future__ import annotations

import math

import pytest
import torch

from rsfm import alarms
from rsfm.registry import METHODS
from rsfm.train.monitors import collapse_monitors

D = 192
HEALTHY = {
    "feature_dim": float(D), "std_l2": 1 / math.sqrt(D), "top1_eigen_share": 0.35, "teacher_entropy_share": 0.6,
    "patch_entropy_share": 0.55, "patch_prototype_use": 0.6, "prototype_use": 0.8, "alignment": 0.35,
    "uniformity": -3.4, "contrastive_top1": 0.6, "codebook_use": 0.6, "token_gain": 0.4,
    "skipped_steps": 0.0, "strangers": 64.0, "prototypes_won": 40.0, "patch_prototypes_won": 300.0,
    "first_top1_eigen_share": 0.3, "grad_ratio": 0.5,
}  # fmt: skip
#: Alarm -> values that just ring it, and values that just do not.
EDGES = {
    "constant-collapse": ({"std_l2": 0.09 / math.sqrt(D)}, {"std_l2": 0.11 / math.sqrt(D)}),
    "constant-targets": (
        {"teacher_entropy_share": 0.01, "prototype_use": 0.04}, {"teacher_entropy_share": 0.01, "prototype_use": 0.06},
    ),
    "uniform-collapse": ({"teacher_entropy_share": 0.985}, {"teacher_entropy_share": 0.975}),
    "uniform-patches": ({"patch_entropy_share": 0.985}, {"patch_entropy_share": 0.975}),
    "constant-patches": (
        {"patch_entropy_share": 0.01, "patch_prototype_use": 0.04},
        {"patch_entropy_share": 0.01, "patch_prototype_use": 0.06},
    ),
    "collapsed-projections": (
        {"alignment": 0.01, "uniformity": -0.05}, {"alignment": 0.01, "uniformity": -3.0},
    ),
    "partners-given-away": ({"contrastive_top1": 0.995}, {"contrastive_top1": 0.985}),
    "dimensional-collapse": ({"top1_eigen_share": 0.51}, {"top1_eigen_share": 0.49}),
    "codebook-collapse": ({"codebook_use": 0.29}, {"codebook_use": 0.31}),
    "tokens-not-learned": ({"token_gain": 0.0}, {"token_gain": 0.01}),
    # 0.84 of the features' variance before training.
    "tokens-of-one-direction": (
        {"first_top1_eigen_share": 0.84, "top1_eigen_share": 0.56},
        {"first_top1_eigen_share": 0.84, "top1_eigen_share": 0.45},
    ),
    "one-task-dominates": ({"grad_ratio": 11.0}, {"grad_ratio": 9.0}),
    "non-finite-steps": ({"skipped_steps": 1.0}, {"skipped_steps": 0.0}),
}  # fmt: skip


#: Times of the training: at one or the other, each alarm is judged.
WHEN, LATE = 0.3, 0.8


def when_judged(name: str) -> float:
    return WHEN if alarms.ALARMS[name].judged[0] <= WHEN else LATE


def ringing(values: dict[str, float], when: float = WHEN) -> set[str]:
    return {alarm.name for alarm in alarms.standing(alarms.evaluate(values, when))}


def test_a_healthy_run_rings_nothing_and_denies_everything() -> None:
    denied = alarms.evaluate(HEALTHY, WHEN) | alarms.evaluate(HEALTHY, LATE)
    assert denied == {f"alarm/{name}": 0.0 for name in EDGES}


@pytest.mark.parametrize("name", EDGES)
def test_each_alarm_rings_for_its_failure_alone(name: str) -> None:
    bad, good = EDGES[name]
    assert ringing(HEALTHY | bad, when_judged(name)) == {name}
    assert ringing(HEALTHY | good, when_judged(name)) == set()


@pytest.mark.parametrize("name", EDGES)
def test_an_alarm_whose_values_are_missing_or_no_numbers_says_nothing(name: str) -> None:
    when = when_judged(name)
    for needed in alarms.ALARMS[name].needs:
        known = HEALTHY | EDGES[name][0]
        assert f"alarm/{name}" not in alarms.evaluate({k: v for k, v in known.items() if k != needed}, when)
        assert f"alarm/{name}" not in alarms.evaluate(known | {needed: math.nan}, when)


def test_alarms_ring_for_features_that_have_collapsed() -> None:
    noise = torch.randn(512, D, generator=torch.Generator().manual_seed(0))
    one_direction = noise[:, :1] * torch.ones(D) + 0.1 * noise
    for features, expected in (
        (noise, set()),
        (5 + 0.01 * noise, {"constant-collapse"}),
        (one_direction, {"dimensional-collapse"}),
    ):
        found = collapse_monitors(features)
        assert ringing({"feature_dim": float(D), "first_top1_eigen_share": 0.1, **found}) == expected


def test_what_a_fresh_network_or_a_finished_one_shows_is_no_failure() -> None:
    """Codebooks begin with few codes in use; that partners are found at once is suspicious only early."""
    codes, partners = HEALTHY | {"codebook_use": 0.1}, HEALTHY | {"contrastive_top1": 1.0}
    assert [ringing(codes, when) for when in (0.05, 0.2, 0.25, 1.0)] == [set(), set(), *[{"codebook-collapse"}] * 2]
    assert [ringing(partners, when) for when in (0.05, 0.1, 0.5, 0.6)] == [set(), *[{"partners-given-away"}] * 2, set()]
    assert ringing(HEALTHY | {"skipped_steps": 1.0}, 0.01) == {"non-finite-steps"}


def test_either_task_can_dominate() -> None:
    rings = [bool(ringing(HEALTHY | {"grad_ratio": ratio})) for ratio in (0.01, 0.03, 9.0, 11.0)]
    assert rings == [True, False, False, True]


def test_images_that_differ_mostly_in_brightness_have_one_direction_from_the_start() -> None:
    first = HEALTHY | {"first_top1_eigen_share": 0.7}
    assert ringing(first | {"top1_eigen_share": 0.76}) == set()
    assert ringing(first | {"top1_eigen_share": 0.78}) == {"dimensional-collapse"}
    assert ringing(HEALTHY | {"first_top1_eigen_share": 0.93, "top1_eigen_share": 0.96}) == {"dimensional-collapse"}


@pytest.mark.parametrize(("of", "name"), [("", "constant-targets"), ("patch_", "constant-patches")])
def test_one_prototype_for_all_of_a_few_rings(of: str, name: str) -> None:
    """Though it is a large share of those that could win."""
    share = "patch_entropy_share" if of else "teacher_entropy_share"
    few = HEALTHY | {share: 0.01, f"{of}prototype_use": 0.125}
    assert ringing(few | {f"{of}prototypes_won": 1.0}) == {name}
    assert ringing(few | {f"{of}prototypes_won": 2.0}) == set()
    assert ringing(few | {f"{of}prototypes_won": 1.0, share: 0.03}) == set()


def test_where_no_patch_counts_nothing_has_collapsed() -> None:
    none = {"patch_entropy_share": 0.0, "patch_prototype_use": 0.0, "patch_prototypes_won": 0.0}
    assert ringing(HEALTHY | none) == set()


def test_among_a_few_strangers_partners_are_easily_found() -> None:
    rings = [bool(ringing(HEALTHY | {"strangers": n, "contrastive_top1": 1.0})) for n in (2.0, 15.0, 16.0, 4096.0)]
    assert rings == [False, False, True, True]


def test_alarms_that_mean_nothing_for_a_method() -> None:
    bad = HEALTHY | {"top1_eigen_share": 0.9}
    assert "alarm/dimensional-collapse" not in alarms.evaluate(bad, WHEN, but=["dimensional-collapse"])
    known = set(alarms.ALARMS)
    assert all(set(entry.no_alarms) <= known for entry in METHODS.values())
