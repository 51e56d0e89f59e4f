"""`rsfm compare`: what it prints, its JSON, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from comparison_world import curve, evaluated
from typer.testing import CliRunner

from rsfm import stats
from rsfm.cli import app
from rsfm.comparison import SUMMARY_COLUMNS
from rsfm.errors import RsfmError
from rsfm.store.view import Store
from rsfm.workspace import Workspace

N = 200


def run(workspace: Workspace, *args: str) -> str:
    """Standard output; an error of ours is raised, as the command line does before it prints it in one line."""
    result = CliRunner().invoke(app, ["compare", *args, "--workspace", str(workspace.root)])
    if isinstance(result.exception, RsfmError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(workspace: Workspace, *args: str) -> str:
    result = CliRunner().invoke(app, ["compare", *args, "--workspace", str(workspace.root)])
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture
def lab(workspace: Workspace) -> Workspace:
    """MAE is better than a random encoder, and was tested at one severity more and on one pack more."""
    rng = np.random.default_rng(0)
    hard, labels = rng.random(N), np.arange(N) % 5
    mae = curve(rng, N, {1.0: 0.85, 2.0: 0.75, 4.0: 0.5}, seeds=3, difficulty=hard)
    evaluated(workspace, "952a", mae, title="MAE vit-nano", labels=labels)
    noise = curve(rng, N, {1.0: 0.55, 2.0: 0.5}, seeds=3, difficulty=hard)
    evaluated(workspace, "random:vit-nano", noise, title="Random ViT nano", labels=labels)
    evaluated(workspace, "952a", curve(rng, N, {1.0: 0.9}), title="MAE vit-nano", dataset="other", labels=labels)
    return workspace


def test_by_default_it_prints_curves(lab: Workspace) -> None:
    text = run(lab)
    assert "pack · accuracy" in text and "other · accuracy" in text
    line = next(x for x in text.splitlines() if x.startswith("MAE vit-nano"))
    assert "knn" in line and "bilinear" in line
    assert "1× (10 m)" in text and "3 evaluation seeds" in text
    assert line.rstrip().endswith("200 test samples")
    assert "other" not in run(lab, "--dataset", "pack")
    rows = json.loads(run(lab, "--json", "--metric", "accuracy"))
    assert len(rows) == 6 and {"model", "mean", "ci_low", "seeds", "train_degrade"} <= set(rows[0])
    assert json.loads(run(lab, "--json", "--adaptation", "linear")) == []
    fine = curve(np.random.default_rng(1), N, {1.0: 0.9})
    evaluated(lab, "952a", fine, title="MAE vit-nano", dataset="aerial", gsd_m=0.5)
    assert "1× (0.5 m)" in run(lab, "--dataset", "aerial")


def test_what_a_curve_amounts_to_stands_beside_its_scores(lab: Workspace) -> None:
    """The same numbers as on the page, in the table and in the JSON, for each curve by itself."""
    text = run(lab, "--dataset", "pack")
    heads = text.splitlines()[1]
    rows = json.loads(run(lab, "--dataset", "pack", "--json"))
    for group, title, factors in (("952a", "MAE", (1, 2, 4)), ("random:vit-nano", "Random", (1, 2))):
        curve_ = [r for r in rows if r["model_group"] == group]
        scores = [r["mean"] for r in curve_]
        assert len({json.dumps([r[name] for name in SUMMARY_COLUMNS]) for r in curve_}) == 1
        first, expected = curve_[0], stats.summarise(factors, scores, identity=1, factors=True)
        assert first["curve_auc"] == pytest.approx(expected.auc)
        assert first["curve_auc_norm"] == pytest.approx(expected.auc_norm)
        assert first["curve_mean"] == pytest.approx(sum(scores) / len(scores))
        assert first["curve_retention"] == pytest.approx(scores[-1] / scores[0])
        assert first["curve_ladder"] == ", ".join(f"{f}×" for f in factors)
        line = next(x for x in text.splitlines() if x.startswith(title))
        shown = [float(x) for x in line[heads.index("AUC") : heads.index("severities")].replace("%", "").split()]
        numbers = (expected.auc, 100 * expected.auc_norm, expected.mean, 100 * expected.retention)
        assert shown == pytest.approx(numbers, abs=0.051) and first["curve_ladder"] in line


def test_without_factors_there_is_no_area(workspace: Workspace) -> None:
    rng = np.random.default_rng(1)
    evaluated(workspace, "m", curve(rng, N, {0.0: 0.8, 4.0: 0.4}), title="MAE", operator="blur", gsd_m=None)
    text, (first, last) = run(workspace), json.loads(run(workspace, "--json"))
    assert "AUC" not in text and "retention" in text and "severities" not in text, "of one ladder nothing is said"
    assert first["curve_auc"] is first["curve_auc_norm"] is None and first["curve_ladder"] == "0 px, 4 px"
    assert first["curve_retention"] == pytest.approx(last["mean"] / first["mean"])


def test_seeds_are_counted_as_people_do(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    evaluated(workspace, "one", curve(rng, N, {1.0: 0.8, 2.0: 0.7}), title="One")
    evaluated(workspace, "some", curve(rng, N, {1.0: 0.8}, seeds=3) | curve(rng, N, {2.0: 0.7}), title="Some")
    text = run(workspace)
    line = {name: next(x for x in text.splitlines() if x.startswith(name)) for name in ("One", "Some")}
    assert "1 evaluation seed " in line["One"] and "1 to 3 evaluation seeds" in line["Some"]
    assert "A  One  (1 evaluation seed)\nB  Some  (1 to 3 evaluation seeds)" in run(workspace, "--models", "one,some")


def test_seeds_of_two_kinds_are_not_added_up(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    evaluated(workspace, "m", curve(rng, N, {1.0: 0.8, 2.0: 0.7}, seeds=3), title="Mixed")
    evaluated(workspace, "m", curve(rng, N, {1.0: 0.8}, seeds=3), title="Mixed", model_seed=1)
    line = next(x for x in run(workspace).splitlines() if x.startswith("Mixed"))
    assert "2 model seeds, 3 evaluation seeds" in line


def test_the_age_of_the_index_is_told(lab: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside whatever was asked, and without asking for anything else."""
    monkeypatch.setattr(Store, "notice", property(lambda self: "As of this morning."))
    monkeypatch.setattr(Store, "compare", lambda self, **_: pd.DataFrame())
    asked = []
    real = Store.scores
    monkeypatch.setattr(Store, "scores", lambda self, *a, **k: asked.append(k) or real(self, *a, **k))
    for args, questions in (
        ((), 0),
        (("--tiers",), 1),
        (("--normalised",), 1),
        (("--models", "952a,random:vit-nano"), 2),
    ):
        asked.clear()
        result = CliRunner().invoke(app, ["compare", *args, "--workspace", str(lab.root)])
        assert "As of this morning." in result.stderr and len(asked) == questions, args


