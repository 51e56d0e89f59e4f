"""Degradation: how scores fall as images get worse, models overlaid."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.components.curves_view import View, caption, charts_of, drawn_rows, notices, on_its_axis, source_note
from app.components.measures import adaptation_title, ordered_tasks, samples_word, scale_of, task_title
from app.components.naming import distinct_titles, specs_of
from app.components.palette import Look, published_looks
from app.components.score_table import findings_about, levels_of, presented
from app.page import LAUNCH, empty_state, heading, looks_of_models
from app.panels.degradation_view import controls
from app.panels.exports import choose_format, pack_named, report_button, saved_as
from app.panels.findings import show_findings
from app.panels.flips_view import chart_key, chosen_point, flips_panel, take_point
from app.panels.model_tests import pair_panel, tier_level, tier_note, tiers_at
from app.state import store
from app.text import plain
from rsfm.comparison import with_summaries


# -- charts --------------------------------------------------------------------------------------------------------
def charts(view: View, drawn: pd.DataFrame, looks: dict[str, Look]) -> None:
    found = charts_of(view, drawn, looks, pack_named, chosen=chosen_point())
    several = len({chart.task for chart in found}) > 1
    with st.grid(min(2, len(found)), min_column_width=420):
        for chart in found:
            with st.container(border=True, gap="xsmall"):
                with st.container(horizontal=True, vertical_alignment="center"):
                    title = f"**{plain(adaptation_title(chart.adaptation))}**"
                    st.markdown(f"{plain(task_title(chart.task))} · {title}" if several else title, width="content")
                    if chart.rows["synthetic"].astype(bool).any():
                        st.badge("synthetic data", icon=":material/science:", color="violet")
                key = chart_key(f"degradation.{chart.task}.{chart.adaptation}")
                st.plotly_chart(
                    chart.figure, config=saved_as(chart), key=key,
                    selection_mode="points", on_select=partial(take_point, key),
                    alt=f"{adaptation_title(chart.adaptation)}: scores of all models against the strength of the "
                    "degradation",
                )  # fmt: skip


# -- table -------------------------------------------------------------------------------------------------------
def table(view: View, found: list[dict[str, Any]]) -> None:
    scale, levels = scale_of(view.frame["operator"].iloc[0]), levels_of(view.frame)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Figures", anchor=False, width="content")
        severity = tier_level(view.rows)
    tiers = None if severity is None else tiers_at(view.rows, view.metric, severity)
    if severity is not None and tiers is not None:
        st.caption(tier_note(scale.level(severity)))
    rows, shown = presented(view, found, tiers)
    named = f"{scale.axis}: {scale.title}"
    score = {
        c: st.column_config.NumberColumn(c, format="%.3f", width=75, help=plain(f"Score at {c}. {named}"))
        for c in levels
    }
    words = " or ".join(dict.fromkeys(samples_word(t) for t in ordered_tasks(view.frame["task"]))).capitalize()
    st.dataframe(
        rows, hide_index=True, alt="Scores per model and severity, best first", placeholder="–",
        column_order=shown,
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
            "auc_norm": st.column_config.NumberColumn(
                "Norm. AUC", format="percent", width=90,
                help="AUC as a share of that of a perfect model over the same factors.",
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
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.download_button(
            "Download CSV", with_summaries(view.frame).to_csv(index=False), "degradation.csv", "text/csv",
            icon=":material/download:", on_click="ignore", key="degradation.csv",
        )  # fmt: skip
        report_button(view, found)


# -- the page ------------------------------------------------------------------------------------------------------
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
view = controls(distinct_titles(everything, partial(specs_of, store())))
if view.rows.empty and view.published.empty:
    empty_state(":material/filter_alt_off:", "Nothing is selected", "Choose at least one pack above.")
    st.stop()
drawn = drawn_rows(view)
for line in notices(view, drawn):
    st.info(plain(line), icon=":material/info:")
if len(drawn):
    looks = {**looks_of_models(), **published_looks(view.published["model_group"])}
    charts(on_its_axis(view, drawn), drawn, looks)
if len(view.rows):
    st.caption(plain(caption(view, pack_named)))
if len(view.published):
    st.caption(plain(source_note(view.published, view.value)))
if len(drawn):
    choose_format()
if len(view.rows):
    flips_panel(view.rows, view.metric)
found = findings_about(store().lint(), view.rows)
table(view, found)
show_findings(found)
if len(view.rows):
    pair_panel(view.rows, view.metric)
