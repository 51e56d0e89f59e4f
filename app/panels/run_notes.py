"""What people say of runs, tags and a note, shown and edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app.state import store, store_of, workspace
from app.text import plain, visible
from rsfm.errors import RsfmError
from rsfm.specs import spec_hash
from rsfm.store.about import MAX_NOTE, About, edit_about, read_about
from rsfm.store.runs import open_run

PROBLEM = "notes.problem"
TURN = "notes.turn"


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


@dataclass
class _Draft:
    """What a form began with, and keeps while someone types, whatever others save meanwhile."""

    key: str
    abouts: dict[str, About]
    known: list[str]
    seen: dict[str, str]  # run id -> its note, as it was last shown here


def _draft(ids: tuple[str, ...], abouts: dict[str, About]) -> _Draft:
    """The form that is being filled in, or a new one."""
    state, name = st.session_state, f"notes.draft.{spec_hash(list(ids))}"
    draft: _Draft | None = state.get(name)
    if draft is None or f"{draft.key}.note" not in state:  # the form was left, or saved
        turn = state[TURN] = state.get(TURN, 0) + 1
        seen = {run_id: about.note for run_id, about in abouts.items()}
        draft = state[name] = _Draft(f"notes.{turn}", abouts, _known_tags(), seen)
    return draft


def _leave(draft: _Draft) -> None:
    """The next form begins with what is said then."""
    st.session_state.pop(PROBLEM, None)
    for name in [n for n, value in st.session_state.items() if value is draft]:
        del st.session_state[name]


def _save(draft: _Draft) -> None:
    """Keep what was changed against what the form began with: whatever others changed meanwhile stays."""
    state, ids, key = st.session_state, list(draft.abouts), draft.key
    tags, note = list(state[f"{key}.tags"]), state[f"{key}.note"]
    state.pop(PROBLEM, None)
    try:
        if len(ids) > 1:
            edit_about(workspace(), ids, add=tags, remove=list(state[f"{key}.remove"]), below=note)
        else:
            (shown,) = draft.abouts.values()
            edit_about(
                workspace(), ids, add=[t for t in tags if t not in shown.tags],
                remove=[t for t in shown.tags if t not in tags],
                note=None if note.strip() == shown.note else note, instead_of=draft.seen,
            )  # fmt: skip
    except RsfmError as error:
        state[PROBLEM] = (key, str(error))
        return
    _leave(draft)
    store_of(workspace()).refresh_if_stale(0.0)
    st.toast("Saved.", icon=":material/check:")


def edit_form(run_ids: Sequence[str]) -> None:
    """A form for tags and note of one run, or for what to add to and take off several."""
    ids = tuple(run_ids)
    now = {run_id: read_about(open_run(workspace(), run_id)) for run_id in ids}
    draft = _draft(ids, now)
    key, abouts, several = draft.key, list(draft.abouts.values()), len(ids) > 1
    shown = About() if several else abouts[0]
    known = list(dict.fromkeys([*shown.tags, *draft.known]))
    with st.form(key, border=False):
        st.multiselect(
            f"Add tags to {len(ids)} runs" if several else "Tags", known, default=list(shown.tags),
            accept_new_options=True, format_func=visible, key=f"{key}.tags", placeholder="Choose or type a tag",
        )  # fmt: skip
        if several:
            held = dict.fromkeys(tag for about in abouts for tag in about.tags)
            st.multiselect("Take tags off", list(held), format_func=visible, key=f"{key}.remove", placeholder="None")
        st.text_area(
            f"Add to the notes of all {len(ids)} runs" if several else "Note", value=shown.note, max_chars=MAX_NOTE,
            key=f"{key}.note", height=110,
            placeholder="Written below what each note says" if several else "What is worth knowing of this run",
        )  # fmt: skip
        st.form_submit_button("Save", icon=":material/save:", on_click=_save, args=(draft,))
    of, problem = st.session_state.get(PROBLEM) or (None, None)
    if problem and of == key:
        st.error(plain(problem), icon=":material/block:")
    if not several and now != draft.abouts:
        _show_change(draft, now[ids[0]])
    draft.seen = {run_id: about.note for run_id, about in now.items()}


def _show_change(draft: _Draft, now: About) -> None:
    """What someone else has made of the run since the form was opened."""
    st.warning(
        "Someone has changed the tags or the note since this form was opened. Now they are as below; Save keeps the "
        "tags of both and replaces the note where you have changed it.", icon=":material/sync_problem:",
    )  # fmt: skip
    show_about(now)
    st.button(
        "Begin again with these", icon=":material/refresh:", key=f"{draft.key}.again", on_click=_leave, args=(draft,)
    )
