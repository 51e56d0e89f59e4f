"""The one selection of samples that pages share: ordered positions in a pack's samples. It belongs to a session."""

from __future__ import annotations

import numpy as np
import streamlit as st

from rsfm.packs import Pack

_SELECTED = "selection.samples"


def selected(pack: Pack) -> np.ndarray:
    """(k,) positions in pack.samples; none where those of another pack, or of another content, are selected."""
    content, rows = st.session_state.get(_SELECTED, ("", ()))
    return np.asarray(rows if content == pack.info.content_hash else (), np.int64)


def select(content: str, positions: np.ndarray) -> None:
    """Select these samples of the pack with that content hash."""
    st.session_state[_SELECTED] = (content, positions)


def clear() -> None:
    st.session_state.pop(_SELECTED, None)
