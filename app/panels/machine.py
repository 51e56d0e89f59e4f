"""The machine on the page Now: its load, slots and disk, as the supervisor has read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import streamlit as st

from app.disk_usage import disks, usage_of
from app.page import run_link
from app.state import workspace
from app.text import ago, plain, size

LOW_DISK_BYTES = 5_000_000_000


def _part(used: Any, whole: Any) -> float:
    return min(1.0, max(0.0, float(used) / float(whole))) if whole else 0.0


def load_of(machine: Mapping[str, Any] | None, gpus: Sequence[Mapping[str, Any]]) -> None:
    """How busy the cores, the memory and the GPUs are, with the last minutes as little curves."""
    if not machine:
        return
    cores = int(machine["cores"])
    with st.grid("auto", min_column_width=120):
        st.metric(
            "CPU", f"{machine['cpu']:.0%}", border=True, chart_data=machine["cpu_curve"], chart_type="area",
            help=f"Of {cores} core{'' if cores == 1 else 's'}, by everything on this machine, over the last minutes.",
        )  # fmt: skip
        st.metric(
            "Memory", size(machine["memory_used_bytes"]), border=True, chart_data=machine["memory_curve"],
            chart_type="area", help=f"Of {size(machine['memory_bytes'])}, by everything on this machine.",
        )  # fmt: skip
        known = [g for g in gpus if g.get("utilisation") is not None]
        if known:
            # Readings are taken of all GPUs at once, and the newest is the last.
            length = min(len(g.get("curve") or []) for g in known)
            curves = [g["curve"][-length:] for g in known] if length else []
            st.metric(
                "GPUs" if len(known) > 1 else "GPU", f"{fmean(g['utilisation'] for g in known):.0%}", border=True,
                chart_data=[fmean(values) for values in zip(*curves, strict=True)] or None, chart_type="area",
                help=f"Mean load of {len(known)}, over the last minutes.",
            )  # fmt: skip


def slots(status: Mapping[str, Any] | None, runs: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> None:
    """Each slot: who works there, and how busy its device is.

    Args:
        status: of `jobs.client.supervisor_status`.
        runs: run id -> row of `Store.runs`.
    """
    st.subheader("Slots", anchor=False)
    if status is None:
        st.caption("No supervisor is running. One starts by itself when there is work.")
        return
    load_of(status.get("machine"), [s for s in status.get("slots", []) if s["kind"] == "gpu"])
    memory = {r["run_id"]: r.get("rss_bytes") for r in status.get("live", [])}
    with st.container(border=True, gap="xsmall"):
        for slot in status.get("slots", []):
            with st.container(horizontal=True, vertical_alignment="center"):
                icon = ":material/developer_board:" if slot["kind"] == "gpu" else ":material/memory:"
                st.markdown(f"{icon} **{plain(slot.get('title') or slot['name'])}**", width="content")
                run_id = slot.get("run_id")
                if run_id:
                    run_link(runs.get(run_id, {"run_id": run_id}), titles)
                else:
                    st.caption("free", width="content")
                if memory.get(run_id):
                    st.caption(f"{size(memory[run_id])} of main memory", width="content")
            if slot["kind"] == "gpu":
                gpu(slot)
        place = f" on {plain(status['host'])}" if status.get("host") else ""
        st.caption(f"Supervisor {status['pid']}{place}, started {ago(status['started'])}")


def gpu(slot: Mapping[str, Any]) -> None:
    """Memory and load of one GPU, as far as its driver tells."""
    used, whole, busy = slot.get("memory_used_bytes"), slot.get("memory_bytes"), slot.get("utilisation")
    if used is None and busy is None:
        st.caption("The driver does not answer.")
        return
    load = "" if busy is None else f"{busy:.0%} busy"
    memory = "" if used is None else f"{size(used)} of {size(whole)} memory" if whole else f"{size(used)} memory"
    st.progress(_part(used or 0, whole) if whole else busy or 0.0, text="  ·  ".join(filter(None, (load, memory))))


def disk() -> None:
    """What is free, and which part of the workspace takes how much."""
    st.subheader("Disk", anchor=False)
    place = workspace()
    found = disks(place)
    with st.container(border=True, gap="xsmall"):
        for i, one in enumerate(found):
            where = f"  ·  {', '.join(one.titles)}" if i else ""
            used = _part(one.total - one.free, one.total)
            st.progress(used, text=f"{size(one.free)} free of {size(one.total)}{where}")
        sizes = usage_of(place).look()
        if sizes is None:
            st.caption("Counting what the workspace takes…")
        else:
            taken = sorted(((n, title) for title, n in sizes.items() if n), reverse=True)
            said = "  ·  ".join(f"{title} {size(n)}" for n, title in taken)
            st.caption(f"This workspace: {said}" if said else "This workspace is empty.")
    if min(one.free for one in found) < LOW_DISK_BYTES:
        st.warning(
            f"Less than {size(LOW_DISK_BYTES)} is left; runs that cannot write will fail. "
            "The features can be deleted at any time: they are computed again.", icon=":material/hard_drive:",
        )  # fmt: skip
