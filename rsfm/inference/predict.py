"""One prediction job: a map of a whole scene, or of the change between two (`rsfm predict`).

The map is made strip by strip and kept between attempts; when all of it is there, its layers become cloud-optimised
GeoTIFFs, with polygons of change and, where a truth is given, errors and scores.
"""

from __future__ import annotations

import shutil
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfm.device import granted_device
from rsfm.errors import RsfmError
from rsfm.evaluation.kept import load_network
from rsfm.evaluation.networks import TaskNetwork, autocast
from rsfm.inference.finish import finish
from rsfm.inference.partial import PartialLayers
from rsfm.inference.plan import Plan, plan
from rsfm.inference.reader import SceneReader
from rsfm.inference.strips import Network, Strip, Tiles, strips
from rsfm.prediction_info import NODATA
from rsfm.specs import EvaluateSpec, PredictSpec
from rsfm.store.job import JobContext
from rsfm.store.runs import open_run
from rsfm.workspace import Workspace

#: Of the map while it is made, and of its finished layers, per pixel; images are counted by themselves.
_BYTES_PER_PIXEL = 8


def probabilities(network: TaskNetwork, precision: str, device: torch.device, *, change: bool) -> Network:
    """The network as `strips` wants it: probabilities of every class, or of change alone."""

    @torch.inference_mode()
    def predict(dates: list[Tensor]) -> Tensor:
        with autocast(precision, device):
            logits = network([date.to(device) for date in dates], dates[0].shape[-2:])
        found = logits.float().softmax(dim=1)
        return found[:, 1:] if change else found

    return predict


def layers_of(strip: Strip, what: Plan, threshold: float) -> dict[str, np.ndarray]:
    """The strip's rows of each layer that is kept: (h, width) uint8, `NODATA` where nothing was observed."""
    if what.change:
        found = {
            "change_probability": _percent(strip.probabilities[0]),
            "changes": (strip.probabilities[0] >= threshold).astype(np.uint8),
        }
    else:
        found = {
            "classes": strip.probabilities.argmax(axis=0).astype(np.uint8),
            "confidence": _percent(strip.probabilities.max(axis=0)),
        }
    return {name: np.where(strip.valid, values, np.uint8(NODATA)) for name, values in found.items()}


def _percent(probability: np.ndarray) -> np.ndarray:
    """0..1 to 0..100, rounded."""
    return np.floor(probability * 100 + 0.5).clip(0, 100).astype(np.uint8)


def run_job(spec: PredictSpec, context: JobContext) -> None:
    """Predict one scene; the layers go to the run's artifacts.

    Raises:
        RsfmError: see `plan` and `load_network`; or a file turns out to be damaged.
        Stopped: on request, after the batch; complete strips stay for the next attempt.
    """
    torch.set_num_threads(spec.threads or context.threads)
    what = plan(spec, context.workspace)
    device = granted_device(spec.device, context.device)
    network = _network(what, context.workspace, device)
    print(f"{what.info.title}: {what.grid.name}, {what.grid.shape_text()}", flush=True)
    for remark in what.remarks:
        print(f"note: {remark}", flush=True)
    tiles = _tiles(spec, what)
    names = ["change_probability", "changes"] if what.change else ["classes", "confidence"]
    layers = PartialLayers(
        context.folder.path / "checkpoints" / "prediction", what.grid.width, names, _request(spec, what)
    )
    if layers.rows:
        print(f"{layers.rows} of {what.grid.height} rows are there already.", flush=True)
    progress = _Progress(context, tiles, layers.rows)
    if layers.rows < what.grid.height:
        with SceneReader(what.sources, what.grid) as reader:
            for strip in strips(
                reader, network, tiles, channels=what.channels, start=layers.rows, after_tiles=progress.tiles
            ):
                layers.append(layers_of(strip, what, spec.threshold))
    finish(spec, what, layers, tiles, context, progress.phase)
    shutil.rmtree(layers.folder)
    progress.phase("done")


