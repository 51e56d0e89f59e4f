"""Published benchmarks as one request: datasets × models × adaptations × severities, with the published settings.

A protocol is a list of evaluations (`Task on a dataset` with its settings) and the numbers that its authors
published. Runs of a protocol are ordinary runs: they are found by their tags, so asking twice queues nothing twice.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsfm.errors import RsfmError
from rsfm.packs import Pack, list_packs
from rsfm.registry.evaluation import EVALUATION_PRESETS
from rsfm.specs import Planned, evaluate_spec
from rsfm.tasks import ADAPTATIONS, TASKS
from rsfm.workspace import Workspace


@dataclass(frozen=True)
class Measurement:
    """One adaptation on one dataset.

    Attributes:
        dataset: a catalog entry; any pack made from it will do.
        preset: of the evaluation.
    """

    name: str
    dataset: str
    preset: str
    train_degrade: bool = False

    @property
    def settings(self) -> list[str]:
        # As published: the baseline is a tuned encoder.
        return ["fit.train_degrade=true", 'adaptations=["finetune"]'] if self.train_degrade else []


@dataclass(frozen=True)
class Protocol:
    """A published benchmark.

    Attributes:
        differs: what is done in another way than published, and why; one sentence each.
        models: asked for where no model is named.
        source: what the reference numbers are, said wherever they are shown.
    """

    name: str
    title: str
    paper: str
    summary: str
    measurements: tuple[Measurement, ...]
    models: tuple[str, ...]
    source: str
    differs: tuple[str, ...] = ()
    reference: Path | None = field(default=None, repr=False)

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m.dataset for m in self.measurements))


def protocols() -> dict[str, Protocol]:
    from rsfm.protocols import dstnsp

    return {p.name: p for p in (dstnsp.PROTOCOL,)}


def protocol(name: str) -> Protocol:
    """Look a protocol up by name."""
    known = protocols()
    if name not in known:
        raise RsfmError(f"Unknown protocol {name!r}; known: {', '.join(known)}.")
    return known[name]


def packs_of(what: Protocol, workspace: Workspace, packs: Sequence[str] = ()) -> dict[str, str]:
    """Dataset -> pack to measure it on: those named and no other, else the one prepared from each catalog entry.

    Of several, the one that bears the entry's name.

    Raises:
        RsfmError: a named pack is of no dataset of the protocol, or two are of the same; or it cannot be told which of
            several is meant.
    """
    chosen: dict[str, str] = {}
    for name in packs:
        entry = Pack.named(workspace, name).info.dataset
        if entry not in what.datasets:
            raise RsfmError(f"Pack {name!r} is of dataset {entry!r}; {what.name} measures {', '.join(what.datasets)}.")
        if entry in chosen:
            raise RsfmError(f"Packs {chosen[entry]!r} and {name!r} are both of {entry!r}: name one.")
        chosen[entry] = name
    if packs:
        return chosen
    infos = list_packs(workspace)[0]
    for entry in what.datasets:
        names = [info.name for info in infos if info.dataset == entry]
        if len(names) > 1 and entry not in names:
            raise RsfmError(f"Packs {', '.join(names)} are all of {entry!r}: name all that are meant with --packs.")
        if names:
            chosen[entry] = entry if entry in names else names[0]
    return chosen


def left_out(what: Protocol, workspace: Workspace, chosen: Mapping[str, str]) -> list[str]:
    """Sentences on the datasets of a protocol that are not in `chosen` (from `packs_of`), and why."""
    prepared = {info.dataset for info in list_packs(workspace)[0]}
    missing = [entry for entry in what.datasets if entry not in chosen]
    unnamed, absent = [e for e in missing if e in prepared], [e for e in missing if e not in prepared]
    found = [f"Prepared, but no pack of it is named, so left out: {', '.join(unnamed)}."] if unnamed else []
    return [*found, f"Not prepared, so not measured: {', '.join(absent)}."] if absent else found


def plan(
    what: Protocol, packs: Mapping[str, str], models: Sequence[str], overrides: Sequence[str] = ()
) -> list[Planned]:
    """All evaluations of a protocol: every measurement whose dataset has a pack, for every model.

    Args:
        overrides: `key=value` settings that depart from the published ones, where they mean anything.

    Raises:
        RsfmError: a setting is unknown, does not fit, or means nothing anywhere.
    """
    result, in_vain = [], None
    for measurement in what.measurements:
        if measurement.dataset not in packs:
            continue
        for model in models:
            task = TASKS[EVALUATION_PRESETS[measurement.preset].tasks[0]]
            floor: list[str] = []  # has no weights to tune: a linear layer on what it gives
            if model == "band-stats":
                floor = ['adaptations=["linear"]', *(["fit.lr=null"] if task.trains("linear") else [])]
            settings = [*measurement.settings, *floor, *overrides]
            spec = evaluate_spec(model, packs[measurement.dataset], measurement.preset, settings)
            unused = set(spec.unused(task))
            in_vain = unused if in_vain is None else in_vain & unused
            tags = (what.name, f"{what.name}:{measurement.name}")
            result.append(Planned(f"{measurement.name}, {model}", spec.only_used(task), tags))
    if in_vain:
        raise RsfmError(f"No measurement of {what.name} uses {', '.join(sorted(in_vain))}: leave such settings out.")
    return result


@cache
def reference_rows(name: str) -> pd.DataFrame:
    """The authors' numbers of a protocol, as shares.

    Returns:
        dataset (catalog entry), task, adaptation, train_degrade, metric, model, n (0: not known), where (they were
        found), operator, severity, value.
    """
    what = protocol(name)
    rows: list[dict[str, Any]] = []
    if what.reference is not None:
        with what.reference.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores = {f: row.pop(f"x{f}") for f in (1, 2, 4, 8)}
                fixed = {**row, "n": int(row["n"]), "operator": "bilinear"}
                rows += [{**fixed, "severity": float(f), "value": float(v) / 100} for f, v in scores.items()]
    return pd.DataFrame(rows)


def reference_frame(packs: Mapping[str, str]) -> pd.DataFrame:
    """The authors' numbers of all protocols as rows of `Store.compare`, for the packs that are shown.

    They have no interval and no seeds, and their titles say what they are. Where the authors do not say how a model was
    adapted, it shares no chart with others.

    Args:
        packs: pack -> the catalog entry it was made from.
    """
    rows = []
    for what in protocols().values():
        found = reference_rows(what.name)
        for pack, entry in packs.items():
            for row in found[found["dataset"] == entry].to_dict("records"):
                task = TASKS[row["task"]]
                rows.append(
                    {
                        "model": f"{row['model']} ({what.name})", "model_title": f"{row['model']} (authors)",
                        "model_group": f"reference:{what.name}:{row['model']}", "dataset": pack, "synthetic": False,
                        "task": row["task"], "adaptation": _named(what, row), "operator": row["operator"],
                        "severity": row["severity"], "gsd_m": np.nan, "metric": row["metric"], "mean": row["value"],
                        "std": np.nan, "ci_low": np.nan, "ci_high": np.nan, "n": row["n"], "seeds": 1,
                        "seed_kind": "evaluation seeds", "pack_hash": None, "split": "test",
                        "bands": "red,green,blue", "degrade_target": task.degrade_target,
                        "train_degrade": row["train_degrade"],
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def _named(what: Protocol, row: Mapping[str, Any]) -> str:
    """The adaptation as our own scores of that measurement name it, so that both fall on one chart."""
    if row["adaptation"] not in ADAPTATIONS:  # not stated by the authors: no score of ours can be put beside it
        return str(row["adaptation"])
    preset = next(m.preset for m in what.measurements if m.dataset == row["dataset"])
    return evaluate_spec(str(row["model"]), str(row["dataset"]), preset).protocol_name(
        row["adaptation"], TASKS[row["task"]]
    )
