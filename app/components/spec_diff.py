"""What tells some runs apart: requests, versions and machines, as dotted names with one value per run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.text import missing, visible

#: Columns of `Store.run` that stand beside the request -> what they are called.
BESIDE = {"git_revision": "revision", "host": "host", "device": "device"}
ABSENT = "–"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as {"optim.base_lr": 0.001}; lists stay whole, an empty group stands for itself."""
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found |= flat(inner, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = inner
    return found


def facts_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a row of `Store.run` says of how its run came about."""
    facts = flat(json.loads(run.get("spec") or "{}"))
    facts |= {f"versions.{name}": v for name, v in json.loads(run.get("versions") or "{}").items()}
    return facts | {title: run[column] for column, title in BESIDE.items() if not missing(run.get(column))}


def shown(value: Any) -> str:
    """A value as it is written in a request; empty ones by their JSON, so that "" and none are not alike."""
    return visible(value) if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def differences(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(name, value of each run) of what is not the same in all of them, in the order of the requests.

    Numbers that are equal are the same, however they were written (1 and 1.0).
    """
    facts = [facts_of(run) for run in runs]
    names = dict.fromkeys(name for found in facts for name in found)
    rows = []
    for name in names:
        values = [found.get(name, ABSENT) for found in facts]
        if any(value != values[0] or isinstance(value, bool) != isinstance(values[0], bool) for value in values[1:]):
            rows.append((name, [ABSENT if name not in found else shown(found[name]) for found in facts]))
    return rows
