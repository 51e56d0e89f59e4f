"""Degradation: how scores fall as images get worse, models overlaid."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.components.degradation import (
    as_difference,
    as_retention,
    degradation_figure,
    interval,
    seeds_text,
    variant_text,
    variants,
)
from app.components.measures import (
    adaptation_title,
    metric_title,
    ordered_adaptations,
    ordered_tasks,
    samples_word,
    scale_of,
    target_title,
    task_title,
    training_text,
)
from app.components.naming import distinct_titles
from app.components.palette import Look, published_looks
from app.components.score_table import comparison_table, findings_about, levels_of, place_of, tier_letters
from app.imaging import main_layer
from app.page import CHART, LAUNCH, empty_state, heading, looks_of_models
from app.panels.degradation_view import View, controls
from app.panels.flips_view import chart_key, chosen_point, flips_panel, take_point
from app.panels.model_tests import pair_panel, tier_level, tier_note, tiers_at
from app.state import open_pack, store, workspace
from app.text import metres, plain, visible
from rsfm.errors import RsfmError
from rsfm.protocols import protocols
from rsfm.specs import parse_spec


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


# -- charts --------------------------------------------------------------------------------------------------------
def chance_level(rows: pd.DataFrame) -> float | None:
    """Accuracy of guessing, where one labelled pack is shown."""
    if len(rows) == 0 or set(rows["metric"]) != {"accuracy"} or rows["dataset"].nunique() != 1:
        return None
    try:
        classes = open_pack(workspace(), str(rows["dataset"].iloc[0])).info.classes
    except RsfmError:  # the results outlive the pack they were measured on
        return None
    return 1 / len(classes) if classes else None


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


def caption(view: View) -> str:
    """What was measured, on what, with which uncertainty."""
    frame, parts = view.rows, []
    scale = scale_of(frame["operator"].iloc[0])
    for dataset, rows in frame.groupby("dataset", sort=False):
        first = rows.iloc[0]
        grid = rows.loc[rows["gsd_m"].notna(), ["gsd_m", "severity"]]
        gsd = ""
        if len(grid):
            native = grid["gsd_m"].iloc[0] / (grid["severity"].iloc[0] if scale.coarser else 1)
            gsd = f", {metres(native)} grid"
        kind = "synthetic pack" if first["synthetic"] else "pack"
        size = f", n = {int(rows['n'].max()):,} {samples_word(first['task'])}"
        parts.append(f"{kind} **{plain(dataset)}**{gsd}{size}")
    targets = sorted(set(frame["degrade_target"]) - {"single"})
    if targets:
        parts.append(f"degraded: {', '.join(target_title(t).lower() for t in targets)}")
    kinds = sorted({seeds_text(row) for row in frame[["seeds", "seed_kind"]].to_dict("records")})
    words = " and ".join(dict.fromkeys(samples_word(t) for t in ordered_tasks(frame["task"])))
    said = f"the bootstrap over {words}" + ("" if frame["seeds"].max() == 1 else " and the spread over seeds, joined")
    if frame["ci_low"].isna().all():
        said = "not known"
    how = f"Mean over {', '.join(kinds)}. Intervals (95 %): {said}."
    if view.value == "difference":
        how += " They are those of the scores, moved along: whether a difference is more than noise is tested below."
    if view.value == "retention":
        how += " They are those of the scores, as shares of the same number."
    text = "; ".join(parts)
    notes = "".join(coarse_bands(str(d)) for d in dict.fromkeys(frame["dataset"])) if scale.coarser else ""
    return f"{text[0].upper()}{text[1:]}. {how}{notes}"


def source_note(published: pd.DataFrame, value: str) -> str:
    """Where the published numbers come from."""
    known = protocols()
    names = dict.fromkeys(str(g).split(":")[1] for g in published["model_group"])
    said = [f"{known[n].source} ({known[n].paper})" for n in names if n in known]
    apart = "They take no part in order, tiers or tests" + (", nor in differences." if value == "difference" else ".")
    return f"Marked (authors): {plain('; '.join(said))}. {apart}"


def drawn_rows(view: View) -> pd.DataFrame:
    """The rows of the charts, on the scale that was chosen."""
    both = pd.concat([view.rows, view.published], ignore_index=True) if len(view.published) else view.rows
    if view.value == "retention":
        return as_retention(both)
    if view.value == "difference":
        return as_difference(both, view.baseline or "")
    return both.dropna(subset=["mean"])


def say_what_is_missing(view: View, drawn: pd.DataFrame) -> None:
    if view.value == "absolute":
        if drawn.empty:
            st.info("None of these scores is defined.", icon=":material/info:")
        return
    what = "a result on images as they are" if view.value == "retention" else "a result of the baseline beside them"
    places = ["model_title", "dataset", "adaptation"]
    have = set(map(tuple, drawn[places].itertuples(index=False)))
    lost = [r for r in view.rows[places].drop_duplicates().itertuples(index=False) if tuple(r) not in have]
    if drawn.empty:
        st.info(f"Nothing can be drawn: these curves lack {what}.", icon=":material/info:")
    elif lost:
        named = sorted({f"{visible(r.model_title)} ({adaptation_title(r.adaptation)}, {r.dataset})" for r in lost})
        more = f" and {len(named) - 6} more" if len(named) > 6 else ""
        st.info(f"Not drawn, for lack of {what}: {plain('; '.join(named[:6]))}{more}.", icon=":material/info:")


def charts(view: View, drawn: pd.DataFrame, looks: dict[str, Look]) -> None:
    places = drawn[["task", "adaptation"]].drop_duplicates()
    tasks = ordered_tasks(places["task"])
    order = [
        (task, adaptation) for task in tasks
        for adaptation in ordered_adaptations(places.loc[places["task"] == task, "adaptation"])
    ]  # fmt: skip
    chances = {task: chance_level(view.rows[view.rows["task"] == task]) for task in tasks}
    ranges = {task: y_range(drawn[drawn["task"] == task], view.value, chances[task]) for task in tasks}
    with st.grid(min(2, len(order)), min_column_width=420):
        for task, adaptation in order:
            rows = drawn[(drawn["task"] == task) & (drawn["adaptation"] == adaptation)]
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, vertical_alignment="center"):
                    title = f"**{plain(adaptation_title(adaptation))}**"
                    st.markdown(f"{plain(task_title(task))} · {title}" if len(tasks) > 1 else title, width="content")
                    if rows["synthetic"].astype(bool).any():
                        st.badge("synthetic data", icon=":material/science:", color="violet")
                revision = f"{view.axis}|{view.value}|{rows['operator'].iloc[0]}|{rows['metric'].iloc[0]}"
                figure = degradation_figure(
                    rows, looks, axis=view.axis, value=view.value, bands=view.bands, chance=chances[task],
                    chosen=chosen_point(), revision=revision,
                )  # fmt: skip
                figure.update_yaxes(range=ranges[task])  # the same axis for all charts of a task
                key = chart_key(f"degradation.{task}.{adaptation}")
                st.plotly_chart(
                    figure, config=CHART, key=key, selection_mode="points", on_select=partial(take_point, key),
                    alt=f"{adaptation_title(adaptation)}: scores of all models against the strength of the degradation",
                )  # fmt: skip


def y_range(rows: pd.DataFrame, value: str, chance: float | None) -> list[float]:
    lows, highs = zip(*map(interval, rows.to_dict("records")), strict=True)
    low, high = min(lows), max(highs)
    if chance is not None and value == "absolute":
        low, high = min(low, chance), max(high, chance)
    pad = 0.06 * max(high - low, 0.05)
    return [low - pad if value == "difference" else max(0, low - pad), high + pad]


# -- findings and table --------------------------------------------------------------------------------------------
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


def table(view: View, found: list[dict[str, Any]]) -> None:
    frame = pd.concat([view.rows, view.published], ignore_index=True) if len(view.published) else view.rows
    scale, levels = scale_of(frame["operator"].iloc[0]), levels_of(frame)
    rows = comparison_table(frame)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Figures", anchor=False, width="content")
        severity = tier_level(view.rows)
    tiers = None if severity is None else tiers_at(view.rows, view.metric, severity)
    if severity is not None and tiers is not None:
        rows["tier"] = tier_letters(rows, tiers)
        st.caption(tier_note(scale.level(severity)))
    about = Counter(map(place_of, found))
    rows["findings"] = [about[place_of(row)] or None for row in rows.to_dict("records")]
    differing = [k for k in variants(view.rows) if k not in ("train_degrade", "task")]
    records = rows.to_dict("records")
    rows["variant"] = [" · ".join(variant_text(k, r) for k in differing) for r in records]
    rows["training"] = [training_text(r["train_degrade"], r["operator"]) or "as they are" for r in records]
    rows["source"] = [["authors"] if r["published"] else [] for r in records]
    rows["model_title"] = rows["model_title"].map(visible)
    rows["dataset"] = [f"{visible(r['dataset'])}{' (synthetic)' if r['synthetic'] else ''}" for r in records]
    rows["adaptation"], rows["metric"] = rows["adaptation"].map(adaptation_title), rows["metric"].map(metric_title)
    # The caption above names the pack where there is one only; likewise whatever is the same in all rows.
    several = {c for c in ("dataset", "adaptation", "training", "metric", "ladder") if rows[c].nunique() > 1}
    shown = {
        "model_title": True, "source": rows["published"].any(), "variant": bool(differing),
        "dataset": "dataset" in several, "adaptation": "adaptation" in several, "training": "training" in several,
        "metric": "metric" in several, "tier": "tier" in rows, **dict.fromkeys(levels, True), "auc": scale.coarser,
        "mean": True, "retention": scale.identity is not None, "findings": True, "ladder": "ladder" in several,
        "over": True, "n": True,
    }  # fmt: skip
    named = f"{scale.axis}: {scale.title}"
    score = {
        c: st.column_config.NumberColumn(c, format="%.3f", width=75, help=plain(f"Score at {c}. {named}"))
        for c in levels
    }
    words = " or ".join(dict.fromkeys(samples_word(t) for t in ordered_tasks(frame["task"]))).capitalize()
    st.dataframe(
        rows, hide_index=True, alt="Scores per model and severity, best first", placeholder="–",
        column_order=[name for name, wanted in shown.items() if wanted],
        column_config={
            "model_title": st.column_config.TextColumn("Model", width=220),
            "source": st.column_config.MultiselectColumn(
                "Source", options=["authors"], color="gray", width=80,
                help="Published by the authors of the benchmark; not measured here.",
            ),
            "variant": st.column_config.TextColumn("Measured with"),
            "dataset": st.column_config.TextColumn("Pack"),
            "adaptation": st.column_config.TextColumn("Adaptation", width=150),
            "training": st.column_config.TextColumn("Training images", width=130),
            "metric": st.column_config.TextColumn("Metric", width=80),
            "tier": st.column_config.TextColumn("Tier", width=50, help="A is the best; see above."),
            **score,
            "auc": st.column_config.NumberColumn(
                "AUC", format="%.1f", width=75,
                help="Area under the score over 1/factor, × 100. Compare only curves over the same factors.",
            ),
            "mean": st.column_config.NumberColumn(
                "Mean", format="%.3f", width=75, help="Over the severities; none where a score is missing."
            ),
            "retention": st.column_config.NumberColumn(
                "Retention", format="percent", width=90,
                help="Share of the score on images as they are that is left at the strongest severity.",
            ),
            "findings": st.column_config.NumberColumn("Findings", width=80, help="Listed below the table."),
            "ladder": st.column_config.TextColumn("Severities", width=130),
            "over": st.column_config.TextColumn("Mean over", width=140),
            "n": st.column_config.NumberColumn("n", format="localized", width=60, help=words),
        },
    )  # fmt: skip
    st.download_button(
        "Download CSV", frame.to_csv(index=False), "degradation.csv", "text/csv", icon=":material/download:",
        on_click="ignore", key="degradation.csv",
    )  # fmt: skip


# -- the page ------------------------------------------------------------------------------------------------------
def metres_or_factors(view: View, drawn: pd.DataFrame) -> View:
    """As it was chosen, unless no GSD is known; says so."""
    if view.axis != "gsd" or drawn.empty:
        return view
    if drawn["gsd_m"].isna().all():
        st.info(
            "The GSD of this pack is not known, so the curves are drawn against the factor.",
            icon=":material/straighten:",
        )
        return replace(view, axis="factor")
    if unknown := sorted({visible(d) for d in drawn.loc[drawn["gsd_m"].isna(), "dataset"]}):
        st.info(
            f"The GSD of {plain(', '.join(unknown))} is not known: its curves are drawn against the factor only.",
            icon=":material/straighten:",
        )
    return view


heading(
    "Degradation",
    "How scores fall as test images get worse. Models are fitted on images as they are, unless their names say more.",
)
everything = store().compare()
if everything.empty:
    empty_state(
        ":material/blur_on:", "No results yet",
        "Evaluate a model on a labelled pack; its curve over 1×, 2×, 4× and 8× coarser images appears here.",
        [(LAUNCH, "Evaluate a model")],
    )  # fmt: skip
    st.stop()
view = controls(distinct_titles(everything, specs_of))
if view.rows.empty and view.published.empty:
    empty_state(":material/filter_alt_off:", "Nothing is selected", "Choose at least one pack above.")
    st.stop()
drawn = drawn_rows(view)
say_what_is_missing(view, drawn)
if len(drawn):
    view = metres_or_factors(view, drawn)
    charts(view, drawn, {**looks_of_models(), **published_looks(view.published["model_group"])})
if len(view.rows):
    st.caption(caption(view))
if len(view.published):
    st.caption(source_note(view.published, view.value))
if len(view.rows):
    flips_panel(view.rows, view.metric)
found = findings_about(store().lint(), view.rows)
table(view, found)
show_findings(found)
if len(view.rows):
    pair_panel(view.rows, view.metric)
