"""The one selection of samples that pages share: positions in a pack's samples. It stands in the URL."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.kept_selections import Selection, selection_of, word_of
from app.state import workspace
from app.text import plain
from app.view_state import put_together, tell
from rsfm.errors import RsfmError
from rsfm.packs import Pack

#: Names in the URL: the selection, and the sample of it whose neighbours are shown.
PICK, OF = "pick", "of"
#: What means nothing with another selection.
OF_ONE = (OF, "page")


def selected(pack: Pack) -> np.ndarray:
    """(k,) rising positions in pack.samples that the URL asks for. What it asks for in vain is said above the page."""
    word = st.query_params.get(PICK, "")
    problem = ""
    if word:
        try:
            found = selection_of(workspace(), word)
        except RsfmError as error:
            problem = f"the address asks for samples in vain. {error}"
        else:
            if found.content == pack.info.content_hash and found.positions[-1] < len(pack.samples):
                return found.positions
            problem = "the address asks for samples of another pack, or of this one before it was prepared again."
    tell(PICK, [word] if problem else [], f"Selection: {plain(problem)}")
    return np.array([], np.int64)


def picked(pack: Pack, positions: np.ndarray) -> dict[str, str]:
    """What an address holds so that these samples are selected.

    Raises:
        RsfmError: see `word_of`.
    """
    return {PICK: word_of(workspace(), Selection(pack.info.content_hash, positions))}


def select(pack: Pack, positions: np.ndarray) -> None:
    """Select these samples; for callbacks. None: nothing is selected any more."""
    try:
        put_together({**dict.fromkeys(OF_ONE), **(picked(pack, positions) if len(positions) else {PICK: None})})
    except RsfmError as error:
        st.toast(plain(error), icon=":material/block:", duration="infinite")


def clear() -> None:
    put_together(dict.fromkeys((PICK, *OF_ONE)))
