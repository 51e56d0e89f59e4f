"""One run as it is this moment, straight from its folder: no database, no lock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rsfm.store.parse import moment
from rsfm.store.runs import FINISHED, open_run
from rsfm.store.summary import ACTIVE, heartbeat_due
from rsfm.workspace import Workspace

#: `<what>-<step>.png` in artifacts/previews.
_PREVIEW = re.compile(r"(?P<what>.+)-(?P<step>\d+)\.png")


def live(workspace: Workspace, run_id: str, *, log_bytes: int = 20_000) -> dict[str, Any]:
    """How a run is doing.

    Returns:
        run_id, state, attempt, stalled (its runner's promised heartbeat is overdue), message (the last one);
        progress, heartbeat, exit: those files' content, or None where there is none of the current attempt;
        log: the end of the output; stop_requested, resume_requested;
        previews: [{"what", "step", "path"}] by step, paths relative to the run's folder.

    Raises:
        RsfmError: no such run.
    """
    folder = open_run(workspace, run_id)
    # Before the state: whoever acts on a request removes it once the new state stands.
    asked = {f"{what}_requested": folder.requested(what) for what in ("stop", "resume")}
    events = [e for e in folder.events() if isinstance(e, dict)]
    state = next((e["state"] for e in reversed(events) if isinstance(e.get("state"), str)), "queued")
    attempt = max((e["attempt"] for e in events if isinstance(e.get("attempt"), int)), default=0)

    def own(data: Any) -> dict[str, Any] | None:
        """An earlier attempt left files of the same names."""
        return data if isinstance(data, dict) and data.get("attempt") == attempt else None

    heartbeat = own(folder.heartbeat())
    due = heartbeat_due(heartbeat, attempt)
    previews = []
    for file in (folder.path / "artifacts" / "previews").glob("*.png"):
        if found := _PREVIEW.fullmatch(file.name):
            path = file.relative_to(folder.path).as_posix()
            previews.append({"what": found["what"], "step": int(found["step"]), "path": path})
    return {
        "run_id": run_id,
        "state": state,
        "attempt": attempt,
        "stalled": state in ACTIVE and due is not None and due < datetime.now(UTC).replace(tzinfo=None),
        "message": next((e["message"] for e in reversed(events) if isinstance(e.get("message"), str)), None),
        "time": next((t for e in reversed(events) if moment(t := e.get("time")) is not None), None),
        "progress": own(folder.progress()),
        "heartbeat": heartbeat,
        "exit": own(folder.exit()),
        "log": folder.log_tail(log_bytes),
        **asked,
        "previews": sorted(previews, key=lambda p: (p["step"], p["what"])),
    }


def may_change(now: Mapping[str, Any], indexed: Mapping[str, Any]) -> bool:
    """Whether what is shown of a run may still change by itself: it goes on, or the index has not read its end yet.

    Args:
        now: what `live` says of the run.
        indexed: the index's row of the run, read before or after.
    """
    if now["state"] not in FINISHED or now["resume_requested"]:
        return True
    return (indexed.get("state"), indexed.get("attempt")) != (now["state"], now["attempt"])
