"""Degradation curves, their table and their tests: builders, and the page without a browser."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab import HOSTILE, ROWS, compare_rows, make_benchmark, make_lab, make_pairs, score_change
from streamlit.testing.v1 import AppTest

from app.components.degradation import (
    VARIANTS,
    as_difference,
    as_retention,
    axis_ticks,
    baselines,
    degradation_figure,
    interval,
    variant_text,
    variants,
)
from app.components.measures import adaptation_title, ordered_adaptations, scale_of
from app.components.palette import DASHES, PUBLISHED, model_looks, other_dash, published_looks
from app.components.score_table import comparison_table, findings_about, place_of, tier_letters
from app.panels.score_tab import by_epoch, score_table
from rsfm import comparison
from rsfm.degrade import OPERATORS
from rsfm.stats import CURVE_KEYS
from rsfm.store.lint import PLACE
from rsfm.store.runs import list_runs
from rsfm.workspace import Workspace


# -- curves -----------------------------------------------------------------------------------------------------------
def test_degradation_curves_with_bands() -> None:
    figure = degradation_figure(compare_rows(ROWS), model_looks(["a"], ["b"]), chance=0.1)
    lines = [t for t in figure.data if t.mode == "lines+markers"]
    bands = [t for t in figure.data if t.fill == "toself"]
    assert [t.name for t in lines] == ["Model a", "Model b"] and len(bands) == 2
    assert list(lines[0].x) == [10, 20, 40, 80] and list(lines[0].y) == ROWS["a"]
    assert figure.layout.xaxis.type == "log" and list(figure.layout.xaxis.ticktext) == ["10 m", "20 m", "40 m", "80 m"]
    assert max(bands[0].y) == pytest.approx(0.93) and min(bands[0].y) == pytest.approx(0.28)
    assert figure.layout.shapes[0].y0 == 0.1


def test_degradation_with_error_bars_against_factors() -> None:
    figure = degradation_figure(compare_rows(ROWS), {}, axis="factor", bands=False)
    assert len(figure.data) == 2 and list(figure.data[0].x) == [1, 2, 4, 8]
    assert figure.data[0].error_y.array[0] == pytest.approx(0.03)
    assert figure.data[0].error_y.arrayminus[0] == pytest.approx(0.02)


def test_several_packs_are_told_apart_and_synthetic_ones_named() -> None:
    rows = pd.concat([compare_rows({"a": ROWS["a"]}), compare_rows({"a": ROWS["b"]}, "world", synthetic=True)])
    lines = [t for t in degradation_figure(rows, model_looks(["a"], [])).data if t.mode == "lines+markers"]
    assert [t.name for t in lines] == ["Model a · eurosat", "Model a · world (synthetic)"]
    assert lines[0].line.color == lines[1].line.color and lines[0].line.dash != lines[1].line.dash


def test_hostile_titles_are_text_in_charts() -> None:
    rows = compare_rows({"a": ROWS["a"]}, model_title="<a href='javascript:alert(1)'>x</a>\u202e")
    figure = degradation_figure(rows, {})
    assert all("<a" not in (t.name or "") and "<a" not in "".join(t.hovertext or ()) for t in figure.data)


def test_retention_is_relative_to_native_and_drops_curves_without_it() -> None:
    rows = compare_rows(ROWS)
    rows = rows[~((rows["model_group"] == "b") & (rows["severity"] == 1))]
    kept = as_retention(rows)
    assert set(kept["model_group"]) == {"a"}
    assert kept.sort_values("severity")["mean"].tolist() == pytest.approx([1, 8 / 9, 6 / 9, 3 / 9])
    assert kept.sort_values("severity")["ci_high"].iloc[0] == pytest.approx(0.93 / 0.9)
    assert as_retention(rows.iloc[:0]).empty


def test_curves_of_one_model_with_other_bands_or_another_split_stay_apart() -> None:
    """Each key that makes a curve: two values of it are two lines, two retentions and two rows."""
    for key, values in {
        "bands": ("B2,B3,B4", "B2,B3,B4,B8,B11"), "pack_hash": ("aaaa1111bb", "cccc2222dd"), "split": ("test", "val"),
        "degrade_target": ("pre", "post"), "train_degrade": ("none", "bilinear"), "task": ("classification", "other"),
        "operator": ("bilinear", "area"),
    }.items():  # fmt: skip
        rows = pd.concat(
            [compare_rows({"a": ROWS["a"]}, **{key: values[0]}), compare_rows({"a": ROWS["b"]}, **{key: values[1]})]
        )
        assert key in CURVE_KEYS and variants(rows) == [key]
        lines = [t for t in degradation_figure(rows, model_looks(["a"], [])).data if t.mode == "lines+markers"]
        assert [list(t.y) for t in lines] == [ROWS["a"], ROWS["b"]], key
        assert len({t.name for t in lines}) == 2 and len({t.line.dash for t in lines}) == 2
        assert variant_text(key, rows.iloc[0]) in lines[0].name and variant_text(key, rows.iloc[-1]) in lines[1].name
        native = as_retention(rows).query("severity == 1")["mean"]
        assert native.tolist() == [1, 1], "each curve has its own native score"
        table = comparison_table(rows)
        assert table[["1×", "8×"]].to_numpy().tolist() == [[0.9, 0.3], [0.5, 0.5]], key
        assert table["retention"].tolist() == pytest.approx([1 / 3, 1])
    assert variants(compare_rows(ROWS)) == []
    assert variant_text("bands", {"bands": "B1,B2,B3,B4,B5"}) == "5 bands (B1 … B5)"


def test_every_key_of_a_curve_is_named_or_the_models_own() -> None:
    own = {"model", "model_title", "model_group", "dataset", "synthetic", "adaptation", "metric"}
    assert set(VARIANTS) | own == set(CURVE_KEYS)


def test_the_interval_falls_back_to_the_spread() -> None:
    rows = compare_rows(ROWS, ci_low=float("nan"), ci_high=float("nan"))
    assert [high - low for low, high in map(interval, rows.to_dict("records"))] == pytest.approx([0.02] * 8)


def test_findings_stand_beside_the_rows_that_they_are_about() -> None:
    rows = pd.concat([compare_rows(ROWS), compare_rows(ROWS, adaptation="linear")])
    place, nowhere = {name: rows.iloc[0][name] for name in PLACE}, dict.fromkeys(PLACE)
    found = pd.DataFrame(
        [
            place | {"message": "mine"}, place | {"message": "other pack", "dataset": "eurosat-ms"},
            place | {"message": "linear", "model_group": "b", "adaptation": "linear"},
            place | {"message": "other model", "model_group": "gone"},
            place | {"message": "other operator", "operator": "blur"},
            place | {"message": "trained otherwise", "train_degrade": "bilinear"},
            nowhere | {"message": "the pack", "dataset": "eurosat"}, nowhere | {"message": "elsewhere", "dataset": "e"},
            nowhere | {"message": "a file"},
        ]
    )  # fmt: skip
    assert [f["message"] for f in findings_about(found, rows)] == ["mine", "linear", "the pack"]
    blurred = findings_about(found, compare_rows(ROWS, operator="blur"))
    assert [f["message"] for f in blurred] == ["other operator", "the pack"], "whatever the words are"
    table = comparison_table(rows)
    assert [r["model_group"] for r in table.to_dict("records") if place_of(r) == place_of(found.iloc[0])] == ["a"]


def test_rows_without_gsd_are_left_out_of_the_metre_axis() -> None:
    rows = compare_rows(ROWS, gsd_m=float("nan"))
    assert not degradation_figure(rows, {}, axis="gsd").data
    assert degradation_figure(rows, {}, axis="factor").data


def test_ticks_are_the_measured_ones_while_they_are_few() -> None:
    assert axis_ticks([30, 60, 30, 120]) == [30, 60, 120]
    many = axis_ticks(list(np.linspace(10, 320, 40)))
    assert many[0] <= 10 and many[-1] >= 320 and all(np.log2(t).is_integer() for t in many)


def test_table_has_a_column_per_severity_and_the_summary() -> None:
    rows = compare_rows(ROWS)
    table = comparison_table(rows)
    first = table.set_index("model").loc["a"]
    assert [first[c] for c in ("1×", "2×", "4×", "8×")] == ROWS["a"]
    assert first["mean"] == pytest.approx(0.65) and first["retention"] == pytest.approx(1 / 3)
    # Trapezoids of the score over 1/factor, with y(0) = 0.
    assert first["auc"] == pytest.approx(100 * (0.85 * 0.5 + 0.7 * 0.25 + 0.45 * 0.125 + 0.15 * 0.125))
    assert first["over"] == "3 evaluation seeds" and len(table) == 2


# -- operators ----------------------------------------------------------------------------------------------------
def lines_of(figure: Any) -> list[Any]:
    return [t for t in figure.data if t.mode == "lines+markers"]


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_an_axis_of_its_own(name: str) -> None:
    entry, scale = OPERATORS[name], scale_of(name)
    rows = compare_rows(
        {"a": np.linspace(0.9, 0.3, len(entry.severities)).tolist()}, operator=name, severities=entry.severities
    )
    figure = degradation_figure(rows, {}, axis="factor")
    assert list(lines_of(figure)[0].x) == list(entry.severities), "nothing is lost, the identity least of all"
    assert figure.layout.xaxis.type == ("log" if entry.changes_gsd else "linear")
    assert figure.layout.xaxis.tickvals[0] == entry.identity
    assert figure.layout.xaxis.ticktext[0] == scale.level(entry.identity)
    if not entry.changes_gsd:
        assert entry.title in figure.layout.xaxis.title.text and entry.severity_unit in figure.layout.xaxis.title.text
    kept = as_retention(rows)
    assert kept["mean"].tolist() == pytest.approx((rows["mean"] / 0.9).tolist())
    table = comparison_table(rows).iloc[0]
    assert [table[scale.level(s)] for s in entry.severities] == rows["mean"].tolist()
    assert table["retention"] == pytest.approx(1 / 3) and table["mean"] == pytest.approx(0.6)
    assert np.isnan(table["auc"]) != entry.changes_gsd, "an area over 1/factor needs a factor"


def test_an_operator_of_another_version_is_drawn_without_knowing_its_identity() -> None:
    rows = compare_rows({"a": [0.9, 0.8]}, operator="fog<b>", severities=(0.0, 3.0))
    figure = degradation_figure(rows, {}, axis="factor")
    assert list(lines_of(figure)[0].x) == [0, 3] and "fog&lt;b&gt;" in figure.layout.xaxis.title.text
    assert as_retention(rows).empty and np.isnan(comparison_table(rows)["retention"][0])


def test_labels_of_a_linear_axis_have_room() -> None:
    assert axis_ticks([0, 0.0316, 0.1, 0.316, 1], log=False) == [0, 0.1, 0.316, 1]
    assert axis_ticks([0, 10, 25, 50, 75, 90], log=False) == [0, 10, 25, 50, 75, 90]
    assert axis_ticks([0], log=False) == [0] and axis_ticks([], log=False) == []


def test_adaptations_are_named_with_their_settings() -> None:
    assert adaptation_title("finetune (dstnsp-change)") == "Fine-tuning (dstnsp-change)"
    assert adaptation_title("linear") == "Linear probe" and adaptation_title("new (x)") == "new (x)"
    names = ["other", "finetune (a)", "decoder (epochs=60)", "finetune", "linear", "knn"]
    assert ordered_adaptations(names) == [
        "knn", "linear", "decoder (epochs=60)", "finetune", "finetune (a)", "other",
    ]  # fmt: skip


# -- training on degraded images -----------------------------------------------------------------------------------
def both_ways() -> pd.DataFrame:
    return pd.concat(
        [compare_rows(ROWS), compare_rows({"a": [0.88, 0.86, 0.8, 0.7]}, train_degrade="bilinear")], ignore_index=True
    )


def test_a_model_trained_on_degraded_images_stands_beside_the_same_model_without() -> None:
    looks = model_looks(["a"], ["b"])
    lines = {t.name: t for t in lines_of(degradation_figure(both_ways(), looks))}
    assert set(lines) == {"Model a", "Model a · degraded in training", "Model b"}
    clean, trained = lines["Model a"], lines["Model a · degraded in training"]
    assert clean.line.color == trained.line.color == looks["a"].color and clean.line.dash != trained.line.dash
    assert list(trained.y) == [0.88, 0.86, 0.8, 0.7] and list(clean.y) == ROWS["a"], "never folded together"
    assert clean.line.dash == looks["a"].dash and lines["Model b"].line.dash == looks["b"].dash
    assert trained.marker.symbol == f"{clean.marker.symbol}-open"
    table = comparison_table(both_ways())
    assert len(table) == 3 and set(table["train_degrade"]) == {"none", "bilinear"}


def test_a_model_that_was_only_trained_on_degraded_images_says_so() -> None:
    rows = pd.concat([compare_rows({"a": ROWS["a"]}, train_degrade="bilinear"), compare_rows({"b": ROWS["b"]})])
    names = [t.name for t in lines_of(degradation_figure(rows, {}))]
    assert names == ["Model a · degraded in training", "Model b"]
    other = compare_rows({"a": ROWS["a"]}, train_degrade="blur")
    assert lines_of(degradation_figure(other, {}))[0].name == "Model a · degraded in training (Gaussian blur)"


def test_with_several_packs_every_combination_has_a_dash_of_its_own() -> None:
    rows = pd.concat([both_ways(), both_ways().assign(dataset="other")], ignore_index=True)
    lines = [t for t in lines_of(degradation_figure(rows, model_looks(["a"], ["b"]))) if t.name.startswith("Model a")]
    assert len(lines) == 4 and len({t.line.dash for t in lines}) == 4
    assert len({t.line.color for t in lines}) == 1


def test_another_dash_is_another_one() -> None:
    for dash in DASHES:
        found = [other_dash(dash, i) for i in range(3)]
        assert dash not in found and len(set(found)) == 3


# -- differences ---------------------------------------------------------------------------------------------------
def test_the_baseline_is_one_way_of_training_one_model() -> None:
    rows = both_ways()
    assert baselines(rows) == {
        "a|none": "Model a", "b|none": "Model b", "a|bilinear": "Model a, degraded in training",
    }  # fmt: skip
    found = as_difference(rows, "a|none").set_index(["model_group", "train_degrade", "severity"]).sort_index()
    assert found["mean"]["a", "none"].tolist() == [0, 0, 0, 0]
    assert found["mean"]["a", "bilinear"].tolist() == pytest.approx([-0.02, 0.06, 0.2, 0.4])
    assert found["mean"]["b", "none"].tolist() == pytest.approx([-0.4, -0.3, -0.1, 0.2])
    # Moved along with its interval, whose width stays.
    assert (found["ci_high"] - found["ci_low"]).to_numpy() == pytest.approx(0.05)
    assert found["std"].tolist() == [0.01] * 12


def test_differences_are_taken_within_one_protocol_only() -> None:
    base = compare_rows({"b": ROWS["b"]})
    for key, value in {
        "dataset": "other", "adaptation": "linear", "operator": "area", "degrade_target": "post", "split": "val",
        "pack_hash": "h2", "metric": "micro_f1", "task": "multilabel",
    }.items():  # fmt: skip
        rows = pd.concat([base, compare_rows({"a": ROWS["a"]}).assign(**{key: value})])
        assert set(as_difference(rows, "b|none")["model_group"]) == {"b"}, key
    part = pd.concat([base[base["severity"] != 8], compare_rows({"a": ROWS["a"]})])
    assert as_difference(part, "b|none").query("model_group == 'a'")["severity"].tolist() == [1, 2, 4]
    assert as_difference(base, "gone|none").empty


def test_of_several_band_sets_the_baseline_is_the_models_own() -> None:
    base = [compare_rows({"b": ROWS["b"]}, bands=bands) for bands in ("B1", "B2")]
    rows = pd.concat([*base, *(compare_rows({"a": ROWS["a"]}, bands=bands) for bands in ("B1", "B3"))])
    assert set(as_difference(rows, "b|none").query("model_group == 'a'")["bands"]) == {"B1"}, "B3 has no counterpart"
    one = pd.concat([base[0], compare_rows({"a": ROWS["a"]}, bands="B3")])
    assert set(as_difference(one, "b|none")["bands"]) == {"B1", "B3"}, "one baseline needs no choice"


# -- published numbers ---------------------------------------------------------------------------------------------
def with_published() -> pd.DataFrame:
    published = compare_rows(
        {"reference:p:GFM": [0.99, 0.98, 0.97, 0.96]}, model_title="GFM (authors)", ci_low=None, ci_high=None, std=None,
        n=0, pack_hash=None, bands="red",
    )  # fmt: skip
    return pd.concat([compare_rows(ROWS), published], ignore_index=True)


def test_published_numbers_are_drawn_apart() -> None:
    looks = {**model_looks(["a"], ["b"]), **published_looks(["reference:p:GFM"])}
    figure = degradation_figure(with_published(), looks)
    last = lines_of(figure)[-1]
    assert last.name == "GFM (authors)", "last, though it is the best"
    assert last.line.width < 2 <= lines_of(figure)[0].line.width and last.line.color == PUBLISHED
    assert last.line.dash == "dot" and last.marker.symbol.endswith("-open")
    assert len([t for t in figure.data if t.fill == "toself"]) == 2, "there is no interval to show"
    assert "[" not in last.hovertext[0] and "published" in last.hovertext[0] and "n =" not in last.hovertext[0]


def test_published_numbers_take_no_part_in_order_differences_or_tiers() -> None:
    rows = with_published()
    table = comparison_table(rows)
    assert table["model_group"].tolist() == ["a", "b", "reference:p:GFM"] and table["published"].tolist()[-1]
    assert not any("reference" in key for key in baselines(rows))
    assert set(as_difference(rows, "a|none")["model_group"]) == {"a", "b"}


# -- the table -----------------------------------------------------------------------------------------------------
def test_a_missing_score_leaves_no_mean_over_the_rest() -> None:
    rows = compare_rows(ROWS)
    rows.loc[(rows["model_group"] == "a") & (rows["severity"] == 4), ["mean", "ci_low", "ci_high"]] = np.nan
    table = comparison_table(rows).set_index("model_group")
    assert table.loc["a", ["4×", "auc", "mean"]].isna().all() and table.loc["a", "8×"] == 0.3
    assert table.loc["b", "mean"] == 0.5 and table["retention"]["a"] == pytest.approx(1 / 3)
    line = lines_of(degradation_figure(rows, {}, axis="factor"))
    assert [1, 2, 8] in [list(t.x) for t in line]
    shorter = comparison_table(compare_rows(ROWS).query("model_group != 'a' or severity < 8")).set_index("model_group")
    assert shorter["ladder"].to_dict() == {"a": "1×, 2×, 4×", "b": "1×, 2×, 4×, 8×"}


def test_strong_blur_alone_has_no_area() -> None:
    table = comparison_table(compare_rows({"a": [0.9, 0.8]}, operator="blur", severities=(1.0, 2.0)))
    assert np.isnan(table["auc"][0]) and np.isnan(table["retention"][0]) and table["mean"][0] == pytest.approx(0.85)


def test_tiers_stand_beside_the_rows_that_they_are_about() -> None:
    table = comparison_table(both_ways())
    found = table.assign(tier=[1, 2, 27])
    assert tier_letters(table, found) == ["A", "B", "27"]
    assert tier_letters(table, found.iloc[:1].assign(bands="B1")) == ["", "", ""], "of other bands"
    kept = found[found["train_degrade"] == "bilinear"]
    letters = dict(zip(table["train_degrade"] + table["model_group"], tier_letters(table, kept), strict=True))
    assert sum(bool(v) for v in letters.values()) == 1 and letters["bilineara"], "each kind of training has its own"


def test_long_names_keep_both_ends_in_a_legend() -> None:
    rows = compare_rows({"a": ROWS["a"]}, model_title=f"Start{'x' * 300}End", train_degrade="bilinear")
    name = lines_of(degradation_figure(rows, {}))[0].name
    assert len(name) < 80 and name.startswith("Start") and "End · degraded in training" in name


# -- scores and training of one run --------------------------------------------------------------------------------
def test_scores_of_a_run_by_seed_and_severity() -> None:
    rows = pd.DataFrame(
        [
            {"eval_seed": seed, "severity": s, "value": value, "operator": "blur", "train_degrade": "none",
             "model_group": "a", "dataset": "d"}
            for seed, values in ((0, [0.9, 0.8]), (1, [0.7, None])) for s, value in zip((0, 0.5), values, strict=True)
        ]
    )  # fmt: skip
    wide = score_table(rows)
    assert list(wide.columns) == ["Evaluation seed", "0 px", "0.5 px"]
    assert wide["0 px"].tolist() == pytest.approx([0.9, 0.7, 0.8])
    assert wide["0.5 px"].isna().tolist() == [False, True, True], "no mean over some of the seeds"


def test_epochs_are_counted_by_training() -> None:
    """An evaluation counts the epochs of all its trainings through."""
    names = ["finetune-0/loss"] * 3 + ["finetune-1/loss"] * 3 + ["decoder-0/val_score", "odd"]
    rows = pd.DataFrame({"run_id": "r", "name": names, "step": [1, 2, 3, 4, 5, 6, 7, 8], "value": 0.5})
    found = by_epoch(rows)
    assert found["run_id"].tolist() == ["finetune-0"] * 3 + ["finetune-1"] * 3 + ["decoder-0", ""]
    assert found["step"].tolist() == [1, 2, 3, 1, 2, 3, 1, 1]
    assert found["name"].tolist() == ["loss"] * 6 + ["val_score", "odd"]
    assert by_epoch(rows.iloc[:0]).empty


# -- the page ------------------------------------------------------------------------------------------------------
Open = Callable[..., AppTest]
#: An image, a link or HTML that Markdown would see: its first character is not escaped.
MARKUP = re.compile(r"(?<!\\)(!\[i|<img|</script|\]\(http)")


@pytest.fixture(scope="module")
def benchmark_lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_benchmark(tmp_path_factory.mktemp("benchmark") / "w")


def texts(test: AppTest) -> str:
    parts = [e.value for kind in ("markdown", "caption", "error", "warning", "info", "subheader")
             for e in test.get(kind)]  # fmt: skip
    return "\n".join(str(p) for p in parts).replace("\\", "").replace("\u2060", "")


def traces(test: AppTest, number: int = 0) -> dict[str, dict[str, Any]]:
    """Lines of a chart by name."""
    figure = json.loads(test.get("plotly_chart")[number].proto.spec)
    return {t["name"]: t for t in figure["data"] if t.get("mode") == "lines+markers"}


def decoded(values: Any) -> list[float]:
    """Plotly's arrays: a list, or base64 of numbers."""
    if not isinstance(values, dict):
        return values
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()


def in_url(test: AppTest, name: str) -> list[str]:
    value = test.query_params.get(name, [])
    return list(value) if isinstance(value, list | tuple) else [value]


def columns(test: AppTest, number: int = 0) -> list[str]:
    return list(test.dataframe[number].proto.column_order)


def labels(test: AppTest) -> list[str]:
    return [w.label for kind in ("selectbox", "multiselect", "segmented_control", "pills", "toggle", "button_group")
            for w in test.get(kind) if getattr(w, "label", None)]  # fmt: skip


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
