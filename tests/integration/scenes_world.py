"""Small packs with maps, scenes of the same world, and evaluations that learn it in a second or two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.evaluation.evaluate import run_job
from rsfm.inference.predict import dry_run
from rsfm.inference.predict import run_job as run_prediction
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.prediction_info import PredictionInfo, read_prediction
from rsfm.specs import EvaluateSpec, PredictSpec
from rsfm.store.job import JobContext
from rsfm.store.runs import RunFolder, create_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

TILE, ROOF = 32, 12
NAMES = ["red", "green", "blue"]
RGB8 = [Band("red", 650, 1, "uint8"), Band("green", 550, 1, "uint8"), Band("blue", 470, 1, "uint8")]
UTM: dict[str, Any] = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 2, 2)}
#: Of the band statistics: learnt at once.
LINEAR: dict[str, Any] = {"model": "band-stats", "adaptations": ["linear"]}
#: Of random:vit-nano a second or two, and enough to learn a colour.
QUICK: dict[str, Any] = {
    "adaptations": ["decoder"], "severities": [1], "eval_seeds": [0], "bootstrap": 100, "device": "cpu",
    "fit": {"epochs": 8, "batch_size": 4, "lr": 2e-3, "decoder_width": 16, "pool_width": 16},
}  # fmt: skip


def ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(3, H, W) grey noise."""
    return rng.normal(90, 15, (3, height, width))


def roofs(image: np.ndarray, places: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(3, H, W) uint8 with a bright red square at each place, and (H, W) uint8 that is 1 inside."""
    image, mask = image.copy(), np.zeros(image.shape[1:], np.uint8)
    for top, left in places:
        image[0, top : top + ROOF, left : left + ROOF] += 90
        mask[top : top + ROOF, left : left + ROOF] = 1
    return image.clip(0, 255).astype(np.uint8), mask


def make_pack(workspace: Workspace, *, pairs: bool) -> str:
    """`fields` (land, roof) or, of pairs, `sites` (no change, change: a roof was built)."""
    images, later, masks = {}, {}, {}
    for split, count in (("train", 20), ("test", 6)):
        rng = np.random.default_rng(count)
        made = [roofs(ground(rng, TILE, TILE), [tuple(rng.integers(0, TILE - ROOF, 2))]) for _ in range(count)]
        images[split] = np.stack([ground(rng, TILE, TILE).clip(0, 255) for _ in range(count)]).astype(np.uint8)
        later[split] = np.stack([image for image, _ in made])
        masks[split] = np.stack([mask for _, mask in made])[:, None]
    name = "sites" if pairs else "fields"
    write_arrays(
        workspace, name, images if pairs else later, RGB8, later=later if pairs else None, masks=masks, gsd_m=2.0,
        classes=["no change", "change"] if pairs else ["land", "roof"], ignore_value=255,
    )  # fmt: skip
    return name


def evaluated(workspace: Workspace, pack: str, model: str = "random:vit-nano", **settings: Any) -> str:
    """The id of an evaluation that has trained its networks."""
    spec = EvaluateSpec(model=model, dataset=pack, **{**QUICK, **settings})
    spec = spec.only_used(TASKS[Pack.named(workspace, pack).info.task])
    run = create_run(workspace, spec)
    run_job(spec, JobContext(workspace, run, 1))
    return run.id


def write_scene(path: Path, values: np.ndarray, *, names: list[str] | None = None, **profile: Any) -> Path:
    """(C, H, W) as a GeoTIFF with band descriptions; in UTM unless told otherwise."""
    count, height, width = values.shape
    profile = {**UTM, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype, **profile
    ) as file:
        if names or count == 3:
            file.descriptions = names or NAMES
        file.write(values)
    return path


#: Roofs of the scene that `write_village` makes: one on a tile's border, one in a corner, two that touch nothing.
PLACES = [(20, 20), (60, 110), (0, 140), (100, 60)]


def write_village(folder: Path, height: int = 120, width: int = 160) -> tuple[Path, Path, Path]:
    """Files of an earlier image, a later one with roofs at `PLACES`, and the truth."""
    rng = np.random.default_rng(7)
    before = ground(rng, height, width).clip(1, 255).astype(np.uint8)
    after, mask = roofs(ground(rng, height, width), PLACES)
    return (
        write_scene(folder / "before.tif", before),
        write_scene(folder / "after.tif", after.clip(1, 255).astype(np.uint8)),
        write_scene(folder / "truth.tif", mask[None], names=["truth"], nodata=255),
    )


@dataclass(frozen=True)
class Lab:
    """A workspace with an evaluation of segmentation and one of change."""

    workspace: Workspace
    segmentation: str
    change: str

    @classmethod
    def of(cls, folder: Path, **settings: Any) -> Lab:
        torch.set_num_threads(1)
        workspace = Workspace(folder / "workspace")
        found = [evaluated(workspace, make_pack(workspace, pairs=pairs), **settings) for pairs in (False, True)]
        return cls(workspace, *found)

    def predict(self, spec: PredictSpec) -> tuple[RunFolder, PredictionInfo]:
        run = create_run(self.workspace, spec)
        run_prediction(spec, JobContext(self.workspace, run, 1))
        return run, read_prediction(run.path)

    def refuses(self, message: str, **spec: Any) -> None:
        """The dry run and the job both say the same."""
        request = PredictSpec(**spec)
        for attempt in (lambda: dry_run(request, self.workspace), lambda: self.predict(request)):
            with pytest.raises(RsfmError, match=message):
                attempt()


def layer(run: RunFolder, name: str) -> np.ndarray:
    """A finished layer's first band."""
    with rasterio.open(run.path / "artifacts" / f"{name}.tif") as file:
        return file.read(1)
