"""Builders of figures, forms and command lines: pure functions."""

from __future__ import annotations

import shlex
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from lab import ROWS, compare_rows
from pydantic import Field, model_validator
from shown import contrast

from app.components.alarms import alarms_by_run
from app.components.bars import class_counts, class_counts_figure, largest_classes
from app.components.commands import command_line
from app.components.curves import curve_figure, metric_title, ordered_metrics
from app.components.ladder import ladder
from app.components.method_form import groups_of, start_of
from app.components.naming import distinct_titles, telling_settings
from app.components.palette import COLORS, FLOOR, FLOORS, model_looks
from app.components.spec_fields import check, field_views
from app.components.spec_form import number_format, numbers
from app.theme import DARK, LIGHT
from rsfm.specs import EvaluateSpec, Params, PrepareSpec, PretrainSpec, parse_spec, pretrain_spec


# -- palette ------------------------------------------------------------------------------------------------------
def test_a_new_model_never_changes_the_looks_before_it() -> None:
    before = model_looks(["g1", "g2"], {"band-stats", "efficientnet-lite0"})
    after = model_looks(["g1", "g2", "g3"], {"band-stats", "efficientnet-lite0"})
    assert all(after[group] == look for group, look in before.items())
    assert len({(look.color, look.marker) for look in after.values()}) == len(after)


def test_every_look_is_distinct_for_many_models() -> None:
    looks = model_looks([f"g{i}" for i in range(16)], set())
    assert len({(look.color, look.dash) for look in looks.values()}) == 16


def test_floors_are_neutral_and_broken_lines() -> None:
    looks = model_looks(["g1"], {"band-stats", "random:vit-nano"})
    assert {looks["band-stats"].color, looks["random:vit-nano"].color} <= {c for c, _, _ in FLOORS}
    assert "solid" not in {looks["band-stats"].dash, looks["random:vit-nano"].dash}
    assert looks["g1"].color == COLORS[0] and looks["g1"].dash == "solid"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_colour_of_a_chart_stands_out(theme: dict[str, str]) -> None:
    for color in (*COLORS, *(c for c, _, _ in FLOORS), FLOOR):
        assert contrast(color, theme["backgroundColor"]) >= 3, color


# -- curves -------------------------------------------------------------------------------------------------------
def metrics(runs: int = 2, points: int = 50) -> pd.DataFrame:
    rows = [
        {"run_id": f"r{r}", "name": name, "attempt": 1, "step": s, "samples": 32 * s, "time": pd.Timestamp(s, unit="s"),
         "value": 1.0 / (1 + s) + r}
        for r in range(runs) for name in ("loss", "lr") for s in range(points)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("x", "last"), [("samples", 32 * 49), ("step", 49)])
def test_curves_of_two_runs(x: str, last: int) -> None:
    figure = curve_figure(metrics(), "loss", x=x, labels={"r0": "first", "r1": "</b><i>second"})
    assert [t.name for t in figure.data] == ["first", "&lt;/b&gt;&lt;i&gt;second"]
    assert figure.data[0].x[-1] == last and figure.data[1].y[0] == 2.0
    assert figure.data[0].line.color != figure.data[1].line.color


def test_runs_of_different_days_lie_on_each_other_by_hours() -> None:
    frame = metrics()
    frame.loc[frame["run_id"] == "r1", "time"] += pd.Timedelta(days=3)
    figure = curve_figure(frame, "loss", x="hours", labels={"r0": "a", "r1": "b"}, log=True)
    assert [t.x[0] for t in figure.data] == [0, 0] and figure.data[1].x[-1] == pytest.approx(49 / 3600)
    assert figure.layout.yaxis.type == "log"


def test_smoothing_keeps_the_raw_points_below() -> None:
    figure = curve_figure(metrics(1), "loss", smoothing=10)
    raw, smooth = figure.data
    assert raw.opacity < 1 and list(raw.y) == list(metrics(1).query("name == 'loss'")["value"])
    assert np.std(np.diff(smooth.y)) < np.std(np.diff(raw.y))


