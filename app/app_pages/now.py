"""Now: what runs, what waits, what has just finished, and what needs a hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from app.components.alarms import alarm_badge
from app.page import (
    DATASETS,
    DEGRADATION,
    LAUNCH,
    empty_state,
    guarded,
    heading,
    model_titles,
    run_link,
    standing_alarms,
    state_badge,
)
from app.panels.machine import disk, machine, slots
from app.state import store, workspace
from app.text import ago, duration, missing, number, plain, run_details, share
from jobs.client import ensure_supervisor, stop, supervisor_status
from rsfm.alarms import Alarm
from rsfm.errors import RsfmError
from rsfm.store.runs import FINISHED

LIVE = ["starting", "running", "stopping"]


def counts() -> dict[str, int]:
    frame = store().run_counts()
    return {str(r.state): int(r.n) for r in frame.itertuples()}


def wake_supervisor(unfinished: int) -> None:
    """Work that nobody works off gets a supervisor: once per visit, not on a timer."""
    if unfinished and supervisor_status(workspace()) is None:
        try:
            ensure_supervisor(workspace())
        except RsfmError as error:
            st.error(plain(error), icon=":material/error:")


def tiles(state_counts: dict[str, int]) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    ended = store().ended_since(midnight)
    done_today = int(ended.loc[ended["state"] == "succeeded", "n"].sum())
    failed = state_counts.get("failed", 0) + state_counts.get("lost", 0)
    with st.grid(4, min_column_width=150):
        st.metric("Running", sum(state_counts.get(s, 0) for s in LIVE), icon=":material/play_circle:", border=True)
        st.metric("Queued", state_counts.get("queued", 0), icon=":material/schedule:", border=True)
        st.metric(
            "Succeeded today", done_today, icon=":material/check_circle:", border=True, help="Since midnight, UTC."
        )
        st.metric("Failed or lost", failed, icon=":material/error:", border=True, help="Of all runs, ever.")


def ask_to_stop(run_id: str) -> None:
    try:
        stop(workspace(), run_id)
        st.toast("Asked to finish its step, save and stop.", icon=":material/front_hand:")
    except RsfmError as error:
        st.toast(plain(error), icon=":material/error:")


def job_card(run: dict[str, Any], titles: dict[str, str], alarms: list[Alarm]) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            run_link(run, titles)
            state_badge(run["state"], stalled=run["stalled"])
            alarm_badge(alarms)
            details = run_details(run)
            if details:
                st.caption(plain(details), width="content")
            st.space("stretch")
            if run["state"] != "stopping":
                st.button(
                    "Stop", key=f"now-stop-{run['run_id']}", icon=":material/stop_circle:", type="tertiary",
                    on_click=ask_to_stop, args=(run["run_id"],), help="Finish the step, save, and stop.",
                )  # fmt: skip
        done = share(run["done"], run["total"])
        parts = []
        if done is not None:
            unit = "" if missing(run["unit"]) else f" {run['unit']}"
            parts.append(f"{number(run['done'])} of {number(run['total'])}{unit}")
        if not missing(run["rate"]):
            parts.append(f"{number(run['rate'], 3)}/s")
        if not missing(run["eta_s"]):
            parts.append(f"{duration(run['eta_s'])} left")
        if not missing(run["phase"]) and run["phase"]:
            parts.insert(0, str(run["phase"]))
        if not missing(run["loss"]):
            parts.append(f"loss {number(run['loss'])}")
        if not missing(run["knn"]):
            parts.append(f"best kNN {number(run['knn'], 3)}")
        st.progress(done or 0.0, text=plain("  ·  ".join(parts) or "Starting"))


def queue(status: dict[str, Any] | None, waiting: pd.DataFrame, titles: dict[str, str]) -> None:
    st.subheader("Queue", anchor=False)
    if waiting.empty:
        st.caption("Nothing waits.")
        return
    entries = {q["run_id"]: q for q in (status or {}).get("queue", [])}
    order = {run_id: i for i, run_id in enumerate(entries)}
    rows = sorted(waiting.to_dict("records"), key=lambda r: (order.get(r["run_id"], len(order)), r["run_id"]))
    with st.container(border=True, gap="xsmall"):
        for run in rows[:10]:
            with st.container(horizontal=True, vertical_alignment="center"):
                run_link(run, titles)
                why = (entries.get(run["run_id"]) or {}).get("why") or f"queued {ago(run['created'])}"
                st.caption(plain(why), width="content")
        if len(rows) > 10:
            st.caption(f"and {len(rows) - 10} more")


def recent_finishes(recent: pd.DataFrame, titles: dict[str, str], alarms: dict[str, list[Alarm]]) -> None:
    st.subheader("Recently finished", anchor=False)
    if recent.empty:
        st.caption("Nothing has finished yet.")
        return
    with st.container(border=True, gap="xsmall"):
        for run in recent.to_dict("records"):
            with st.container(horizontal=True, vertical_alignment="center"):
                run_link(run, titles)
                state_badge(run["state"])
                alarm_badge(alarms.get(run["run_id"], []))
                st.space("stretch")
                took = "" if missing(run["duration_s"]) else f"took {duration(run['duration_s'])}, "
                st.caption(f"{took}{ago(run['finished'])}", width="content")


def attention(status: dict[str, Any] | None) -> None:
    """Folders that could not be read, findings about results, troubles of the supervisor."""
    problems = [(str(r.path), str(r.problem)) for r in store().problems().itertuples()]
    problems += [(p["path"], p["problem"]) for p in (status or {}).get("problems", [])]
    findings = store().lint("error")  # warnings stand beside the results they are about
    total = len(set(problems)) + len(findings)
    if not total:
        return
    with st.expander(f"Needs attention ({total})", icon=":material/report:"):
        for path, problem in list(dict.fromkeys(problems))[:20]:
            st.markdown(f":red[:material/folder_off:] **{plain(path)}**: {plain(problem)}")
        for row in findings.head(20).itertuples():
            st.markdown(f":red[:material/rule:] **{plain(row.subject)}**: {plain(row.message)}")


@st.fragment(run_every="2s")
@guarded
def board() -> None:
    """Everything that moves. Draws only."""
    current = store()
    state_counts = counts()
    status = supervisor_status(workspace())
    titles, alarms = model_titles(), standing_alarms()
    tiles(state_counts)
    running = current.runs(states=LIVE, limit=50)
    waiting = current.runs(states=["queued"], limit=200)
    unfinished = len(running) + len(waiting)
    if unfinished and status is None:
        st.warning("There is unfinished work, but no supervisor works on it.", icon=":material/engineering:")
        st.button("Start the supervisor", on_click=wake_supervisor, args=(unfinished,), type="primary")
    grid = st.grid(3, min_column_width=280, gap="large")  # on a narrow screen the second part goes below the first
    with grid.cell(column_span=2):
        st.subheader("Running", anchor=False)
        if running.empty:
            st.caption("Nothing runs.")
        for run in running.to_dict("records"):
            job_card(run, titles, alarms.get(run["run_id"], []))
        queue(status, waiting, titles)
        recent_finishes(current.latest(limit=8), titles, alarms)
    with grid.cell():
        by_id = {r["run_id"]: r for r in running.to_dict("records")}
        machine(status)
        slots(status, by_id, titles)
        disk()
        attention(status)


@st.fragment(run_every="2s")
@guarded
def machine_alone() -> None:
    """The machine, where nothing has run yet. Draws only."""
    status = supervisor_status(workspace())
    with st.grid(3, min_column_width=280, gap="large"):
        with st.container():
            machine(status)
        with st.container():
            slots(status, {}, {})
        with st.container():
            disk()


def first_steps() -> None:
    empty_state(
        ":material/satellite_alt:",
        "Nothing has run in this workspace yet",
        "Prepare a dataset, pretrain an encoder on it, then see how its accuracy falls as pixels get coarser.",
        [(DATASETS, "1. Prepare a dataset"), (LAUNCH, "2. Pretrain and evaluate"), (DEGRADATION, "3. Compare")],
    )


heading("Now", "What runs, what waits, and what has just finished.")
state_counts = counts()
if not sum(state_counts.values()):
    first_steps()
    machine_alone()
else:
    wake_supervisor(sum(n for s, n in state_counts.items() if s not in FINISHED))
    board()
