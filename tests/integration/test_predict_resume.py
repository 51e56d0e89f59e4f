"""Predictions that are stopped or killed end as undisturbed ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from scenes_world import LINEAR, Lab, layer, write_scene, write_village

from rsfm.inference.predict import run_job
from rsfm.prediction_info import read_prediction
from rsfm.specs import PredictSpec
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import RunFolder, create_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.of(tmp_path_factory.mktemp("lab"), **LINEAR)


@pytest.fixture
def village(tmp_path: Path) -> tuple[Path, Path, Path]:
    return write_village(tmp_path)


def files_of(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in sorted((run.path / "artifacts").iterdir()):
        match file.suffix:
            case ".gpkg":  # holds the time of its making
                found[file.name] = geopandas.read_file(file).to_json()
            case ".json":
                found[file.name] = {**json.loads(file.read_text()), "run_id": ""}
            case _:
                found[file.name] = file.read_bytes()
    return found


def attempts(workspace: Workspace, spec: PredictSpec, end: Callable[[JobContext, int], None]) -> RunFolder:
    """Attempts of one run until it has succeeded; `end` may raise after each forward pass (attempt, tiles so far)."""
    run = create_run(workspace, spec)
    for attempt in range(1, 30):
        context = JobContext(workspace, run, attempt)
        real, seen = context.check_stop, [0]

        def check_stop(context: JobContext = context, seen: list[int] = seen, real=real) -> None:
            seen[0] += 1
            end(context, seen[0])
            real()

        context.check_stop = check_stop  # type: ignore[method-assign]
        try:
            run_job(spec, context)
            return run
        except (Stopped, KeyboardInterrupt):
            run.clear_request("stop")
    raise AssertionError("never done")


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_run_that_goes_on_ends_as_an_undisturbed_one(lab, village, how: str) -> None:
    before, scene, truth = village
    spec = PredictSpec(
        evaluation=lab.change, scene=str(scene), scene_before=str(before), truth=str(truth), batch_size=4
    )  # fmt: skip
    whole, _ = lab.predict(spec)
    rows: list[int] = []

    def end(context: JobContext, passes: int) -> None:
        note = context.folder.path / "checkpoints" / "prediction" / "complete.json"
        complete = json.loads(note.read_text())["rows"] if note.is_file() else 0
        if passes == 5 and complete < 120:
            rows.append(complete)
            if how == "killed":
                # As a kill while rows are appended leaves it: more bytes than were noted.
                (note.parent / "changes.bin").open("ab").write(b"\7" * 1000)
                raise KeyboardInterrupt
            context.folder.request("stop")

    run = attempts(lab.workspace, spec, end)
    assert len(rows) > 1 and rows == sorted(rows), "it went on behind the last complete strip"
    assert files_of(run) == files_of(whole)


def test_another_scene_under_the_same_name_begins_anew(lab, village) -> None:
    _, scene, _ = village
    spec = PredictSpec(evaluation=lab.segmentation, scene=str(scene))
    run = create_run(lab.workspace, spec)
    context = JobContext(lab.workspace, run, 1)
    passes = []

    def check_stop() -> None:
        passes.append(1)
        if len(passes) == 4:
            raise KeyboardInterrupt

    context.check_stop = check_stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run_job(spec, context)
    write_scene(scene, rasterio.open(scene).read()[:, ::-1])
    run_job(spec, JobContext(lab.workspace, run, 2))
    fresh, _ = lab.predict(spec)
    np.testing.assert_array_equal(layer(run, "classes"), layer(fresh, "classes"))


def test_a_stop_between_files_is_heard(lab, village) -> None:
    run = create_run(lab.workspace, PredictSpec(evaluation=lab.segmentation, scene=str(village[1])))
    context = JobContext(lab.workspace, run, 1)
    real = context.progress

    def progress(*args: Any, phase: str = "", **more: Any) -> None:
        if phase.startswith("writing"):
            run.request("stop")
        real(*args, phase=phase, **more)

    context.progress = progress  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        run_job(run.spec(), context)
    run.clear_request("stop")
    again = JobContext(lab.workspace, run, 2)
    run_job(run.spec(), again)
    assert run.progress()["phase"] == "done" and read_prediction(run.path).layers
