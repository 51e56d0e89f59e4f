"""Choices that live in the URL, so that a link restores the view and the browser's Back undoes a choice.

Streamlit can bind a widget to the URL itself, but then the address holds what the widget shows ("landsat7 · 60
samples") and leaves out defaults. Here it holds the value, and a default that depends on data is written out: the
same link must mean the same tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app.text import plain

_ABSENT = object()
#: Where the frame shows what a link asks for in vain, and which names have said so on this run of the page.
_SAID = "url.said"


def _key(name: str) -> str:
    return f"url.{name}"


def _texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def put(name: str, value: Any) -> None:
    """Write a value into the URL; None, an empty text and an empty list take it out."""
    if value is None or value in ("", []):
        if name in st.query_params:
            del st.query_params[name]
    elif st.query_params.get_all(name) != _texts(value):
        st.query_params[name] = _texts(value)


def place_for_notices() -> None:
    """The frame calls this on every run, above the page."""
    st.session_state[_SAID] = (st.container(), set())


def _say_unknown(label: str, name: str, known: Sequence[str]) -> None:
    """Says which values of the URL are not among the options: they do not count."""
    unknown = [t[:80] for t in dict.fromkeys(st.query_params.get_all(name)) if t not in known]
    place, said = st.session_state[_SAID]
    if unknown and name not in said:
        said.add(name)
        place.warning(
            plain(f"{label}: the link asks for {', '.join(unknown)}, which cannot be chosen here."),
            icon=":material/search_off:",
        )


def _changed(name: str, read: Callable[[list[str]], Any], left_out: Any, clears: Sequence[str]) -> None:
    value = st.session_state[_key(name)]
    if value in (None, "", []) or value == left_out:
        value = None
    elif read(_texts(value)) is None:
        # A widget whose labels have just changed may hand back a label instead of a value: that is not a choice.
        return
    if any(other in st.query_params for other in clears):
        # All at once: each change of its own would be a step for Back.
        kept = {n: st.query_params.get_all(n) for n in st.query_params if n != name and n not in clears}
        st.query_params.from_dict(kept if value is None else {**kept, name: _texts(value)})
    else:
        put(name, value)


def _linked(
    name: str, read: Callable[[list[str]], Any], default: Any, *, explicit: bool, clears: Sequence[str] = ()
) -> dict[str, Any]:
    """Bring a widget's state in line with the URL, which always wins; returns the widget's arguments.

    Args:
        read: texts from the URL -> value, or None where they make no sense.
        explicit: whether the default stands in the URL too.
        clears: names in the URL that mean nothing any more once this one has changed.
    """
    given = st.query_params.get_all(name)
    value = read(given) if given else None
    if value is None:
        value = default
        if explicit:
            put(name, default)
    if st.session_state.get(_key(name), _ABSENT) != value:
        st.session_state[_key(name)] = value
    return {"key": _key(name), "on_change": _changed, "args": (name, read, _ABSENT if explicit else default, clears)}


def choose(
    label: str, options: Sequence[str], name: str, default: str | None = None, *, clears: Sequence[str] = (),
    **widget: Any,
) -> str | None:  # fmt: skip
    """A select box whose value always stands in the URL. None where there is nothing to choose from.

    Args:
        clears: what else leaves the URL when another one is chosen.
    """
    known = list(options)
    if not known:
        return None
    first = default if default in known else known[0]
    link = _linked(name, lambda t: t[-1] if t[-1] in known else None, first, explicit=True, clears=clears)
    return st.selectbox(label, known, **link, **widget)


def choose_or_none(label: str, options: Sequence[str], name: str, **widget: Any) -> str | None:
    """A select box that may be left empty, and is at first."""
    known = list(options)
    link = _linked(name, lambda t: t[-1] if t[-1] in known else None, None, explicit=False)
    return st.selectbox(label, known, index=None, **link, **widget)


def choose_many(
    label: str, options: Sequence[str], name: str, default: Sequence[str] = (), *, others: bool = False,
    most: int | None = None, clears: Sequence[str] = (), **widget: Any,
) -> list[str]:  # fmt: skip
    """A multiple choice. A default stands in the URL; no choice does not. What is not there is said above the page.

    Args:
        others: whether names that are not among the options count too.
        most: how many can be chosen; of more in the URL the first ones count.
        clears: what else leaves the URL when the choice changes.
    """
    known = list(options)

    def read(texts: list[str]) -> list[str] | None:
        found = [t[:200] for t in dict.fromkeys(texts) if t in known or (others and t.strip())]
        return found[:most] or None

    if not others:
        _say_unknown(label, name, known)
    link = _linked(name, read, [d for d in default if d in known], explicit=bool(default), clears=clears)
    return st.multiselect(label, known, accept_new_options=others, max_selections=most, **link, **widget)


def choose_one_of(label: str, options: Sequence[str], name: str, default: str | None = None, **widget: Any) -> str:
    """A segmented control; its fixed default (the first option) stays out of the URL."""
    known = list(options)
    first = default or known[0]
    link = _linked(name, lambda t: t[-1] if t[-1] in known else None, first, explicit=False)
    return st.segmented_control(label, known, required=True, **link, **widget)


def choose_pill(label: str, options: Sequence[str], name: str, **widget: Any) -> str | None:
    """Pills of which one or none is chosen."""
    known = list(options)
    link = _linked(name, lambda t: t[-1] if t[-1] in known else None, None, explicit=False)
    return st.pills(label, known, **link, **widget)


def choose_pills(label: str, options: Sequence[str], name: str, **widget: Any) -> list[str]:
    """Pills of which all are chosen at first; none chosen means all."""
    known = list(options)

    def read(texts: list[str]) -> list[str] | None:
        return [o for o in known if o in texts] or None

    _say_unknown(label, name, known)
    link = _linked(name, read, known, explicit=False)
    return st.pills(label, known, selection_mode="multi", **link, **widget) or known


def choose_whether(label: str, name: str, **widget: Any) -> bool:
    """A switch that is off at first; it stands in the URL while it is on."""
    link = _linked(name, lambda t: t[-1] == str(True) or None, False, explicit=False)
    return st.toggle(label, **link, **widget)


def search_text(label: str, name: str, *, clears: Sequence[str] = (), **widget: Any) -> str:
    """A text box; surrounding blanks do not count. `clears`: what else leaves the URL when the text changes."""
    link = _linked(name, lambda t: t[-1][:200], "", explicit=False, clears=clears)
    return st.text_input(label, max_chars=200, **link, **widget).strip()


def choose_number(label: str, low: int, high: int, name: str, default: int, **widget: Any) -> int:
    """A slider over whole numbers."""
    link = _linked(name, lambda t: _whole(t[-1], low, high), default, explicit=False)
    return st.slider(label, low, high, **link, **widget)


def page_number(pages: int, name: str = "page") -> int:
    """The page that the URL asks for, 1..pages. Draw `pages_of` to change it."""
    return _whole(st.query_params.get(name, ""), 1, max(1, pages)) or 1


def page_control(pages: int, name: str = "page") -> None:
    """Buttons for pages. The first page stays out of the URL."""
    current = page_number(pages, name)
    key = f"{_key(name)}.{current}"  # another page, another widget: this one cannot be given a value from outside

    def turn() -> None:
        put(name, None if st.session_state[key] == 1 else st.session_state[key])

    st.pagination(pages, default=current, key=key, on_change=turn)


def _whole(text: str, low: int, high: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        return None
    return int(text) if low <= int(text) <= high else None
