"""What a reader takes along from the page Degradation: pictures of its charts, and a report in one file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app.components.curves_view import Chart, View
from app.components.measures import scale_of
from app.components.palette import published_looks
from app.page import CHART, looks_of_models
from app.panels.model_tests import found_tiers, newest
from app.report import Report, report_html, tiers_wanted
from app.state import open_pack, workspace
from app.text import plain, size
from app.view_state import choose_one_of
from rsfm.errors import RsfmError
from rsfm.packs import Pack

FORMATS = ("svg", "png")
FORMAT = "picture"
#: Width and height of a saved picture.
PICTURE = (1000, 620)
_REPORT = "degradation.made_report"


def pack_named(name: str) -> Pack:
    return open_pack(workspace(), name)


# -- pictures ------------------------------------------------------------------------------------------------------
def choose_format() -> None:
    choose_one_of(
        "Save charts as", list(FORMATS), FORMAT, format_func=str.upper,
        help="Of the camera button above each chart: SVG for papers, PNG (3,000 pixels wide) for slides.",
    )  # fmt: skip


def saved_as(chart: Chart) -> dict[str, Any]:
    """The configuration of a chart whose camera button saves it in the chosen format, made in the browser."""
    asked = st.query_params.get(FORMAT)
    kind = asked if asked in FORMATS else FORMATS[0]
    first = chart.rows.iloc[0]
    packs = chart.rows["dataset"].unique()
    words = [
        packs[0] if len(packs) == 1 else f"{len(packs)}-packs",
        chart.adaptation,
        first["metric"],
        first["operator"],
    ]
    name = "-".join(re.sub(r"[^A-Za-z0-9]+", "-", str(w)).strip("-")[:40] for w in words)
    width, height = PICTURE
    return {
        **CHART,
        "toImageButtonOptions": {
            "format": kind, "filename": f"degradation-{name}", "width": width, "height": height,
            "scale": 3 if kind == "png" else 1,
        },
    }  # fmt: skip


# -- the report ----------------------------------------------------------------------------------------------------
def report_button(view: View, found: Sequence[Mapping[str, Any]]) -> None:
    """Makes a report of the view when asked, then offers it."""
    if view.rows.empty:
        return
    # Of this very view and these results: after others it begins anew.
    signature = (sorted((k, st.query_params.get_all(k)) for k in st.query_params), newest())
    if st.button(
        "Make a report", icon=":material/summarize:", key="degradation.make_report",
        help="One HTML file with these charts, figures, tiers and findings that needs no network. Reads predictions.",
    ):  # fmt: skip
        try:
            st.session_state[_REPORT] = (signature, _make(view, found))
        except RsfmError as error:
            st.error(plain(error), icon=":material/error:")
            return
    made_of, content = st.session_state.get(_REPORT, (None, b""))
    if made_of == signature:
        st.download_button(
            f"Download report ({size(len(content))})", content, "degradation-report.html", "text/html",
            icon=":material/download:", on_click="ignore", key="degradation.report", type="primary",
        )  # fmt: skip


def _make(view: View, found: Sequence[Mapping[str, Any]]) -> bytes:
    wanted, scale = tiers_wanted(view.rows), scale_of(view.rows["operator"].iloc[0])
    bar = st.progress(0.0, "Reading predictions …")
    tiers, left_out = {}, {}
    for i, severity in enumerate(wanted):
        bar.progress(i / (len(wanted) + 1), plain(f"Tiers at {scale.level(severity)} …"))
        tiers[severity] = found_tiers(view.rows, view.metric, severity)
        left_out |= dict.fromkeys(tiers[severity].attrs.get("left_out", []))
    bar.progress(len(wanted) / (len(wanted) + 1), "Charts …")
    looks = {**looks_of_models(), **published_looks(view.published["model_group"])}
    content = report_html(
        Report(view, looks, pack_named, found=found, tiers=tiers, left_out=list(left_out))
    ).encode()  # fmt: skip
    bar.empty()
    return content
