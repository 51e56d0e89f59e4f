"""A workspace with predicted scenes, drawn by networks that were trained in a second: real files for maps and tiles."""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
import numpy as np
import pandas as pd
from httpx import Response
from lab import HOSTILE, history
from PIL import Image
from scenes_world import Lab, write_scene, write_village

from rsfm.prediction_info import prediction_file, read_prediction
from rsfm.specs import PredictSpec
from rsfm.store.files import read_json, write_json
from rsfm.store.runs import RunFolder
from rsfm.workspace import Workspace


@dataclass(frozen=True)
class Predicted:
    """Ids of finished predictions."""

    workspace: Workspace
    segmentation: str
    coarser: str  # the same scene, with larger tiles
    change: str
    nowhere: str  # a scene without a place on Earth
    #: Of the pack `fields`, which segmentation was trained on: the samples that lie in the western half of the scene.
    west: tuple[str, ...] = ("train:3", "test:1")


def make_predicted(folder: Path) -> Predicted:
    lab = Lab.of(folder, model="band-stats", adaptations=["linear"])
    before, after, truth = write_village(folder)
    import rasterio

    with rasterio.open(after) as file:
        floating = write_scene(folder / "floating.tif", file.read(), crs=None, transform=None)

    def finished(spec: PredictSpec) -> str:
        run, _ = lab.predict(spec)
        _end(run)
        return run.id

    made = Predicted(
        lab.workspace,
        finished(PredictSpec(evaluation=lab.segmentation, scene=str(after), truth=str(truth))),
        finished(PredictSpec(evaluation=lab.segmentation, scene=str(after), tile_size=64)),
        finished(PredictSpec(evaluation=lab.change, scene=str(after), scene_before=str(before), truth=str(truth))),
        finished(PredictSpec(evaluation=lab.segmentation, scene=str(floating))),
    )
    _place(made)
    return made


def hostile_copy(made: Predicted, folder: Path) -> Predicted:
    """The same, but every name that files, packs and people gave tries to be code."""
    workspace = Workspace(Path(shutil.copytree(made.workspace.root, folder / "workspace")))
    for run in (made.segmentation, made.coarser, made.change, made.nowhere):
        file = prediction_file(workspace.runs / run)
        told = read_json(file)
        told["scene"] |= {"name": HOSTILE, "before": told["scene"]["before"] and HOSTILE}
        told["model"]["title"], told["remarks"] = HOSTILE, [HOSTILE]
        for layer in told["layers"]:
            layer["title"] = f"{HOSTILE} {layer['kind']}"
            for number, band in enumerate(layer["bands"]):
                band |= {"name": f"{HOSTILE} {number}", "wavelength_nm": None}  # shown one by one, by their names
            for item in layer["legend"]:
                item["label"] = f"{HOSTILE} {item['value']}"
        if told["scores"]:
            told["scores"]["truth"] = HOSTILE
            for number, score in enumerate(told["scores"]["classes"]):
                score["label"] = f"{HOSTILE} {number}"
        write_json(file, told)
    file = workspace.packs / "fields" / "samples.parquet"
    samples = pd.read_parquet(file)
    samples.assign(id=HOSTILE + samples["id"]).to_parquet(file)
    return replace(made, workspace=workspace)


def _place(made: Predicted) -> None:
    """Give some samples a place, which those of arrays have not."""
    west, south, east, north = read_prediction(made.workspace.runs / made.segmentation).scene.bounds
    file = made.workspace.packs / "fields" / "samples.parquet"
    samples = pd.read_parquet(file)
    here = (samples["split"] + ":" + samples["row"].astype(str)).isin(made.west)
    samples.loc[here, ["west", "south", "east", "north"]] = [west, south, (west + east) / 2, north]
    samples.to_parquet(file)


def picture(answer: Response) -> np.ndarray:
    """The PNG of an answer."""
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png", answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def _end(run: RunFolder) -> None:
    history(run, "succeeded", 5, 1, "Done.")
