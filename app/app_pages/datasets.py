"""Datasets: the catalog, prepared packs, their samples and where on Earth they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import data_catalog
from app.components.bars import class_counts_figure
from app.components.ground import choose_ground
from app.imaging import View, main_layer, views
from app.page import CHART, DATASETS, LAUNCH, empty_state, heading
from app.panels.add_dataset import add_view
from app.panels.sample_grid import labels_of, sample_grid
from app.routes.maps import map_url
from app.state import open_pack, store, workspace
from app.text import clock, metres, number, plain, size, visible
from app.view_state import choose, choose_many, choose_one_of, page_control, page_number, search_text
from rsfm.packs import LayerInfo, Pack
from rsfm.thumbs import mask_colours

PER_PAGE = 24


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
def band_table(layer: LayerInfo) -> None:
    rows = []
    for band in layer.bands:
        s = band.statistics
        rows.append(
            {
                "Band": band.name, "Wavelength (nm)": band.wavelength_nm, "Native GSD (m)": band.gsd_m,
                "Unit": band.unit,
                **({"Mean": s.mean, "Std": s.std, "Min": s.min, "2 %": s.p2, "98 %": s.p98, "Max": s.max} if s else {}),
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    digits = {c: st.column_config.NumberColumn(c, format="%.4g") for c in ("Mean", "Std", "Min", "2 %", "98 %", "Max")}
    st.dataframe(frame, hide_index=True, column_config=digits, alt="Bands and their statistics over the training split")


def pack_header(pack: Pack) -> None:
    info = pack.info
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(info.title), anchor=False, width="content")
        st.badge(info.task, icon=":material/label:", color="blue")
        if info.synthetic:
            st.badge(
                "synthetic", icon=":material/science:", color="violet", help="Rendered by a generator, not observed."
            )
        st.space("stretch")
        st.page_link(LAUNCH, label="Pretrain on it", icon=":material/rocket_launch:", query_params={"pack": pack.name})
    layer = main_layer(pack)
    with st.grid(5, min_column_width=130):
        st.metric("Samples", number(sum(info.splits.values())), border=True)
        st.metric("Bands", len(layer.bands), border=True)
        st.metric("Grid", metres(layer.gsd_m) if layer.gsd_m else "unknown", border=True)
        st.metric("Image (px)", f"{layer.shape[2]} × {layer.shape[1]}", border=True)
        st.metric("On disk", size(info.bytes), border=True)
    splits = ", ".join(f"{plain(s)} {n:,}" for s, n in info.splits.items())
    st.caption(f"`{info.name}`  ·  {splits}  ·  created {clock(info.created)} UTC  ·  content {info.content_hash[:12]}")
    if info.skipped:
        said = "1 file was left out" if len(info.skipped) == 1 else f"{len(info.skipped):,} files were left out"
        with st.expander(said, icon=":material/folder_off:"):
            for item in info.skipped[:50]:
                st.markdown(f"{plain(item.path)}: {plain(item.reason)}")
            if len(info.skipped) > 50:
                st.caption(f"and {len(info.skipped) - 50:,} more, in the pack's pack.json")
    for note in info.notes:
        st.caption(f":material/info: {plain(note)}")


def choose_view(layer: LayerInfo) -> View | None:
    """The bands to show; None where the layer has none. A mask has one view only: nothing to choose."""
    known = {v.key: v for v in views(layer)}
    if len(known) < 2:
        return next(iter(known.values()), None)
    key = choose(
        "Bands shown", list(known), "look", format_func=lambda k: known[k].title if k in known else k, width=220
    )
    return known[key] if key else None


def samples_tab(pack: Pack) -> None:
    layers = [layer.name for layer in pack.info.layers]
    titles = {layer.name: layer.name.replace("_", " ").capitalize() for layer in pack.info.layers}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = choose("Split", [s for s, n in pack.info.splits.items() if n], "split", width=150)
        layer = main_layer(pack)
        if len(layers) > 1:
            name = choose("Layer", layers, "layer", layer.name, format_func=lambda n: titles.get(n, n), width=150)
            layer = pack.layer(name) if name else layer
        view = choose_view(layer)
        scenes = pack.info.classes if pack.info.task in ("classification", "multilabel") else []
        wanted = choose_many(
            "Classes", scenes, "classes", placeholder="All classes", width=360, format_func=visible
        ) if scenes else []  # fmt: skip
    if split is None:
        st.caption("This pack is empty.")
        return
    if view is None:
        st.caption("This layer has no bands to look at.")
        return
    if layer.role == "mask":
        mask_legend(layer.classes, layer.ignore_value)
    rows = pack.split_samples(split)
    if wanted:
        rows = rows[[not set(wanted).isdisjoint(labels_of(sample)) for sample in rows.itertuples()]]
    pages = max(1, -(-len(rows) // PER_PAGE))
    page = page_number(pages)
    if rows.empty:
        st.caption("No sample of this split has such a label.")
    sample_grid(pack, rows.iloc[(page - 1) * PER_PAGE : page * PER_PAGE], layer=layer.name, view=view.key)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.caption(f"{len(rows):,} samples")
        if pages > 1:
            page_control(pages)


def mask_legend(classes: list[str], ignore: int | None) -> None:
    """Which colour of a mask is which class."""
    colors = mask_colours(np.arange(len(classes))[None])[0]
    if ignore is not None:
        classes = [*classes, "does not count"]
        colors = np.concatenate([colors, mask_colours(np.array([[ignore]]), ignore)[0]])
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for name, color in zip(classes, colors, strict=True):
            with st.container(horizontal=True, gap="xxsmall", width="content", vertical_alignment="center"):
                st.image(np.broadcast_to(color, (14, 14, 3)).copy(), width=14, alt="")
                st.caption(plain(name), width="content")


def map_tab(pack: Pack) -> None:
    if pack.samples["west"].isna().all():
        empty_state(":material/location_off:", "No place is known", "The files of this dataset carry no coordinates.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        look = choose_view(main_layer(pack))
        ground = choose_ground()
    url = map_url(
        pack.name, version=pack.info.content_hash, theme=st.context.theme.type or "light",
        view=look.key if look else None, ground=ground,
    )  # fmt: skip
    st.iframe(url, height=560, alt="Footprints of the samples")
    st.caption("Click a footprint to see its sample.")


def class_tab(pack: Pack) -> None:
    if not pack.info.classes:
        st.caption("This pack has no labels.")
    elif pack.info.task not in ("classification", "multilabel"):
        masks = [layer for layer in pack.info.layers if layer.role == "mask"]
        st.caption("The labels of this pack are masks, one class per pixel: see the layer under Samples.")
        for layer in masks:
            mask_legend(layer.classes, layer.ignore_value)
    else:
        st.plotly_chart(
            class_counts_figure(pack.samples, pack.info.classes),
            config=CHART,
            key="datasets.classes",
            alt="Samples per class and split",
        )


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
    name = choose("Pack", list(labels), "pack", format_func=lambda n: labels.get(n, n))
    assert name is not None
    pack = open_pack(workspace(), name)
    pack_header(pack)
    tab = choose_one_of("Show", ["Samples", "Map", "Bands", "Classes"], "tab", label_visibility="collapsed")
    if tab == "Samples":
        samples_tab(pack)
    elif tab == "Map":
        map_tab(pack)
    elif tab == "Bands":
        for layer in (x for x in pack.info.layers if x.bands):
            if len(pack.info.layers) > 1:
                st.markdown(f"**{plain(layer.name)}**")
            band_table(layer)
    else:
        class_tab(pack)


heading("Datasets", "The catalog, prepared packs, their samples and where on Earth they lie.")
frame = store().datasets()
view = choose_one_of("View", ["Packs", "Catalog", "Add your own"], "view", "Packs", label_visibility="collapsed")
if view == "Packs":
    packs_view(frame)
elif view == "Catalog":
    catalog(frame)
else:
    add_view()
