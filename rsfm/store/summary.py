"""One run in one row: its spec, what its events say of it, and how far it is."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from rsfm.store.about import about_of
from rsfm.store.parse import as_json, integer, moment, number, text
from rsfm.store.runs import FINISHED, STATES

#: States in which time counts as spent on the run.
ACTIVE = frozenset({"starting", "running", "stopping"})


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def heartbeat_due(heartbeat: Any, attempt: int) -> datetime | None:
    """When the attempt's runner promised to report next; None where it has not reported yet."""
    beat = _table(heartbeat)
    return moment(beat.get("next")) if beat.get("attempt") == attempt else None


def attempt_rows(events: list[dict[str, Any]], exit_file: Any) -> list[dict[str, Any]]:
    """Rows of `attempts` (without `run`), from rows of `events` and exit.json."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        attempt, state = event["attempt"], event["state"]
        if attempt is None or state not in STATES or state == "queued":
            continue
        row = found.setdefault(
            attempt,
            dict.fromkeys(("started", "finished", "state", "code", "signal", "message")) | {"attempt": attempt},
        )
        row["started"] = row["started"] or event["time"]
        # An attempt that was found alive after it was given up is live again.
        row["finished"] = event["time"] if state in FINISHED else None
        row["state"] = state
        row["message"] = event["message"] or row["message"]
    ended = _table(exit_file)
    row = found.get(ended.get("attempt")) if isinstance(ended.get("attempt"), int) else None
    if row is not None:
        row["code"], row["signal"] = integer(ended.get("code")), text(ended.get("signal"))
    return [found[n] for n in sorted(found)]


def run_row(
    run_id: str,
    envelope: dict[str, Any],
    events: list[dict[str, Any]],
    attempts: list[dict[str, Any]],
    progress: Any,
    heartbeat: Any,
    said: Any,
) -> dict[str, Any]:
    """The row of `runs` (without `run`, `loss` and `knn`). `said`: about.json."""
    spec = _table(envelope.get("spec"))
    kind = text(envelope.get("kind")) or text(spec.get("kind")) or "unknown"
    states = [e for e in events if e["state"] in STATES]
    state = states[-1]["state"] if states else "queued"
    attempt = max((e["attempt"] for e in events if e["attempt"] is not None), default=0)
    model = text(spec.get("model"))
    seed = integer(spec.get("seed"))
    if seed is None and (model or "").startswith("random:"):
        seed = integer(spec.get("model_seed"))
    spent = [(a["finished"] - a["started"]).total_seconds() for a in attempts if a["finished"] and a["started"]]
    going = attempts[-1]["started"] if attempts and state in ACTIVE else None
    now = _table(progress)
    placed = [json.loads(e["data"]) for e in events if e["state"] == "starting"]
    place = placed[-1] if placed else {}
    about = about_of(envelope, said)
    return {
        "run_id": run_id,
        "kind": kind,
        "group_id": text(envelope.get("group")),
        "method": text(spec.get("method")),
        "dataset": text(spec.get("dataset")),
        "model": model,
        "preset": text(spec.get("preset")),
        "seed": seed,
        "state": state,
        "attempt": attempt,
        "created": moment(envelope.get("created")),
        "started": attempts[0]["started"] if attempts else None,
        "finished": states[-1]["time"] if state in FINISHED else None,
        "active_s": float(sum(spent)),
        "active_since": going,
        "heartbeat_due": heartbeat_due(heartbeat, attempt) if state in ACTIVE else None,
        "done": number(now.get("done")),
        "total": number(now.get("total")),
        "unit": text(now.get("unit")),
        "phase": text(now.get("phase")),
        "rate": number(now.get("rate")),
        # What is left matters only while it goes on.
        "eta_s": number(now.get("eta_s")) if state in ACTIVE and now.get("attempt") == attempt else None,
        "message": next(
            (e["message"] for e in reversed(events) if e["message"] and e["attempt"] in (None, attempt)), None
        ),
        "tags": ", ".join(about.tags),
        "note": about.note,
        "priority": integer(envelope.get("priority")) or 0,
        "spec": as_json(spec),
        "spec_hash": text(envelope.get("spec_hash")),
        "versions": as_json(_table(envelope.get("versions"))),
        "git_revision": text(envelope.get("git_revision")),
        "host": text(place.get("host")) or text(envelope.get("host")),
        "device": text(place.get("device")),
        "slot": text(place.get("slot")),
    }
