"""Choices that live in the URL, so that a link restores the view and the browser's Back undoes a choice.

Streamlit can bind a widget to the URL itself, but then the address holds what the widget shows ("landsat7 · 60
samples") and leaves out defaults. Here it holds the value, and a default that depends on data is written out: the
same link must mean the same tomorrow. Where something else is shown than the URL asks for, that is said above the
page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.text import plain

_ABSENT = object()
#: Where the frame shows what the URL asks for in vain, and which names have said so on this run of the page.
_SAID = "url.said"
#: What was said, by name, since the page was entered.
TOLD = "url.told"


@dataclass
class _Told:
    """A notice, which outlives the run that takes the value out of the URL, and ends with the reader's next choice.

    Attributes:
        asked: the values that cannot be chosen.
        stands: what is in the URL instead, if anything.
        text: Markdown; empty once it was read.
    """

    asked: list[str]
    stands: list[str]
    text: str


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


def put_together(values: Mapping[str, Any]) -> None:
    """As `put`, all at once: each change of its own would be a step for Back."""
    kept = {name: st.query_params.get_all(name) for name in st.query_params if name not in values}
    given = {name: _texts(value) for name, value in values.items() if value is not None and value not in ("", [])}
    st.query_params.from_dict({**kept, **given})


def place_for_notices() -> None:
    """The frame calls this on every run, above the page."""
    st.session_state[_SAID] = (st.container(), set())


def tell(name: str, asked: Sequence[str], text: str, stands: Sequence[str] = ()) -> None:
    """Say above the page, once, why the URL's value does not count. A choice of that name then says nothing more.

    Args:
        asked: the values that do not count; none: nothing is said, and what was said before is forgotten.
        text: Markdown.
        stands: what takes their place in the URL.
    """
    told: dict[str, _Told] = st.session_state.setdefault(TOLD, {})
    if asked and (name not in told or told[name].asked != list(asked)):
        told[name] = _Told(list(asked), list(stands), text)
    elif not asked and name in told and st.query_params.get_all(name) != told[name].stands:
        del told[name]
    place, said = st.session_state[_SAID]
    if name in told and told[name].text and name not in said:
        said.add(name)
        place.warning(told[name].text, icon=":material/search_off:")


def _read_on() -> None:
    """Notices were read: whoever goes on to choose has seen them."""
    told: dict[str, _Told] = st.session_state.get(TOLD, {})
    for name, notice in list(told.items()):
        if set(notice.asked) & set(st.query_params.get_all(name)):
            notice.text = ""
        else:
            del told[name]


def _tell_unknown(
    label: str, name: str, read: Callable[[list[str]], Any], default: Any, *, explicit: bool,
    shown: Callable[[Any], str],
) -> None:  # fmt: skip
    """Says which values of the URL cannot be chosen, and what is shown in their place.

    Args:
        shown: a value -> Markdown; empty where there is nothing to say of it.
    """
    given = st.query_params.get_all(name)
    asked = [t for t in dict.fromkeys(given) if t and read([t]) is None]
    instead = shown(default) if asked and read(given) is None else ""
    what = plain(", ".join(t[:80] for t in asked))
    text = f"{label}: the address asks for {what}, which cannot be chosen here"
    stands = _texts(default) if explicit and default not in (None, []) else []
    tell(name, asked, f"{text}; showing {instead} instead." if instead else f"{text}.", stands)


def say_unknown(label: str, options: Sequence[str], name: str, shown: Callable[[str], str] = str) -> None:
    """Where there is nothing to choose, and so no widget: say that the URL asks for what is not among the options.

    Args:
        options: the first one counts, whatever the URL holds; write it there with `put`, if it belongs there.
        shown: an option -> what people call it.
    """
    _tell_unknown(label, name, _one_of(options), options[0], explicit=True, shown=lambda o: plain(shown(o)))


def _one_of(known: Sequence[str]) -> Callable[[list[str]], str | None]:
    """Reads a single choice: of several values the last one counts."""
    return lambda texts: texts[-1] if texts[-1] in known else None


def _changed(name: str, read: Callable[[list[str]], Any], left_out: Any, clears: Sequence[str]) -> None:
    _read_on()
    value = st.session_state[_key(name)]
    if value in (None, "", []) or value == left_out:
        value = None
    elif read(_texts(value)) is None:
        # A widget whose labels have just changed may hand back a label instead of a value: that is not a choice.
        return
    if any(other in st.query_params for other in clears):
        put_together({**dict.fromkeys(clears), name: value})
    else:
        put(name, value)


def _linked(
    label: str, name: str, read: Callable[[list[str]], Any], default: Any, *, explicit: bool,
    shown: Callable[[Any], str] = lambda _: "", clears: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Bring a widget's state in line with the URL, which always wins; returns the widget's arguments.

    Args:
        read: texts from the URL -> value, or None where they make no sense.
        explicit: whether the default stands in the URL too.
        shown: see `_tell_unknown`.
        clears: names in the URL that mean nothing any more once this one has changed.
    """
    _tell_unknown(label, name, read, default, explicit=explicit, shown=shown)
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
    title = widget.get("format_func", str)
    link = _linked(
        label, name, _one_of(known), first, explicit=True, shown=lambda o: plain(title(o)), clears=clears
    )  # fmt: skip
    return st.selectbox(label, known, **link, **widget)


