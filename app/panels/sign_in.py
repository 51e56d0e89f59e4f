"""Who is signed in, where the dashboard asks for a login. The server has asked already: this is the second lock."""

from __future__ import annotations

import streamlit as st
from streamlit.auth_util import get_secrets_auth_section

from app.text import plain


def require_login() -> None:
    """Where `[auth]` is configured, show who is signed in, or stop the page."""
    if not get_secrets_auth_section():
        return
    if not st.user.is_logged_in:
        st.error("You are not logged in.", icon=":material/lock:")
        st.stop()
    name = st.user.get("email") or st.user.get("name") or st.user.get("sub")
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.caption(plain(name), width="content")
        st.button("Log out", key="log-out", type="tertiary", icon=":material/logout:", on_click=st.logout)