def _network(what: Plan, workspace: Workspace, device: torch.device) -> Network:
    evaluation = open_run(workspace, what.info.run_id).spec()
    assert isinstance(evaluation, EvaluateSpec)
    network = load_network(workspace, what.info, device)
    return probabilities(network, evaluation.fit.precision, device, change=what.change)


def _tiles(spec: PredictSpec, what: Plan) -> Tiles:
    return Tiles.of(what.grid.height, what.grid.width, what.tile, what.overlap, spec.batch_size)


def _request(spec: PredictSpec, what: Plan) -> dict[str, Any]:
    """What decides the map: the request, the network, and the scenes as they lie on the disk."""
    files = [[s.scene.name, s.scene.path.stat().st_size, s.scene.path.stat().st_mtime_ns] for s in what.sources]
    return {"spec": spec.model_dump(mode="json"), "network": what.info.weights_hash, "scenes": files}


class _Progress:
    """Progress in tiles, and what is being done after the last one."""

    def __init__(self, context: JobContext, tiles: Tiles, rows: int) -> None:
        self.context, self.total = context, tiles.count
        above = sum(1 for row in tiles.rows if row.stop <= rows)
        self.done = len(tiles.columns) * above

    def tiles(self, count: int) -> None:
        self.done += count
        self.context.progress(self.done, self.total, unit="tiles", phase="predicting")
        self.context.check_stop()

    def phase(self, name: str) -> None:
        self.context.progress(self.total, self.total, unit="tiles", phase=name, force=True)
        if name != "done":
            self.context.check_stop()


# -- before it is queued -----------------------------------------------------------------------------------------------
def dry_run(spec: PredictSpec, workspace: Workspace) -> list[str]:
    """Check a spec without running it: scenes, bands, units, disk, and one pass in the middle of the scene.

    Returns:
        Remarks: what was assumed, what is unusual, and about how long it will take.

    Raises:
        RsfmError: the prediction cannot run.
    """
    what = plan(spec, workspace)
    device = granted_device(spec.device, "cuda" if spec.device == "cuda" else "cpu")
    network = _network(what, workspace, device)
    tiles = _tiles(spec, what)
    needed = disk_bytes(what)
    if needed > workspace.free_bytes():
        raise RsfmError(
            f"The layers of {what.grid.shape_text()} take about {needed / 1e9:.1f} GB while they are made, more than "
            f"is free on the disk of {workspace.root}."
        )
    seconds = _try(what, tiles, network)
    memory = tiles.accumulator_bytes(what.channels)
    return [
        *what.remarks,
        f"{tiles.count} tiles of {what.tile} pixels, about {_duration(seconds)} on {device}; "
        f"{memory / 1e6:.0f} MB for one strip.",
    ]


def disk_bytes(what: Plan) -> int:
    """About what the layers take on the disk at most, while they are made."""
    pixels = what.grid.width * what.grid.height
    images = sum(len(s.bands) * np.dtype(s.scene.dtype).itemsize for s in what.sources)
    # Each image once finished and once staged, with overviews.
    return int(pixels * (_BYTES_PER_PIXEL + 8 / 3 * images))


def _try(what: Plan, tiles: Tiles, network: Network) -> float:
    """Seconds that all tiles will take, from one pass; also reads the last rows, which a cut-off file lacks."""
    with SceneReader(what.sources, what.grid) as reader:
        last = tiles.rows[-1]
        reader.rows(last.stop - 1, last.stop)
        middle = tiles.rows[len(tiles.rows) // 2]
        rows = reader.rows(middle.start, middle.stop)
        columns = tiles.columns[: tiles.batch_size]
        dates = zip(*(rows.tile(c.start, c.stop, tiles.tile) for c in columns), strict=True)
        batch = [torch.from_numpy(np.stack(date)) for date in dates]
        network([date[:1] for date in batch])  # the first pass also sets things up
        start = time.perf_counter()
        found = network(batch)
        seconds = time.perf_counter() - start
    if not torch.isfinite(found).all():
        raise RsfmError(f"{what.info.title} gives probabilities that are not finite on {what.grid.name}.")
    return seconds / len(columns) * tiles.count


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
