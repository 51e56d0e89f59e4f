"""A workspace with predicted scenes, drawn by networks that were trained in a second: real files for maps and tiles."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
import numpy as np
from httpx import Response
from lab import history
from PIL import Image
from scenes_world import Lab, write_scene, write_village

from rsfm.specs import PredictSpec
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

    return Predicted(
        lab.workspace,
        finished(PredictSpec(evaluation=lab.segmentation, scene=str(after), truth=str(truth))),
        finished(PredictSpec(evaluation=lab.segmentation, scene=str(after), tile_size=64)),
        finished(PredictSpec(evaluation=lab.change, scene=str(after), scene_before=str(before), truth=str(truth))),
        finished(PredictSpec(evaluation=lab.segmentation, scene=str(floating))),
    )


def picture(answer: Response) -> np.ndarray:
    """The PNG of an answer."""
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png", answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def _end(run: RunFolder) -> None:
    history(run, "succeeded", 5, 1, "Done.")
