"""Every rule about results finds the fault that was planted, and leaves alone what only looks like it."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from store_world import begin, evaluate, indexed, score

from rsfm.store.lint import PLACE, farthest_band
from rsfm.workspace import Workspace

#: Scores of a model that nothing is wrong with, by severity.
CURVE = {1.0: 0.8, 2.0: 0.7, 4.0: 0.6, 8.0: 0.5}


def curve(
    group: str = "g", step: float = 0.0, seeds: int = 2, value: float | None = None, **changes: Any
) -> list[dict[str, Any]]:
    """Rows of one model; scores grow by `step` with the evaluation seed, and are `value` at all severities if given."""
    shared = {"model_group": group, "model_title": group.upper()} | changes
    return [
        score(severity=s, eval_seed=e, value=(v if value is None else value) + step * e, **shared)
        for s, v in CURVE.items()
        for e in range(seeds)
    ]


def lint(workspace: Workspace, *rows: dict[str, Any]) -> pd.DataFrame:
    begin(evaluate(workspace)).scores(list(rows))
    return indexed(workspace).lint()


def test_nothing_is_odd_about_ordinary_results(workspace: Workspace) -> None:
    whole = {
        "deterministic": False, "feature_dim": 192, "feature_std_l2": 0.05, "feature_rank": 30.0, "input_band": "B02",
        "input_mean": -1.2, "input_std": 0.4,
    }  # fmt: skip
    rows = [*curve("a", 0.01, **whole), *curve("b", 0.02, **whole), *curve("band-stats", 0.001, value=0.1)]
    assert lint(workspace, *rows).empty


# -- the floor ------------------------------------------------------------------------------------------------------
def test_a_model_is_held_against_the_floor_of_its_own_bands_and_protocol(workspace: Workspace) -> None:
    floor = {"model_group": "band-stats", "model_title": "Band statistics"}
    rows = [
        score(**floor, bands="B02", value=0.3), score(**floor, bands="B02,B03", value=0.6),
        score(model_group="few", model_title="Few", bands="B02", value=0.4),
        score(model_group="many", model_title="Many", bands="B02,B03", value=0.55),
        score(model_group="other", model_title="Other", bands="B08", value=0.5),
        score(model_group="tuned", model_title="Tuned", value=0.1, train_degrade="uniform"),
        score(model_group="post", model_title="Post", value=0.1, degrade_target="post"),
    ]  # fmt: skip
    found = lint(workspace, *rows)
    assert found["rule"].tolist() == ["below-floor"] * 2
    assert found["message"].tolist() == [
        "Many is below the band statistics on pack (knn, 1×): accuracy 0.550 against 0.600.",
        "Other is below the band statistics on pack (knn, 1×): accuracy 0.500 against 0.600.",
    ]


# -- identical scores -----------------------------------------------------------------------------------------------
def test_scores_that_do_not_react_to_the_severity(workspace: Workspace) -> None:
    found = lint(workspace, *curve("stuck", seeds=1, value=0.47), *curve("perfect", seeds=1, value=1.0))
    assert found["rule"].tolist() == ["identical-scores"]
    assert found.loc[0, "message"] == (
        "accuracy of STUCK on pack (knn, evaluation seed 0) is 0.4700 at all 4 severities: was the input degraded?"
    )


def test_pairs_that_must_be_equal_are_left_alone(workspace: Workspace) -> None:
    """Two operators at identity; statistics of bands, which no shift changes; a search without chance."""
    rows = [
        *(score(operator=o, severity=1, eval_seed=e, value=0.6 + e / 100) for o in ("area", "mtf") for e in range(4)),
        *curve("band-stats", 0.01, operator="misregistration", value=0.47),
        *curve("whole", adaptation="knn (train_fraction=1.0)", deterministic=True),
        *(row | {"value": row["value"] / 2, "model_seed": 3} for row in curve("random:vit-nano", 0.01)),
        *(row | {"value": row["value"] / 2, "model_seed": 3} for row in curve("random:952a", 0.01)),
    ]
    found = lint(workspace, *rows)
    assert found[found["rule"] == "identical-scores"].empty, found["message"].tolist()


def test_scores_that_do_not_react_to_the_seed(workspace: Workspace) -> None:
    found = lint(workspace, *curve("same"), *curve("spread", 0.01), *curve("once", seeds=1))
    assert found["rule"].tolist() == ["identical-scores"]
    assert found.loc[0, "message"] == (
        "SAME on pack (knn, 2 evaluation seeds) scores the same with every seed at all 4 severities: was another "
        "training subset drawn?"
    )


def test_an_equal_score_or_two_are_chance(workspace: Workspace) -> None:
    rows = curve("g", 0.01)
    rows[1]["value"] = rows[0]["value"]
    two = [score(model_group="two", severity=s, eval_seed=e, value=v) for s, v in ((1, 0.6), (2, 0.5)) for e in (0, 1)]
    assert lint(workspace, *rows, *two).empty


def test_two_models_with_the_same_scores(workspace: Workspace) -> None:
    rows = [
        *curve("a", 0.01, model_title="MAE"), *curve("b", 0.01, model_title="iBOT"), *curve("c", 0.02),
        *curve("a", 0.01, model_title="MAE", model_seed=1),
        *curve("a", 0.01, model_title="MAE", dataset="other"), *curve("b", 0.01, dataset="third"),
    ]  # fmt: skip
    found = lint(workspace, *rows)
    assert set(found["rule"]) == {"identical-scores"}
    same = "score the same on pack (knn, all 8 scores): does each have its own weights?"
    message = f"MAE (seed 0), MAE (seed 1) and iBOT (seed 0) {same}"
    told = found[["subject", "model_group", "message"]].to_numpy().tolist()
    assert told == [["a", "a", message], ["b", "b", message]]


def test_many_models_with_the_same_scores_are_one_finding_each(workspace: Workspace) -> None:
    rows = [row for i in range(6) for row in curve(f"g{i}", 0.01, model_title=f"M{i}")]
    found = lint(workspace, *rows)
    assert found["model_group"].tolist() == [f"g{i}" for i in range(6)]
    assert set(found["message"]) == {
        "M0 (seed 0), M1 (seed 0), M2 (seed 0) and 3 more score the same on pack (knn, all 8 scores): does each have "
        "its own weights?"
    }


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({"train_degrade": "none"}, {"train_degrade": "bilinear"}, "train_degrade bilinear and train_degrade none"),
        ({"operator": "bilinear"}, {"operator": "mtf"}, "operator bilinear and operator mtf"),
        ({"degrade_target": "post"}, {"degrade_target": "pre"}, "degrade_target post and degrade_target pre"),
        ({"adaptation": "finetune"}, {"adaptation": "finetune (fusion=abs)"}, "finetune and finetune (fusion=abs)"),
        ({"adaptation": "knn"}, {"adaptation": "knn (knn_k=5)"}, "knn and knn (knn_k=5)"),
        ({"bands": "B02"}, {"bands": "B02,B03"}, "bands B02 and bands B02,B03"),
        (
            {"adaptation": "knn", "operator": "area"}, {"adaptation": "linear", "operator": "mtf"},
            "knn, operator area and linear, operator mtf",
        ),
    ],
)  # fmt: skip
def test_a_setting_that_changes_nothing_was_ignored(
    workspace: Workspace, first: dict[str, str], second: dict[str, str], named: str
) -> None:
    rows = [
        row | {"model_seed": seed, "value": row["value"] / (1 + seed)}
        for seed in (0, 1)
        for change in (first, second)
        for row in curve("g", 0.01, **change)
        if change is first or row["severity"] > 1  # what is as it was need not be measured twice
    ]
    found = lint(workspace, *rows, *curve("g", 0.02, dataset="other"))
    assert found["rule"].tolist() == ["identical-scores"] * 2, "each curve once, whatever the number of model seeds"
    shared = {"adaptation": "knn", "operator": "bilinear"} | first
    about = "" if "adaptation" in second else f"{shared['adaptation']}, "
    assert set(found["message"]) == {
        f"G on pack ({about}model seed 0) scores the same with {named} at all 6 degraded points: was the setting "
        "ignored?"
    }
    for changed, column in (pair for change in (first, second) for pair in ((change, key) for key in change)):
        assert changed[column] in set(found[column])


def test_many_settings_with_the_same_scores_are_one_finding_each(workspace: Workspace) -> None:
    rows = [row for k in range(1, 7) for row in curve("g", 0.01, adaptation=f"knn (knn_k={k})")]
    found = lint(workspace, *rows)
    assert found["adaptation"].tolist() == [f"knn (knn_k={k})" for k in range(1, 7)]
    assert set(found["message"]) == {
        "G on pack (model seed 0) scores the same with knn (knn_k=1); knn (knn_k=2); knn (knn_k=3) and 3 more at all "
        "6 degraded points: was the setting ignored?"
    }


def test_settings_that_are_equal_by_right_are_left_alone(workspace: Workspace) -> None:
    """What is as it was; what no setting changes; too little to tell; two names of the same settings."""
    flat = {1.0: 0.9, 2.0: 0.1, 4.0: 0.1, 8.0: 0.1}  # always the same class
    rows = [
        row
        for operator in ("bilinear", "mtf")
        for row in (
            *(score(operator=operator, severity=1, eval_seed=e, value=0.6 + e / 100) for e in range(6)),
            *curve("band-stats", 0.001, operator=operator),
            *curve("whole", operator=operator, adaptation="knn (train_fraction=1.0)", deterministic=True, seeds=3),
            *curve("once", operator=operator, seeds=1),
            *curve("stuck", 0.001, value=0.3, operator=operator),
            *curve("perfect", operator=operator, value=1.0),
            *(score(model_group="constant", operator=operator, severity=s, eval_seed=e, value=v + e * (s == 1) / 100)
              for s, v in flat.items() for e in range(3)),
            *(row | {"value": row["value"] if row["severity"] < 4 else 1.0}
              for row in curve("solved", 0.01, operator=operator)),
        )
    ]  # fmt: skip
    for group, step, (first, second) in (
        ("cpu", 0.02, ("finetune", "finetune (precision=fp32)")),
        ("gpu", 0.03, ("finetune (epochs=3)", "finetune (epochs=3, precision=bf16)")),
        ("published", 0.04, ("linear (dstnsp-scenes)", "linear (train_fraction=1.0)")),
    ):
        rows += [*curve(group, step, adaptation=first), *curve(group, step, adaptation=second)]
    rows += [*curve("order", 0.05, bands="B02,B03"), *curve("order", 0.05, bands="B03,B02")]
    found = lint(workspace, *rows)
    assert not found["message"].str.contains("ignored").any(), found["message"].tolist()


def test_a_finding_about_one_band_set_is_not_about_the_other(workspace: Workspace) -> None:
    whole = {"feature_dim": 64, "feature_std_l2": 0.1, "feature_rank": 30.0}
    rows = [
        *curve("a", 0.01, bands="B02", **whole | {"feature_rank": 1.0, "feature_std_l2": 0.0}),
        *(row | {"value": row["value"] / 2} for row in curve("a", 0.01, bands="B03", **whole)),
    ]
    found = lint(workspace, *rows)
    assert found[["rule", "bands"]].to_numpy().tolist() == [["collapsed-features", "B02"]]


# -- what a finding is about ----------------------------------------------------------------------------------------
def test_a_severity_is_written_as_its_operator_means_it(workspace: Workspace) -> None:
    rows = [
        score(model_group=group, model_title=group, operator=operator, severity=severity, value=value)
        for operator, severity in (("area", 4), ("blur", 2), ("noise", 0.1), ("jpeg", 50), ("not known here", 3))
        for group, value in (("band-stats", 0.6), ("g", 0.4))
    ]
    found = lint(workspace, *rows)
    assert found["message"].str.extract(r"pack \(knn, (.*)\):")[0].tolist() == [
        "area 4×", "blur 2 px", "jpeg 50", "noise 0.1", "not known here 3",
    ]  # fmt: skip


def test_a_finding_names_the_curve_that_it_is_about(workspace: Workspace) -> None:
    rows = [
        *curve("band-stats", 0.01, value=0.9), *curve("low", 0.01, adaptation="linear (lr=0.1)"),
        *curve("stuck", seeds=1, value=0.95),
        *curve("same", operator="mtf"), *curve("a", 0.02, operator="mtf"), *curve("b", 0.02, operator="mtf"),
        *curve("flat", 0.01, operator="blur", feature_dim=64, feature_std_l2=0.0, feature_rank=1.0),
        *curve("far", 0.01, operator="haze", input_band="B02", input_mean=99.0, input_std=1.0),
        score(model_group="band-stats", adaptation="linear (lr=0.1)", value=0.99),
    ]  # fmt: skip
    found = lint(workspace, *rows)
    curves = set(map(tuple, indexed(workspace).compare()[list(PLACE)].drop_duplicates().to_numpy().tolist()))
    places = set(map(tuple, found[list(PLACE)].to_numpy().tolist()))
    assert len(set(found["rule"])) == 4 and places <= curves
    assert {(p[0], p[6], p[7]) for p in places} == {
        ("low", "linear (lr=0.1)", "bilinear"), ("stuck", "knn", "bilinear"), ("same", "knn", "mtf"),
        ("a", "knn", "mtf"), ("b", "knn", "mtf"), ("flat", "knn", "blur"), ("far", "knn", "haze"),
    }  # fmt: skip


def test_findings_about_runs_packs_and_files_name_what_they_can(workspace: Workspace) -> None:
    run = evaluate(workspace)
    begin(run).scores(
        [score(value=0.5), score(value=0.6), score(model_group="o", pack_hash="older", time="2020-01-01")]
    )
    with (run.path / "scores.jsonl").open("a") as file:
        file.write("{torn\n")
    found = indexed(workspace).lint().set_index("rule")
    assert found.loc["duplicate-key", ["subject", "model_group", "dataset", "severity"]].tolist() == [
        run.id, "g", "pack", "warning",
    ]  # fmt: skip
    assert found.loc["older-pack", ["model_group", "dataset", "operator"]].tolist() == [None, "pack", None]
    assert found.loc["older-pack", "message"].startswith("1 score was measured on an earlier content of pack pack")
    assert found.loc["unreadable-line", list(PLACE)].tolist() == [None] * len(PLACE)
    store = indexed(workspace)
    for severity in ("error", "warning", "info"):
        asked = store.lint(severity)
        assert asked["rule"].tolist() == found.index[found["severity"] == severity].tolist()


def test_one_curve_rests_on_one_set_of_weights_and_one_preprocessing(workspace: Workspace) -> None:
    """Seeds have weights of their own; what a later version measured again in part is told."""
    fresh = [
        r | {"basis": f"weights-{seed}"}
        for seed in (0, 1)
        for r in curve("fresh", 0.01 + 0.001 * seed, model_seed=seed)
    ]
    again = [
        r | {"basis": "new" if r["severity"] <= 2 else "old", "value": r["value"] + 0.001} for r in curve("again", 0.01)
    ]
    unknown = [r | ({"basis": "new"} if r["severity"] == 1 else {}) for r in curve("unknown", 0.02)]
    operator = [r | {"operator_hash": f"o{r['severity'] == 4}"} for r in curve("operator", 0.03)]
    found = lint(workspace, *fresh, *again, *unknown, *operator)
    assert found["rule"].tolist() == ["mixed-basis"] * 3
    assert sorted(found["model_group"]) == ["again", "operator", "unknown"]
    assert "AGAIN on pack (knn) mixes scores of different weights" in " ".join(found["message"])


# -- features and inputs --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dim", "std", "rank", "odd"),
    [
        (192, 0.0722, 30.0, False),  # healthy: 1/sqrt(192)
        (192, 0.0134, 7.4, False),  # a random vision transformer
        (4, 0.3, 1.4, False),  # so few dimensions have no rank to lose
        (192, 0.0072, 30.0, True),
        (192, 0.05, 1.5, True),
    ],
)
def test_collapsed_features(workspace: Workspace, dim: int, std: float, rank: float, odd: bool) -> None:
    features = {"feature_dim": dim, "feature_std_l2": std, "feature_rank": rank}
    rows = curve("g", 0.01)
    for row in rows:
        if row["severity"] in (2.0, 8.0):
            row |= features
    found = lint(workspace, *rows)
    assert found["rule"].tolist() == ["collapsed-features"] * odd
    if odd:
        assert found.loc[0, "message"] == (
            f"G on pack (knn, 2×, 8×) rests on collapsed features: they spread {std * math.sqrt(dim):.3f} of what is "
            f"healthy, over {rank:.1f} of {dim} dimensions."
        )
        assert found.loc[0, ["subject", "severity"]].tolist() == ["g", "warning"]


@pytest.mark.parametrize(
    ("mean", "std", "severity"),
    [
        (0.0, 1.0, None),
        (-4.0, 0.2, None),  # dark water for a model of fields
        (6.0, 0.8, "warning"),  # snow, or another processing baseline
        (0.3, 0.05, "warning"),
        (-2.2, 1e-4, "error"),  # reflectance given to a model of digital numbers
        (260.0, 255.0, "error"),  # bytes given to a model of shares
        (1.0, 0.0, "error"),  # a band filled with zeros
        (math.nan, 1.0, "error"),  # no statistics
        (0.0, math.inf, "error"),
    ],
)
def test_wrong_unit_or_missing_statistics(workspace: Workspace, mean: float, std: float, severity: str | None) -> None:
    found = lint(workspace, *curve("g", 0.01, input_band="B08", input_mean=mean, input_std=std))
    assert found["severity"].tolist() == ([severity] if severity else [])
    if severity:
        assert found.loc[0, "rule"] == "wrong-input" and found.loc[0, "subject"] == "g"
        message = found.loc[0, "message"]
        assert message.startswith("G on pack (knn, band B08) gets input with mean ") and "wrong unit" in message


def test_the_band_that_is_farthest_off_is_named() -> None:
    names = ["B02", "B03", "B04"]
    assert farthest_band(names, [0.1, 3.0, -1.0], [1.0, 1.0, 0.9]) == {
        "input_band": "B03", "input_mean": 3.0, "input_std": 1.0,
    }  # fmt: skip
    assert farthest_band(names, [0.1, 3.0, -1.0], [1.0, 1.0, 0.01])["input_band"] == "B04"
    assert farthest_band(names, [0.1, 3.0, -1.0], [1.0, 1.0, 90.0])["input_band"] == "B04"
    assert farthest_band(names, [math.nan, 30.0, -1.0], [1.0, 1.0, 1.0])["input_band"] == "B02"
    assert farthest_band(names, [0, 0, 0], [1, 0.0, 1])["input_band"] == "B03"
