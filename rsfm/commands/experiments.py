"""`rsfm methods | pretrain | evaluate | compare`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsfm.commands.common import (
    JsonOption,
    WorkspaceOption,
    follow,
    frame_rows,
    integers,
    numbers,
    print_json,
    split,
    table,
)
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


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


def _submit(spec: Any, workspace: Workspace, *, queue: bool, as_json: bool) -> None:
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
    _submit(spec, place, queue=queue, as_json=as_json)


def evaluate(
    model: Annotated[
        str, typer.Option(help="RUN_ID, random:<encoder>, band-stats, efficientnet-lite0 or timm:<name>.")
    ],
    dataset: Annotated[str, typer.Option(help="A labelled pack.")],
    adaptation: Annotated[
        str, typer.Option(help="knn, linear, decoder, finetune, with commas; empty: what is usual for the pack's task.")
    ] = "",
    operator: Annotated[str, typer.Option(help="Degradation: see `rsfm degradations`.")] = "bilinear",
    severities: Annotated[
        str, typer.Option(help="With commas; empty: the operator's own, e.g. 1, 2, 4 and 8 times coarser.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Evaluation seeds: head and training-subset draw.")] = "0,1,2",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the evaluation's spec.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Queue it and return at once.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Evaluate a model on a labelled pack at several severities of a degradation; the run's id is the last line."""
    from rsfm.packs import Pack
    from rsfm.specs import apply_settings, parse_spec

    place = Workspace.resolve(workspace)
    data: dict[str, Any] = {
        "kind": "evaluate", "model": model, "dataset": dataset, "adaptations": split(adaptation),
        "operator": operator, "severities": numbers(severities, "--severities"),
        "eval_seeds": integers(seeds, "--seeds"),
    }  # fmt: skip
    known = parse_spec(data).model_dump(mode="json")
    spec = parse_spec(apply_settings(data, settings or [], known))
    Pack.named(place, dataset)
    _submit(spec, place, queue=queue, as_json=as_json)


COMPARE_COLUMNS = (
    "model", "dataset", "task", "adaptation", "operator", "severity", "gsd_m", "metric",
    "mean", "std", "ci_low", "ci_high", "n", "seeds",
)  # fmt: skip


def _comparison(place: Workspace, dataset: str | None) -> pd.DataFrame:
    """`Store.compare`; refuses a pack that is neither prepared nor in any result."""
    from rsfm.packs import Pack
    from rsfm.store.view import Store

    store = Store(place)
    store.refresh_if_stale(0)
    frame = store.compare(dataset=dataset)
    if store.notice:
        print(store.notice, file=sys.stderr)
    if frame.empty and dataset is not None:
        Pack.named(place, dataset)
    return frame


def print_comparison(place: Workspace, dataset: str | None = None) -> None:
    """A row per model and adaptation, a column per severity."""
    from rsfm.stats import CURVE_KEYS

    frame = _comparison(place, dataset)
    if frame.empty:
        print("No results yet. Make some with: rsfm evaluate --model MODEL --dataset PACK")
        return
    for (pack, metric), part in frame.groupby(["dataset", "metric"], sort=True):
        severities = sorted(part["severity"].unique())
        rows = []
        several_bands = part.groupby("model_group")["bands"].nunique().max() > 1
        keys = [key for key in CURVE_KEYS if key in part.columns]
        for _, curve in part.groupby(keys, sort=False, dropna=False):
            at = {row.severity: row for row in curve.itertuples()}
            cells = [
                f"{at[s].mean:.3f} [{at[s].ci_low:.3f}, {at[s].ci_high:.3f}]" if s in at else "" for s in severities
            ]
            first = curve.iloc[0]
            title = first["model_title"] + (f" on {first['bands']}" if several_bands else "")
            seeds = f"{first['seeds']} {first['seed_kind']}"
            rows.append([title, first["adaptation"], first["operator"], *cells, seeds, first["n"]])
        gsd = part.drop_duplicates("severity").set_index("severity")["gsd_m"].to_dict()
        heads = [
            f"{s:g}x" + (f" ({gsd[s]:.0f} m)" if gsd[s] == gsd[s] and gsd[s] is not None else "") for s in severities
        ]
        label = f"{pack} · {metric}" + (" · synthetic data" if bool(part["synthetic"].any()) else "")
        table(label, ["model", "adaptation", "operator", *heads, "seeds", "n"], rows, empty="")


def compare(
    dataset: Annotated[str | None, typer.Option(help="Only this pack.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Compare models over resolutions: mean, spread over seeds, bootstrap interval."""
    place = Workspace.resolve(workspace)
    if not as_json:
        print_comparison(place, dataset)
        return
    rows = frame_rows(_comparison(place, dataset))
    extra = (
        "model_title", "model_group", "synthetic", "seed_kind", "bands", "split", "pack_hash", "degrade_target",
        "train_degrade",
    )  # fmt: skip
    print_json([{k: row[k] for k in (*COMPARE_COLUMNS, *extra)} for row in rows])
