"""`rsfm methods | pretrain | evaluate | embed`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, get_args

import typer

from rsfm.commands.common import (
    JsonOption,
    WorkspaceOption,
    follow,
    integers,
    numbers,
    print_json,
    split,
    table,
)
from rsfm.errors import RsfmError
from rsfm.specs import Operator
from rsfm.workspace import Workspace


def methods(as_json: JsonOption = False) -> None:
    """List the pretraining methods with their paper, inputs and presets."""
    from rsfm.registry import METHODS

    if as_json:
        print_json(
            [
                {
                    "name": m.name, "title": m.title, "family": m.family, "paper": m.paper, "inputs": m.inputs,
                    "summary": m.summary,
                    "presets": [{"name": n, "title": p.title, "values": p.values} for n, p in m.presets.items()],
                    "defaults": m.params().model_dump(mode="json"),
                }
                for m in METHODS.values()
            ]
        )  # fmt: skip
        return
    table(
        "",
        ["name", "family", "paper", "inputs", "presets"],
        ([m.name, m.family, m.paper, m.inputs, ", ".join(m.presets)] for m in METHODS.values()),
        empty="No methods.",
    )


def check_and_submit(spec: Any, workspace: Workspace, *, queue: bool, as_json: bool) -> None:
    """Dry-run, queue, and follow unless asked not to. The run's id is the last line."""
    from jobs import client

    print("Checking the request…", file=sys.stderr)
    checked = client.dry_run(spec, workspace)
    if not checked.ok:
        raise RsfmError(checked.problem or "the dry run refused this request")
    for remark in checked.remarks:
        print(f"  {remark}", file=sys.stderr)
    run_id = client.submit(workspace, spec)
    state = "queued" if queue else follow(workspace, run_id)
    if as_json:
        print_json({"run_id": run_id, "state": state, "kind": spec.kind, "remarks": checked.remarks})
    else:
        print(run_id)


def pretrain(
    method: Annotated[str, typer.Option(help="See `rsfm methods`.")],
    dataset: Annotated[str, typer.Option(help="A prepared pack.")],
    preset: Annotated[str, typer.Option(help="A starting point of that method.")] = "cpu",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. mask_ratio=0.6 or optim.samples=20000.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Model seed.")] = 0,
    queue: Annotated[bool, typer.Option("--queue", help="Queue it and return at once.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Pretrain an encoder on a pack; the run's id is the last line.

    Runs in the background under the supervisor; without --queue it is followed here, and Ctrl-C stops it.
    """
    from rsfm.packs import Pack
    from rsfm.specs import pretrain_spec

    place = Workspace.resolve(workspace)
    spec = pretrain_spec(method, dataset, preset, settings, seed=seed)
    Pack.named(place, dataset)
    check_and_submit(spec, place, queue=queue, as_json=as_json)


def evaluate(
    model: Annotated[
        str, typer.Option(help="RUN_ID, random:<encoder>, band-stats, timm:<name>, torchgeo:<weights> or file:<name>.")
    ],
    dataset: Annotated[str, typer.Option(help="A labelled pack.")],
    preset: Annotated[str, typer.Option(help="Named settings to start from, e.g. dstnsp-change.")] = "",
    adaptation: Annotated[
        str, typer.Option(help="knn, linear, decoder, finetune, with commas; empty: what is usual for the pack's task.")
    ] = "",
    operator: Annotated[str, typer.Option(help=f"Degradation: {', '.join(get_args(Operator))}.")] = "",
    severities: Annotated[
        str, typer.Option(help="With commas; empty: the operator's own, e.g. 1, 2, 4 and 8 times coarser.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Evaluation seeds: head, training and its subset; empty: 0,1,2.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the evaluation's spec.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Queue it and return at once.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Evaluate a model on a labelled pack at several severities of a degradation; the run's id is the last line."""
    from rsfm.packs import Pack
    from rsfm.specs import evaluate_spec

    place = Workspace.resolve(workspace)
    named: dict[str, Any] = {
        "adaptations": split(adaptation), "operator": operator, "severities": numbers(severities, "--severities"),
        "eval_seeds": integers(seeds, "--seeds"),
    }  # fmt: skip
    options = [f"{key}={json.dumps(value)}" for key, value in named.items() if value]
    spec = evaluate_spec(model, dataset, preset, [*options, *(settings or [])])
    Pack.named(place, dataset)
    check_and_submit(spec, place, queue=queue, as_json=as_json)


def embed(
    model: Annotated[
        str, typer.Option(help="RUN_ID, random:<encoder>, band-stats, timm:<name>, torchgeo:<weights> or file:<name>.")
    ],
    dataset: Annotated[str, typer.Option(help="A pack, with or without labels.")],
    severities: Annotated[str, typer.Option(help="With commas; empty: the images as they are.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the embedding's spec.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Queue it and return at once.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Lay a pack's images out on a map by a model's features (PCA, UMAP); the run's id is the last line."""
    from rsfm.packs import Pack
    from rsfm.specs import embed_spec

    place = Workspace.resolve(workspace)
    options = [f"severities={json.dumps(numbers(severities, '--severities'))}"] if severities else []
    spec = embed_spec(model, dataset, [*options, *(settings or [])])
    Pack.named(place, dataset)
    check_and_submit(spec, place, queue=queue, as_json=as_json)
