"""The chosen runs together: a metric of all of them, what tells them apart, and what people say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.components.curves import X_AXES, curve_figure, metric_title, ordered_metrics
from app.components.spec_diff import differences
from app.page import CHART, RUN, guarded
from app.panels.launch_copy import copy_link
from app.panels.run_list import MAX_OVERLAY
from app.panels.run_notes import edit_form
from app.state import store
from app.text import plain, run_details, run_title, visible
from app.view_state import choose, choose_number, choose_one_of, choose_whether, put


def records_of(chosen: Sequence[str]) -> list[dict[str, Any]]:
    """The chosen runs as the index knows them; one that it does not know is left out."""
    return [row for run_id in chosen for row in store().run(run_id).to_dict("records")]


def labels_of(runs: Sequence[dict[str, Any]], titles: dict[str, str]) -> dict[str, str]:
    """Run id -> what it is called beside the others."""
    return {
        str(run["run_id"]): "  ".join(
            part for part in (run_title(run, titles), run_details(run), f"…{str(run['run_id'])[-4:]}") if part
        )
        for run in runs
    }


def chosen_runs(chosen: Sequence[str], titles: dict[str, str], *, going: bool) -> None:
    """Links to the chosen runs, and one of three views of them.

    Args:
        going: whether some run is unfinished: its curve is drawn again from time to time.
    """
    runs = records_of(chosen)
    labels = labels_of(runs, titles)
    gone = [run_id for run_id in chosen if run_id not in labels]
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.subheader(f"Chosen: {len(runs)}", anchor=False)
        st.button(
            "Choose none", icon=":material/deselect:", type="tertiary", key="runs.none", on_click=put,
            args=("overlay", None),
        )  # fmt: skip
    if gone:
        st.warning(f"Not in this workspace: {plain(', '.join(gone))}", icon=":material/search_off:")
    if not runs:
        return
    if len(chosen) == MAX_OVERLAY:
        st.caption(f"{MAX_OVERLAY} runs are the most that can be chosen at once.")
    with st.container(horizontal=True):
        for run_id, label in labels.items():
            st.page_link(RUN, label=plain(label), icon=":material/monitoring:", query_params={"run": run_id})
        if len(runs) == 1:
            copy_link(runs[0])
    match choose_one_of("Show", ["Curves", "Difference", "Tags and note"], "show", label_visibility="collapsed"):
        case "Curves":
            curves(labels, going=going)
        case "Difference":
            difference(runs, labels)
        case _:
            edit_form(list(labels))


def curves(labels: dict[str, str], *, going: bool) -> None:
    known = ordered_metrics(sorted({str(n) for run_id in labels for n in store().metric_names(run_id)["name"]}))
    if not known:
        st.caption("None of these runs has logged a metric.")
        return
    # A link's metric stays what is asked for where none of these runs has it: they may have it later, others have it.
    asked = st.query_params.get("metric", "")[:200]
    offered = [*known, asked] if asked and asked not in known else known
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = choose("Metric", offered, "metric", "loss", format_func=_metric_label, width=260) or known[0]
        x = choose_one_of("Against", list(X_AXES), "x", format_func=lambda a: X_AXES[a])
        smoothing = choose_number("Smoothing", 1, 50, "smooth", 1, width=200)
        log = choose_whether("Logarithmic", "log")
    st.fragment(draw_curves, run_every="5s" if going else None)(labels, metric, x, smoothing, log)


def _metric_label(name: str) -> str:
    return visible(metric_title(name))


@guarded
def draw_curves(labels: dict[str, str], metric: str, x: str, smoothing: int, log: bool) -> None:
    rows = store().metrics(list(labels), names=[metric])
    if rows.empty:
        st.info(f"None of these runs has logged {plain(metric_title(metric))} yet.", icon=":material/show_chart:")
        return
    figure = curve_figure(rows, metric, x=x, labels=labels, smoothing=smoothing, log=log, height=420)
    st.plotly_chart(figure, config=CHART, key="runs.chart", alt=f"{metric_title(metric)} of {len(labels)} runs")
    silent = [labels[i] for i in labels if i not in set(rows["run_id"])]
    if silent:
        st.caption(f"Without this metric: {plain(', '.join(silent))}")


def difference(runs: Sequence[dict[str, Any]], labels: dict[str, str]) -> None:
    """Only what is not the same: requests, versions, revision and machine."""
    if len(runs) < 2:
        st.caption("Tick a second run to see what tells the two apart.")
        return
    rows = differences(runs)
    if not rows:
        st.success("The same request, versions, revision and machine.", icon=":material/drag_handle:")
        return
    ids = list(labels)
    table = pd.DataFrame([[visible(name), *values] for name, values in rows], columns=["name", *ids])
    st.dataframe(
        table, hide_index=True, alt="What tells the chosen runs apart", key="runs.difference",
        height="content" if len(rows) <= 20 else 640,
        column_config={
            "name": st.column_config.TextColumn("Setting", width=230, pinned=True),
            **{run_id: st.column_config.TextColumn(visible(label), width=260) for run_id, label in labels.items()},
        },
    )  # fmt: skip
    st.caption(f"{len(rows)} differ. – : that run has no such setting.")
