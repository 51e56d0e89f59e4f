"""From the lines of a run's files to typed rows. A bad line, whoever left it, costs itself only."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from rsfm.store.schema import SCORE_KEY, TABLES

_EPOCH = datetime(1970, 1, 1)
_decode = json.JSONDecoder().raw_decode
_LIMIT = 2**53  # a step beyond it is no step


# -- single values: of the wanted type, or None --------------------------------------------------------------------
def text(value: Any) -> str | None:
    """A string that UTF-8 can hold."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def integer(value: Any) -> int | None:
    if type(value) is int:  # nearly always
        return value if -_LIMIT < value < _LIMIT else None
    if type(value) is not float or not -_LIMIT < value < _LIMIT:
        return None
    return int(value) if value == int(value) else None


def number(value: Any) -> float | None:
    """A float, not-a-number and infinities included; null counts as not-a-number nowhere but in metrics."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def moment(value: Any) -> datetime | None:
    """An ISO 8601 time as naive UTC."""
    if not isinstance(value, str):
        return None
    try:
        if value.endswith("+00:00"):  # what we write ourselves
            time = datetime.fromisoformat(value[:-6])
            return time if time.tzinfo is None else None
        time = datetime.fromisoformat(value)
        return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError):
        return None


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


# -- lines ---------------------------------------------------------------------------------------------------------
def json_lines(data: bytes, offset: int = 0) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Each line's place in the file and its object; None where the line is no JSON object. Empty lines are left out."""
    for line in data.split(b"\n"):
        start = offset
        offset += len(line) + 1
        try:
            words = line.decode().strip()
            if not words:
                continue
            row, end = _decode(words)
        except (ValueError, RecursionError):
            yield start, None
            continue
        yield start, row if isinstance(row, dict) and end == len(words) else None


@dataclass
class Metrics:
    """Rows of `metrics` of one run as columns, in the order of the file."""

    attempt: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    samples: list[int | None] = field(default_factory=list)
    time: list[int | None] = field(default_factory=list)  # microseconds since 1970
    value: list[float] = field(default_factory=list)
    #: attempt -> first (smallest) and last (largest) step of these rows
    span: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: Whether a step may stand twice within an attempt here.
    repeats: bool = False
    bad: int = 0

    def __len__(self) -> int:
        return len(self.value)

    def unique(self) -> np.ndarray:
        """Positions of the rows that count: of the same attempt, step and name the last one."""
        rows = {key: i for i, key in enumerate(zip(self.attempt, self.step, self.name, strict=True))}
        return np.sort(np.fromiter(rows.values(), np.int64, len(rows)))


def metrics(data: bytes) -> Metrics:
    """Lines {"attempt", "step", "samples", "time", "values": {name: number}}. null stands for not-a-number."""
    out = Metrics()
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    previous = (0, -_LIMIT)
    for _, row in json_lines(data):
        values = row.get("values") if row else None
        attempt, step = (integer(row.get("attempt", 1)), integer(row.get("step"))) if row else (None, None)
        if not isinstance(values, dict) or step is None or attempt is None or not 0 <= attempt < 2**31:
            out.bad += 1
            continue
        if set(map(type, values.values())) != _FLOATS:
            numbers = {name: math.nan if v is None else number(v) for name, v in values.items()}
            out.bad += None in numbers.values()
            values = {name: v for name, v in numbers.items() if v is not None}
            if not values:
                continue
        names = tuple(values)
        n = len(names)
        if names not in known:
            known[names] = tuple(text(name) or "" for name in names)
            out.repeats |= len(set(known[names])) < n  # names that no text can hold may become one
        out.name.extend(known[names])
        out.value.extend(values.values())
        out.attempt.extend((attempt,) * n)
        out.step.extend((step,) * n)
        out.samples.extend((integer(row.get("samples")),) * n)
        time = moment(row.get("time"))
        # Exact to the microsecond: a float of seconds would round.
        out.time.extend((None if time is None else (time - _EPOCH) // _MICROSECOND,) * n)
        first, last = out.span.get(attempt, (step, step))
        out.span[attempt] = (min(first, step), max(last, step))
        out.repeats |= (attempt, step) <= previous
        previous = (attempt, step)
    return out


_FLOATS = {float}
_MICROSECOND = datetime(1970, 1, 1, 0, 0, 0, 1) - _EPOCH


def events(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Rows of `events` (without `run`), with the whole event as `data`; and the number of bad lines."""
    rows: list[dict[str, Any]] = []
    bad = 0
    for seq, row in json_lines(data):
        if row is None:
            bad += 1
            continue
        rows.append(
            {
                "seq": seq, "time": moment(row.get("time")), "state": text(row.get("state")),
                "attempt": _small(row.get("attempt")), "message": text(row.get("message")), "data": as_json(row),
                "start_step": integer(row.get("start_step")),
            }
        )  # fmt: skip
    return rows, bad


_SCORE_TYPES = {
    name: kind
    for name, kind in TABLES["scores"].items()
    if name not in ("run", "seq", "attempt", "time", "key", "current")
}
_CONVERT = {"VARCHAR": text, "BIGINT": integer, "DOUBLE": number}


def scores(data: bytes, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Rows of `scores` (without `run` and `current`). A row without model, dataset, metric or a finite value is bad."""
    rows: list[dict[str, Any]] = []
    bad = 0
    for seq, raw in json_lines(data, offset):
        row = raw or {}
        score: dict[str, Any] = {
            name: bool(row.get(name)) if kind == "BOOLEAN" else _CONVERT[kind](row.get(name))
            for name, kind in _SCORE_TYPES.items()
        }
        value = score["value"]
        named = score["model_group"] and score["dataset"] and score["metric"]
        if not named or value is None or not math.isfinite(value):
            bad += 1
            continue
        score |= {"seq": seq, "attempt": _small(row.get("attempt")), "time": moment(row.get("time"))}
        score["key"] = hashlib.sha1(as_json([score[name] for name in SCORE_KEY]).encode()).hexdigest()[:20]
        rows.append(score)
    return rows, bad


def artifacts(data: bytes, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Rows of `artifacts` (without `run`, and not yet validated). A row without path or kind is bad."""
    rows: list[dict[str, Any]] = []
    bad = 0
    for seq, raw in json_lines(data, offset):
        row = raw or {}
        path, kind = text(row.get("path")), text(row.get("kind"))
        if not path or not kind:
            bad += 1
            continue
        # A path that is registered again names another file: its id, and so its address, is another one too.
        identity = as_json([path, row.get("attempt"), row.get("time")])
        rows.append(
            {
                "seq": seq, "artifact_id": hashlib.sha1(identity.encode()).hexdigest()[:16],
                "attempt": _small(row.get("attempt")), "time": moment(row.get("time")), "path": path, "kind": kind,
                "title": text(row.get("title")), "step": integer(row.get("step")),
            }
        )  # fmt: skip
    return rows, bad


def _small(value: Any) -> int | None:
    found = integer(value)
    return found if found is not None and 0 <= found < 2**31 else None
