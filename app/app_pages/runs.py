"""Runs: all of them, filtered, and a metric of some overlaid."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.components.curves import X_AXES, curve_figure, metric_title, ordered_metrics
from app.page import CHART, LAUNCH, RUN, empty_state, heading, model_titles
from app.state import store
from app.text import as_time, missing, plain, run_details, run_title, share, visible
from app.view_state import (
    choose,
    choose_many,
    choose_number,
    choose_one_of,
    choose_pill,
    page_control,
    page_number,
    put,
    search_text,
)
from rsfm.specs import KINDS
from rsfm.store.runs import STATES, is_run_id

PAGE_SIZE = 200
MAX_OVERLAY = 12


def filters() -> tuple[str | None, list[str] | None, str | None]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = choose_pill("Kind", list(KINDS), "kind")
        states = choose_many("State", list(STATES), "state", placeholder="All states", width=300)
        search = search_text("Search", "q", placeholder="id, method, pack, model, tag", width=260)
    return kind, states or None, search or None


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """What the table shows, from what the store gives."""
    titles = model_titles()
    records = frame.to_dict("records")
    progress = [share(r["done"], r["total"]) for r in records]
    return pd.DataFrame(
        {
            "open": [f"run?run={r['run_id']}" for r in records],
            "what": [run_title(r, titles) for r in records],
            "state": [[f"{r['state']}{' (stalled)' if r['stalled'] is True else ''}"] for r in records],
            "progress": [
                1.0 if p is None and r["state"] == "succeeded" else p for p, r in zip(progress, records, strict=True)
            ],
            "details": [run_details(r) for r in records],
            "loss": frame["loss"].to_list(),
            "knn": frame["knn"].to_list(),
            "duration": frame["duration_s"].to_list(),
            "created": [as_time(r["created"]) for r in records],
            "tags": [visible("" if missing(r["tags"]) else r["tags"]) for r in records],
            "run": [str(r["run_id"]) for r in records],
        }
    )


COLUMNS = {
    "open": st.column_config.LinkColumn(
        "", display_text=":material/open_in_new:", width=45, help="Open the run in a tab of its own"
    ),
    "what": st.column_config.TextColumn("Run", width=270),
    "state": st.column_config.MultiselectColumn(
        "State", width=110, options=[*STATES, "running (stalled)"],
        color=["gray", "blue", "blue", "orange", "green", "red", "gray", "red", "orange"],
    ),
    "progress": st.column_config.ProgressColumn("Progress", min_value=0, max_value=1, format="percent", width=110),
    "details": st.column_config.TextColumn("Settings", width=150),
    "loss": st.column_config.NumberColumn("Loss", format="%.4f", help="Last training loss", width=80),
    "knn": st.column_config.NumberColumn("kNN", format="%.3f", help="Best online kNN accuracy", width=70),
    "duration": st.column_config.NumberColumn("Duration", format="duration", width=100),
    "created": st.column_config.DatetimeColumn("Created (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130),
    "tags": st.column_config.TextColumn("Tags", width="small"),
    "run": st.column_config.TextColumn("Run id", width="medium"),
}  # fmt: skip


def ticked() -> None:
    """Rows that were ticked become the overlay; runs of other pages stay in it."""
    ids = st.session_state.get("runs.ids", [])
    rows = st.session_state["runs.table"].selection.rows
    others = [i for i in overlaid() if i not in ids]
    put("overlay", [*others, *(ids[i] for i in rows if i < len(ids))][:MAX_OVERLAY])


def overlaid() -> list[str]:
    """The runs that the URL asks to overlay."""
    return [i for i in st.query_params.get_all("overlay") if is_run_id(i)][:MAX_OVERLAY]


def labels_of(chosen: list[str], frame: pd.DataFrame) -> dict[str, str]:
    titles = model_titles()
    by_id = {r["run_id"]: r for r in frame.to_dict("records")}
    labels = {}
    for run_id in chosen:
        run = by_id.get(run_id) or next(iter(store().run(run_id).to_dict("records")), {"run_id": run_id})
        labels[run_id] = "  ".join(p for p in (run_title(run, titles), run_details(run), f"…{run_id[-4:]}") if p)
    return labels


def overlay(labels: dict[str, str]) -> None:
    """Links to the chosen runs, and one metric of all of them."""
    st.subheader("Chosen", anchor=False)
    with st.container(horizontal=True):
        for run_id, label in labels.items():
            st.page_link(RUN, label=plain(label), icon=":material/monitoring:", query_params={"run": run_id})
    known = ordered_metrics(sorted({str(n) for run_id in labels for n in store().metric_names(run_id)["name"]}))
    if not known:
        st.caption("None of these runs has logged a metric.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = choose("Metric", known, "metric", "loss", format_func=metric_title, width=260) or known[0]
        x = choose_one_of("Against", list(X_AXES), "x", format_func=lambda a: X_AXES[a])
        smoothing = choose_number("Smoothing", 1, 50, "smooth", 1, width=200)
    rows = store().metrics(list(labels), names=[metric])
    figure = curve_figure(rows, metric, x=x, labels=labels, smoothing=smoothing, height=420)
    st.plotly_chart(figure, config=CHART, key="runs.chart", alt=f"{metric_title(metric)} of {len(labels)} runs")


heading("Runs", "Every run of this workspace. Tick some to open them or to overlay a metric.")
if not len(store().run_counts()):
    empty_state(
        ":material/list_alt:", "No runs yet", "Runs appear here as soon as they are queued, here or from the "
        "command line.", [(LAUNCH, "Launch the first one")],
    )  # fmt: skip
    st.stop()
kind, states, search = filters()
total = int(store().run_counts()["n"].sum())
page = page_number(-(-total // PAGE_SIZE))
frame = store().runs(kind=kind, states=states, search=search, limit=PAGE_SIZE + 1, offset=(page - 1) * PAGE_SIZE)
more = len(frame) > PAGE_SIZE
frame = frame.head(PAGE_SIZE)
ids = [str(i) for i in frame["run_id"]]
st.session_state["runs.ids"] = ids
chosen = overlaid()
if frame.empty:
    empty_state(":material/search_off:", "No run fits", "Loosen the filters above.")
else:
    rows = [i for i, run_id in enumerate(ids) if run_id in chosen]
    st.dataframe(
        table(frame), column_config=COLUMNS, hide_index=True, key="runs.table", on_select=ticked,
        selection_mode="multi-row", placeholder="–",
        selection_default={"selection": {"rows": rows}} if rows else None,
        height="content" if len(frame) <= 15 else 560, alt="Runs, newest first",
    )  # fmt: skip
with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
    st.caption(f"{total:,} runs in this workspace, {len(frame):,} shown")
    if more or page > 1:
        page_control(page + (1 if more else 0))
if chosen:
    overlay(labels_of(chosen, frame))
