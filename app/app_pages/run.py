"""Run: one run, live."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from app.components.alarms import alarm_badge
from app.components.ladder import ladder
from app.page import (
    CHANGE,
    DATASETS,
    EMBEDDINGS,
    LAUNCH,
    SEGMENTATION,
    empty_state,
    guarded,
    heading,
    model_titles,
    standing_alarms,
    state_badge,
)
from app.panels.launch_copy import copy_link
from app.panels.run_notes import edit_form, show_about
from app.panels.run_tabs import Shown, tabs_of
from app.predictions import open_prediction
from app.state import open_embedding_info, store, workspace
from app.text import (
    KIND_ICON,
    ago,
    clock,
    duration,
    missing,
    number,
    plain,
    run_details,
    run_title,
    share,
    size,
    visible,
)  # fmt: skip
from app.view_state import choose_one_of, put
from jobs.client import resume, stop
from rsfm.errors import RsfmError
from rsfm.store.about import read_about
from rsfm.store.live import live, may_change
from rsfm.store.runs import FINISHED, RESUMABLE, RunFolder, is_run_id, open_run


# -- which run ----------------------------------------------------------------------------------------------------
def switch(key: str) -> None:
    chosen = str(st.session_state.get(key))
    if is_run_id(chosen):
        put("run", chosen)


def pick_run() -> str | None:
    """The run of the URL, with a box to switch; without one in the URL, the newest run, written into the URL."""
    wanted = st.query_params.get("run")
    recent = store().runs(limit=60)
    titles = model_titles()
    labels = {}
    for r in recent.to_dict("records"):
        # Nothing that changes with time: Streamlit knows a choice by its label.
        parts = (run_title(r, titles), run_details(r), f"…{str(r['run_id'])[-4:]}")
        labels[str(r["run_id"])] = "  ·  ".join(p for p in parts if p)
    if not wanted and labels:
        wanted = next(iter(labels))
        put("run", wanted)
    if not wanted:
        return None
    options = list(labels) if wanted in labels else [wanted, *labels]
    key = f"run.switch.{wanted}"
    st.selectbox(
        "Run", options, index=options.index(wanted), key=key, format_func=lambda i: labels.get(i, visible(i)),
        on_change=switch, args=(key,), label_visibility="collapsed", width=560,
    )  # fmt: skip
    return wanted


def record(run_id: str, folder: RunFolder) -> dict[str, Any]:
    """What the index knows of the run; straight from its folder where the index has not seen it yet."""
    rows = store().run(run_id).to_dict("records")
    if rows:
        return rows[0]
    envelope = folder.envelope()
    spec = envelope["spec"]
    return {
        "run_id": run_id, "kind": spec.get("kind"), "method": spec.get("method"), "dataset": spec.get("dataset"),
        "model": spec.get("model"), "preset": spec.get("preset"), "seed": spec.get("seed"),
        "created": envelope.get("created"), "spec": json.dumps(spec), "host": envelope.get("host"),
    }  # fmt: skip


# -- header -------------------------------------------------------------------------------------------------------
def act(what: Any, run_id: str, said: str) -> None:
    """What a button does. A refusal stays in view until the next try."""
    st.session_state.pop("run.problem", None)
    try:
        what(workspace(), run_id)
        st.toast(said, icon=":material/check:")
    except RsfmError as error:
        st.session_state["run.problem"] = (run_id, str(error))


def first_severity(run_id: str) -> str:
    return f"{open_embedding_info(workspace(), run_id).severities[0]:g}"


def next_step(run: dict[str, Any]) -> None:
    """Where a run that has succeeded leads."""
    match run.get("kind"):
        case "pretrain":
            st.page_link(
                LAUNCH, label="Evaluate it", icon=":material/analytics:",
                query_params={"job": "evaluate", "model": run["run_id"]},
            )  # fmt: skip
        case "embed":
            st.page_link(
                EMBEDDINGS, label="Open the map", icon=":material/scatter_plot:",
                query_params={"map": f"{run['run_id']}@{first_severity(str(run['run_id']))}"},
            )  # fmt: skip
        case "predict":
            task = open_prediction(workspace(), str(run["run_id"])).task
            st.page_link(
                CHANGE if task == "change" else SEGMENTATION, label="Open the map", icon=":material/map:",
                query_params={"prediction": run["run_id"]},
            )  # fmt: skip
        case "prepare":
            spec = json.loads(run.get("spec") or "{}")
            st.page_link(
                DATASETS, label="Open the pack", icon=":material/visibility:",
                query_params={"pack": spec.get("name") or spec.get("dataset") or ""},
            )  # fmt: skip


def buttons(run: dict[str, Any], state: str, resuming: bool) -> None:
    run_id = str(run["run_id"])
    if state in FINISHED and not resuming:
        if state == "succeeded":
            next_step(run)
        if state in RESUMABLE:
            st.button(
                "Resume", icon=":material/resume:", type="primary", key="run.resume", on_click=act,
                args=(resume, run_id, "Queued again; it goes on from its last checkpoint."),
                help="A new attempt that goes on from the last checkpoint.",
            )  # fmt: skip
        return
    st.button(
        "Stop", icon=":material/stop_circle:", key="run.stop", on_click=act, disabled=state == "stopping",
        args=(stop, run_id, "Asked to finish its step, save and exit."),
        help="Finish the step, save, and exit. It can be resumed.",
    )  # fmt: skip


def show_ladder(events: list[dict[str, Any]], *, asked: bool) -> None:
    rungs = ladder(events, asked=asked)
    if not rungs:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown(":orange[:material/front_hand:] **Stopping**")
        for rung in rungs:
            icon = (
                "radio_button_checked" if rung.current else "check_circle" if rung.reached else "radio_button_unchecked"
            )
            color = "orange" if rung.current else "gray"
            when = f" · {ago(rung.time)}" if rung.time else ""
            st.markdown(f":{color}[:material/{icon}: {rung.text}{when}]")


def progress_tiles(run: dict[str, Any], now: dict[str, Any]) -> None:
    progress = now["progress"] or {}
    done = share(progress.get("done"), progress.get("total"))
    unit = progress.get("unit") or ""
    going = now["state"] in ("starting", "running", "stopping")
    tiles: list[tuple[str, str, str | None]] = []
    if going:
        parts = [str(progress["phase"])] if progress.get("phase") else []
        if done is not None:
            parts.append(f"{number(progress['done'])} of {number(progress['total'])} {unit}")
        st.progress(done or 0.0, text=plain("  ·  ".join(parts) or "Starting"))
        rate = progress.get("rate")
        tiles += [
            ("Progress", "–" if done is None else f"{100 * done:.0f} %", None),
            ("Throughput", "–" if missing(rate) else f"{number(rate, 3)} /s", f"{plain(unit)} per second"),
            ("Time left", duration(progress.get("eta_s")), "At the present rate"),
        ]
    elif now["state"] == "queued":
        tiles.append(("Waits since", ago(now["time"] or run.get("created")), None))
    elif done is not None and done < 1:
        came = f"{number(progress['done'])} of {number(progress['total'])} {plain(unit)}"
        tiles.append(("Came to", f"{100 * done:.0f} %", came))
    if run.get("kind") == "pretrain":
        tiles.append(("Loss", number(progress.get("loss", run.get("loss"))), "Last training loss"))
        if not missing(run.get("knn")):  # only where the pack has labels
            tiles.append(("Best kNN", number(run["knn"], 3), "Best online kNN accuracy"))
    if not missing(run.get("duration_s")):
        tiles.append(("Duration", duration(run["duration_s"]), "Time at work, over all attempts"))
    if now["state"] in FINISHED and not missing(run.get("finished")):
        tiles.append(("Ended", ago(run["finished"]), f"{clock(run['finished'])} UTC"))
    with st.grid(len(tiles) or 1, min_column_width=130):
        for label, value, about in tiles:
            st.metric(label, value, border=True, help=about)


def facts(run: dict[str, Any], now: dict[str, Any]) -> None:
    """The small print below the title."""
    parts = [f"`{run['run_id']}`", f"created {clock(run.get('created'))} UTC"]
    if not missing(run.get("attempt")) and int(run["attempt"]) > 1:
        parts.append(f"attempt {int(run['attempt'])}")
    if not missing(run.get("slot")):
        parts.append(plain(f"on {run['slot']}"))
    if not missing(run.get("host")):
        parts.append(plain(f"at {run['host']}"))
    beat = now["heartbeat"] or {}
    if beat.get("rss_bytes") and now["state"] not in FINISHED:
        parts.append(f"{size(beat['rss_bytes'])} memory")
    st.caption("  ·  ".join(parts))


@guarded
def header(run_id: str, folder: RunFolder, was_pending: bool) -> None:
    now = live(workspace(), run_id)
    state = now["state"]
    run = record(run_id, folder)
    if was_pending != may_change(now, run):
        st.rerun()  # the timers of the page depend on whether the run has ended
    resuming = now["resume_requested"] and state in RESUMABLE
    with st.container(horizontal=True, vertical_alignment="center"):
        icon = KIND_ICON.get(str(run.get("kind")), ":material/play_circle:")
        st.title(f"{icon} {plain(run_title(run, model_titles()))}", anchor=False, width="content")
        state_badge("queued" if resuming else state, stalled=now["stalled"])
        alarm_badge(standing_alarms().get(run_id, []))
        details = run_details(run)
        if details:
            st.caption(plain(details), width="content")
        st.space("stretch")
        buttons(run, state, resuming)
    facts(run, now)
    of, problem = st.session_state.get("run.problem") or (None, None)
    if problem and of == run_id:
        st.error(plain(problem), icon=":material/block:")
    message = now["message"]
    if message and state in ("failed", "lost"):
        st.error(plain(message), icon=":material/error:")
    elif message and state == "cancelled":
        st.info(plain(message), icon=":material/info:")
    show_ladder(folder.events(), asked=now["stop_requested"])
    progress_tiles(run, now)


run_id = pick_run()
if run_id is None:
    heading("Run", "One run, live: progress, curves, log, results.")
    empty_state(":material/monitoring:", "No runs yet", "Launch one, then watch it here.", [(LAUNCH, "Launch a run")])
    st.stop()
folder = open_run(workspace(), run_id)
run = record(run_id, folder)
pending = may_change(live(workspace(), run_id), run)
st.fragment(header, run_every="1s" if pending else None)(run_id, folder, pending)
show_about(read_about(folder))
with st.container(horizontal=True, vertical_alignment="center"):
    with st.popover("Tags and note", icon=":material/sell:"):
        edit_form([run_id])
    copy_link(run)
tabs = tabs_of(str(run.get("kind")), run_id, pending=pending)
tab = choose_one_of("View", list(tabs), "tab", label_visibility="collapsed")
tabs[tab](Shown(run_id, folder, run, "2s" if pending else None))
