"""Runs of a protocol: queued once each, and their scores beside the authors' numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from rsfm.protocols import Planned, Protocol, reference_rows
from rsfm.specs import spec_hash
from rsfm.store.files import read_json
from rsfm.store.runs import RESUMABLE, RunFolder, create_run, list_runs
from rsfm.store.view import Store
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

_COLUMNS = ["dataset", "metric", "model", "adaptation", "train_degrade", "severity", "value", "ci_low", "ci_high", "n"]


def queue_planned(workspace: Workspace, planned: Sequence[Planned]) -> list[str]:
    """Queue what is missing; returns the ids of all of the runs, in order.

    A run with the same request is the same measurement: finished ones are kept, stopped or failed ones go on.
    """
    from jobs import client

    workspace.runs.mkdir(parents=True, exist_ok=True)
    known: dict[str, RunFolder] = {}
    for run in list_runs(workspace):
        envelope = read_json(run.path / "spec.json") or {}
        if planned and planned[0].tags[0] in envelope.get("tags", []):
            known[spec_hash(envelope.get("spec", {}))] = run
    ids = []
    for item in planned:
        run = known.get(spec_hash(item.spec.model_dump(mode="json")))
        if run is None:
            run = create_run(workspace, item.spec, tags=item.tags)
        elif run.state() in RESUMABLE:
            client.resume(workspace, run.id)
        ids.append(run.id)
    client.ensure_supervisor(workspace)
    return ids


def measured(workspace: Workspace, what: Protocol, packs: Mapping[str, str]) -> pd.DataFrame:
    """Our scores on those packs by the protocol's presets, then the authors'.

    Args:
        packs: catalog entry -> pack.

    Returns:
        `dataset` (the pack), metric, model (title), adaptation (without its preset), train_degrade, severity, value,
        ci_low, ci_high, n, and `who`: ours or authors.
    """
    store = Store(workspace)
    store.refresh_if_stale()
    ours = store.compare()
    presets = {m.dataset: m.preset for m in what.measurements}
    parts = []
    for entry, pack in packs.items():
        rows = ours[(ours["dataset"] == pack) & ours["adaptation"].str.contains(presets[entry], regex=False)]
        primary = {task.name: task.metrics[0] for task in TASKS.values()}
        rows = rows[rows["metric"] == rows["task"].map(primary)]
        # "finetune (preset, epochs=2)" is "finetune (epochs=2)" here, where every row has the preset.
        names = rows["adaptation"].str.replace(f"{presets[entry]}, ", "", regex=False)
        names = names.str.replace(f" ({presets[entry]})", "", regex=False)
        parts.append(
            rows.assign(model=rows["model_title"], adaptation=names, value=rows["mean"], who="ours")[[*_COLUMNS, "who"]]
        )
        theirs = reference_rows(what.name)
        theirs = theirs[theirs["dataset"] == entry].assign(dataset=pack, who="authors")
        parts.append(theirs.reindex(columns=[*_COLUMNS, "who"]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*_COLUMNS, "who"])
