"""The dashboard's frame: navigation, banner, and the page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import page as pages
from app.components import map_view
from app.panels.sign_in import require_login
from app.text import plain
from app.view_state import place_for_notices
from rsfm.errors import RsfmError

ASSETS = Path(__file__).parent / "assets"
st.set_page_config(page_title="RSFM Lab", page_icon=ASSETS / "icon.svg", layout="wide")

current = st.navigation(
    [
        st.Page(
            pages.NOW, title="Now", icon=":material/bolt:", url_path="now",
            help="What runs, what waits, what has just finished; slots and disk.",
        ),
        st.Page(
            pages.LAUNCH, title="Launch", icon=":material/rocket_launch:", url_path="launch",
            help="Prepare a dataset, pretrain an encoder, evaluate models: from a form, checked before it is queued.",
        ),
        st.Page(
            pages.RUNS, title="Runs", icon=":material/list_alt:", url_path="runs",
            help="Every run, with filters; select some to overlay a metric.",
        ),
        st.Page(
            pages.RUN, title="Run", icon=":material/monitoring:", url_path="run",
            help="One run: progress, curves, previews, log, scores; stop and resume it.",
        ),
        st.Page(
            pages.DEGRADATION, title="Degradation", icon=":material/blur_on:", url_path="degradation",
            help="Scores of models against effective ground sampling distance, with intervals.",
        ),
        st.Page(
            pages.LEADERBOARD, title="Leaderboard", icon=":material/leaderboard:", url_path="leaderboard",
            help="Models over packs and tasks: one number with its interval, tiers instead of ranks.",
        ),
        st.Page(
            pages.EMBEDDINGS, title="Embeddings", icon=":material/scatter_plot:", url_path="embeddings",
            help="Images laid out by a model's features; select some to see them, and what is near them.",
        ),
        st.Page(
            pages.SEGMENTATION, title="Segmentation", icon=":material/layers:", url_path="segmentation",
            help="Whole scenes as networks see them, on a map: classes, confidence, errors; swipe between two.",
        ),
        st.Page(
            pages.CHANGE, title="Change", icon=":material/compare:", url_path="change",
            help="What has changed between two dates, on a map: before and after, probability, outlines.",
        ),
        st.Page(
            pages.MODELS, title="Models", icon=":material/deployed_code:", url_path="models",
            help="Exported and imported encoders: where they come from, their bands and scores; export and import.",
        ),
        st.Page(
            pages.DATASETS, title="Datasets", icon=":material/dataset:", url_path="datasets",
            help="The catalog, prepared packs, their samples and where on Earth they lie.",
        ),
        # Where the logo leads. The address without a path is sent on to /now by the server.
        st.Page(pages.NOW, title="Now", url_path="home", default=True, visibility="hidden"),
    ],
    position="top",
)  # fmt: skip
st.logo(ASSETS / "icon.svg", size="large")

require_login()
pages.entered(current.url_path)
pages.banner()
place_for_notices()
try:
    current.run()
    map_view.ended()
except RsfmError as error:
    st.error(plain(error), icon=":material/error:")
