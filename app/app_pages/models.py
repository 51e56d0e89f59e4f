"""Models: the registry of everything that was exported or imported, and one model of it."""

from __future__ import annotations

import streamlit as st

from app.components.model_table import COLUMNS, SPARSE, best_scores, model_rows
from app.components.run_table import worth_showing
from app.page import LAUNCH, empty_state, heading
from app.panels.model_import import import_panel
from app.panels.model_view import model_view
from app.state import store
from app.text import plain
from app.view_state import choose_many, put, search_text
from rsfm.specs import spec_hash

heading("Models", "Encoders that runs have exported or that came from other labs: lineage, bands, scores, export.")
frame = store().models()
import_panel()
if frame.empty:
    empty_state(
        ":material/deployed_code:", "No models yet", "A pretraining exports its encoder when it ends.",
        [(LAUNCH, "Launch a pretraining")],
    )  # fmt: skip
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    search = search_text("Search", "q", placeholder="title, pack, band, name", width=260).lower()
    methods = choose_many(
        "Method", sorted({str(m) for m in frame["method"].dropna()}), "method", placeholder="All", width=220
    )
words = frame[["name", "title", "method", "bands", "trained_on", "sensor"]].fillna("").astype(str).agg(" ".join, axis=1)
fits = words.str.lower().str.contains(search, regex=False)
listed = frame[fits & (frame["method"].isin(methods) if methods else True)]
if listed.empty:
    empty_state(":material/search_off:", "No model fits", "Loosen the filters above.")

wanted = st.query_params.get("model")
known = {str(m["name"]): m for m in frame.to_dict("records")}
if not wanted and len(listed):
    # A default that depends on data is written out: the same link must mean the same tomorrow.
    wanted = str(listed["name"].iloc[0])
    put("model", wanted)


def ticked(key: str, names: list[str]) -> None:
    rows = st.session_state[key].selection.rows
    if rows and rows[0] < len(names):
        put("model", names[rows[0]])


if len(listed):
    names = [str(n) for n in listed["name"]]
    row = names.index(wanted) if wanted in names else None
    key = f"models.table.{spec_hash([names, row])}"
    rows = model_rows(listed, best_scores(store().compare()))
    st.dataframe(
        rows, column_config=COLUMNS, column_order=worth_showing(rows, SPARSE), hide_index=True, placeholder="–",
        key=key, on_select=lambda: ticked(key, names), selection_mode="single-row",
        selection_default=None if row is None else {"selection": {"rows": [row]}},
        height="content" if len(rows) <= 10 else 400, alt="Models, newest first",
    )  # fmt: skip
if wanted:
    if wanted in known:
        model_view(known[wanted])
    else:
        st.error(f"There is no model {plain(wanted)} here.", icon=":material/link_off:")
