"""`rsfm demo`: the whole way from pixels to a resolution-degradation curve, on data that needs no download.

The encoder learns from a real Landsat 7 scene; it is evaluated on a labelled *synthetic* pack that is rendered to
the same sensor with the same per-band statistics. Everything runs through the supervisor, in the background.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from rsfm.commands.common import JsonOption, WorkspaceOption, follow
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec, PrepareSpec, Spec, pretrain_spec
from rsfm.store.files import read_json
from rsfm.store.runs import RESUMABLE, RunFolder, create_run, list_runs
from rsfm.workspace import Workspace

REAL_PACK = "landsat7-sample"
LABELLED_PACK = "synthetic-landsat7"
MAE_SETTINGS = ["encoder.patch_size=8", "samples=50000"]
TAG = "demo"


@dataclass(frozen=True)
class Step:
    """One job of the demo. `after` names the steps that it needs; `{mae}` stands for that step's run id."""

    name: str
    spec: Spec
    after: tuple[str, ...] = ()


def demo_steps() -> list[Step]:
    """The demo's jobs in the order in which they are queued."""
    labelled = PrepareSpec(dataset=LABELLED_PACK, options={"match": REAL_PACK})
    steps = [
        Step("real pack", PrepareSpec(dataset=REAL_PACK)),
        Step("labelled pack", labelled, ("real pack",)),
        Step("mae", pretrain_spec("mae", REAL_PACK, "cpu", MAE_SETTINGS), ("real pack",)),
    ]
    for model in ("band-stats", "random:vit-nano", "efficientnet-lite0", "{mae}"):
        needs = ("labelled pack", "mae") if model == "{mae}" else ("labelled pack",)
        steps.append(Step(f"evaluate {model}", EvaluateSpec(model=model, dataset=LABELLED_PACK), needs))
    return steps


def queue_demo(workspace: Workspace) -> list[str]:
    """Queue what the demo still lacks; returns the ids of all its runs in order.

    A second call finds the jobs of the first: finished ones are kept, stopped or failed ones are resumed.
    """
    from jobs import client

    workspace.runs.mkdir(parents=True, exist_ok=True)
    known: dict[str, RunFolder] = {}
    for run in list_runs(workspace):
        tags = (read_json(run.path / "spec.json") or {}).get("tags", [])
        if TAG in tags and len(tags) > 1:
            known[tags[1]] = run
    ids: dict[str, str] = {}
    for step in demo_steps():
        run = known.get(step.name)
        if run is None:
            spec = step.spec
            if isinstance(spec, EvaluateSpec) and spec.model == "{mae}":
                spec = spec.model_copy(update={"model": ids["mae"]})
            run = create_run(workspace, spec, after=[ids[name] for name in step.after], tags=[TAG, step.name])
        elif run.state() in RESUMABLE:
            client.resume(workspace, run.id)
        ids[step.name] = run.id
    client.ensure_supervisor(workspace)
    return list(ids.values())


def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No server: wait, print the table, exit.")] = False,
    port: Annotated[int, typer.Option(help="Port of the dashboard.", min=1, max=65535)] = 8501,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Prepare, pretrain, evaluate and compare on a real Landsat scene, and open the dashboard on it."""
    from app.server import require_free, serve

    place = Workspace.resolve(workspace)
    if as_json and not headless:
        raise RsfmError("--json needs --headless: the dashboard prints no table.")
    if not headless:
        require_free("127.0.0.1", port)
    ids = queue_demo(place)
    if not headless:
        print(f"{len(ids)} demo jobs run in the background; follow them in the dashboard.", file=sys.stderr)
        serve(place, port=port)
        return
    started = time.monotonic()
    for number, run_id in enumerate(ids, 1):
        print(f"[{number}/{len(ids)}] {run_id}", file=sys.stderr)
        follow(place, run_id)
    print(f"Done in {time.monotonic() - started:.0f} s.", file=sys.stderr)
    report(place, as_json)


def report(place: Workspace, as_json: bool) -> None:
    from rsfm.commands.compare import compare, print_comparison

    if as_json:
        compare(dataset=LABELLED_PACK, as_json=True, workspace=place.root)
    else:
        print_comparison(place, LABELLED_PACK)
