"""Names that tell models apart: two groups of runs may well have the same title."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from app.text import visible
from rsfm.errors import RsfmError
from rsfm.specs import parse_spec
from rsfm.store.view import Store

#: Top-level keys of a pretraining request that do not change what is learned, or that the title says already.
_LEFT_OUT = frozenset({"kind", "method", "dataset", "preset", "seed", "runtime"})
_MOST = 3


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def telling_settings(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What tells pretraining requests apart, e.g. {"971a…": "mask_ratio=0.5", …}; empty texts where nothing does."""
    flat = {g: _flat({k: v for k, v in spec.items() if k not in _LEFT_OUT}) for g, spec in specs.items()}
    names = dict.fromkeys(name for values in flat.values() for name in values)
    differing = [n for n in names if len({values.get(n) for values in flat.values()}) > 1]
    texts = {}
    for group, values in flat.items():
        said = [f"{n.rpartition('.')[2]}={values.get(n, 'none')}" for n in differing[:_MOST]]
        texts[group] = ", ".join(said) + (" …" if len(differing) > _MOST else "")
    return texts


def distinct_titles(
    frame: pd.DataFrame, specs_of: Callable[[list[str]], Mapping[str, Mapping[str, Any]]]
) -> pd.DataFrame:
    """Rows of `Store.compare` in which no two model groups have the same title.

    Args:
        specs_of: groups -> the requests that made them, as far as they are known.
    """
    titles = frame.groupby("model_group", dropna=False)["model_title"].first()
    twice = titles[titles.duplicated(keep=False)]
    if twice.empty:
        return frame
    changed: dict[Any, str] = {}
    for title, alike in twice.groupby(twice):
        groups = [str(g) for g in alike.index]
        texts = telling_settings(specs_of(groups))
        for group in groups:
            text = texts.get(group, "")
            unique = text and sum(t == text for t in texts.values()) == 1
            changed[group] = f"{title} ({visible(text) if unique else f'group {group[:6]}'})"
    names = frame["model_group"].astype(str).map(changed).fillna(frame["model_title"])
    return frame.assign(model_title=names)


def specs_of(store: Store, groups: list[str]) -> dict[str, dict[str, Any]]:
    """The requests that made these model groups, as far as their runs are known."""
    models = store.models()
    found = {}
    for group in groups:
        runs = models.loc[models["group_id"] == group, "run_id"].dropna()
        rows = store.run(str(runs.iloc[0])) if len(runs) else models.iloc[:0]
        if len(rows):
            spec = json.loads(rows.iloc[0]["spec"])
            with contextlib.suppress(RsfmError):  # of another version: as it was written
                spec = parse_spec(spec).model_dump(mode="json")
            found[group] = spec
    return found
