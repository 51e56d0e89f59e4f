"""What people say of runs, tags and a note, shown and edited."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.state import store, store_of, workspace
from app.text import plain, visible
from rsfm.errors import RsfmError
from rsfm.specs import spec_hash
from rsfm.store.about import MAX_NOTE, About, edit_about, read_about
from rsfm.store.runs import open_run

PROBLEM = "notes.problem"


def show_about(about: About) -> None:
    """Tags as badges, the note below them as it was written."""
    if about.tags:
        with st.container(horizontal=True, gap="xxsmall"):
            for tag in about.tags:
                st.badge(plain(tag), color="gray", icon=":material/sell:")
    if about.note:
        st.caption("  \n".join(plain(line) for line in about.note.splitlines()))


def _known_tags() -> list[str]:
    names = store().run_names()
    return [str(n) for n in names[names["what"] == "tag"]["name"]]


def _save(run_ids: tuple[str, ...], shown: About, key: str) -> None:
    """Keep what was changed against what was shown: whatever others changed meanwhile stays."""
    state = st.session_state
    tags = list(state[f"{key}.tags"])
    remove = list(state[f"{key}.remove"]) if len(run_ids) > 1 else [t for t in shown.tags if t not in tags]
    note = state[f"{key}.note"]
    state.pop(PROBLEM, None)
    try:
        edit_about(
            workspace(), run_ids, add=[t for t in tags if t not in shown.tags], remove=remove,
            note=None if note.strip() == shown.note else note,
        )  # fmt: skip
    except RsfmError as error:
        state[PROBLEM] = (run_ids, str(error))
        return
    store_of(workspace()).refresh_if_stale(0.0)
    st.toast("Saved.", icon=":material/check:")


def edit_form(run_ids: Sequence[str]) -> None:
    """A form for tags and note of one run, or for what to add to and take off several."""
    ids = tuple(run_ids)
    abouts = [read_about(open_run(workspace(), run_id)) for run_id in ids]
    shown = abouts[0] if len(ids) == 1 else About()
    # Another content, another form: what is typed into an old one would undo what was saved since.
    key = f"notes.{spec_hash([ids, [(a.tags, a.note) for a in abouts]])}"
    known = list(dict.fromkeys([*shown.tags, *_known_tags()]))
    several = len(ids) > 1
    with st.form(key, border=False):
        st.multiselect(
            f"Add tags to {len(ids)} runs" if several else "Tags", known, default=list(shown.tags),
            accept_new_options=True, format_func=visible, key=f"{key}.tags", placeholder="Choose or type a tag",
        )  # fmt: skip
        if several:
            held = dict.fromkeys(tag for about in abouts for tag in about.tags)
            st.multiselect("Take tags off", list(held), format_func=visible, key=f"{key}.remove", placeholder="None")
        st.text_area(
            f"Note for all {len(ids)} runs" if several else "Note", value=shown.note, max_chars=MAX_NOTE,
            key=f"{key}.note", height=110,
            placeholder="Empty: each run keeps its own" if several else "What is worth knowing of this run",
        )  # fmt: skip
        st.form_submit_button("Save", icon=":material/save:", on_click=_save, args=(ids, shown, key))
    of, problem = st.session_state.get(PROBLEM) or (None, None)
    if problem and of == ids:
        st.error(plain(problem), icon=":material/block:")
