"""A new request that starts from an old one: the link to Launch, and what the form takes over from the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from pydantic import BaseModel

from app.components.spec_fields import Path, check, merged
from app.components.spec_form import Choices
from app.page import LAUNCH, RUN
from app.state import workspace
from app.text import plain
from app.view_state import put
from rsfm.errors import RsfmError
from rsfm.store.runs import open_run


def copy_link(run: Mapping[str, Any]) -> None:
    """Opens Launch's form filled with the request of a run, a row of `Store.run`."""
    spec = json.loads(run.get("spec") or "{}")
    query: dict[str, Any] = {"job": spec.get("kind"), "from": str(run["run_id"])}
    match spec.get("kind"):
        case "pretrain":
            query |= {"pack": spec.get("dataset"), "method": spec.get("method"), "preset": spec.get("preset")}
        case "evaluate":
            query |= {"pack": spec.get("dataset"), "model": spec.get("model"), "settings": spec.get("preset") or "own"}
        case "embed":
            query |= {"pack": spec.get("dataset"), "model": spec.get("model")}
        case "predict":
            query |= {"evaluation": spec.get("evaluation")}
        case "prepare":
            query |= {"dataset": spec.get("dataset")}
        case _:
            return
    st.page_link(
        LAUNCH, label="Edit a copy", icon=":material/content_copy:",
        query_params={name: str(value) for name, value in query.items() if value},
        help="Opens the form of a new run with every setting of this one.",
    )  # fmt: skip


@dataclass
class Copy:
    """The request of the run that the form starts from.

    Attributes:
        key: for the form's widgets: what was filled in from elsewhere is another form.
        remarks: what could not be taken over, in words.
    """

    run_id: str
    spec: dict[str, Any]
    remarks: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f".{self.run_id}"

    def require(self, name: str, known: Iterable[str]) -> None:
        """Say so where what the run was about is not here: `name` is a field of the request."""
        value = str(self.spec.get(name) or "")
        if value and value not in set(known):
            self.remarks.append(f"{name} {value} is not here (any more), so another one is chosen")

    def onto(
        self, start: Mapping[str, Any], model: type[BaseModel], choices: Mapping[Path, Choices],
        groups: Mapping[str, type[BaseModel]] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """What the form starts from: the run's values, as far as today's form has a place for them."""
        spec = json.loads(json.dumps(self.spec))
        known = {**dict.fromkeys(model.model_fields), **start}
        for path in list(_unknown(spec, known)):
            _take(spec, path)
            self.remarks.append(f"{'.'.join(path)} does not exist any more")
        for path, message in check(model, spec, groups)[1].items():
            view = len(path) > 0 and _dig(spec, path) is not _ABSENT
            if view and not isinstance(_dig(spec, path), Mapping):
                self.remarks.append(f"{'.'.join(path)} = {_dig(spec, path)} is not taken: {message}")
                _take(spec, path)
        for path, offered in choices.items():
            self._keep_offered(spec, path, offered)
        return merged(start, spec)

    def _keep_offered(self, spec: dict[str, Any], path: Path, offered: Choices) -> None:
        value = _dig(spec, path)
        if value is _ABSENT or not value or offered.others or not (offered.names or offered.needed):
            return
        lost = [v for v in (value if isinstance(value, list) else [value]) if v not in offered.names]
        if lost:
            self.remarks.append(f"{'.'.join(path)}: {', '.join(map(str, lost))} cannot be chosen here")
            kept = [v for v in value if v not in lost] if isinstance(value, list) else []
            _take(spec, path)
            if kept:
                _put(spec, path, kept)


_ABSENT = object()


def _dig(values: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(values, Mapping) or name not in values:
            return _ABSENT
        values = values[name]
    return values


def _take(values: dict[str, Any], path: Path) -> None:
    inner = _dig(values, path[:-1]) if len(path) > 1 else values
    if isinstance(inner, dict):
        inner.pop(path[-1], None)


def _put(values: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        values = values[name]
    values[path[-1]] = value


def _unknown(values: Mapping[str, Any], known: Mapping[str, Any], prefix: Path = ()) -> list[Path]:
    """Paths that are not among what is known. Where nothing is known of a group's inside, all of it is fine."""
    found: list[Path] = []
    for name, value in values.items():
        if name not in known:
            found.append((*prefix, name))
        elif isinstance(value, Mapping) and isinstance(known[name], Mapping) and known[name]:
            found += _unknown(value, known[name], (*prefix, name))
    return found


def copied(job: str, *, presets: Sequence[str] = (), **chosen: str) -> Copy | None:
    """The run that the URL wants to start from, where the form is still of its kind.

    Args:
        chosen: fields of its request that must be as they were, such as the method: with another one, its settings
            mean nothing.
        presets: those that there are: a run whose preset is none of them can be copied with any.
    """
    run_id = st.query_params.get("from")
    if not run_id:
        return None
    try:
        spec = open_run(workspace(), run_id).envelope()["spec"]
    except RsfmError as error:
        st.warning(plain(error), icon=":material/link_off:")
        return None
    if spec.get("kind") != job:
        return None
    if spec.get("preset") and spec["preset"] not in presets:
        chosen.pop("preset", None)
    other = [name for name, value in chosen.items() if (spec.get(name) or "") != value]
    if other:
        st.caption(f"Not filled in from the earlier run: another {plain(' and '.join(other))} is chosen.")
        return None
    return Copy(run_id, spec)


def about_copy(copy: Copy | None) -> None:
    """Where the form's values come from, and what of them is lost."""
    if copy is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.page_link(
            RUN, label=f"Filled in from {plain(copy.run_id)}", icon=":material/content_copy:",
            query_params={"run": copy.run_id},
        )  # fmt: skip
        st.button(
            "Start afresh", icon=":material/restart_alt:", type="tertiary", key="launch.afresh", on_click=put,
            args=("from", None),
        )  # fmt: skip
    if copy.remarks:
        st.warning("Not taken over: " + plain("; ".join(copy.remarks)) + ".", icon=":material/rule:")
