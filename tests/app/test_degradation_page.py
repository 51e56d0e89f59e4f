"""The page Degradation without a browser, and what the page Run shows of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import CURVES, HOSTILE, history, make_benchmark, make_lab, score, score_change
from lab_packs import make_pairs
from shown import MARKUP, Open, columns, decoded, in_url, labels, texts, traces

from app.state import open_pack
from rsfm import comparison
from rsfm.specs import EvaluateSpec
from rsfm.store.runs import create_run, list_runs
from rsfm.store.view import Store
from rsfm.workspace import Workspace


@pytest.fixture(scope="module")
def benchmark_lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_benchmark(tmp_path_factory.mktemp("benchmark") / "w")


def test_change_detection_on_the_page(open_page: Open, benchmark_lab: Workspace) -> None:
    test = open_page(benchmark_lab, "degradation")
    assert not test.exception and len(test.get("plotly_chart")) == 1
    written = {name: in_url(test, name) for name in ("packs", "metric", "operator", "target")}
    assert written == {"packs": ["levir"], "metric": ["f1"], "operator": ["bilinear"], "target": ["post"]}
    lines = traces(test)
    encoder = "EfficientNet-Lite0 (ImageNet)"
    assert set(lines) == {encoder, f"{encoder} · degraded in training", "Random ViT-nano"}
    clean, trained = lines[encoder]["line"], lines[f"{encoder} · degraded in training"]["line"]
    assert clean["color"] == trained["color"] and clean["dash"] != trained["dash"]
    assert decoded(lines[encoder]["x"]) == [2, 4, 8, 16], "metres"
    assert "40 test pairs" in texts(test) and "degraded: later image" in texts(test)
    table = test.dataframe[0].value
    assert sorted(table["training"]) == ["as they are", "as they are", "degraded in training"]
    assert "training" in columns(test) and "auc" in columns(test) and "metric" not in columns(test)
    recall = open_page(benchmark_lab, "degradation", metric="recall")
    assert decoded(traces(recall)[encoder]["y"])[0] == pytest.approx(0.93, abs=0.01)


def test_the_axis_follows_the_operator(open_page: Open, benchmark_lab: Workspace) -> None:
    test = open_page(benchmark_lab, "degradation", operator="blur", value="retention")
    figure = json.loads(test.get("plotly_chart")[0].proto.spec)
    assert figure["layout"]["xaxis"]["type"] == "linear" and "Gaussian blur: sigma (px)" in str(figure["layout"])
    line = next(iter(traces(test).values()))
    assert decoded(line["x"]) == [0, 0.5, 1, 2] and decoded(line["y"])[0] == 1
    assert [c for c in columns(test) if c.endswith("px")] == ["0 px", "0.5 px", "1 px", "2 px"]
    assert "auc" not in columns(test) and {"mean", "retention"} <= set(columns(test))
    assert "Horizontal axis" not in labels(test)
    assert "Horizontal axis" in labels(open_page(benchmark_lab, "degradation"))
    assert ", 2 m grid" in texts(test), "blur leaves the grid as it is"


def test_published_numbers_are_a_switch(open_page: Open, benchmark_lab: Workspace, lab: Workspace) -> None:
    test = open_page(benchmark_lab, "degradation")
    assert "Authors' numbers" in labels(test) and "(authors)" not in "".join(traces(test)) + texts(test)
    test.toggle[0].set_value(True).run()
    assert not test.exception and in_url(test, "authors") == ["True"]
    names = list(traces(test))
    assert [n for n in names if "(authors)" in n] == names[3:] and len(names) > 5, "after all of ours"
    assert decoded(traces(test)["GFM (authors)"]["x"]) == [2, 4, 8, 16], "on the pack's grid"
    assert "before publication" in texts(test) and "arXiv 2510.17014" in texts(test)
    table = test.dataframe[0].value
    assert [bool(len(s)) for s in table["source"]] == [False] * 3 + [True] * (len(table) - 3)
    assert "source" in columns(test)
    offered = [o for w in test.multiselect if w.label in ("Models", "Two models") for o in w.options]
    assert offered and not any("authors" in o for o in offered)
    assert "Authors' numbers" not in labels(open_page(lab, "degradation")), "nobody published any for this pack"
    blurred = open_page(benchmark_lab, "degradation", operator="blur", authors="True")
    assert not blurred.exception and "(authors)" not in "".join(traces(blurred))


def test_difference_to_a_baseline(open_page: Open, benchmark_lab: Workspace) -> None:
    test = open_page(
        benchmark_lab, "degradation", value="difference", baseline="efficientnet-lite0|none", authors="True"
    )
    lines = traces(test)
    encoder = "EfficientNet-Lite0 (ImageNet)"
    assert decoded(lines[encoder]["y"]) == [0, 0, 0, 0] and "(authors)" not in "".join(lines)
    assert decoded(lines[f"{encoder} · degraded in training"]["y"])[3] > 0.3
    assert max(decoded(lines["Random ViT-nano"]["y"])) < -0.1
    assert json.loads(test.get("plotly_chart")[0].proto.spec)["layout"]["yaxis"]["range"][0] < -0.1
    assert "nor in differences" in texts(test) and "needs a test" in texts(test)
    first = open_page(benchmark_lab, "degradation", value="difference")
    assert in_url(first, "baseline") == ["efficientnet-lite0|none"], "a default that depends on data is written"
    filtered = open_page(benchmark_lab, "degradation", value="difference", models=["random:vit-nano"])
    assert in_url(filtered, "baseline") == ["random:vit-nano|none"]


def test_what_the_baseline_lacks_is_said(open_page: Open, tmp_path: Path) -> None:
    workspace = make_benchmark(tmp_path / "w")
    pack = make_pairs(Workspace(tmp_path / "other"), "levir", dataset="levir-cd")
    score_change(workspace, pack, "band-stats", "Band statistics", {1: 0.4, 8: 0.3}, adaptation="linear")
    test = open_page(workspace, "degradation", value="difference", baseline="band-stats|none")
    assert not test.exception
    assert list(traces(test)) == ["Band statistics"] and len(test.get("plotly_chart")) == 1
    assert "EfficientNet-Lite0 (ImageNet) (Fine-tuning (dstnsp-change), levir)" in texts(test)


# -- tests on demand -----------------------------------------------------------------------------------------------
@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which tests were run."""
    found: list[str] = []
    for name in ("paired", "tiers_of"):
        real = getattr(comparison, name)

        def noted(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            found.append(_name)
            return _real(*args, **kwargs)

        monkeypatch.setattr(comparison, name, noted)
    return found


PAIR = ["efficientnet-lite0", "random:vit-nano"]


def test_two_models_are_tested_when_asked(open_page: Open, benchmark_lab: Workspace, asked: list[str]) -> None:
    test = open_page(benchmark_lab, "degradation")
    assert asked == [] and len(test.dataframe) == 1, "predictions are read on demand only"
    box = next(w for w in test.multiselect if w.label == "Two models")
    box.set_value(PAIR[:1]).run()
    assert asked == []
    box = next(w for w in test.multiselect if w.label == "Two models")
    box.set_value(PAIR).run()
    assert not test.exception and asked == ["paired"] and in_url(test, "pair") == PAIR
    assert "Consistent improvement: EfficientNet-Lite0 (ImageNet) is better than Random ViT-nano in all 4" in texts(
        test
    )
    table = test.dataframe[1].value
    assert table["level"].tolist() == ["1×", "2×", "4×", "8×"] and set(table["verdict"]) == {"A is better"}
    assert (table["difference"] > 0).all() and set(table["p"]) == {"< 0.001"}
    test.run()
    assert asked == ["paired"], "kept until there are new results"
    blurred = open_page(benchmark_lab, "degradation", operator="blur", pair=PAIR)
    assert not blurred.exception and len(blurred.dataframe) == 1, "blur has results of one of them only"


def test_only_what_is_on_the_page_is_tested(open_page: Open, tmp_path: Path) -> None:
    workspace = make_benchmark(tmp_path / "w")
    pack = make_pairs(Workspace(tmp_path / "other"), "levir", dataset="levir-cd")
    for model, share in zip((*PAIR, "band-stats"), (0.3, 0.9, 0.5), strict=True):
        score_change(workspace, pack, model, model, {1: share}, adaptation="linear")
    query = {"pair": [*PAIR, "band-stats"], "adaptation": "linear"}  # of three in a link the first two count
    test = open_page(workspace, "degradation", **query)
    assert not test.exception and "is worse than" in texts(test)
    assert test.dataframe[1].value["level"].tolist() == ["1×"]
    shown = open_page(workspace, "degradation", models=[PAIR[0], "band-stats"], adaptation="linear", tiers="1")
    rows = shown.dataframe[0].value
    assert dict(zip(rows["model_title"], rows["tier"], strict=True)) == {"band-stats": "A", PAIR[0]: "B"}
    everything = open_page(workspace, "degradation", pair=PAIR)
    assert "Mixed" in texts(everything) and len(everything.dataframe[1].value) == 5
    assert "adaptation" in columns(everything, 1)


def test_a_link_with_a_test_restores_it(open_page: Open, benchmark_lab: Workspace) -> None:
    turned = open_page(benchmark_lab, "degradation", pair=PAIR[::-1], metric="iou")
    assert "Consistently worse: Random ViT-nano is worse than EfficientNet-Lite0 (ImageNet)" in texts(turned)
    odd = open_page(benchmark_lab, "degradation", pair=["gone", *PAIR, PAIR[0]])
    assert not odd.exception and "Consistent improvement" in texts(odd)


def test_what_cannot_be_tested_is_one_sentence(open_page: Open, tmp_path: Path) -> None:
    workspace = make_benchmark(tmp_path / "w")
    for run in list_runs(workspace):
        (run.path / "artifacts" / "predictions.parquet").write_bytes(b"torn")
    test = open_page(workspace, "degradation", pair=PAIR, tiers="4")
    assert not test.exception
    assert "cannot be compared" in test.error[0].value.replace("\\", "")
    assert "No tier could be found" in texts(test) and "tier" not in columns(test)


def test_tiers_are_found_when_asked(open_page: Open, benchmark_lab: Workspace, asked: list[str]) -> None:
    test = open_page(benchmark_lab, "degradation", authors="True")
    assert asked == [] and "tier" not in columns(test)
    test = open_page(benchmark_lab, "degradation", authors="True", tiers="4")
    assert not test.exception and asked == ["tiers_of"] and "tier" in columns(test)
    rows = test.dataframe[0].value
    tier = {(r.model_title, r.training): r.tier for r in rows.itertuples()}
    assert tier["EfficientNet-Lite0 (ImageNet)", "as they are"] == "A"
    assert tier["Random ViT-nano", "as they are"] == "B"
    assert tier["EfficientNet-Lite0 (ImageNet)", "degraded in training"] == "A", "alone among its kind"
    assert set(rows.loc[rows["published"], "tier"]) == {""}
    assert "Tiers at 4×" in texts(test)


# -- several tasks, targets, gaps, names ---------------------------------------------------------------------------
def test_each_task_is_shown_with_its_primary_metric(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    make_benchmark(tmp_path / "w")
    test = open_page(workspace, "degradation", packs=["levir", "synthetic-landsat7"])
    assert not test.exception and "Metric" not in labels(test)
    assert len(test.get("plotly_chart")) == 3
    titles = [json.loads(c.proto.spec)["layout"]["yaxis"]["title"]["text"] for c in test.get("plotly_chart")]
    assert titles == ["Accuracy", "Accuracy", "F1"]
    assert set(test.dataframe[0].value["metric"]) == {"Accuracy", "F1"} and "metric" in columns(test)
    assert "Change detection · Fine-tuning (dstnsp-change)" in texts(test).replace("**", "")
    one = open_page(workspace, "degradation", task="change")
    assert in_url(one, "packs") == ["levir"] and "Metric" in labels(one)
    # What fits no task is not kept: the link says what is shown.
    other = open_page(workspace, "degradation", packs="synthetic-landsat7", metric="f1")
    assert in_url(other, "metric") == ["accuracy"]


def test_the_degraded_image_is_a_choice(open_page: Open, tmp_path: Path) -> None:
    workspace = make_benchmark(tmp_path / "w")
    pack = make_pairs(Workspace(tmp_path / "other"), "levir", dataset="levir-cd")
    shares = {1: 0.93, 2: 0.9, 4: 0.85, 8: 0.7}
    score_change(workspace, pack, "efficientnet-lite0", "EfficientNet", shares, target="both", seeds=1)
    test = open_page(workspace, "degradation")
    assert next(s for s in test.selectbox if s.label == "Degraded image").options == ["Later image", "Both images"]
    assert len(traces(test)) == 3
    both = open_page(workspace, "degradation", target="both")
    assert list(traces(both)) == ["EfficientNet"] and len(both.dataframe[0].value) == 1


def test_a_score_that_is_missing_leaves_a_gap(open_page: Open, tmp_path: Path) -> None:
    """Precision is not defined where nothing is found; the evaluation then writes null."""
    workspace = make_benchmark(tmp_path / "w")
    for run in list_runs(workspace):
        file = run.path / "scores.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            if row["metric"] == "precision" and (row["severity"] == 8 or row["model"] == "random:vit-nano"):
                row |= {"value": None, "ci_low": None, "ci_high": None}
            if row["metric"] == "recall":
                row |= {"ci_low": None, "ci_high": None}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test = open_page(workspace, "degradation", metric="precision")
    assert not test.exception
    assert all(decoded(t["x"]) == [2, 4, 8] for t in traces(test).values())
    for value in ("absolute", "retention", "difference"):
        other = open_page(workspace, "degradation", metric="recall", value=value, intervals="bars")
        assert not other.exception and len(traces(other)) == 3
    run = next(r for r in list_runs(workspace) if r.envelope()["spec"]["model"] == "random:vit-nano")
    assert not open_page(workspace, "run", run=run.id).exception


def test_hostile_names_stay_text_in_every_view(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    pack = make_pairs(workspace, "levir", dataset="levir-cd")
    for group, share in (("a<b>", 0.9), ("[b](http://x)", 0.4)):
        score_change(
            workspace, pack, group, f"{group} {HOSTILE}", {1: share, 2: share / 2}, adaptation=f"finetune ({HOSTILE})"
        )
    for query in ({"value": "difference"}, {"value": "retention", "authors": "True"}, {"tiers": "2"}):
        test = open_page(workspace, "degradation", pair=["a<b>", "[b](http://x)"], **query)
        assert not test.exception and not test.error
        for kind in ("markdown", "caption", "subheader", "error", "info", "warning"):
            for element in test.get(kind):
                assert not getattr(element.proto, "allow_html", False)
                body = str(element.value)
                assert not MARKUP.search(body) and "\u202e" not in body, body
        assert "onerror" in texts(test), "shown, as text"
        spec = test.get("plotly_chart")[0].proto.spec
        assert "<img" not in spec and "</script" not in spec


# -- the page Run --------------------------------------------------------------------------------------------------
def test_an_evaluation_shows_all_its_scores_and_how_it_was_trained(open_page: Open, benchmark_lab: Workspace) -> None:
    runs = {(r.envelope()["spec"]["model"], r.envelope()["spec"]["operator"]): r for r in list_runs(benchmark_lab)}
    run = runs["efficientnet-lite0", "blur"]
    test = open_page(benchmark_lab, "run", run=run.id)
    assert not test.exception and len(test.get("plotly_chart")) == 4
    cards = [m for m in texts(test).replace("**", "").splitlines() if m.startswith("Fine-tuning")]
    assert cards == [f"Fine-tuning (dstnsp-change) · {m}" for m in ("F1", "IoU", "Precision", "Recall")]
    wide = test.dataframe[0].value
    assert list(wide.columns) == ["Evaluation seed", "0 px", "0.5 px", "1 px", "2 px"] and len(wide) == 4
    link = next(e.proto for e in test.get("page_link") if "Compare with other models" in e.proto.label)
    assert "operator=blur" in str(link) and "target=post" in str(link)
    curves = open_page(benchmark_lab, "run", run=run.id, tab="Curves")
    assert not curves.exception and len(curves.get("plotly_chart")) == 3
    assert "Training loss" in texts(curves) and "Score on the validation split" in texts(curves)
    lines = traces(curves)
    assert list(lines) == ["Fine-tuning, seed 0", "Fine-tuning, seed 1", "Fine-tuning, seed 2"]
    assert all(decoded(t["x"]) == [1, 2, 3, 4, 5] for t in lines.values()), "every training begins at epoch 1"


def test_an_evaluation_that_trains_nothing_has_no_curves(open_page: Open, lab: Workspace) -> None:
    done = next(r for r in list_runs(lab) if r.envelope()["spec"].get("model") == "band-stats")
    test = open_page(lab, "run", run=done.id, tab="Curves")
    assert "Curves" not in test.segmented_control[0].options and test.segmented_control[0].value == "Scores"
    waiting = next(r for r in list_runs(lab) if r.envelope()["spec"]["kind"] == "evaluate" and r.state() == "queued")
    test = open_page(lab, "run", run=waiting.id, tab="Curves")
    assert not test.exception and "No metric has been logged yet" in texts(test)


# -- classification -----------------------------------------------------------------------------------------------
def test_degradation_says_what_is_synthetic(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "degradation")
    assert len(test.get("plotly_chart")) == 2
    assert "Synthetic pack synthetic-landsat7, 30 m grid, 240 test images" in texts(test).replace("**", "")
    assert "3 evaluation seeds" in texts(test)
    assert test.query_params["packs"] == "synthetic-landsat7"
    table = test.dataframe[0].value
    assert len(table) == 2 * len(CURVES) and list(table["dataset"].unique()) == ["synthetic-landsat7 (synthetic)"]
    best = table[table["adaptation"] == "Linear probe"].iloc[0]
    assert best["model_title"].startswith("MAE") and 0.5 < best["retention"] < 0.65


def test_degradation_of_one_adaptation_against_factors(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "degradation", adaptation="knn", axis="factor", value="retention", models=["band-stats"])
    assert len(test.get("plotly_chart")) == 1
    assert set(test.dataframe[0].value["adaptation"]) == {"kNN"}
    assert len(test.dataframe[0].value) == 1


def test_degradation_lists_findings_beside_the_rows_they_are_about(open_page: Open, tmp_path: Path) -> None:
    """Findings whose subject is a run, as the store words them, reach the model that the run has measured."""
    workspace = make_lab(tmp_path / "w")
    pack = open_pack(workspace, "synthetic-landsat7").info
    run = create_run(workspace, EvaluateSpec(model="timm:x", dataset=pack.name))
    history(run, "succeeded", 1, 1, "Done.")
    score(run, pack, "Flat", "timm:x", {"linear": [0.5, 0.5, 0.5, 0.5]}, spread=0)
    score(run, pack, "Flat", "timm:x", {"linear": [0.6, 0.5, 0.5, 0.5]}, spread=0)
    test = open_page(workspace, "degradation")
    table = test.dataframe[0].value.set_index(["model_title", "adaptation"])["findings"]
    rules = set(Store(workspace).lint().query("subject == @run.id")["rule"])
    assert rules == {"duplicate-key"}
    assert table["Flat", "Linear probe"] >= 3 and table["Random ViT-nano", "kNN"] >= 1
    assert np.isnan(table["MAE vit-nano · landsat7-sample", "kNN"])
    assert "different values" in texts(test)
    score(run, pack, "Flat", "timm:x", {"linear": [0.5, 0.5, 0.5, 0.5]}, spread=0)
    assert "was the input degraded" in texts(open_page(workspace, "degradation"))


def test_degradation_keeps_another_band_set_apart(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    pack = open_pack(workspace, "synthetic-landsat7").info
    run = create_run(workspace, EvaluateSpec(model="band-stats", dataset=pack.name, bands=["B4"]))
    history(run, "succeeded", 1, 1, "Done.")
    score(run, pack, "Band statistics", "band-stats", {"knn": [0.3, 0.3, 0.2, 0.2]}, bands="B4")
    test = open_page(workspace, "degradation", adaptation="knn", models=["band-stats"])
    rows = test.dataframe[0].value
    assert sorted(rows["variant"]) == ["3 bands (B1 B2 B3)", "band B4"]
    assert rows.set_index("variant").loc["band B4", "1×"] < 0.35 < rows.set_index("variant").loc[
        "3 bands (B1 B2 B3)", "1×"
    ]  # fmt: skip
    assert "variant" in test.dataframe[0].proto.column_order