def test_learning_rate_is_logarithmic_and_zoom_survives_new_points() -> None:
    early, late = curve_figure(metrics(1, 10), "lr"), curve_figure(metrics(1, 50), "lr")
    assert late.layout.yaxis.type == "log"
    assert early.layout.uirevision == late.layout.uirevision is not None


def test_metrics_come_in_reading_order() -> None:
    assert ordered_metrics(["zeta", "knn", "loss/a", "lr", "loss"]) == ["loss", "loss/a", "lr", "knn", "zeta"]


def test_alarms_come_last_and_carry_their_title() -> None:
    names = ordered_metrics(["alarm/uniform-collapse", "zeta", "loss"])
    assert names == ["loss", "zeta", "alarm/uniform-collapse"]
    assert metric_title(names[-1]) == "Alarm: Uniform collapse (1: stands)"


def test_alarms_by_run_leaves_out_what_is_unknown_or_over() -> None:
    rows = pd.DataFrame(
        [("r1", "alarm/uniform-collapse", 1.0), ("r1", "alarm/of-another-version", 1.0), ("r2", "alarm/x", 1.0)],
        columns=["run_id", "name", "last"],
    )
    assert {run: [a.name for a in alarms] for run, alarms in alarms_by_run(rows).items()} == {
        "r1": ["uniform-collapse"]
    }
    assert alarms_by_run(rows.iloc[:0]) == {}


# -- names --------------------------------------------------------------------------------------------------------
def test_models_of_one_title_are_told_apart_by_what_was_asked_for() -> None:
    rows = compare_rows({"a": ROWS["a"], "b": ROWS["b"], "c": ROWS["a"]})
    rows["model_title"] = rows["model_group"].map({"a": "MAE", "b": "MAE", "c": "Other"})
    specs = {
        "a": {"kind": "pretrain", "seed": 1, "method_params": {"mask_ratio": 0.5, "norm_pix": True}},
        "b": {"kind": "pretrain", "seed": 2, "method_params": {"mask_ratio": 0.75, "norm_pix": True}},
    }
    named = distinct_titles(rows, lambda groups: {g: specs[g] for g in groups})
    titles = named.groupby("model_group")["model_title"].first().to_dict()
    assert titles == {"a": "MAE (mask_ratio=0.5)", "b": "MAE (mask_ratio=0.75)", "c": "Other"}
    unknown = distinct_titles(rows, lambda groups: {})
    assert unknown.groupby("model_group")["model_title"].first()["a"] == "MAE (group a)"
    many = {g: {"optim": {str(i): i * k for i in range(1, 6)}} for k, g in enumerate("ab", 1)}
    assert telling_settings(many) == {"a": "1=1, 2=2, 3=3 …", "b": "1=2, 2=4, 3=6 …"}


def test_class_counts_per_split() -> None:
    samples = pd.DataFrame({"split": ["train"] * 3 + ["test"], "label": ["a", "a", "b", "b"], "labels": None})
    figure = class_counts_figure(class_counts(samples), ["a", "b", "c"])
    assert {t.name: list(t.x) for t in figure.data} == {"train": [2, 1, 0], "test": [0, 1, 0]}
    several = pd.DataFrame({"split": ["train"], "label": [None], "labels": [["a", "c"]]})
    assert list(class_counts_figure(class_counts(several), ["a", "b", "c"]).data[0].x) == [1, 0, 1]


def test_a_long_tail_of_classes_is_folded_in_words() -> None:
    counts = {"train": {f"c{i}": 10 - i for i in range(8)}, "test": {"c7": 100}}
    assert largest_classes(counts, 8) == (["c7", "c0", "c1", "c2", "c3", "c4", "c5", "c6"], "")
    assert largest_classes(counts, 3) == (["c7", "c0", "c1"], "and 5 more classes with 4 to 8 images each")
    assert largest_classes({"train": {"a": 2, "b": 1}}, 1) == (["a"], "and 1 more class with 1 image")