def test_operators_of_different_severities_have_their_own_tables(lab: Workspace) -> None:
    rng = np.random.default_rng(1)
    evaluated(lab, "952a", curve(rng, N, {0.0: 0.8, 4.0: 0.5}), title="MAE", operator="blur", gsd_m=None)
    evaluated(lab, "952a", curve(rng, N, {1.0: 0.8, 4.0: 0.7}), title="MAE", train_degrade="bilinear")
    text = run(lab, "--dataset", "pack")
    assert text.count("pack · accuracy") == 2 and "0 px" in text and "4 px" in text
    assert "trained with bilinear" in text, "curves of one model are told apart"


def test_two_models(lab: Workspace) -> None:
    text = run(lab, "--models", "MAE vit-nano, random:vit-nano")
    assert text.startswith("A  MAE vit-nano  (3 evaluation seeds)\nB  Random ViT nano  (3 evaluation seeds)\n")
    assert "Consistent improvement: MAE vit-nano is better than Random ViT nano in all 2 cells." in text
    assert "pack · accuracy · 200 test samples" in text and "p is corrected for 2 comparisons (Holm)" in text
    row = next(x for x in text.splitlines() if x.startswith("knn"))
    assert row.split()[1] == "1×" and row.split()[-1] == "A"
    assert "Not compared:\n  other: only MAE vit-nano was measured." in text
    assert "4×): only MAE vit-nano was measured." in text
    assert max(map(len, text.splitlines())) <= 90, "fits a narrow window"


def test_two_models_as_json(lab: Workspace) -> None:
    answer = json.loads(run(lab, "--models", "random:vit-nano,952a", "--json"))
    assert (answer["a"], answer["b"], answer["alpha"]) == ("Random ViT nano", "MAE vit-nano", 0.05)
    verdict = answer["verdict"]
    assert (verdict["name"], verdict["worse"], verdict["exceptions"]) == ("consistently worse", 2, [])
    assert [row["verdict"] for row in answer["rows"]] == ["b", "b"]
    assert answer["rows"][0]["difference"] < 0 and len(answer["left_out"]) == 2


