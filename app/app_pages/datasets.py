"""Datasets: the catalog, prepared packs, their samples and where on Earth they lie."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import data_catalog
from app.page import DATASETS, LAUNCH, empty_state, heading
from app.panels.add_dataset import add_view
from app.panels.pack_view import pack_view
from app.state import open_pack, store, workspace
from app.text import metres, number, plain, visible
from app.view_state import choose, choose_one_of, search_text


# -- catalog ------------------------------------------------------------------------------------------------------
def prepared_names(packs: pd.DataFrame) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for row in packs.itertuples():
        names.setdefault(str(row.dataset), []).append(str(row.name))
    return names


def catalog(packs: pd.DataFrame) -> None:
    entries = data_catalog.entries(workspace())
    done = prepared_names(packs)
    search = search_text("Search", "find", placeholder="Name, sensor, task", width=320)
    words = search.lower().split()
    shown = [
        e for e in entries.values()
        if all(w in f"{e.name} {e.title} {' '.join(e.sensors)} {e.task} {e.summary}".lower() for w in words)
    ]  # fmt: skip
    ready = [e for e in shown if e.reader]
    later = [e for e in shown if not e.reader]
    for name, problem in data_catalog.broken_entries(workspace()).items():
        st.warning(f"**{plain(name)}** is left out: {plain(problem)}", icon=":material/folder_off:")
    if not shown:
        st.caption("No entry fits.")
    with st.grid(3, min_column_width=300, gap="small"):
        for entry in ready:
            entry_card(entry, done.get(entry.name, []))
    if later:
        st.subheader("Known, without a reader yet", anchor=False)
        st.caption("What is known of these datasets is listed; they cannot be prepared yet.")
        with st.grid(3, min_column_width=300, gap="small"):
            for entry in later:
                entry_card(entry, [])


def entry_card(entry: Any, packs: list[str]) -> None:
    with st.container(border=True, height="stretch", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            st.markdown(f"**{plain(entry.title)}**", width="content")
            if entry.synthetic:
                st.badge("synthetic", icon=":material/science:", color="violet")
            if not entry.reader:
                st.badge("no reader yet", icon=":material/construction:", color="gray")
            if packs:
                st.badge("prepared", icon=":material/check:", color="green")
        facts = [
            entry.task,
            ", ".join(entry.sensors),
            metres(entry.gsd_m) if entry.gsd_m else "",
            f"{len(entry.bands)} bands" if entry.bands else "",
        ]
        st.caption("  ·  ".join(plain(f) for f in facts if f))
        st.markdown(plain(entry.summary or entry.title))
        st.space("stretch")
        with st.container(horizontal=True, vertical_alignment="center"):
            if entry.reader:
                st.page_link(
                    LAUNCH, label="Prepare", icon=":material/inventory_2:",
                    query_params={"job": "prepare", "dataset": entry.name},
                )  # fmt: skip
            for name in packs[:2]:
                st.page_link(
                    DATASETS, label=f"Open {plain(name)}", icon=":material/visibility:",
                    query_params={"view": "Packs", "pack": name},
                )  # fmt: skip
            entry_details(entry)


def entry_details(entry: Any) -> None:
    with st.popover("Details", type="tertiary", icon=":material/info:"):
        st.table(
            {
                "Name": f"`{entry.name}`",
                "Classes": plain(", ".join(entry.classes) or "–"),
                "Bands": plain(", ".join(b.name for b in entry.bands) or "–"),
                "Layout": plain(entry.layout or "–"),
                "Licence": plain(entry.licence or "–"),
                "Citation": plain(entry.citation or "–"),
                "Statistics from": plain(entry.statistics_source or "–"),
            },
            border="horizontal",
        )


# -- packs --------------------------------------------------------------------------------------------------------
def packs_view(packs: pd.DataFrame) -> None:
    good = packs[packs["problem"].isna() | (packs["problem"].astype(str) == "")]
    for row in packs[~packs.index.isin(good.index)].itertuples():
        st.error(f"**{plain(row.name)}** cannot be read: {plain(row.problem)}", icon=":material/folder_off:")
    if good.empty:
        empty_state(
            ":material/inventory_2:", "No pack is prepared yet",
            "A pack is a dataset turned once into memory-mapped arrays; jobs read nothing else.",
            [(LAUNCH, "Prepare a dataset")],
        )  # fmt: skip
        return
    labels = {
        str(r.name): f"{visible(r.name)}  ·  {number(r.samples)} samples{'  ·  synthetic' if r.synthetic else ''}"
        for r in good.itertuples()
    }
    clears = ("sample", "page", "at")  # those of another pack are others
    name = choose("Pack", list(labels), "pack", format_func=lambda n: labels.get(n, n), clears=clears)
    assert name is not None
    pack_view(open_pack(workspace(), name))


heading("Datasets", "The catalog, prepared packs, their samples and where on Earth they lie.")
frame = store().datasets()
view = choose_one_of("View", ["Packs", "Catalog", "Add your own"], "view", "Packs", label_visibility="collapsed")
if view == "Packs":
    packs_view(frame)
elif view == "Catalog":
    catalog(frame)
else:
    add_view()