def choose_or_none(label: str, options: Sequence[str], name: str, **widget: Any) -> str | None:
    """A select box that may be left empty, and is at first."""
    known = list(options)
    link = _linked(label, name, _one_of(known), None, explicit=False)
    return st.selectbox(label, known, index=None, **link, **widget)


def choose_many(
    label: str, options: Sequence[str], name: str, default: Sequence[str] = (), *, others: bool = False,
    most: int | None = None, clears: Sequence[str] = (), **widget: Any,
) -> list[str]:  # fmt: skip
    """A multiple choice. A default stands in the URL; no choice does not.

    Args:
        others: whether names that are not among the options count too.
        most: how many can be chosen; of more in the URL the first ones count.
        clears: what else leaves the URL when the choice changes.
    """
    known = list(options)
    title = widget.get("format_func", str)

    def read(texts: list[str]) -> list[str] | None:
        found = [t[:200] for t in dict.fromkeys(texts) if t in known or (others and t.strip())]
        return found[:most] or None

    link = _linked(
        label, name, read, [d for d in default if d in known], explicit=bool(default),
        shown=lambda chosen: plain(", ".join(title(o) for o in chosen)), clears=clears,
    )  # fmt: skip
    return st.multiselect(label, known, accept_new_options=others, max_selections=most, **link, **widget)


def choose_one_of(label: str, options: Sequence[str], name: str, default: str | None = None, **widget: Any) -> str:
    """A segmented control; its fixed default (the first option) stays out of the URL."""
    known = list(options)
    first = default or known[0]
    link = _linked(label, name, _one_of(known), first, explicit=False, shown=widget.get("format_func", str))
    return st.segmented_control(label, known, required=True, **link, **widget)


def choose_pill(label: str, options: Sequence[str], name: str, **widget: Any) -> str | None:
    """Pills of which one or none is chosen."""
    known = list(options)
    link = _linked(label, name, _one_of(known), None, explicit=False)
    return st.pills(label, known, **link, **widget)


def choose_pills(label: str, options: Sequence[str], name: str, **widget: Any) -> list[str]:
    """Pills of which all are chosen at first; none chosen means all."""
    known = list(options)

    def read(texts: list[str]) -> list[str] | None:
        return [o for o in known if o in texts] or None

    link = _linked(label, name, read, known, explicit=False, shown=lambda _: "all")
    return st.pills(label, known, selection_mode="multi", **link, **widget) or known


def choose_whether(label: str, name: str, **widget: Any) -> bool:
    """A switch that is off at first; it stands in the URL while it is on."""
    link = _linked(label, name, lambda t: {"True": True, "False": False}.get(t[-1]), False, explicit=False)
    return st.toggle(label, **link, **widget)


def search_text(label: str, name: str, *, clears: Sequence[str] = (), **widget: Any) -> str:
    """A text box; surrounding blanks do not count. `clears`: what else leaves the URL when the text changes."""
    link = _linked(label, name, lambda t: t[-1][:200], "", explicit=False, clears=clears)
    return st.text_input(label, max_chars=200, **link, **widget).strip()


def choose_number(label: str, low: int, high: int, name: str, default: int, **widget: Any) -> int:
    """A slider over whole numbers."""
    link = _linked(label, name, lambda t: _whole(t[-1], low, high), default, explicit=False, shown=str)
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
