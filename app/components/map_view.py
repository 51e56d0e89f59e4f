"""What the address says of a map on a page: where it is, and what was chosen on it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.text import plain
from app.view_state import put, tell

#: Name in the URL -> which map has begun with it, and with what. Forgotten when the page is left.
TAKEN = "map.taken"


def taken(name: str, of: str, read: Callable[[str], tuple[str, list[str]]]) -> str:
    """What a map begins with, as the address held it then.

    Maps write into the address by themselves while they are used. What they write is not handed back to the same map,
    or it would begin anew at every click on the page; another map takes what the address holds by now.

    Args:
        name: in the URL.
        of: whatever makes it another map.
        read: text of the URL -> what of it counts, and what does not. The latter leaves the URL. Of a link that is
            said; later it is but what the map before could show.
    """
    kept: dict[str, tuple[str, str]] = st.session_state.setdefault(TAKEN, {})
    first, ignored = name not in kept, []
    if first or kept[name][0] != of:
        given = st.query_params.get(name, "")
        stands, ignored = read(given) if given else ("", [])
        if ignored:
            put(name, stands)
        kept[name] = (of, stands)
    what = plain(", ".join(text[:80] for text in ignored))
    tell(
        name, ignored if first else [], f"Map: the address asks for {what}, which cannot be shown on this map.",
        [kept[name][1]] if kept[name][1] else [],
    )  # fmt: skip
    return kept[name][1]
