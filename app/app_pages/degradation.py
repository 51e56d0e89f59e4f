"""Degradation: how scores fall as pixels get coarser, models overlaid."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pandas as pd
import streamlit as st

from app.components.degradation import (
    AXES,
    VALUES,
    adaptation_title,
    as_retention,
    comparison_table,
    degradation_figure,
    findings_about,
    interval,
    metric_title,
    seeds_text,
    variant_text,
    variants,
)
from app.components.naming import distinct_titles
from app.components.palette import Look
from app.imaging import main_layer
from app.page import CHART, LAUNCH, empty_state, heading, looks_of_models
from app.state import open_pack, store, workspace
from app.text import metres, missing, plain, visible
from app.view_state import choose, choose_many, choose_one_of, choose_pills
from rsfm.errors import RsfmError
from rsfm.specs import parse_spec
from rsfm.stats import curve_summary
from rsfm.store.runs import is_run_id

#: Models on one chart while nobody has chosen any.
MOST = 12


def specs_of(groups: list[str]) -> dict[str, dict[str, Any]]:
    """The requests that made these model groups, as far as their runs are known."""
    models = store().models()
    found = {}
    for group in groups:
        runs = models.loc[models["group_id"] == group, "run_id"].dropna()
        rows = store().run(str(runs.iloc[0])) if len(runs) else models.iloc[:0]
        if len(rows):
            spec = json.loads(rows.iloc[0]["spec"])
            with contextlib.suppress(RsfmError):  # of another version: as it was written
                spec = parse_spec(spec).model_dump(mode="json")
            found[group] = spec
    return found


def chance_level(datasets: list[str]) -> float | None:
    """Accuracy of guessing, where one labelled pack is shown."""
    if len(datasets) != 1:
        return None
    try:
        classes = open_pack(workspace(), datasets[0]).info.classes
    except RsfmError:  # the results outlive the pack they were measured on
        return None
    return 1 / len(classes) if classes else None


def model_filter(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the chosen models; none chosen means all, as far as a chart can show them."""
    labels = {str(g): visible(t) for g, t in zip(frame["model_group"], frame["model_title"], strict=True)}
    chosen = choose_many(
        "Models", list(labels), "models", format_func=lambda g: labels.get(g, g), placeholder="All models"
    )
    if not chosen and len(labels) > MOST:
        ranked = frame.groupby("model_group")["mean"].mean().sort_values(ascending=False)
        chosen = [str(g) for g in ranked.index[:MOST]]
        st.caption(f"The {MOST} best of {len(labels)} models are shown; choose others above.")
    return frame[frame["model_group"].astype(str).isin(chosen)] if chosen else frame


def controls(everything: pd.DataFrame) -> tuple[pd.DataFrame, str, str, bool]:
    """The rows to draw, the axis, the value, and whether intervals are bands."""
    tasks = sorted(everything["task"].unique())
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(tasks) > 1:
            task = choose("Task", tasks, "task", width=180)
            everything = everything[everything["task"] == task]
        # The newest results first would change under a reader; the name does not.
        names = sorted(everything["dataset"].unique())
        synthetic = set(everything.loc[everything["synthetic"].astype(bool), "dataset"])
        packs = choose_many(
            "Packs", names, "packs", names[:1], width=320,
            format_func=lambda n: f"{visible(n)}{' (synthetic)' if n in synthetic else ''}",
        )  # fmt: skip
        frame = everything[everything["dataset"].isin(packs)]
        if frame.empty:
            return frame, "gsd", "absolute", True
        metric = choose(
            "Metric", sorted(frame["metric"].unique()), "metric", "accuracy", format_func=metric_title, width=160
        )
        frame = frame[frame["metric"] == metric]
        operators = sorted(frame["operator"].unique())
        if len(operators) > 1:
            operator = choose("Operator", operators, "operator", "bilinear", width=160)
            frame = frame[frame["operator"] == operator]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        known = sorted(frame["adaptation"].unique())
        adaptations = choose_pills("Adaptation", known, "adaptation", format_func=lambda a: plain(adaptation_title(a)))
        frame = frame[frame["adaptation"].isin(adaptations)]
        axis = choose_one_of("Horizontal axis", list(AXES), "axis", format_func=lambda a: AXES[a])
        value = choose_one_of("Show", list(VALUES), "value", format_func=lambda v: VALUES[v])
        style = choose_one_of("Intervals", ["bands", "bars"], "intervals", format_func=str.capitalize)
    return model_filter(frame), axis, value, style == "bands"


