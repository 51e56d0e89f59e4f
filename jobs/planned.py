"""Queueing runs that belong together (the demo, a protocol), once each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from jobs import client
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec, Planned, Spec, spec_hash
from rsfm.store.files import read_json, read_jsonl
from rsfm.store.runs import RESUMABLE, RunFolder, list_runs, open_run
from rsfm.workspace import Workspace


def queue_planned(workspace: Workspace, planned: Sequence[Planned]) -> list[str]:
    """Queue what is missing; returns the ids of all of the runs, in order.

    A run with the same request and the same first tag is the same: a finished one is kept, a stopped or failed one
    goes on. An evaluation of a pack that was prepared again since is another one. Where one is refused, those before it
    stay queued and are worked on.
    """
    known = _known(workspace, planned)
    ids: dict[str, str] = {}
    try:
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
    finally:  # what was queued before one of them was refused runs all the same
        if ids:
            client.ensure_supervisor(workspace)
    return list(ids.values())


def to_start(workspace: Workspace, planned: Sequence[Planned]) -> list[Planned]:
    """Those that `queue_planned` would start, or start again; for plans that wait for nothing."""
    known = _known(workspace, planned)
    runs = {item.name: known.get(_key(item.spec)) for item in planned}
    return [item for item in planned if (run := runs[item.name]) is None or run.state() in RESUMABLE]


def _known(workspace: Workspace, planned: Sequence[Planned]) -> dict[str, RunFolder]:
    """Request -> the newest run that has it."""
    shared, found = {item.tags[0] for item in planned}, {}
    for run in list_runs(workspace):
        tags = (read_json(run.path / "spec.json") or {}).get("tags") or [""]
        if tags[0] not in shared:
            continue
        with contextlib.suppress(RsfmError):  # of another version: not the same request
            spec = run.spec()
            if not _of_another_pack(workspace, run, spec):
                found[_key(spec)] = run
    return found


def _of_another_pack(workspace: Workspace, run: RunFolder, spec: Spec) -> bool:
    """Whether the run has measured its pack as it was before it was prepared again."""
    scores = read_jsonl(run.path / "scores.jsonl")[0] if isinstance(spec, EvaluateSpec) else []
    if not scores:
        return False
    try:
        return scores[-1].get("pack_hash") != Pack.named(workspace, spec.dataset).info.content_hash
    except RsfmError:  # gone, or broken: nothing can be measured on it now
        return False


def _key(spec: Spec) -> str:
    return spec_hash(spec.model_dump(mode="json"))
