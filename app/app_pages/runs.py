"""Runs: all of them or their groups, filtered; and what some of them have in common or apart."""

from __future__ import annotations

import streamlit as st

from app.page import LAUNCH, empty_state, heading, model_titles
from app.panels.run_list import group_list, overlaid, run_list, wanted_runs
from app.panels.run_overlay import chosen_runs
from app.state import store
from app.view_state import choose_one_of
from rsfm.store.runs import FINISHED

VIEWS = {"runs": ":material/list: Runs", "groups": ":material/stacks: Groups"}

heading("Runs", "Every run of this workspace. Tick some to overlay a metric, to see what differs, to tag them.")
counts = store().run_counts()
if not len(counts):
    empty_state(
        ":material/list_alt:", "No runs yet", "Runs appear here as soon as they are queued, here or from the "
        "command line.", [(LAUNCH, "Launch the first one")],
    )  # fmt: skip
    st.stop()
view = choose_one_of(
    "View", list(VIEWS), "view", format_func=lambda v: VIEWS[v], label_visibility="collapsed",
    help="A group: runs that differ only in their seed, as mean ± spread.",
)  # fmt: skip
wanted = wanted_runs(view)
going = int(counts.loc[~counts["state"].isin(FINISHED), "n"].sum()) > 0
chosen = overlaid()
draw = group_list if view == "groups" else run_list
st.fragment(draw, run_every="3s" if going else "15s")(wanted, chosen)
if chosen:
    chosen_runs(chosen, model_titles(), going=going)
