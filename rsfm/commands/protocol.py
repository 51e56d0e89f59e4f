"""Verbs for published benchmarks: list, show, run, report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsfm.commands.common import (
    JsonOption,
    WorkspaceOption,
    follow_all,
    frame_rows,
    print_json,
    require_all,
    split,
    summary_columns,
    table,
)
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from rsfm.specs import Planned

app = typer.Typer(help="Published benchmarks as one command.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The protocol's name.")]
PacksOption = Annotated[
    str,
    typer.Option(help="Measure these packs only, with commas; empty: of each dataset the one it has."),
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value that departs from the published settings.")
]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Protocols that are known."""
    from rsfm.protocols import protocols

    known = protocols().values()
    if as_json:
        print_json([{"name": p.name, "title": p.title, "paper": p.paper, "datasets": p.datasets} for p in known])
        return
    rows = [[p.name, p.title, p.paper, ", ".join(p.datasets)] for p in known]
    table("Protocols", ["name", "title", "paper", "datasets"], rows, empty="None.")


@app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """What a protocol measures, where it departs from the paper, and the authors' numbers."""
    from rsfm.protocols import protocol, reference_rows
    from rsfm.protocols.report import summarised

    what, reference = protocol(name), reference_rows(name)
    if as_json:
        print_json(
            {
                "name": what.name, "title": what.title, "paper": what.paper, "summary": what.summary,
                "measurements": [vars(m) for m in what.measurements], "models": what.models, "differs": what.differs,
                "source": what.source, "reference": frame_rows(reference),
            }
        )  # fmt: skip
        return
    print(f"{what.title} ({what.paper})\n{what.summary}\n")
    rows = [[m.name, m.dataset, m.preset, "yes" if m.train_degrade else ""] for m in what.measurements]
    table("Measurements", ["name", "dataset", "preset", "degraded while training"], rows, empty="None.")
    print("Departs from the paper:")
    for sentence in what.differs:
        print(f"  {sentence}")
    print_numbers(f"Reference: {what.source}", summarised(reference.assign(who="authors", model_group="")))


@app.command()
def run(
    name: NameArgument,
    models: Annotated[
        str, typer.Option(help="RUN_ID, random:<encoder>, band-stats, timm:<name> …, with commas; empty: baselines.")
    ] = "",
    packs: PacksOption = "",
    settings: SettingsOption = None,
    queue: Annotated[bool, typer.Option("--queue", help="Queue the runs and return at once.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Measure models as a protocol says: one run for each model and measurement.

    Every request is checked before any of them is queued. Asking again queues only what is missing; stopped and
    failed runs go on.
    """
    from jobs.planned import queue_planned
    from rsfm.protocols import left_out, packs_of, plan, protocol

    place, what = Workspace.resolve(workspace), protocol(name)
    chosen = packs_of(what, place, split(packs))
    if not chosen:
        raise RsfmError(
            f"No pack of {', '.join(what.datasets)} is prepared. Prepare one: rsfm data prepare {what.datasets[0]} "
            "--source FOLDER (see `rsfm data show` for its layout)."
        )
    for sentence in left_out(what, place, chosen):
        print(sentence, file=sys.stderr)
    for dataset, pack in chosen.items():
        print(f"{dataset}: pack {pack}", file=sys.stderr)
    planned = plan(what, chosen, split(models) or list(what.models), settings or [])
    _require_possible(place, planned)
    ids = queue_planned(place, planned)
    if queue:
        print_json({"runs": ids}) if as_json else print("\n".join(ids))
        return
    failed = follow_all(place, ids)
    report(name, packs=packs, settings=settings, as_json=as_json, workspace=workspace)
    require_all(failed, len(ids))


def _require_possible(place: Workspace, planned: Sequence[Planned]) -> None:
    """Dry-run what is not finished.

    Raises:
        RsfmError: some requests are refused; names all of them.
    """
    from jobs import client
    from jobs.planned import to_start

    refused, wanted = [], to_start(place, planned)
    for number, item in enumerate(wanted, 1):
        print(f"Checking {number} of {len(wanted)}: {item.name}", file=sys.stderr)
        checked = client.dry_run(item.spec, place)
        for remark in checked.remarks:
            print(f"  {remark}", file=sys.stderr)
        if not checked.ok:
            refused.append(f"{item.name}: {checked.problem}")
    if refused:
        raise RsfmError(
            f"{len(refused)} of {len(wanted)} requests were refused, so none was queued. {' '.join(refused)}"
        )


@app.command()
def report(
    name: NameArgument,
    packs: PacksOption = "",
    settings: SettingsOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """What was measured by exactly the protocol's settings, beside the authors' numbers."""
    from rsfm.protocols import packs_of, protocol
    from rsfm.protocols.report import measured, summarised

    place, what = Workspace.resolve(workspace), protocol(name)
    frame = summarised(measured(place, what, packs_of(what, place, split(packs)), settings or []))
    if as_json:
        print_json({"source_of_authors": what.source, "rows": frame_rows(frame)})
        return
    if not (frame["who"] == "ours").any():
        print(f"Nothing of {name} has been measured yet: rsfm protocol run {name}")
        return
    print_numbers(f"{what.title}. Authors: {what.source}.", frame)


def print_numbers(title: str, frame: pd.DataFrame) -> None:
    """Curves as tables, one per dataset, metric and operator: scores per severity, and what they amount to.

    Args:
        frame: from `rsfm.protocols.report.summarised`.
    """
    from rsfm.degrade import severity_text
    from rsfm.protocols.report import CURVE

    print(title)
    for (dataset, metric, operator), part in frame.groupby(["dataset", "metric", "operator"], sort=False):
        severities = sorted(part["severity"].unique())
        part = part.assign(shown=_told_apart(part))
        curves = [curve for _, curve in part.groupby(list(CURVE), sort=False, dropna=False)]
        firsts = [curve.iloc[0] for curve in curves]
        more = summary_columns(firsts, percent=True)
        rows: list[list[Any]] = []
        for first, curve, summary in zip(firsts, curves, zip(*more.values(), strict=True), strict=True):
            at = dict(zip(curve["severity"], curve["value"], strict=True))
            cells = [f"{100 * at[s]:.1f}" if s in at else "" for s in severities]
            degraded = "" if first["train_degrade"] == "none" else "yes"
            rows.append([first["shown"], first["adaptation"], degraded, *cells, *summary, first["who"]])
        heads = [severity_text(operator, s) for s in severities]
        columns = ["model", "adaptation", "degraded while training", *heads, *more, "who"]
        more_title = f" · {operator}" * (operator != "bilinear")
        table(f"{dataset} · {metric} (%){more_title}", columns, rows, empty="")


def _told_apart(frame: pd.DataFrame) -> pd.Series:
    """The models' titles, with the group behind those that several groups bear; the authors' models have none."""
    bearers = frame.groupby(["who", "model"])["model_group"].transform("nunique")
    return frame["model"].where(bearers <= 1, frame["model"] + " (" + frame["model_group"].astype(str) + ")")
