"""`rsfm predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rsfm.commands.common import JsonOption, WorkspaceOption, split
from rsfm.commands.experiments import check_and_submit
from rsfm.workspace import Workspace


def predict(
    evaluation: Annotated[str, typer.Option(help="RUN_ID of an evaluation on a pack with maps.")],
    scene: Annotated[Path, typer.Option(help="A GeoTIFF, COG, VRT …; for change detection the later one.")],
    before: Annotated[Path | None, typer.Option(help="The earlier scene, for change detection.")] = None,
    truth: Annotated[Path | None, typer.Option(help="A raster of class numbers, for errors and scores.")] = None,
    bands: Annotated[
        str, typer.Option(help="Names of the file's bands in file order, with commas; empty: as the file says.")
    ] = "",
    unit: Annotated[str, typer.Option(help="dn, reflectance, db or uint8; empty: as the training's pack.")] = "",
    scale: Annotated[float | None, typer.Option(help="value in unit = stored * scale + offset.")] = None,
    adaptation: Annotated[str, typer.Option(help="linear, decoder or finetune; empty: the evaluation's first.")] = "",
    seed: Annotated[int | None, typer.Option(help="Evaluation seed; else the evaluation's first.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. tile_size=256, threshold=0.6, min_area_m2=900.")
    ] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Queue it and return at once.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Draw a map of a whole scene, or of the change between two, with a trained network; the run's id is the last line.

    Leaves COGs, polygons of change, and errors and scores where a truth is given, in the run's artifacts.
    """
    from rsfm.specs import predict_spec

    named: dict[str, Any] = {
        "scene_before": str(before) if before else None, "truth": str(truth) if truth else None, "bands": split(bands),
        "unit": unit, "scale": scale, "adaptation": adaptation, "eval_seed": seed,
    }  # fmt: skip
    options = [f"{key}={json.dumps(value)}" for key, value in named.items() if value not in (None, "", [])]
    spec = predict_spec(evaluation, str(scene), [*options, *(settings or [])])
    check_and_submit(spec, Workspace.resolve(workspace), queue=queue, as_json=as_json)
