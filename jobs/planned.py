"""Queueing what a protocol plans, once each."""

from __future__ import annotations

from collections.abc import Sequence

from jobs import client
from rsfm.protocols import Planned
from rsfm.specs import spec_hash
from rsfm.store.files import read_json
from rsfm.store.runs import RESUMABLE, RunFolder, create_run, list_runs
from rsfm.workspace import Workspace


def queue_planned(workspace: Workspace, planned: Sequence[Planned]) -> list[str]:
    """Queue what is missing; returns the ids of all of the runs, in order.

    A run with the same request is the same measurement: finished ones are kept, stopped or failed ones go on.
    """
    workspace.runs.mkdir(parents=True, exist_ok=True)
    known: dict[str, RunFolder] = {}
    for run in list_runs(workspace):
        envelope = read_json(run.path / "spec.json") or {}
        if planned and planned[0].tags[0] in envelope.get("tags", []):
            known[spec_hash(envelope.get("spec", {}))] = run
    ids = []
    for item in planned:
        key = spec_hash(item.spec.model_dump(mode="json"))
        run = known.get(key)
        if run is None:
            run = known[key] = create_run(workspace, item.spec, tags=item.tags)
        elif run.state() in RESUMABLE:
            client.resume(workspace, run.id)
        ids.append(run.id)
    client.ensure_supervisor(workspace)
    return ids