def test_fitted_on_degraded_images_or_not(workspace: Workspace) -> None:
    """The one model against itself: whether training on degraded images helps, and where."""
    rng = np.random.default_rng(0)
    hard = rng.random(N)
    evaluated(workspace, "m", curve(rng, N, {1.0: 0.8, 4.0: 0.4}, seeds=3, difficulty=hard), title="MAE")
    helped = curve(rng, N, {1.0: 0.8, 4.0: 0.75}, seeds=3, difficulty=hard)
    evaluated(workspace, "m", helped, title="MAE", train_degrade="bilinear")
    text = run(workspace, "--models", "m,MAE", "--trained", "bilinear,none")
    assert text.startswith("A  MAE, trained with bilinear  (3 evaluation seeds)\nB  MAE, trained with none")
    assert "is never worse than MAE, trained with none, and better in 1 of 2 cells" in " ".join(text.split())
    rows = json.loads(run(workspace, "--models", "m,m", "--trained", "none,bilinear", "--json"))["rows"]
    assert [(r["severity"], r["verdict"], r["train_degrade"]) for r in rows] == [
        (1.0, "no difference", "none / bilinear"), (4.0, "b", "none / bilinear"),
    ]  # fmt: skip
    few = curve(rng, N, {1.0: 0.8, 4.0: 0.6}, seeds=3, difficulty=hard)
    evaluated(workspace, "m", few, title="MAE", train_degrade="area (1, 4)")
    for asked in ("area", "area (1, 4)"):
        (row,) = json.loads(run(workspace, "--models", "m,m", "--trained", f"{asked},none", "--json"))["rows"][1:]
        assert row["train_degrade"] == "area (1, 4) / none" and row["verdict"] == "a"
    evaluated(workspace, "m", few, title="MAE", train_degrade="area (1, 8)")
    with pytest.raises(RsfmError, match=r"several ways; name one: area \(1, 4\); area \(1, 8\)\."):
        run(workspace, "--models", "m,m", "--trained", "area,none")
    with pytest.raises(RsfmError, match="No results of MAE trained with 'blur'"):
        run(workspace, "--models", "m,m", "--trained", "none,blur")
    with pytest.raises(RsfmError, match="share results"):
        run(workspace, "--models", "m,m", "--trained", "none,none")
    assert "name them" in refused(workspace, "--trained", "none,bilinear")
    assert "two ways of training" in refused(workspace, "--models", "m,m", "--trained", "none")


def test_tiers(lab: Workspace) -> None:
    text = run(lab, "--tiers", "--dataset", "pack")
    assert "pack · accuracy · knn · test" in text
    lines = [x for x in text.splitlines() if "vit-nano" in x.lower() or "vit nano" in x.lower()]
    assert [x.split("  ")[0] for x in lines] == ["MAE vit-nano", "Random ViT nano"]
    assert "1 (0." in lines[0] and "2 (0." in lines[1]
    rows = json.loads(run(lab, "--tiers", "--json", "--adaptation", "knn"))["rows"]
    assert {(r["model_group"], r["severity"]): r["tier"] for r in rows if r["dataset"] == "pack"} == {
        ("952a", 1.0): 1, ("952a", 2.0): 1, ("952a", 4.0): 1, ("random:vit-nano", 1.0): 2, ("random:vit-nano", 2.0): 2,
    }  # fmt: skip


def test_one_number(lab: Workspace) -> None:
    text = run(lab, "--normalised")
    line = next(x for x in text.splitlines() if "other, pack" in x)
    assert line.startswith("MAE vit-nano") and "best constant prediction" in text
    rows = json.loads(run(lab, "--normalised", "--json"))["rows"]
    first = next(r for r in rows if r["model_group"] == "random:vit-nano" and r["severity"] == 1)
    shown = json.loads(run(lab, "--json", "--dataset", "pack"))
    mean = next(r["mean"] for r in shown if r["model_group"] == "random:vit-nano" and r["severity"] == 1)
    assert first["mean"] == pytest.approx((mean - 0.2) / 0.8) and first["parts"] == "pack"


def test_what_is_refused(lab: Workspace) -> None:
    assert "two models with a comma, got '952a'" in refused(lab, "--models", "952a")
    assert "choose one of --models, --tiers and --normalised" in refused(lab, "--tiers", "--normalised")
    assert "leave --metric out" in refused(lab, "--normalised", "--metric", "accuracy")
    for args, words in (
        (("--models", "952a,nothing"), "No results of a model 'nothing'. There are: MAE vit-nano"),
        (("--models", "952a,952a"), "share results"),
        (("--models", "952a,random:vit-nano", "--adaptation", "linear"), "no common result for linear"),
        (("--models", "952a,random:vit-nano", "--metric", "f1"), "does not determine f1"),
        (("--models", "952a,random:vit-nano", "--dataset", "nowhere"), "nowhere"),
        (("--tiers", "--dataset", "nowhere"), "nowhere"),
        (("--normalised", "--dataset", "nowhere"), "nowhere"),
    ):
        with pytest.raises(RsfmError, match=words):
            run(lab, *args)


def test_an_empty_workspace(workspace: Workspace) -> None:
    for mode in ((), ("--tiers",), ("--normalised",)):
        assert run(workspace, *mode).startswith("No results yet. Make some with: rsfm evaluate")
    assert json.loads(run(workspace, "--tiers", "--json")) == {"rows": [], "left_out": []}
    with pytest.raises(RsfmError, match="No results yet"):
        run(workspace, "--models", "a,b")
    assert not workspace.root.exists(), "looking creates nothing"
