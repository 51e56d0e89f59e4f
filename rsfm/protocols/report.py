"""Scores of a protocol beside the authors' numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import pandas as pd

from rsfm.comparison import with_summaries
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.protocols import Protocol, plan, reference_rows
from rsfm.registry.evaluation import EVALUATION_PRESETS
from rsfm.specs import EvaluateSpec, spec_hash
from rsfm.specs.base import for_group
from rsfm.store.runs import open_run
from rsfm.store.view import Store
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

_COLUMNS = [
    "dataset", "metric", "model", "model_group", "adaptation", "train_degrade", "operator", "severity", "value",
    "ci_low", "ci_high", "n",
]  # fmt: skip
#: What makes one curve among them.
CURVE = ("dataset", "metric", "operator", "model", "model_group", "adaptation", "train_degrade", "who")


def measured(
    workspace: Workspace, what: Protocol, packs: Mapping[str, str], overrides: Sequence[str] = ()
) -> pd.DataFrame:
    """Our scores on those packs, as they are now, by exactly the protocol's requests; then the authors'.

    A request is the protocol's if nothing differs but the model, its seed and where it ran, whoever asked for it.

    Args:
        packs: catalog entry -> pack.
        overrides: `key=value` settings that depart from the published ones, as for `plan`.

    Returns:
        `dataset` (the pack), metric, model (title), model_group (of ours), adaptation (without its preset),
        train_degrade, operator, severity, value, ci_low, ci_high, n, and `who`: ours or authors.
    """
    store = Store(workspace)
    store.refresh_if_stale()
    # The band statistics have a plan of their own; all other models have the same one.
    wanted = {_request(planned.spec) for planned in plan(what, packs, ["band-stats", "random:any"], overrides)}
    runs = store.runs(kind="evaluate", limit=1_000_000)
    runs = [run_id for run_id in runs.loc[runs["dataset"].isin(packs.values()), "run_id"]
            if _is_wanted(workspace, run_id, wanted)]  # fmt: skip
    ours = store.compare(run_id=runs)
    presets = {m.dataset: m.preset for m in what.measurements}
    primary = {task.name: task.metrics[0] for task in TASKS.values()}
    ours = ours[ours["metric"] == ours["task"].map(primary)]
    parts = []
    for entry, pack in packs.items():
        rows = ours[(ours["dataset"] == pack) & (ours["pack_hash"] == Pack.named(workspace, pack).info.content_hash)]
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


def summarised(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows with what each curve amounts to (`rsfm.comparison.with_summaries`)."""
    return with_summaries(frame, keys=CURVE, score="value")


def _request(spec: EvaluateSpec) -> tuple[bool, str]:
    """What is asked of a model, whichever it is: requests of before may hold settings that nothing used."""
    if spec.preset:
        spec = spec.only_used(TASKS[EVALUATION_PRESETS[spec.preset].tasks[0]])
    data = for_group(spec)
    return data.pop("model") == "band-stats", spec_hash({k: v for k, v in data.items() if k != "model_seed"})


def _is_wanted(workspace: Workspace, run_id: str, wanted: set[tuple[bool, str]]) -> bool:
    with contextlib.suppress(RsfmError):  # of another version: not the same request
        spec = open_run(workspace, run_id).spec()
        return isinstance(spec, EvaluateSpec) and _request(spec) in wanted
    return False