# -- ladder -------------------------------------------------------------------------------------------------------
def test_ladder_follows_the_events_of_the_latest_attempt() -> None:
    old = [{"state": "stopping", "rung": "kill", "time": "t0"}, {"state": "cancelled"}, {"state": "queued"}]
    assert ladder(old) == []
    now = [*old, {"state": "running"}, {"state": "stopping", "rung": "request", "time": "t1"}]
    assert [(r.name, r.reached, r.current) for r in ladder(now)][:2] == [
        ("request", True, True),
        ("terminate", False, False),
    ]
    later = [*now, {"state": "stopping", "rung": "terminate", "time": "t2"}]
    assert [r.name for r in ladder(later) if r.current] == ["terminate"] and ladder(later)[0].time == "t1"
    assert ladder([*later, {"state": "cancelled"}]) == []
    assert ladder([{"state": "running"}], asked=True)[0].current


# -- command lines ------------------------------------------------------------------------------------------------
def settings_of(words: list[str]) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == "--set"]


def option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None


@pytest.mark.parametrize(
    "settings",
    [[], ["optim.samples=4096", "flips=none"], ['bands=["B02","B03"]', "image_size=32"], ['splits=["train","val"]']],
)
def test_pretrain_command_makes_the_same_spec(settings: list[str]) -> None:
    spec = pretrain_spec("mae", "my pack", "smoke", settings, seed=3)
    words = shlex.split(command_line(spec))
    assert words[:2] == ["rsfm", "pretrain"] and words[-1] == "--queue"
    again = pretrain_spec(
        option(words, "--method"), option(words, "--dataset"), option(words, "--preset"), settings_of(words),
        seed=int(option(words, "--seed")),
    )  # fmt: skip
    assert again == spec


def test_evaluate_command_makes_the_same_spec() -> None:
    spec = EvaluateSpec(
        model="random:vit-nano", dataset="d", severities=[1, 4], eval_seeds=[5], knn_k=7, test_split="val"
    )
    words = shlex.split(command_line(spec))
    assert (
        option(words, "--severities") == "1,4"
        and option(words, "--seeds") == "5"
        and option(words, "--adaptation") is None
    )
    assert set(settings_of(words)) == {"knn_k=7", "test_split=val"}


def test_prepare_command_quotes_for_the_shell() -> None:
    spec = PrepareSpec(
        dataset="scene", source="/data/my scene; rm -rf ~.tif", name="mine", tile_size=64, options={"a": 1}
    )
    words = shlex.split(command_line(spec))
    assert words[:4] == ["rsfm", "data", "prepare", "scene"]
    assert option(words, "--source") == "/data/my scene; rm -rf ~.tif" and option(words, "--tile-size") == "64"
    assert settings_of(words) == ["a=1"]


# -- the form from a spec -----------------------------------------------------------------------------------------
class Inner(Params):
    """A group."""

    rate: float = Field(1e-4, gt=0, lt=1, title="Rate")
    steps: int = Field(3, ge=1, title="Steps")

    @model_validator(mode="after")
    def _together(self) -> Inner:
        if self.steps > 5 and self.rate > 0.5:
            raise ValueError("too fast for so many steps")
        return self


class Outer(Params):
    kind: Literal["outer"] = "outer"
    name: str = Field(..., title="Name")
    mode: Literal["a", "b"] = "b"
    on: bool = True
    sizes: list[int] = Field([1, 2])
    bands: list[str] | None = None
    limit: int | None = Field(None, ge=1, json_schema_extra={"group": False})
    inner: Inner = Inner()
    more: dict[str, Any] = Field({})