def coarse_bands(dataset: str) -> str:
    """Bands whose own pixels are coarser than the pack's grid: there, degradation begins later than the axis says."""
    try:
        layer = main_layer(open_pack(workspace(), dataset))
    except RsfmError:
        return ""
    coarse = [b for b in layer.bands if layer.gsd_m and b.gsd_m > 1.05 * layer.gsd_m]
    if not coarse:
        return ""
    sizes = sorted({b.gsd_m for b in coarse})
    span = f"{sizes[0]:g} m" if len(sizes) == 1 else f"{sizes[0]:g} m to {sizes[-1]:g} m"
    return f" Natively coarser bands ({span}): {', '.join(plain(b.name) for b in coarse)}."


def caption(frame: pd.DataFrame) -> str:
    """What was measured, on what, with which uncertainty."""
    parts = []
    for dataset, rows in frame.groupby("dataset", sort=False):
        first = rows.iloc[0]
        gsd = "" if missing(first["gsd_m"]) else f", {metres(first['gsd_m'] / first['severity'])} grid"
        kind = "synthetic pack" if first["synthetic"] else "pack"
        parts.append(f"{kind} **{plain(dataset)}**{gsd}, n = {int(rows['n'].max()):,} test images")
    kinds = sorted({seeds_text(row) for row in frame[["seeds", "seed_kind"]].to_dict("records")})
    one = frame["seeds"].max() == 1
    said = "the bootstrap over test images" + ("" if one else " and the spread over seeds, joined")
    how = f"Mean over {', '.join(kinds)}. Intervals (95 %): {said}."
    text = "; ".join(parts)
    notes = "".join(coarse_bands(str(d)) for d in dict.fromkeys(frame["dataset"]))
    return f"{text[0].upper()}{text[1:]}. {how}{notes}"


def charts(frame: pd.DataFrame, looks: dict[str, Look], axis: str, value: str, bands: bool) -> None:
    adaptations = sorted(frame["adaptation"].unique())
    synthetic = bool(frame["synthetic"].astype(bool).any())
    chance = chance_level(sorted(frame["dataset"].unique())) if set(frame["metric"]) == {"accuracy"} else None
    lows, highs = zip(*map(interval, frame.to_dict("records")), strict=True)
    low, high = min(lows), max(highs)
    if chance is not None and value == "absolute":
        low, high = min(low, chance), max(high, chance)
    with st.grid(min(2, len(adaptations)), min_column_width=420):
        for adaptation in adaptations:
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f"**{plain(adaptation_title(adaptation))}**", width="content")
                    if synthetic:
                        st.badge("synthetic data", icon=":material/science:", color="violet")
                rows = frame[frame["adaptation"] == adaptation]
                figure = degradation_figure(rows, looks, axis=axis, value=value, bands=bands, chance=chance)
                pad = 0.06 * max(high - low, 0.05)  # the same axis for all charts
                figure.update_yaxes(range=[max(0, low - pad), high + pad])
                st.plotly_chart(
                    figure, config=CHART, key=f"degradation.{adaptation}",
                    alt=f"{adaptation_title(adaptation)}: scores of all models against resolution",
                )  # fmt: skip


