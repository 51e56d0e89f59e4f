"""One prepared pack: what it holds, its samples, where they lie, what its bands and classes look like."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from app.components.bars import class_counts, class_counts_figure
from app.components.ground import choose_ground
from app.components.histograms import band_histograms_figure, class_shares_figure
from app.components.map_view import taken
from app.imaging import View, main_layer, views
from app.maps.geometry import parse_view
from app.page import CHART, LAUNCH, empty_state
from app.panels.sample_details import chosen_sample, open_sample, sample_details
from app.panels.sample_grid import sample_grid
from app.routes.maps import map_url
from app.sample_filter import MAX_CLASSES, SampleFilter
from app.state import opened, pack_stamp
from app.text import clock, metres, number, plain, size, visible
from app.view_state import choose, choose_many, choose_one_of, page_control, page_number, search_text
from rsfm.histograms import BandHistogram, band_histograms, class_shares
from rsfm.packs import LayerInfo, Pack
from rsfm.thumbs import mask_colours
from rsfm.wording import counted

PER_PAGE = 24
ALL = "all"
#: What another filter takes out of the URL: its first matches are on the first page.
FIRST_PAGE = ("page",)
#: Histograms of more bands than these are shown on request.
FIRST_BANDS = 9
#: And never of more at a time: each takes memory and space.
MOST_BANDS = 24
#: Two sessions that ask for the same pack wait for one count.
_COUNTING = threading.Lock()


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
        with st.expander(f"{counted(len(info.skipped), 'files')} left out", icon=":material/folder_off:"):
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


def choose_samples(pack: Pack) -> SampleFilter:
    """Split, classes and text, in the URL. The same on every tab, so that grid and map show the same samples."""
    scenes = pack.info.classes if pack.info.task in ("classification", "multilabel") else []
    splits = [s for s, n in pack.info.splits.items() if n]
    split = choose(
        "Split", [ALL, *splits], "split", format_func=lambda s: "All splits" if s == ALL else visible(s), width=150,
        clears=FIRST_PAGE,
    )  # fmt: skip
    wanted = choose_many(
        "Classes", scenes, "classes", placeholder="All classes", width=320, format_func=visible, most=MAX_CLASSES,
        clears=FIRST_PAGE,
    ) if scenes else []  # fmt: skip
    find = search_text("Find", "text", placeholder="Part of an id, path or scene", width=220, clears=FIRST_PAGE)
    return SampleFilter(None if split in (None, ALL) else split, tuple(wanted), find)


def samples_tab(pack: Pack) -> None:
    layers = [layer.name for layer in pack.info.layers]
    titles = {layer.name: layer.name.replace("_", " ").capitalize() for layer in pack.info.layers}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = choose_samples(pack)
        layer = main_layer(pack)
        if len(layers) > 1:
            name = choose("Layer", layers, "layer", layer.name, format_func=lambda n: titles.get(n, n), width=150)
            layer = pack.layer(name) if name else layer
        view = choose_view(layer)
    if not len(pack.samples):
        st.caption("This pack is empty.")
        return
    if view is None:
        st.caption("This layer has no bands to look at.")
        return
    if layer.role == "mask":
        mask_legend(layer.classes, layer.ignore_value)
    sample = chosen_sample(pack)
    if sample is not None:
        sample_details(pack, sample, view=view.key)
    rows = chosen.apply(pack)
    pages = max(1, -(-len(rows) // PER_PAGE))
    page = page_number(pages)
    if rows.empty:
        st.caption("No sample fits these choices.")
    shown = rows.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
    sample_grid(pack, shown, layer=layer.name, view=view.key, on_open=open_sample)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.caption(f"{len(rows):,} of {len(pack.samples):,} samples" if chosen else f"{len(rows):,} samples")
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
        chosen = choose_samples(pack)
        look = choose_view(main_layer(pack))
        ground = choose_ground()
    places = chosen.apply(pack)["west"].notna()
    if not places.any():
        st.caption("No sample with a place on Earth fits these choices.")
        return
    theme = st.context.theme.type or "light"
    of = str((pack.name, theme, look, ground, chosen))
    at = taken("at", of, lambda text: (text, []) if parse_view(text) else ("", [text]))
    url = map_url(
        pack.name, version=pack.info.content_hash, theme=theme, view=look.key if look else None, ground=ground,
        chosen=chosen, at=at,
    )  # fmt: skip
    st.iframe(url, height=560, alt="Footprints of the samples")
    st.caption(f"{int(places.sum()):,} samples with a place. Click a footprint to see its sample.")


@lru_cache(maxsize=16)
def _histograms(folder: Path, stamp: int, layer: str, bands: tuple[str, ...]) -> list[BandHistogram]:
    return band_histograms(opened(folder, stamp), layer, bands)


@lru_cache(maxsize=16)
def _class_shares(folder: Path, stamp: int, layer: str) -> dict[str, np.ndarray]:
    return class_shares(opened(folder, stamp), layer)


def bands_tab(pack: Pack) -> None:
    layers = [layer for layer in pack.info.layers if layer.bands]
    for layer in layers:
        if len(layers) > 1:
            st.markdown(f"**{plain(layer.name)}**")
        band_table(layer)
        names = [b.name for b in layer.bands]
        wanted = choose_many(
            "Histograms of", names, f"bands.{layer.name}", placeholder=f"The first {FIRST_BANDS} bands",
            format_func=visible, most=MOST_BANDS,
        ) if len(names) > FIRST_BANDS else []  # fmt: skip
        with st.spinner("Counting values…"), _COUNTING:
            found = _histograms(
                pack.path, pack_stamp(pack.path), layer.name, tuple(sorted(wanted or names[:FIRST_BANDS]))
            )
        st.plotly_chart(
            band_histograms_figure(found), config=CHART, key=f"datasets.bands.{layer.name}",
            alt="How often which values occur, per band and split",
        )  # fmt: skip
    st.caption(
        "Statistics are of the whole training split; histograms of a bounded sample of pixels of each split, in the "
        "band's unit. The outermost bins hold what lies beyond them; pixels that were not observed do not count."
    )


def class_tab(pack: Pack) -> None:
    masks = [layer for layer in pack.info.layers if layer.role == "mask"]
    if pack.info.task in ("classification", "multilabel") and pack.info.classes:
        st.plotly_chart(
            class_counts_figure(class_counts(pack.samples), pack.info.classes), config=CHART, key="datasets.classes",
            alt="Samples per class and split",
        )  # fmt: skip
    elif not masks:
        st.caption("This pack has no labels.")
    for layer in masks:
        mask_legend(layer.classes, layer.ignore_value)
        with st.spinner("Counting pixels…"), _COUNTING:
            shares = _class_shares(pack.path, pack_stamp(pack.path), layer.name)
        st.plotly_chart(
            class_shares_figure(shares, layer.classes),
            config=CHART, key=f"datasets.classes.{layer.name}", alt="Share of the labelled pixels per class and split",
        )  # fmt: skip
        st.caption("One class per pixel; shares of a bounded sample of pixels of each split.")


def pack_view(pack: Pack) -> None:
    """The whole view of one pack."""
    pack_header(pack)
    tab = choose_one_of("Show", ["Samples", "Map", "Bands", "Classes"], "tab", label_visibility="collapsed")
    {"Samples": samples_tab, "Map": map_tab, "Bands": bands_tab, "Classes": class_tab}[tab](pack)
