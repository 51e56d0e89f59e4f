"""Scores of a protocol beside the authors' numbers."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from rsfm.protocols import Protocol, reference_rows
from rsfm.store.view import Store
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

_COLUMNS = ["dataset", "metric", "model", "adaptation", "train_degrade", "severity", "value", "ci_low", "ci_high", "n"]


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
