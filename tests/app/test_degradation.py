"""Degradation curves, their table, and the scores and training of one run: the builders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab import ROWS, compare_rows

from app.components.curves_view import View
from app.components.degradation import (
    VARIANTS,
    as_difference,
    as_retention,
    axis_ticks,
    baselines,
    degradation_figure,
    variant_text,
    variants,
)
from app.components.measures import adaptation_title, ordered_adaptations, scale_of
from app.components.palette import DASHES, PUBLISHED, model_looks, other_dash, published_looks
from app.components.score_table import comparison_table, findings_about, place_of, presented, tier_letters
from app.panels.score_tab import by_epoch, score_table
from rsfm.degrade import OPERATORS
from rsfm.stats import CURVE_KEYS
from rsfm.store.lint import PLACE


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


def test_where_no_interval_is_known_none_is_drawn() -> None:
    rows = compare_rows({"a": ROWS["a"]})
    rows.loc[rows["severity"] == 2, ["ci_low", "ci_high"]] = float("nan")
    figure = degradation_figure(rows, model_looks(["a"], []), axis="factor")
    (band,) = [t for t in figure.data if t.fill == "toself"]
    assert sorted(set(band.x)) == [1, 4, 8] and not np.isnan(np.array(band.y, float)).any()
    said = dict(zip(lines_of(figure)[0].x, lines_of(figure)[0].hovertext, strict=True))
    assert "[" not in said[2] and "std" in said[2] and "[" in said[4]
    rows[["ci_low", "ci_high"]] = float("nan")
    figure = degradation_figure(rows, model_looks(["a"], []), axis="factor")
    assert len(figure.data) == 1 and figure.data[0].error_y.array is None, "a spread over seeds is no interval"


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
    assert shorter["auc_norm"]["b"] == pytest.approx(0.5), "comparable where ladders differ"


def test_the_normalised_area_is_shown_where_ladders_differ() -> None:
    rows = compare_rows(ROWS)
    assert not {"auc_norm", "ladder"} & set(presented(View(rows, rows.iloc[:0]), [])[1])
    mixed = rows.query("model_group != 'a' or severity < 8")
    assert {"auc", "auc_norm", "ladder"} <= set(presented(View(mixed, mixed.iloc[:0]), [])[1])


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
