"""Uploading a model from another lab."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from app.state import store_of, workspace
from app.text import plain, visible
from app.view_state import put
from jobs.imports import import_model
from rsfm.errors import RsfmError

#: Larger ones are brought in from a terminal: a browser's upload is kept in memory.
MAX_UPLOAD_MB = 1000
PROBLEM = "models.problem"


def bring_in(upload: Any) -> str:
    """Check an upload in a process of its own; returns the model's name.

    Raises:
        RsfmError: why it was refused.
    """
    place = workspace()
    place.models.mkdir(parents=True, exist_ok=True)
    called = Path(visible(upload.name)).name[:120] or "upload.zip"
    with tempfile.TemporaryDirectory(dir=place.models, prefix=".upload-") as folder:
        file = Path(folder) / "upload.zip"
        try:
            file.write_bytes(upload.getbuffer())
        except OSError as error:
            raise RsfmError(f"{called} cannot be kept: {error.strerror or error}.") from error
        return import_model(place, file, called)


def import_panel() -> None:
    """A box for the file, and what came of it."""
    turn = st.session_state.setdefault("models.upload.turn", 0)
    with st.expander("Import a model from another lab", icon=":material/upload:"):
        st.caption(
            "A zip that the page Models or `rsfm export` of another lab has written. Everything is checked before it "
            "appears: files, sizes, every tensor, the content hash. Only safetensors weights are read."
        )
        upload = st.file_uploader(
            "Model as zip", type="zip", key=f"models.upload.{turn}", max_upload_size=MAX_UPLOAD_MB,
            label_visibility="collapsed",
        )  # fmt: skip
        if upload is not None and st.button("Import", type="primary", icon=":material/upload:", key="models.import"):
            st.session_state.pop(PROBLEM, None)
            try:
                with st.spinner(f"Checking {plain(upload.name)}…", show_time=True):
                    name = bring_in(upload)
            except RsfmError as error:
                st.session_state[PROBLEM] = str(error)
            else:
                st.session_state["models.upload.turn"] = turn + 1
                store_of(workspace()).refresh_if_stale(0.0)
                put("model", name)
                st.toast("Imported.", icon=":material/check:")
                st.rerun()
        if problem := st.session_state.get(PROBLEM):
            st.error(plain(problem), icon=":material/block:")
