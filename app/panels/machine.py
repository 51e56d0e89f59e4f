"""The machine on the page Now: its load, slots and disk, as the supervisor has read them, else as the page does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import streamlit as st

from app.disk_usage import disks, usage_of
from app.page import run_link
from app.state import workspace
from app.text import ago, plain, size
from app.this_machine import this_machine
from jobs.protocol import host_name
from rsfm.wording import counted

LOW_DISK_BYTES = 5_000_000_000


def _part(used: Any, whole: Any) -> float:
    return min(1.0, max(0.0, float(used) / float(whole))) if whole else 0.0


def machine(status: Mapping[str, Any] | None) -> None:
    """How busy the machine is: as the supervisor last read it, else as this page reads it.

    Args:
        status: of `jobs.client.supervisor_status`.
    """
    st.subheader("Machine", anchor=False)
    if status is None:
        load_of(this_machine().look(), [], over="while this page is open")
        st.caption(plain(f"{host_name()}, the machine of this dashboard, as this page reads it."))
    elif status.get("machine"):
        load_of(status["machine"], [s for s in status.get("slots", []) if s["kind"] == "gpu"])
        place = status.get("host") or "the machine of the supervisor"
        st.caption(plain(f"{place}, as the supervisor reads it."))
    else:
        st.caption("The supervisor has just started: it has read nothing yet.")


def load_of(machine: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]], over: str = "over the last minutes") -> None:
    """How busy the cores, the memory and the GPUs are, with little curves of some time.

    Args:
        over: what time that is.
    """
    cores, busy = int(machine["cores"]), machine["cpu"]
    with st.grid("auto", min_column_width=120):
        st.metric(
            "CPU", "–" if busy is None else f"{busy:.0%}", border=True, chart_data=machine["cpu_curve"] or None,
            chart_type="area",
            help=f"Of {counted(cores, 'cores')}, by everything on this machine, {over}.",
        )  # fmt: skip
        st.metric(
            "Memory", size(machine["memory_used_bytes"]), border=True, chart_data=machine["memory_curve"],
            chart_type="area", help=f"Of {size(machine['memory_bytes'])}, by everything on this machine, {over}.",
        )  # fmt: skip
        known = [g for g in gpus if g.get("utilisation") is not None]
        if known:
            # Readings are taken of all GPUs at once, and the newest is the last.
            length = min(len(g.get("curve") or []) for g in known)
            curves = [g["curve"][-length:] for g in known] if length else []
            st.metric(
                "GPUs" if len(known) > 1 else "GPU", f"{fmean(g['utilisation'] for g in known):.0%}", border=True,
                chart_data=[fmean(values) for values in zip(*curves, strict=True)] or None, chart_type="area",
                help=f"Mean load of {len(known)}, {over}.",
            )  # fmt: skip


def slots(status: Mapping[str, Any] | None, runs: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> None:
    """Each slot: who works there, how much of its cores and memory that takes, and how busy its GPU is.

    Args:
        status: of `jobs.client.supervisor_status`.
        runs: run id -> row of `Store.runs`.
    """
    st.subheader("Slots", anchor=False)
    if status is None:
        unattended_slots()
        return
    live = {r["run_id"]: r for r in status.get("live", [])}
    with st.container(border=True, gap="xsmall"):
        for slot in status.get("slots", []):
            run_id = slot.get("run_id")
            with st.container(horizontal=True, vertical_alignment="center"):
                slot_name(slot["kind"], slot.get("title") or slot["name"])
                if run_id:
                    run_link(runs.get(run_id, {"run_id": run_id}), titles)
                else:
                    st.caption("free", width="content")
            if run_id:
                job(slot, live.get(run_id, {}))
            if slot["kind"] == "gpu":
                gpu(slot)
        place = f" on {plain(status['host'])}" if status.get("host") else ""
        st.caption(f"Supervisor {status['pid']}{place}, started {ago(status['started'])}")


def slot_name(kind: str, title: str) -> None:
    icon = ":material/developer_board:" if kind == "gpu" else ":material/memory:"
    st.markdown(f"{icon} **{plain(title)}**", width="content")


def unattended_slots() -> None:
    """The slots that there will be: nobody gives them work, and what was started before goes on by itself."""
    here = this_machine()
    here.look_for_slots()
    with st.container(border=True, gap="xsmall"):
        for slot in here.slots or []:
            with st.container(horizontal=True, vertical_alignment="center"):
                slot_name(slot.kind, slot.title or slot.name)
                st.caption(f"{counted(slot.threads, 'cores')}", width="content")
        if here.problem:
            st.caption(plain(here.problem))
        elif here.slots is None:
            st.caption("Looking for slots…")
        st.caption("No supervisor is running: it starts with the next job.")


def job(slot: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    """What the processes of a slot's job take, as its runner last said."""
    if live.get("stalled"):
        st.caption("No sign of life from its runner.")
        return
    busy, memory, cores = live.get("cpu_cores"), live.get("rss_bytes"), slot.get("threads") or 1
    load = "" if busy is None else f"{busy:.1f} of {counted(cores, 'cores')} busy"
    text = "  ·  ".join(filter(None, (load, f"{size(memory)} of main memory" if memory else "")))
    if slot["kind"] == "cpu" and busy is not None:
        st.progress(_part(busy, cores), text=text)
    elif text:
        st.caption(text)


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