def findings(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What the store finds odd about the rows that are shown."""
    found = store().lint()
    group_of_run: dict[str, str] = {}
    if any(is_run_id(str(s)) for s in found["subject"]):
        measured = store().scores()[["run_id", "model_group"]].drop_duplicates("run_id")
        group_of_run = dict(measured.itertuples(index=False))
    return findings_about(found, frame, group_of_run)


def show_findings(found: list[dict[str, Any]]) -> None:
    if not found:
        return
    looks = {"error": (":red", "error"), "warning": (":orange", "warning"), "info": (":blue", "info")}
    with st.expander(f"Findings about these results ({len(found)})", icon=":material/rule:"):
        for row in found[:40]:
            color, icon = looks.get(row["severity"], (":orange", "warning"))
            st.markdown(f"{color}[:material/{icon}:] {plain(row['message'])}")
        if len(found) > 40:
            st.caption(f"and {len(found) - 40} more")


def table(frame: pd.DataFrame, found: list[dict[str, Any]]) -> None:
    rows = comparison_table(curve_summary(frame), frame)
    about = [(f["model_group"], f["dataset"], f["adaptation"]) for f in found]
    rows["findings"] = [
        about.count(place) or None for place in rows[["model_group", "dataset", "adaptation"]].itertuples(index=False)
    ]
    differing = variants(frame)
    rows["variant"] = [" · ".join(variant_text(k, r[k]) for k in differing) for r in rows.to_dict("records")]
    rows["model_title"] = rows["model_title"].map(visible)
    rows["dataset"] = [
        f"{visible(d)}{' (synthetic)' if s else ''}" for d, s in zip(rows["dataset"], rows["synthetic"], strict=True)
    ]
    rows["adaptation"] = rows["adaptation"].map(adaptation_title)
    st.subheader("Figures", anchor=False)
    levels = [c for c in rows.columns if c.endswith("×")]
    # The caption above names the pack where there is one only.
    named = [
        "model_title", *(["variant"] if differing else []), *(["dataset"] if rows["dataset"].nunique() > 1 else []),
        "adaptation",
    ]  # fmt: skip
    score = {c: st.column_config.NumberColumn(c, format="%.3f", width=75) for c in levels}
    st.dataframe(
        rows, hide_index=True, alt="Scores per model and severity, best first",
        column_order=[*named, *levels, "auc", "mean", "retention", "findings", "over", "n"],
        placeholder="–",
        column_config={
            "model_title": st.column_config.TextColumn("Model"),
            "variant": st.column_config.TextColumn("Measured with"),
            "dataset": st.column_config.TextColumn("Pack"),
            "adaptation": st.column_config.TextColumn("Adaptation", width=110),
            **score,
            "auc": st.column_config.NumberColumn(
                "AUC", format="%.1f", width=75,
                help="Area under the score over 1/factor, × 100. Compare only curves over the same factors.",
            ),
            "mean": st.column_config.NumberColumn("Mean", format="%.3f", width=75, help="Over the severities."),
            "retention": st.column_config.NumberColumn(
                "Retention", format="percent", width=90, help="Share of the native score at the coarsest severity."
            ),
            "findings": st.column_config.NumberColumn("Findings", width=80, help="Listed below the table."),
            "over": st.column_config.TextColumn("Mean over", width=140),
            "n": st.column_config.NumberColumn("n", format="localized", width=60, help="Test images"),
        },
    )  # fmt: skip
    st.download_button(
        "Download CSV", frame.to_csv(index=False), "degradation.csv", "text/csv", icon=":material/download:",
        on_click="ignore", key="degradation.csv",
    )  # fmt: skip


heading("Degradation", "Scores of frozen features as test images get coarser. Heads are fitted at native resolution.")
everything = store().compare()
if everything.empty:
    empty_state(
        ":material/blur_on:", "No results yet",
        "Evaluate a model on a labelled pack; its curve over 1×, 2×, 4× and 8× coarser images appears here.",
        [(LAUNCH, "Evaluate a model")],
    )  # fmt: skip
    st.stop()
everything = distinct_titles(everything, specs_of)
chosen, axis, value, bands = controls(everything)
if chosen.empty:
    empty_state(":material/filter_alt_off:", "Nothing is selected", "Choose at least one pack above.")
    st.stop()
drawn = as_retention(chosen) if value == "retention" else chosen
if axis == "gsd":
    unknown = sorted({visible(d) for d in drawn.loc[drawn["gsd_m"].isna(), "dataset"]})
    if len(drawn) and drawn["gsd_m"].isna().all():
        st.info(
            "The GSD of this pack is not known, so the curves are drawn against the factor.",
            icon=":material/straighten:",
        )
        axis = "factor"
    elif unknown:
        st.info(
            f"The GSD of {plain(', '.join(unknown))} is not known: its curves are drawn against the factor only.",
            icon=":material/straighten:",
        )
if drawn.empty:
    st.info("Retention needs a result at factor 1, which these curves lack.", icon=":material/info:")
else:
    if len(lost := sorted(set(chosen["model_title"]) - set(drawn["model_title"]))):
        st.info(
            f"Without a result at factor 1 there is no retention of {plain(', '.join(lost))}.", icon=":material/info:"
        )
    charts(drawn, looks_of_models(), axis, value, bands)
    st.caption(caption(chosen))
found = findings(chosen)
table(chosen, found)
show_findings(found)
