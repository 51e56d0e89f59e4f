"""Where a run stands on the way to its end: the rungs of the cancel ladder, read from its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rsfm.store.runs import FINISHED

#: Rung in the events -> what it means to the reader.
RUNGS: dict[str, str] = {
    "request": "Asked to finish its step, save and exit",
    "terminate": "SIGTERM to its processes",
    "kill": "SIGKILL to its processes",
    "sweep": "SIGKILL to whatever is left",
}


@dataclass(frozen=True)
class Rung:
    name: str
    text: str
    reached: bool
    current: bool
    time: str | None


def ladder(events: Iterable[Mapping[str, Any]], *, asked: bool = False) -> list[Rung]:
    """The rungs of the latest attempt; empty where nobody asked it to stop, or it has ended.

    Args:
        events: rows of events.jsonl in order.
        asked: a request to stop lies in the run's folder that no supervisor has taken up yet.
    """
    times: dict[str, str] = {}
    state = "queued"
    for event in events:
        if event.get("state"):
            if event["state"] in ("queued", "starting"):
                times.clear()
            state = str(event["state"])
        rung = event.get("rung")
        if rung in RUNGS:
            times.setdefault(str(rung), str(event.get("time", "")))
    if state in FINISHED or not (times or asked):
        return []
    last = max((list(RUNGS).index(r) for r in times), default=0 if asked else -1)
    return [Rung(name, text, i <= last, i == last, times.get(name)) for i, (name, text) in enumerate(RUNGS.items())]
