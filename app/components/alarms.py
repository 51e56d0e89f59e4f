"""Alarms of training as pages show them. What each one means: `rsfm.alarms`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from app.text import plain
from rsfm.alarms import ALARMS, PREFIX, Alarm, standing


def alarms_by_run(frame: pd.DataFrame) -> dict[str, list[Alarm]]:
    """Run id -> the alarms that stand, from rows of `Store.alarms`. Runs without any are left out."""
    values: dict[str, dict[str, float]] = {}
    for run_id, name, last in frame[["run_id", "name", "last"]].itertuples(index=False):
        values.setdefault(str(run_id), {})[str(name)] = float(last)
    found = {run_id: standing(own) for run_id, own in values.items()}
    return {run_id: alarms for run_id, alarms in found.items() if alarms}


def looked_at(last_values: Mapping[str, float]) -> list[Alarm]:
    """The alarms that a run has evaluated, whether they stand or not."""
    return [alarm for alarm in ALARMS.values() if PREFIX + alarm.name in last_values]


def alarm_badge(alarms: Sequence[Alarm]) -> None:
    """The mark on a run: the first alarm by name, the others as a count."""
    if alarms:
        more = f" +{len(alarms) - 1}" if len(alarms) > 1 else ""
        st.badge(
            f"{alarms[0].title}{more}", icon=":material/notification_important:", color="red",
            help="\n\n".join(f"**{plain(a.title)}**: {plain(a.meaning)}" for a in alarms),
        )  # fmt: skip


def health(healthy: str, last_values: Mapping[str, float], *, ended: bool) -> None:
    """What a healthy run of the method looks like, and beside it the alarms that stand or stay silent.

    Args:
        healthy: the method's own words; empty: nothing is said.
        last_values: the last value of every metric of the run.
        ended: the run has ended.
    """
    alarms, known = standing(last_values), looked_at(last_values)
    with st.grid(2 if healthy else 1, min_column_width=340):
        if healthy:
            with st.container(border=True, height="stretch"):
                st.markdown(f":green[:material/favorite:] **What a healthy run looks like.** {plain(healthy)}")
        with st.container(border=True, height="stretch", gap="xsmall"):
            for alarm in alarms:
                st.markdown(f":red[:material/notification_important:] **{plain(alarm.title)}.** {plain(alarm.meaning)}")
                st.markdown(f":material/build: {plain(alarm.advice)}")
            if known and not alarms:
                said = "No alarm stood at the end." if ended else "No alarm stands."
                st.markdown(f":green[:material/notifications_off:] **{said}**")
            elif not known:
                said = "None was looked at." if ended else "Most are looked at from a tenth of the training on."
                st.markdown(f":gray[:material/notifications_paused:] **Alarms.** {said}")
            quiet = [a.title for a in known if a not in alarms]
            if quiet:
                st.caption(f"Watched and silent: {plain(', '.join(quiet).lower())}.")
