"""What the page Degradation shows: packs, metric, degradation, models, and how; all of it stands in the URL."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.components.curves_view import View, entries_of, published_rows
from app.components.degradation import AXES, VALUES, baselines
from app.components.measures import (
    adaptation_title,
    metric_title,
    operator_title,
    ordered,
    ordered_adaptations,
    ordered_metrics,
    ordered_tasks,
    primary_metric,
    scale_of,
    target_title,
    task_title,
)
from app.state import store
from app.text import plain, visible
from app.view_state import choose, choose_many, choose_one_of, choose_pills, choose_whether
from rsfm.degrade import OPERATORS

#: Models on one chart while nobody has chosen any.
MOST = 12


_published = st.cache_data(max_entries=64, show_spinner=False)(published_rows)


def published_for(names: list[str]) -> pd.DataFrame:
    """Published numbers on these packs."""
    return _published(entries_of(store().datasets(), names))


def choose_packs(everything: pd.DataFrame) -> pd.DataFrame:
    """The rows of the chosen packs."""
    tasks = ordered_tasks(everything["task"])
    if len(tasks) > 1:
        wanted = choose_many(
            "Tasks", tasks, "task", format_func=lambda t: plain(task_title(t)), width=200, placeholder="All tasks"
        )
        everything = everything[everything["task"].isin(wanted)] if wanted else everything
    # The newest results first would change under a reader; the name does not.
    names = sorted(everything["dataset"].unique())
    synthetic = set(everything.loc[everything["synthetic"].astype(bool), "dataset"])
    packs = choose_many(
        "Packs", names, "packs", names[:1], width=270,
        format_func=lambda n: f"{visible(n)}{' (synthetic)' if n in synthetic else ''}",
    )  # fmt: skip
    return everything[everything["dataset"].isin(packs)]


def choose_metric(frame: pd.DataFrame, published: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str | None]:
    """The rows of one metric; of several tasks the primary one of each."""
    tasks = ordered_tasks(frame["task"])
    if len(tasks) == 1:
        names = ordered_metrics(frame["metric"].unique(), tasks[0])
        metric = choose("Metric", names, "metric", format_func=metric_title, width=150)
        return frame[frame["metric"] == metric], published[published["metric"] == metric], metric
    primary = {t: primary_metric(frame.loc[frame["task"] == t, "metric"].unique(), t) for t in tasks}
    kept = [part[part["metric"] == part["task"].map(primary)] for part in (frame, published)]
    return kept[0], kept[1], None


def choose_operator(frame: pd.DataFrame, published: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The rows of one degradation."""
    operator = choose(
        "Degradation", ordered(frame["operator"], OPERATORS), "operator",
        format_func=lambda o: plain(operator_title(o)), width=250,
    )  # fmt: skip
    kept = [part[part["operator"] == operator] for part in (frame, published)]
    return kept[0], kept[1], str(operator)


def choose_target(frame: pd.DataFrame, published: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of pairs, the rows in which one image, or the other, or both were degraded."""
    known = ordered(set(frame["degrade_target"]) - {"single"}, ("post", "pre", "both"))
    if not known:
        return frame, published
    target = choose("Degraded image", known, "target", format_func=target_title, width=140)
    kept = [part[part["degrade_target"].isin([target, "single"])] for part in (frame, published)]
    return kept[0], kept[1]


def model_filter(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the chosen models; none chosen means all, as far as a chart can show them. Says which they are."""
    labels = {str(g): visible(t) for g, t in zip(frame["model_group"], frame["model_title"], strict=True)}
    chosen = choose_many(
        "Models", list(labels), "models", format_func=lambda g: labels.get(g, g), placeholder="All models"
    )
    note = ""
    if not chosen and len(labels) > MOST:
        ranked = frame.groupby("model_group")["mean"].mean().sort_values(ascending=False)
        chosen = [str(g) for g in ranked.index[:MOST]]
        note = f"The {MOST} best of {len(labels)} models are shown."
        st.caption(f"{note} Choose others above.")
    return (frame[frame["model_group"].astype(str).isin(chosen)] if chosen else frame), note


def controls(everything: pd.DataFrame) -> View:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        frame = choose_packs(everything)
        if frame.empty:
            return View(frame, frame)
        published = published_for(sorted(frame["dataset"].unique()))
        if published.empty:
            published = frame.iloc[:0]
        frame, published, metric = choose_metric(frame, published)
        frame, published, operator = choose_operator(frame, published)
        frame, published = choose_target(frame, published)
        if len(published) and not choose_whether("Authors' numbers", "authors", help="Published with the benchmark."):
            published = published.iloc[:0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        known = ordered_adaptations([*frame["adaptation"], *published["adaptation"]])
        adaptations = choose_pills("Adaptation", known, "adaptation", format_func=lambda a: plain(adaptation_title(a)))
        frame, published = (part[part["adaptation"].isin(adaptations)] for part in (frame, published))
        axis = "factor"
        if scale_of(operator).coarser:  # others leave the pixels as large as they are
            axis = choose_one_of("Horizontal axis", list(AXES), "axis", format_func=lambda a: AXES[a])
        value = choose_one_of("Show", list(VALUES), "value", format_func=lambda v: VALUES[v])
        style = choose_one_of("Intervals", ["bands", "bars"], "intervals", format_func=str.capitalize)
    frame, note = model_filter(frame)
    baseline = None
    if value == "difference":
        known_ones = baselines(frame)
        baseline = choose(
            "Baseline", list(known_ones), "baseline", format_func=lambda b: known_ones.get(b, b), width=480
        )  # fmt: skip
    return View(frame, published, metric, axis, value, style == "bands", baseline, note)
