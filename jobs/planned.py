"""Queueing runs that belong together (the demo, a protocol), once each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from jobs import client
from rsfm.errors import RsfmError
from rsfm.specs import Planned, Spec, spec_hash
from rsfm.store.files import read_json
from rsfm.store.runs import RESUMABLE, RunFolder, list_runs, open_run
from rsfm.workspace import Workspace


def queue_planned(workspace: Workspace, planned: Sequence[Planned]) -> list[str]:
    """Queue what is missing; returns the ids of all of the runs, in order.

    A run with the same request and the same first tag is the same: a finished one is kept, a stopped or failed one
    goes on.
    """
    known = _known(workspace, planned)
    ids: dict[str, str] = {}
    for item in planned:
        spec = item.request(ids)
        run = known.get(_key(spec))
        if run is None:
            after = [ids[name] for name in item.after]
            run_id = client.submit(workspace, spec, after=after, tags=item.tags, start_supervisor=False)
            run = known[_key(spec)] = open_run(workspace, run_id)
        elif run.state() in RESUMABLE:
            client.resume(workspace, run.id)
        ids[item.name] = run.id
    client.ensure_supervisor(workspace)
    return list(ids.values())


def _known(workspace: Workspace, planned: Sequence[Planned]) -> dict[str, RunFolder]:
    """Request -> the newest run that has it."""
    shared, found = {item.tags[0] for item in planned}, {}
    for run in list_runs(workspace):
        tags = (read_json(run.path / "spec.json") or {}).get("tags") or [""]
        if tags[0] in shared:
            with contextlib.suppress(RsfmError):  # of another version: not the same request
                found[_key(run.spec())] = run
    return found


def _key(spec: Spec) -> str:
    return spec_hash(spec.model_dump(mode="json"))
