"""`rsfm demo`: the whole way from pixels to a resolution-degradation curve, on data that needs no download.

The encoder learns from a real Landsat 7 scene; it is evaluated on a labelled *synthetic* pack that is rendered to
the same sensor with the same per-band statistics. Everything runs through the supervisor, in the background.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from rsfm.commands.common import JsonOption, WorkspaceOption, follow_all, require_all
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec, Planned, PrepareSpec, Spec, pretrain_spec
from rsfm.workspace import Workspace

REAL_PACK = "landsat7-sample"
LABELLED_PACK = "synthetic-landsat7"
MAE_SETTINGS = ["encoder.patch_size=8", "samples=50000"]
TAG = "demo"


def demo_steps() -> list[Planned]:
    """The demo's jobs in the order in which they are queued."""
    labelled = PrepareSpec(dataset=LABELLED_PACK, options={"match": REAL_PACK})
    steps: list[tuple[str, Spec, tuple[str, ...]]] = [
        ("real pack", PrepareSpec(dataset=REAL_PACK), ()),
        ("labelled pack", labelled, ("real pack",)),
        ("mae", pretrain_spec("mae", REAL_PACK, "cpu", MAE_SETTINGS), ("real pack",)),
    ]
    for model in ("band-stats", "random:vit-nano", "efficientnet-lite0", "{mae}"):
        needs = ("labelled pack", "mae") if model == "{mae}" else ("labelled pack",)
        steps.append((f"evaluate {model}", EvaluateSpec(model=model, dataset=LABELLED_PACK), needs))
    return [Planned(name, spec, (TAG, name), after) for name, spec, after in steps]


def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No server: wait, print the table, exit.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the dashboard; else 8501.", min=1, max=65535)] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Prepare, pretrain, evaluate and compare on a real Landsat scene, and open the dashboard on it."""
    from app.server import require_free, serve
    from jobs.planned import queue_planned

    place = Workspace.resolve(workspace)
    if as_json and not headless:
        raise RsfmError("--json needs --headless: the dashboard prints no table.")
    if headless and port is not None:
        raise RsfmError("--port is the dashboard's: leave it out with --headless.")
    at = 8501 if port is None else port
    if not headless:
        require_free("127.0.0.1", at)
    ids = queue_planned(place, demo_steps())
    if not headless:
        print(f"{len(ids)} demo jobs run in the background; follow them in the dashboard.", file=sys.stderr)
        serve(place, port=at)
        return
    started = time.monotonic()
    failed = follow_all(place, ids)
    print(f"Done in {time.monotonic() - started:.0f} s.", file=sys.stderr)
    report(place, as_json)
    require_all(failed, len(ids))


def report(place: Workspace, as_json: bool) -> None:
    from rsfm.commands.compare import compare, print_comparison

    if as_json:
        compare(dataset=LABELLED_PACK, as_json=True, workspace=place.root)
    else:
        print_comparison(place, LABELLED_PACK)
