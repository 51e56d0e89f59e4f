"""What the address says of a map on a page: where it is, and what was chosen on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import streamlit as st

from app.text import plain
from app.view_state import put, tell

#: Where a session keeps what its maps began with. Forgotten when the page is left.
MAPS = "url.maps"


@dataclass
class _Maps:
    """What maps began with: name in the URL -> which map, and the text.

    Attributes:
        shown: of this run of the page.
        before: of the run before. A map that was not on the page then begins anew.
        names: all that were ever asked for on this visit.
    """

    shown: dict[str, tuple[str, str]] = field(default_factory=dict)
    before: dict[str, tuple[str, str]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


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
    maps: _Maps = st.session_state.setdefault(MAPS, _Maps())
    ignored: list[str] = []
    if maps.before.get(name, ("",))[0] == of:
        maps.shown[name] = maps.before[name]
    else:
        given = st.query_params.get(name, "")
        stands, ignored = read(given) if given else ("", [])
        if ignored:
            put(name, stands)
        maps.shown[name] = of, stands
    text = maps.shown[name][1]
    what = plain(", ".join(part[:80] for part in ignored))
    tell(
        name, [] if name in maps.names else ignored,
        f"Map: the address asks for {what}, which cannot be shown on this map.", [text] if text else [],
    )  # fmt: skip
    maps.names.add(name)
    return text


def ended() -> None:
    """The frame calls this when a run of a page has reached its end."""
    if MAPS in st.session_state:
        maps: _Maps = st.session_state[MAPS]
        maps.before, maps.shown = maps.shown, {}
