"""The tabs of the page Run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app.components.alarms import health
from app.components.curves import X_AXES, curve_figure, metric_title, ordered_metrics
from app.page import CHART, guarded
from app.panels.score_tab import has_curves, scores, training_curves
from app.routes.artifacts import artifact_url
from app.state import store, workspace
from app.text import as_time, missing, number, plain, size, visible
from app.view_state import choose_many, choose_number, choose_one_of
from rsfm.registry import METHODS
from rsfm.store.live import live
from rsfm.store.runs import RunFolder

#: Curves that are drawn first.
FIRST_METRICS = ("loss", "knn", "rankme", "std_l2")


@dataclass(frozen=True)
class Shown:
    """The run that a tab shows, and how often it draws itself again (None: the run has ended)."""

    run_id: str
    folder: RunFolder
    record: dict[str, Any]
    every: str | None


@guarded
def curves(run_id: str, x: str, wanted: list[str], smoothing: int, offered: list[str]) -> None:
    """The charts. `offered`: the metrics that stand in the box above, which the timer does not draw."""
    current = store()
    known = ordered_metrics([str(n) for n in current.metric_names(run_id)["name"]])
    if not known:
        st.caption("No metric has been logged yet.")
        return
    if known != offered:
        st.rerun()
    names = [n for n in wanted if n in known] or [n for n in FIRST_METRICS if n in known] or known[:4]
    rows = current.metrics([run_id], names=names)
    with st.grid(2, min_column_width=340):
        for name in names:
            line = rows[rows["name"] == name]
            with st.container(border=True, gap="xxsmall"):
                with st.container(horizontal=True, horizontal_alignment="distribute"):
                    st.markdown(f"**{plain(metric_title(name))}**", width="content")
                    last = line.sort_values("step")["value"].iloc[-1] if len(line) else None
                    st.caption(number(last), width="content")
                figure = curve_figure(rows, name, x=x, smoothing=smoothing)
                st.plotly_chart(figure, config=CHART, key=f"run.curve.{name}", alt=f"{metric_title(name)} of this run")


def curve_tab(shown: Shown) -> None:
    run_id = shown.run_id
    known = ordered_metrics([str(n) for n in store().metric_names(run_id)["name"]])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        x = choose_one_of("Against", list(X_AXES), "x", format_func=lambda a: X_AXES[a])
        wanted = choose_many(
            "Metrics", known, "metrics", format_func=metric_title, width=420,
            placeholder="Loss, kNN, RankMe and feature spread",
        )  # fmt: skip
        smoothing = choose_number("Smoothing", 1, 50, "smooth", 1, width=180)
    st.fragment(watch, run_every=shown.every)(shown)
    st.fragment(curves, run_every=shown.every)(run_id, x, wanted, smoothing, known)


@guarded
def watch(shown: Shown) -> None:
    """What a healthy run of this method looks like, and the alarms."""
    method = METHODS.get(str(shown.record.get("method")))
    names = store().metric_names(shown.run_id)
    last = {str(n): float(v) for n, v in zip(names["name"], names["last"], strict=True)}
    health(method.healthy if method else "", last, ended=shown.every is None)


def preview_tab(shown: Shown) -> None:
    st.fragment(previews, run_every=shown.every)(shown.run_id)


@guarded
def previews(run_id: str) -> None:
    frame = store().artifacts(run_id, kind="preview")
    frame = frame[frame["ok"].astype(bool)] if len(frame) else frame
    if frame.empty:
        st.caption(
            "No preview has been drawn yet. Views are drawn at the first step, reconstructions as training goes on."
        )
        return
    frame = frame.assign(what=[str(p).rsplit("/", 1)[-1].rsplit("-", 1)[0] for p in frame["path"]])
    for what, rows in frame.groupby("what", sort=True):
        rows = rows.drop_duplicates("step", keep="last").sort_values("step")
        steps = [int(s) for s in rows["step"].fillna(0)]
        with st.container(border=True):
            st.markdown(f"**{plain(str(what).capitalize())}**")
            step = steps[-1]
            if len(steps) > 1:
                # A new preview moves the slider along only for readers who look at the last one.
                key = f"run.preview.{run_id}.{what}"
                chosen = st.session_state.get(key)
                if chosen not in steps or st.session_state.get(f"{key}.last") == chosen:
                    st.session_state[key] = steps[-1]
                st.session_state[f"{key}.last"] = steps[-1]
                step = st.select_slider("Step", steps, key=key, label_visibility="collapsed")
            row = rows[rows["step"].fillna(0).astype(int) == step].iloc[-1]
            url = artifact_url(run_id, str(row["artifact_id"]))
            st.markdown(f"![{plain(what)} at step {step}]({url})")
            st.caption(f"{plain(row['title'])} · step {step:,}")


def log_tab(shown: Shown) -> None:
    st.fragment(log_tail, run_every=shown.every)(shown.run_id)


@guarded
def log_tail(run_id: str) -> None:
    text = visible_log(live(workspace(), run_id)["log"])
    with st.container(height=480, autoscroll=True):
        st.code(text or "The log is empty.", language=None, wrap_lines=True)


def visible_log(text: str, lines: int = 400) -> str:
    return "\n".join(visible(line) for line in text.splitlines()[-lines:])


def event_tab(shown: Shown) -> None:
    st.fragment(event_tables, run_every=shown.every)(shown)


@guarded
def event_tables(shown: Shown) -> None:
    events = pd.DataFrame(shown.folder.events())
    if events.empty:
        st.caption("Nothing has happened yet.")
        return
    for column in ("time", "state", "attempt", "message"):
        if column not in events:
            events[column] = None
    events["when"] = [as_time(t) for t in events["time"]]
    events["message"] = ["" if missing(m) else visible(m) for m in events["message"]]
    st.dataframe(
        events[events["message"].ne("") | events["state"].notna()].iloc[::-1], hide_index=True,
        column_order=["when", "attempt", "state", "message"], alt="Events of this run, newest first",
        column_config={
            "when": st.column_config.DatetimeColumn(
                "Time (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=160
            ),
            "attempt": st.column_config.NumberColumn("Attempt", width=80),
            "state": st.column_config.TextColumn("State", width=110),
            "message": st.column_config.TextColumn("Message", width="large"),
        },
    )  # fmt: skip
    attempts = store().attempts(shown.run_id)
    if len(attempts) > 1:
        st.markdown("**Attempts**")
        st.dataframe(attempts, hide_index=True, alt="Attempts of this run")


def settings_tab(shown: Shown) -> None:
    run = shown.record
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Request**")
        st.json(run.get("spec") or "{}", expanded=2)
    with right:
        st.markdown("**Provenance**")
        revision = run.get("git_revision")
        st.table(
            {
                "Group": f"`{run.get('group_id') or '–'}`",
                "Revision": f"`{str(revision)[:12]}`" if not missing(revision) else "–",
                "Host": plain(run.get("host") or "–"),
                "Device": plain(run.get("device") or "–"),
                "Tags": plain("–" if missing(run.get("tags")) else run["tags"] or "–"),
            },
            border="horizontal",
        )
        if not missing(run.get("versions")):
            st.markdown("**Versions**")
            st.json(run["versions"], expanded=True)


def file_tab(shown: Shown) -> None:
    st.fragment(files, run_every=shown.every)(shown.run_id)


@guarded
def files(run_id: str) -> None:
    frame = store().artifacts(run_id)
    if frame.empty:
        st.caption("This run has left no files.")
        return
    shown = pd.DataFrame(
        {
            "title": [visible(t) for t in frame["title"]],
            "kind": [visible(k) for k in frame["kind"]],
            "step": frame["step"],
            "size": [size(b) for b in frame["bytes"]],
            "state": ["" if ok else visible(p) for ok, p in zip(frame["ok"], frame["problem"], strict=True)],
            "link": [
                artifact_url(run_id, str(i)) if ok else None
                for i, ok in zip(frame["artifact_id"], frame["ok"], strict=True)
            ],
        }
    )
    st.dataframe(
        shown, hide_index=True, alt="Files of this run",
        column_config={
            "title": "Title", "kind": "Kind", "size": "Size",
            "step": st.column_config.NumberColumn("Step", format="localized"),
            "state": "Problem", "link": st.column_config.LinkColumn("", display_text="Open"),
        },
    )  # fmt: skip


def score_tab(shown: Shown) -> None:
    st.fragment(scores, run_every=shown.every)(shown.run_id)


def training_tab(shown: Shown) -> None:
    st.fragment(training_curves, run_every=shown.every)(shown.run_id)


_ALWAYS: dict[str, Callable[[Shown], None]] = {
    "Log": log_tab, "Events": event_tab, "Settings": settings_tab, "Files": file_tab,
}  # fmt: skip


def tabs_of(kind: str, run_id: str, *, pending: bool) -> dict[str, Callable[[Shown], None]]:
    """The tabs of a run, the most telling one first.

    Args:
        pending: whether the run may still log something.
    """
    match kind:
        case "pretrain":
            return {"Curves": curve_tab, "Previews": preview_tab, **_ALWAYS}
        case "evaluate":
            trains = {"Curves": training_tab} if pending or has_curves(run_id) else {}
            return {"Scores": score_tab, **trains, **_ALWAYS}
    return _ALWAYS