def test_fields_of_any_model_become_widgets() -> None:
    views = {v.path[-1]: v for v in field_views(Outer)}
    assert "kind" not in views, "a constant is not asked for"
    assert {n: v.kind for n, v in views.items()} == {
        "name": "text", "mode": "choice", "on": "bool", "sizes": "numbers", "bands": "names", "limit": "int",
        "inner": "group", "more": "json",
    }  # fmt: skip
    assert views["mode"].choices == ("a", "b") and views["bands"].optional and views["limit"].local
    inner = {v.path[-1]: v for v in field_views(Inner, ("inner",))}
    assert (inner["rate"].low, inner["rate"].high) == (0, 1) and inner["steps"].path == ("inner", "steps")


def test_every_field_of_every_spec_has_a_widget() -> None:
    for model in (PretrainSpec, EvaluateSpec, PrepareSpec):
        views = field_views(model)
        asked = {v.path[0] for v in views}
        constant = {"kind", "operator"} & set(model.model_fields)  # one possible value: nothing to ask
        assert asked | constant == set(model.model_fields)
        assert [v.path[0] for v in views if v.kind == "json"] in ([], ["method_params"], ["options"])


def test_errors_name_the_field() -> None:
    spec, errors = check(Outer, {"name": "x", "sizes": [1, "two"], "inner": {"rate": 2, "steps": 1}})
    assert spec is None and set(errors) == {("sizes",), ("inner", "rate")}
    spec, errors = check(Outer, {"name": "x", "inner": {"rate": 0.9, "steps": 9}})
    assert errors == {("inner",): "too fast for so many steps"}
    spec, errors = check(Outer, {"name": "x"})
    assert errors == {} and spec == Outer(name="x")


def test_errors_of_a_methods_own_settings_name_the_field() -> None:
    from rsfm.registry import METHODS

    groups = groups_of(METHODS["mae"])
    data = pretrain_spec("mae", "p", "smoke").model_dump(mode="json")
    data["method_params"]["mask_ratio"] = 1.5
    data["optim"]["samples"] = 1
    spec, errors = check(PretrainSpec, data, groups)
    assert spec is None and ("method_params", "mask_ratio") in errors and ("optim",) in errors


def test_defaults_and_presets_make_a_valid_start() -> None:
    from rsfm.registry import METHODS

    for entry in METHODS.values():
        for preset in entry.presets:
            start = start_of(entry, preset)
            assert parse_spec({**start, "kind": "pretrain", "method": entry.name, "dataset": "p"})


class Odd(Params):
    """Every kind of field that needs care."""

    size: Literal[8, 16] = 16
    mode: Literal["a", "b"] | None = None
    switch: bool | None = None
    rates: list[float] = Field([0.5])
    either: Inner | Outer = Inner()
    group: Inner | None = None


def test_odd_fields_keep_their_meaning() -> None:
    views = {v.path[-1]: v for v in field_views(Odd)}
    assert views["size"].choices == (8, 16), "numbers stay numbers"
    assert (views["mode"].kind, views["mode"].optional) == ("choice", True)
    assert (views["switch"].kind, views["switch"].choices) == ("choice", (True, False)), "three positions"
    assert views["rates"].kind == "numbers"
    assert (views["either"].kind, views["either"].model) == ("group", None), "another field decides which"
    assert (views["group"].kind, views["group"].model) == ("group", Inner)


@pytest.mark.parametrize(
    ("text", "values"),
    [("1, 2;4", [1, 2, 4]), ("0.5 -3 1e-3", [0.5, -3, 1e-3]), ("1, two", [1, "two"]), ("--1", ["--1"]), ("²", ["²"]),
     ("9" * 5000, ["9" * 5000]), ("", []), (" , ", [])],
)  # fmt: skip
def test_what_is_no_number_stays_text_for_the_model_to_refuse(text: str, values: list[Any]) -> None:
    assert numbers(text) == values


def test_small_and_large_numbers_keep_their_digits() -> None:
    assert number_format(1.5e-4) == "%.2e" and number_format(0.05) == "%.6g" and number_format(0) == "%.6g"
