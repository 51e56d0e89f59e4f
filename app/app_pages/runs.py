"""Runs: all of them, filtered, and a metric of some overlaid."""

from __future__ import annotations

from functools import partial

import pandas as pd
import streamlit as st

from app.components.curves import X_AXES, curve_figure, metric_title, ordered_metrics
from app.page import CHART, LAUNCH, RUN, empty_state, guarded, heading, model_titles, standing_alarms
from app.state import store
from app.text import STATE_LOOK, as_time, missing, plain, run_details, run_title, share, visible
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
from rsfm.alarms import ALARMS
from rsfm.specs import KINDS, spec_hash
from rsfm.store.runs import FINISHED, STATES, is_run_id

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
    titles, alarms = model_titles(), standing_alarms()
    records = frame.to_dict("records")
    progress = [share(r["done"], r["total"]) for r in records]
    return pd.DataFrame(
        {
            "open": [f"run?run={r['run_id']}" for r in records],
            "what": [run_title(r, titles) for r in records],
            "state": [[f"{r['state']}{' (stalled)' if r['stalled'] is True else ''}"] for r in records],
            "alarms": [[a.title for a in alarms.get(r["run_id"], [])] for r in records],
            "progress": [
                1.0 if p is None and r["state"] == "succeeded" else p for p, r in zip(progress, records, strict=True)
            ],
            "details": [run_details(r) for r in records],
            "loss": frame["loss"].to_list(),
            "knn": frame["knn"].to_list(),
            "duration": [None if missing(d) else d / 60 for d in frame["duration_s"]],
            "created": [as_time(r["created"]) for r in records],
            "tags": [visible("" if missing(r["tags"]) else r["tags"]) for r in records],
            "run": [str(r["run_id"]) for r in records],
        }
    )


#: States in which a run can be overdue with its sign of life.
GOING = ("starting", "running", "stopping")
#: Columns that are left out where no run has anything to say in them.
SPARSE = ("alarms", "details", "loss", "knn", "tags")
COLUMNS = {
    "open": st.column_config.LinkColumn(
        "", display_text=":material/open_in_new:", width=45, help="Open the run in a tab of its own"
    ),
    "what": st.column_config.TextColumn("Run", width=290),
    "state": st.column_config.MultiselectColumn(
        "State", width=110, options=[*STATES, *(f"{s} (stalled)" for s in GOING)],
        color=[*(STATE_LOOK[s][0] for s in STATES), *("orange" for _ in GOING)],
    ),
    "alarms": st.column_config.MultiselectColumn(
        "Alarms", width=150, options=[a.title for a in ALARMS.values()], color=["red"] * len(ALARMS),
        help="Failures of training by name; the run's page says what helps.",
    ),
    "progress": st.column_config.ProgressColumn("Progress", min_value=0, max_value=1, format="percent", width=110),
    "details": st.column_config.TextColumn("Settings", width=135),
    "loss": st.column_config.NumberColumn("Loss", format="%.4f", help="Last training loss", width=80),
    "knn": st.column_config.NumberColumn("Best kNN", format="%.3f", help="Best online kNN accuracy", width=85),
    "duration": st.column_config.NumberColumn(
        "Minutes", format="%.1f", width=80, help="Time at work, over all attempts"
    ),
    "created": st.column_config.DatetimeColumn("Created (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130),
    "tags": st.column_config.TextColumn("Tags", width=110),
    "run": st.column_config.TextColumn("Run id", width=330),
}  # fmt: skip


def table_key(ids: list[str], ticks: list[int]) -> str:
    """The table's identity. Ticks are kept by position: other rows are another table, or they would pass to the runs
    that took these places; and so are other ticks in the address (the browser's Back)."""
    turn = st.session_state.setdefault("runs.turn", 0)
    key = f"runs.table.{spec_hash(ids)}.{turn}"
    if key in st.session_state and sorted(st.session_state[key].selection.rows) != ticks:
        st.session_state["runs.turn"] = turn + 1
        return f"runs.table.{spec_hash(ids)}.{turn + 1}"
    return key


def columns_of(rows: pd.DataFrame) -> list[str]:
    """The columns worth their room."""

    def says_nothing(name: str) -> bool:
        return all(missing(v) or v in ("", []) for v in rows[name])

    return [c for c in rows.columns if c not in SPARSE or not says_nothing(c)]


def ticked(key: str, ids: list[str]) -> None:
    """Rows that were ticked become the overlay; runs of other pages stay in it."""
    rows = st.session_state[key].selection.rows
    others = [i for i in overlaid() if i not in ids]
    put("overlay", [*others, *(ids[i] for i in rows if i < len(ids))][:MAX_OVERLAY])


def overlaid() -> list[str]:
    """The runs that the URL asks to overlay."""
    return [i for i in st.query_params.get_all("overlay") if is_run_id(i)][:MAX_OVERLAY]


def labels_of(chosen: list[str]) -> dict[str, str]:
    titles = model_titles()
    labels = {}
    for run_id in chosen:
        run = next(iter(store().run(run_id).to_dict("records")), {"run_id": run_id})
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


@guarded
def shown_runs(kind: str | None, states: list[str] | None, search: str | None, drawn: list[str]) -> None:
    """One page of the table. `drawn`: the runs whose overlay is on the page."""
    everything = store().run_counts()
    total = int(everything["n"].sum())
    page = page_number(-(-total // PAGE_SIZE))
    frame = store().runs(kind=kind, states=states, search=search, limit=PAGE_SIZE + 1, offset=(page - 1) * PAGE_SIZE)
    if frame.empty and page > 1:  # the filters leave fewer pages than the address asks for
        put("page", None)
        st.rerun()
    more = len(frame) > PAGE_SIZE
    frame = frame.head(PAGE_SIZE)
    ids = [str(i) for i in frame["run_id"]]
    if frame.empty:
        empty_state(":material/search_off:", "No run fits", "Loosen the filters above.")
        return
    rows, chosen = table(frame), overlaid()
    ticks = [i for i, run_id in enumerate(ids) if run_id in chosen]
    key = table_key(ids, ticks)
    st.dataframe(
        rows, column_config=COLUMNS, column_order=columns_of(rows), hide_index=True, key=key,
        on_select=partial(ticked, key, ids), selection_mode="multi-row", placeholder="–",
        selection_default={"selection": {"rows": ticks}} if ticks else None,
        height="content" if len(frame) <= 15 else 560, alt="Runs, newest first",
    )  # fmt: skip
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        first = (page - 1) * PAGE_SIZE
        st.caption(f"{first + 1:,} to {first + len(frame):,} shown; {total:,} runs in this workspace")
        if more or page > 1:
            page_control(page + (1 if more else 0))
    if chosen != drawn:
        st.rerun()  # the overlay below stands outside of what the timer draws


kind, states, search = filters()
counts = store().run_counts()
unfinished = int(counts.loc[~counts["state"].isin(FINISHED), "n"].sum())
chosen = overlaid()
st.fragment(shown_runs, run_every="3s" if unfinished else "15s")(kind, states, search, chosen)
if chosen:
    overlay(labels_of(chosen))
