"""Datasets: the catalog, prepared packs, their samples and where on Earth they lie."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import data_catalog
from app.components.bars import class_counts_figure
from app.imaging import views
from app.page import CHART, DATASETS, LAUNCH, RUN, empty_state, heading
from app.routes.maps import map_url
from app.routes.thumbnails import thumbnail_url
from app.state import open_pack, store, workspace
from app.text import clock, missing, number, plain, size, visible
from app.view_state import choose, choose_many, choose_one_of, page_control, page_number, search_text
from jobs.client import submit
from rsfm.errors import RsfmError
from rsfm.packs import LayerInfo, Pack
from rsfm.specs import PrepareSpec

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
            f"{number(entry.gsd_m)} m" if entry.gsd_m else "",
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


def pack_header(pack: Pack, row: dict[str, Any]) -> None:
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
    layer = pack.layer()
    with st.grid(5, min_column_width=130):
        st.metric("Samples", number(sum(info.splits.values())), border=True)
        st.metric("Bands", len(layer.bands), border=True)
        st.metric("Grid", f"{number(layer.gsd_m)} m" if layer.gsd_m else "unknown", border=True)
        st.metric("Image", f"{layer.shape[2]} × {layer.shape[1]} px", border=True)
        st.metric("On disk", size(info.bytes), border=True)
    splits = ", ".join(f"{plain(s)} {n:,}" for s, n in info.splits.items())
    st.caption(f"`{info.name}`  ·  {splits}  ·  created {clock(info.created)} UTC  ·  content {info.content_hash[:12]}")
    if info.skipped:
        with st.expander(f"{len(info.skipped)} files were left out", icon=":material/folder_off:"):
            for item in info.skipped[:50]:
                st.markdown(f"{plain(item.path)}: {plain(item.reason)}")
    for note in info.notes:
        st.caption(f":material/info: {plain(note)}")


def samples_tab(pack: Pack) -> None:
    layer = pack.layer()
    known = {v.key: v for v in views(layer)}
    if not known:
        st.caption("This layer has no bands to look at.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = choose("Split", [s for s, n in pack.info.splits.items() if n], "split", width=150)
        view = choose(
            "Bands shown", list(known), "look", format_func=lambda k: known[k].title if k in known else k, width=220
        )
        labels = choose_many(
            "Classes", pack.info.classes, "classes", placeholder="All classes", width=360, format_func=visible
        ) if pack.info.classes else []  # fmt: skip
    if split is None:
        st.caption("This pack is empty.")
        return
    rows = pack.split_samples(split)
    if labels:
        rows = rows[rows["label"].isin(labels)]
    pages = max(1, -(-len(rows) // PER_PAGE))
    page = page_number(pages)
    if rows.empty:
        st.caption("No sample of this split has such a label.")
    with st.grid("auto", min_column_width=118, gap="small"):
        for sample in rows.iloc[(page - 1) * PER_PAGE : page * PER_PAGE].itertuples():
            url = thumbnail_url(pack.name, split, int(sample.row), version=pack.info.content_hash, view=view)
            label = "" if missing(sample.label) else sample.label
            with st.container(gap="xxsmall"):
                st.markdown(f"![{plain(label or sample.id)}]({url})")
                st.caption(plain(label or sample.id))
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.caption(f"{len(rows):,} samples")
        if pages > 1:
            page_control(pages)


def map_tab(pack: Pack) -> None:
    if pack.samples["west"].isna().all():
        empty_state(":material/location_off:", "No place is known", "The files of this dataset carry no coordinates.")
        return
    known = {v.key: v for v in views(pack.layer())}
    look = choose(
        "Bands shown", list(known), "look", format_func=lambda k: known[k].title if k in known else k, width=220
    )
    theme = st.context.theme.type or "light"
    st.iframe(
        map_url(pack.name, version=pack.info.content_hash, theme=theme, view=look),
        height=560,
        alt="Footprints of the samples",
    )
    st.caption(
        "Click a footprint to see its sample. The map needs no network: a graticule, and the samples' own pixels."
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
    pack_header(pack, good[good["name"] == name].iloc[0].to_dict())
    tab = choose_one_of("Show", ["Samples", "Map", "Bands", "Classes"], "tab", label_visibility="collapsed")
    if tab == "Samples":
        samples_tab(pack)
    elif tab == "Map":
        map_tab(pack)
    elif tab == "Bands":
        for layer in pack.info.layers:
            if len(pack.info.layers) > 1:
                st.markdown(f"**{plain(layer.name)}**")
            band_table(layer)
    elif pack.info.classes:
        st.plotly_chart(
            class_counts_figure(pack.samples, pack.info.classes),
            config=CHART,
            key="datasets.classes",
            alt="Samples per class and split",
        )
    else:
        st.caption("This pack has no labels.")


# -- your own -----------------------------------------------------------------------------------------------------
def add_view() -> None:
    from data_catalog.add import register, understand

    st.markdown("A folder of images (one folder per class, or with `labels.csv`), or one GeoTIFF scene, on the machine "
                "that runs this dashboard. What is understood is shown before anything is kept.")  # fmt: skip
    with st.form("add", border=True):
        left, right = st.columns([3, 1])
        path = left.text_input("Path", placeholder="/data/my-tiles or /data/scene.tif")
        name = right.text_input("Name", placeholder="From the path")
        with st.expander("Correct what is understood", icon=":material/edit:"), st.grid(4, min_column_width=160):
            sensor = st.text_input("Sensor", placeholder="e.g. sentinel-2")
            bands = st.text_input("Bands", placeholder="e.g. B02, B03, B04", help="In file order")
            unit = st.selectbox("Unit", ["dn", "reflectance", "db", "uint8"], index=None, placeholder="As understood")
            scale = st.number_input("Scale", value=None, placeholder="value = stored × scale", format="%g")
        look = st.form_submit_button("Look at it", icon=":material/search:")
    if look:
        st.session_state.pop("add.found", None)
        try:
            with st.spinner("Looking at the files…"):
                st.session_state["add.found"] = understand(
                    path, name or None, sensor_name=sensor or None, unit=unit, scale=scale,
                    bands=[b.strip() for b in bands.split(",") if b.strip()] or None,
                )  # fmt: skip
        except RsfmError as error:
            st.error(plain(error), icon=":material/error:")
    found = st.session_state.get("add.found")
    if found is None:
        return
    with st.container(border=True):
        st.markdown(f"**{plain(found.entry.title)}** as `{found.entry.name}`")
        for finding in found.findings:
            mark = ":green[:material/check:]" if finding.certain else ":orange[:material/help:]"
            st.markdown(f"{mark} **{plain(finding.subject)}**: {plain(finding.text)}")
        if found.ambiguous:
            st.caption("Lines with a question mark are guesses: correct them above where they are wrong.")
        if st.button("Keep and prepare", type="primary", icon=":material/inventory_2:"):
            try:
                register(found.entry, workspace())
                run_id = submit(workspace(), PrepareSpec(dataset=found.entry.name))
                st.session_state["add.run"] = run_id
            except RsfmError as error:
                st.error(plain(error), icon=":material/error:")
        run_id = st.session_state.get("add.run")
        if run_id:
            st.page_link(
                RUN, label="Watch it being prepared", icon=":material/monitoring:", query_params={"run": run_id}
            )


heading("Datasets", "The catalog, prepared packs, their samples and where on Earth they lie.")
frame = store().datasets()
usable = len(frame) > 0
view = choose_one_of("View", ["Packs", "Catalog", "Add your own"], "view", "Packs", label_visibility="collapsed")
if view == "Packs":
    packs_view(frame)
elif view == "Catalog":
    catalog(frame)
else:
    add_view()
