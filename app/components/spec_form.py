"""A form from a pydantic model: titles, help, bounds and choices come from the fields; nested models become groups.

A new method, task or dataset option appears here without any page code. Values are plain data, to be validated by
the model itself; the widgets' bounds are a courtesy to the reader, not the check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import streamlit as st
from pydantic import BaseModel

from app.components.spec_fields import FieldView, Path, field_views
from app.text import plain


@dataclass(frozen=True)
class Choices:
    """Names that the page knows for a field: bands of a pack, models, ...

    Attributes:
        labels: how they are shown, where that is not the name itself.
        others: whether any other text may be typed as well.
        blank: what no choice means.
        needed: nothing works without one: where the form does not start from one, the section begins open.
    """

    names: Sequence[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    others: bool = False
    blank: str = "Default"
    needed: bool = False

    def label(self, name: Any) -> str:
        return self.labels.get(name, str(name))


@dataclass
class FormResult:
    """What the form holds: plain values, and places to show what the model says about them."""

    values: dict[str, Any] = field(default_factory=dict)
    slots: dict[Path, Any] = field(default_factory=dict)


def _step(value: float | None) -> float:
    """A step that suits the size of the value: a tenth of its power of ten."""
    magnitude = abs(value) if value else 0.1
    return float(f"1e{int(f'{magnitude:e}'.split('e')[1]) - 1}")


def number_format(value: float | None) -> str:
    return "%.2e" if value is not None and value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6) else "%.6g"


def numbers(text: str) -> list[Any]:
    """`1, 2, 0.5` as numbers; what is no number stays text, for the model to refuse by name."""
    found: list[Any] = []
    for part in text.replace(";", ",").replace(" ", ",").split(","):
        if re.fullmatch(r"-?[0-9]{1,18}", part):
            found.append(int(part))
        elif re.fullmatch(r"-?[0-9]{0,18}\.?[0-9]{1,18}(e-?[0-9]{1,3})?", part):
            found.append(float(part))
        elif part:
            found.append(part)
    return found


def _first(view: FieldView, value: Any, key: str) -> Any:
    """What a number box starts from. Only a box that starts empty can be emptied: an optional one is filled apart."""
    if view.optional and value is not None:
        st.session_state.setdefault(key, value)
        return None
    return value


def _chosen(view: FieldView, value: Any, choices: Choices, keep: dict[str, Any]) -> Any:
    """A field whose names the page knows."""
    # What the form starts from is one of the names, where any text may be typed.
    started = value if isinstance(value, list) else [value] if value else []
    known = list(dict.fromkeys([*choices.names, *(started if choices.others else ())]))
    if view.kind == "text":
        chosen = st.selectbox(
            view.title, known, index=known.index(value) if value in known else None, format_func=choices.label,
            accept_new_options=choices.others, placeholder=choices.blank, **keep,
        )  # fmt: skip
        return chosen or (None if view.optional else "")
    chosen = st.multiselect(
        view.title, known, default=[v for v in (value or []) if v in known], format_func=choices.label,
        placeholder=view.blank or ("All" if view.optional else "Choose at least one"), **keep,
    )  # fmt: skip
    return chosen or (None if view.optional else [])


def widget(view: FieldView, value: Any, key: str, choices: Choices | None = None) -> Any:
    """Draw one field and return its value as plain data.

    Args:
        value: what it starts from.
        choices: names to choose from, where the page knows them.
    """
    label, keep = view.title, {"key": key, "help": view.help, "persist_state": "session"}
    if choices is not None and view.kind in ("names", "numbers", "text", "choices"):
        return _chosen(view, value, choices, keep)
    match view.kind:
        case "bool":
            return st.toggle(label, value=bool(value), **keep)
        case "int":
            high = None if view.high is None or view.high >= 2**31 else int(view.high)
            low = None if view.low is None else int(view.low)
            start = None if value is None else int(value)
            return st.number_input(
                label, min_value=low, max_value=high, value=_first(view, start, key), step=1, **keep,
                placeholder="Default" if view.optional else None,
            )  # fmt: skip
        case "float":
            start = None if value is None else float(value)
            return st.number_input(
                label, min_value=view.low if view.low is None else float(view.low),
                max_value=view.high if view.high is None else float(view.high),
                value=_first(view, start, key), step=_step(start), format=number_format(start), **keep,
                placeholder="Default" if view.optional else None,
            )  # fmt: skip
        case "choice":
            known = list(view.choices)
            start = known.index(value) if value in known else None if view.optional else 0
            titled = choices.label if choices else str
            return st.selectbox(label, known, index=start, format_func=titled, placeholder="Default", **keep)
        case "choices":
            return st.multiselect(label, list(view.choices), default=list(value or []), format_func=str, **keep)
        case "numbers":
            text = st.text_input(label, value=", ".join(f"{v:g}" for v in value or []), placeholder=view.blank, **keep)
            return numbers(text)
        case "names":
            blank = "All" if view.optional else None
            text = st.text_input(label, value=", ".join(value or []), **keep, placeholder=blank)
            names = [p.strip() for p in text.split(",") if p.strip()]
            return names or (None if view.optional else [])
        case "json":
            text = st.text_area(label, value=json.dumps(value or {}), **keep)
            try:
                return json.loads(text or "{}")
            except json.JSONDecodeError:
                return text  # not JSON: the model says so
    text = st.text_input(label, value=value or "", **keep, placeholder="Default" if view.optional else None)
    return text or (None if view.optional else "")


def draw_fields(
    views: Sequence[FieldView], start: Mapping[str, Any], prefix: str, result: FormResult,
    choices: Mapping[Path, Choices] | None = None, unused: Collection[Path] = (),
) -> dict[str, Any]:  # fmt: skip
    """Draw fields in a grid that reflows, and the groups among them below it.

    Args:
        unused: fields to leave out, groups as a whole where nothing of them is left.

    Returns:
        name -> value; the places for errors are added to `result.slots`.
    """
    values: dict[str, Any] = {}
    views = [view for view in views if view.path not in unused]
    grid = st.grid(4, min_column_width=190)
    for view in views:
        if view.kind == "group":
            continue
        name = view.path[-1]
        with grid.cell():
            values[name] = widget(
                view, start.get(name), f"{prefix}.{'.'.join(view.path)}", (choices or {}).get(view.path)
            )
            result.slots[view.path] = st.empty()
    for view in views:
        if view.kind == "group":
            name = view.path[-1]
            values[name] = draw_group(view, view.title, start.get(name) or {}, prefix, result, choices, unused)
    return values


def draw_group(
    view: FieldView, title: str, start: Mapping[str, Any], prefix: str, result: FormResult,
    choices: Mapping[Path, Choices] | None = None, unused: Collection[Path] = (),
) -> dict[str, Any]:  # fmt: skip
    """Draw a nested model in a section of its own, groups inside it included."""
    if view.model is None:
        raise TypeError(f"The form needs the model of {'.'.join(view.path)}: name it in `groups`.")
    fields = field_views(view.model, view.path)
    if all(inner.path in unused for inner in fields):
        return {}
    known = [(start.get(v.path[-1]), (choices or {}).get(v.path)) for v in fields]
    opened = any(offered is not None and offered.needed and value not in offered.names for value, offered in known)
    with st.expander(title, icon=_icon(view.path[-1]), expanded=opened):
        summary = view.help or (view.model.__doc__ or "").strip().partition("\n")[0]
        if summary:
            st.caption(plain(summary))
        result.slots[view.path] = st.empty()
        return draw_fields(fields, start, prefix, result, choices, unused)


def show_errors(result: FormResult, errors: Mapping[Path, str]) -> list[str]:
    """Put each complaint below its field; returns those that belong to no field of the form."""
    rest = []
    for place, message in errors.items():
        slot = next((result.slots[place[:n]] for n in range(len(place), 0, -1) if place[:n] in result.slots), None)
        if slot is None:
            rest.append(f"{'.'.join(place)}: {message}" if place else message)
        else:
            slot.markdown(f":red[:material/error: {plain(message)}]")
    return rest


@dataclass(frozen=True)
class Layout:
    """What a page decides about a form beyond what the model says.

    Attributes:
        skip: top-level fields that the page draws itself or that have no place in a form.
        first: simple fields that stand on top; the others go into "More settings". None: all of them on top.
        titles: name of a group -> title of its section; in this order, other groups after them.
        unused: from the values of the fields on top, fields that mean nothing with them: not drawn, and without value.
    """

    skip: frozenset[str] = frozenset()
    first: tuple[str, ...] | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    unused: Callable[[Mapping[str, Any]], Collection[Path]] | None = None


def spec_form(
    model: type[BaseModel], start: Mapping[str, Any], prefix: str, result: FormResult, layout: Layout = Layout(),
    choices: Mapping[Path, Choices] | None = None, groups: Mapping[str, type[BaseModel]] | None = None,
) -> None:  # fmt: skip
    """Draw a whole spec; its values are added to `result.values`.

    Args:
        start: what the form starts from; another start needs another `prefix`.
        prefix: of the widgets' keys.
        choices: field's path -> names to choose from, where the page knows them.
        groups: models of fields whose own model another field decides (a method's settings, its encoder).
    """
    views = [v for v in field_views(model) if v.path[0] not in layout.skip]
    if groups:
        views = [replace(v, kind="group", model=groups[v.path[0]]) if v.path[0] in groups else v for v in views]
    simple = [v for v in views if v.kind != "group" and not v.local]
    first = [v for v in simple if layout.first is None or v.path[0] in layout.first]
    more = [v for v in simple if v not in first]
    local = [v for v in views if v.kind != "group" and v.local]

    result.values.update(draw_fields(first, start, prefix, result, choices))
    unused = layout.unused(result.values) if layout.unused else ()
    order = list(layout.titles)
    found = [v for v in views if v.kind == "group"]
    for view in sorted(found, key=lambda v: order.index(v.path[0]) if v.path[0] in order else len(order)):
        name = view.path[0]
        title = layout.titles.get(name, view.title)
        result.values[name] = draw_group(view, title, start.get(name) or {}, prefix, result, choices, unused)
    for title, icon, some in (
        ("More settings", ":material/tune:", more),
        ("Where and how it runs", ":material/memory:", local),
    ):
        if some:
            with st.expander(title, icon=icon):
                result.values.update(draw_fields(some, start, prefix, result, choices, unused))


def _icon(name: str) -> str:
    icons = {
        "encoder": "account_tree", "optim": "trending_down", "runtime": "memory", "method_params": "extension",
        "init": "start", "augment": "auto_fix_high",
    }  # fmt: skip
    return f":material/{icons.get(name, 'tune')}:"
