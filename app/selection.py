"""The one selection of samples that pages share: ordered positions in a pack's samples. It belongs to a session.

Charts mark it. One that is drawn anew loses its zoom, so each keeps the marks that it was drawn with first, until it is
told to begin anew.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import streamlit as st

from rsfm.packs import Pack

_SELECTED = "selection.samples"
#: Side -> what its figure shows and marks.
_DRAWN = "selection.drawn"
#: Counts how often the selection was made elsewhere: then charts begin anew.
_TURN = "selection.turn"


def selected(pack: Pack) -> np.ndarray:
    """(k,) positions in pack.samples; none where those of another pack, or of another content, are selected."""
    content, rows = st.session_state.get(_SELECTED, ("", ()))
    return np.asarray(rows if content == pack.info.content_hash else (), np.int64)


def select(content: str, positions: Iterable[int], *, side: str | None = None) -> None:
    """Select these samples of the pack with that content hash.

    Args:
        side: the chart in which they were selected: it marks them by itself. All charts begin anew where they were
            selected elsewhere.
    """
    st.session_state[_SELECTED] = (content, tuple(int(p) for p in positions))
    if side is None:
        _begin_anew()
    else:
        st.session_state[_DRAWN] = {s: d for s, d in st.session_state.get(_DRAWN, {}).items() if s == side}


def clear() -> None:
    st.session_state.pop(_SELECTED, None)
    _begin_anew()


def _begin_anew() -> None:
    st.session_state.pop(_DRAWN, None)
    st.session_state[_TURN] = turn() + 1


def turn() -> int:
    """Another number whenever charts are to begin anew."""
    return int(st.session_state.get(_TURN, 0))


def marked(side: str, signature: str, chosen: np.ndarray) -> np.ndarray:
    """What a chart's figure marks: what was selected when it was drawn first, so that it stays the same figure."""
    drawn = st.session_state.setdefault(_DRAWN, {})
    if drawn.get(side, ("",))[0] != signature:
        drawn[side] = (signature, chosen)
    return drawn[side][1]
