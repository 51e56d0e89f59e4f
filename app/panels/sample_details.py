"""One sample of a pack, close up: all its layers and everything that is known of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from app.imaging import find_view, views
from app.panels.sample_grid import labels_of
from app.routes.thumbnails import thumbnail_url
from app.text import metres, missing, number, plain
from app.view_state import put, tell
from rsfm.histograms import in_units
from rsfm.packs import LayerInfo, Pack


def open_sample(key: str | None) -> None:
    put("sample", key)


def chosen_sample(pack: Pack) -> Any | None:
    """The sample that the address names, a row of samples.parquet; where it names none of this pack, that is said."""
    asked = st.query_params.get("sample", "")
    split, _, row = asked.rpartition(":")
    sample = None
    if row.isascii() and row.isdigit() and len(row) < 10:
        samples = pack.samples
        sample = next(samples[(samples["split"] == split) & (samples["row"] == int(row))].itertuples(), None)
    gone = [asked] if asked and sample is None else []
    tell("sample", gone, f"Sample: the address asks for {plain(asked[:80])}, which is not in this pack.")
    return sample


def _place(sample: Any) -> str:
    if missing(sample.west):
        return "unknown"
    latitude, longitude = (sample.south + sample.north) / 2, (sample.west + sample.east) / 2
    ways = ("N" if latitude >= 0 else "S", "E" if longitude >= 0 else "W")
    return f"{abs(latitude):.5f}° {ways[0]}, {abs(longitude):.5f}° {ways[1]}"


def sample_details(pack: Pack, sample: Any, *, view: str | None) -> None:
    """Its layers as large pictures, beside them what samples.parquet says.

    Args:
        view: a key of `app.imaging.views`, for image layers that have it.
    """
    with st.container(border=True, key="sample-details"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(sample.id)}**", width="content")
            st.space("stretch")
            st.button(
                "Close", key="sample-close", icon=":material/close:", type="tertiary", on_click=open_sample,
                args=(None,),
            )  # fmt: skip
        layers = pack.info.layers
        pictures, facts = st.columns([2 if len(layers) > 1 else 1, 1])
        with pictures, st.container(horizontal=True):
            for layer in layers:
                picture(pack, sample, layer, view)
        known = {
            "Label": ", ".join(labels_of(sample)), "Split": f"{sample.split}, row {int(sample.row)}",
            "Source": sample.path, "Scene": sample.scene, "Date": sample.date, "Sensor": sample.sensor,
            "Pixel": metres(sample.gsd_m), "Place": _place(sample), "Grid": sample.crs,
        }  # fmt: skip
        facts.table(
            {name: plain(value) for name, value in known.items() if not missing(value) and value}, border="horizontal"
        )
        if layers[0].bands:
            values(pack, sample)


def picture(pack: Pack, sample: Any, layer: LayerInfo, view: str | None) -> None:
    if layer.role == "image" and not layer.bands:
        return
    look = find_view(layer, view if view in {v.key for v in views(layer)} else None)
    url = thumbnail_url(
        pack.name, str(sample.split), int(sample.row), version=pack.info.content_hash, view=look.key, size=320,
        layer=layer.name,
    )  # fmt: skip
    with st.container(width=330, gap="xxsmall"):
        st.markdown(f"![{plain(sample.id)}]({url})")
        st.caption(f"{plain(layer.name)}, {plain(look.title)}")


def values(pack: Pack, sample: Any) -> None:
    """Range and mean of each band in this one image."""
    rows = []
    for layer in (x for x in pack.info.layers if x.bands):
        image = in_units(layer, np.asarray(pack.array(str(sample.split), layer.name)[int(sample.row)])[None])[0]
        for band, plane in zip(layer.bands, image, strict=True):
            seen = plane[np.isfinite(plane)]
            low, mean, high = (seen.min(), seen.mean(), seen.max()) if seen.size else (None, None, None)
            rows.append(
                {"Layer": layer.name, "Band": band.name, "Unit": band.unit, "Min": low, "Mean": mean, "Max": high,
                 "Not observed": 1 - seen.size / plane.size}
            )  # fmt: skip
    with st.popover("Values by band", icon=":material/bar_chart:"):
        st.table([{k: plain(v) if isinstance(v, str) else number(v, 3) for k, v in row.items()} for row in rows])
