"""What was selected on the page Embeddings: samples, table, map, and what is near one of them for each model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app.components.ground import choose_ground
from app.embedded import Shown, points_of, severity_text
from app.imaging import find_view
from app.panels.sample_grid import labels_of, sample_grid
from app.routes.maps import MAX_CHOSEN, map_url
from app.selection import OF, clear, selected
from app.state import workspace
from app.text import plain, visible
from app.view_state import choose, choose_one_of, page_control, page_number
from rsfm.embedding_info import EmbeddingInfo
from rsfm.packs import Pack

PER_PAGE = 36
#: Of a large selection so many samples can be looked at for their neighbours, and so many models side by side.
MOST_OFFERED, MOST_MODELS = 200, 9
#: Labels that are counted above the samples.
MOST_LABELS = 12


def table_of(pack: Pack, rows: pd.DataFrame) -> None:
    columns = ["id", "split", "label", "sensor", "gsd_m", "date", "scene", "path"]
    frame = rows[[c for c in columns if rows[c].notna().any()]]
    st.dataframe(frame, hide_index=True, alt="The selected samples")
    st.download_button(
        # Written when it is asked for: of a large selection that takes a while.
        "Download as CSV", lambda: rows.drop(columns=["transform", "labels"], errors="ignore").to_csv(index=False),
        file_name=f"{pack.name}-selection.csv", mime="text/csv", icon=":material/download:", on_click="ignore",
        key="embeddings.csv",
    )  # fmt: skip


def map_of(pack: Pack, rows: pd.DataFrame) -> None:
    placed = rows.dropna(subset=["west"])
    if placed.empty:
        st.caption("The files of this dataset carry no coordinates.")
        return
    if len(placed) > MAX_CHOSEN:
        st.caption(f"{MAX_CHOSEN:,} of {len(placed):,} selected samples, evenly taken.")
        placed = placed.iloc[np.linspace(0, len(placed) - 1, MAX_CHOSEN).round().astype(int)]
    only = {str(split): [int(r) for r in part["row"]] for split, part in placed.groupby("split", sort=False)}
    theme = st.context.theme.type or "light"
    url = map_url(pack.name, version=pack.info.content_hash, theme=theme, only=only, ground=choose_ground())
    st.iframe(url, height=480, alt="Where the selected samples lie")


def neighbours_of(pack: Pack, rows: pd.DataFrame, shown: Shown, found: dict[str, EmbeddingInfo]) -> None:
    """The nearest samples of one, by the features of each model that was embedded on this pack."""
    offered = [f"{r.split}/{r.id}" for r in rows.head(MOST_OFFERED).itertuples()]
    chosen = choose("Of sample", offered, OF, format_func=visible)
    if len(rows) > MOST_OFFERED:
        st.caption(f"Offered are the first {MOST_OFFERED:,} of {len(rows):,} selected samples.")
    split, _, sample_id = str(chosen).partition("/")
    same = [run for run, e in found.items() if e.about["pack_hash"] == pack.info.content_hash]
    runs = list(dict.fromkeys([shown.run_id, *same]))
    if len(runs) > MOST_MODELS:
        st.caption(
            f"By {MOST_MODELS} of {len(runs)} embeddings of this pack: the one shown and the {MOST_MODELS - 1} newest."
        )
    index = pd.MultiIndex.from_frame(pack.samples[["split", "row"]])
    for run_id in runs[:MOST_MODELS]:
        info = found[run_id]
        like = info.about["operator"] == shown.embedding.about["operator"] and shown.severity in info.severities
        severity = shown.severity if like else info.severities[0]
        st.markdown(f"**{plain(info.about['model_title'])} · {plain(severity_text(info, severity))}** · …{run_id[-4:]}")
        points = points_of(workspace(), run_id, severity, pack).frame
        at = np.flatnonzero((points["split"] == split) & (points["id"] == sample_id))
        if not len(at):
            st.caption("This sample is not among those embedded.")
            continue
        near = points.iloc[[int(at[0]), *map(int, points["neighbours"].iloc[int(at[0])][:9])]]
        samples = pack.samples.iloc[index.get_indexer(pd.MultiIndex.from_frame(near[["split", "row"]]))]
        labels = [labels_of(s) for s in samples.itertuples()]
        notes = ["itself"]
        for mine, sample in zip(labels[1:], samples.iloc[1:].itertuples(), strict=True):
            mark = ("✓ " if set(mine) & set(labels[0]) else "✗ ") if labels[0] and mine else ""
            notes.append(mark + (", ".join(mine) or str(sample.id)))
        layer = str(info.about["layer"])
        sample_grid(pack, samples, layer=layer, view=find_view(pack.layer(layer), None).key, notes=notes)


def show_selection(pack: Pack, shown: Shown, found: dict[str, EmbeddingInfo]) -> None:
    chosen = selected(pack)
    if not len(chosen):
        st.caption(
            ":material/lasso_select: Draw around points to see their samples, where they lie, and what is near them "
            "for each model."
        )
        return
    rows = pack.samples.iloc[chosen]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(f"{len(rows):,} selected" if len(rows) > 1 else "1 selected", anchor=False, width="content")
        st.button("Clear", icon=":material/close:", on_click=clear, key="embeddings.clear")
        st.space("stretch")
        tab = choose_one_of(
            "Selected", ["Samples", "Table", "Map", "Neighbours"], "show", label_visibility="collapsed"
        )  # fmt: skip
    view = find_view(pack.layer(shown.layer), None).key
    if rows["label"].notna().any():
        counts = rows["label"].value_counts()
        parts = [f"{plain(name)} {count:,}" for name, count in counts.head(MOST_LABELS).items()]
        if len(counts) > MOST_LABELS:
            parts.append(f"{len(counts) - MOST_LABELS} further labels")
        st.caption("  ·  ".join(parts))
    if tab == "Samples":
        pages = max(1, -(-len(rows) // PER_PAGE))
        page = page_number(pages)
        sample_grid(pack, rows.iloc[(page - 1) * PER_PAGE : page * PER_PAGE], layer=shown.layer, view=view)
        if pages > 1:
            page_control(pages)
    elif tab == "Table":
        table_of(pack, rows)
    elif tab == "Map":
        map_of(pack, rows)
    else:
        neighbours_of(pack, rows, shown, found)
