"""What the result lint has found about results that a page shows."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.text import plain


def show_findings(found: list[dict[str, Any]]) -> None:
    if not found:
        return
    looks = {"error": (":red", "error"), "warning": (":orange", "warning"), "info": (":blue", "info")}
    with st.expander(f"Findings about these results ({len(found)})", icon=":material/rule:"):
        for row in found[:40]:
            color, icon = looks.get(row["severity"], (":orange", "warning"))
            st.markdown(f"{color}[:material/{icon}:] {plain(row['message'])}")
        if len(found) > 40:
            st.caption(f"and {len(found) - 40} more")
