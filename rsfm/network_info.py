"""What is known of a network that an evaluation trained on maps, without loading it.

An evaluation of segmentation or change detection keeps each network that it trained:

    runs/<run id>/models/<adaptation>-<evaluation seed>/network.json   `NetworkInfo`
                                                        network.safetensors   what training changed

A frozen encoder's weights are not kept again: they are found as the evaluation found them, and must be the same.
No torch: pages and forms read this too.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rsfm.descriptions import read_description
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand
from rsfm.packs import Pack, PackInfo
from rsfm.store.runs import RunFolder, open_run
from rsfm.tasks import ADAPTATIONS
from rsfm.workspace import Workspace

NETWORK_FORMAT = 1
_Stamp = tuple[tuple[str, int, int, int], ...]


class NetworkInfo(BaseModel):
    """A trained encoder and decoder, with everything that is needed to feed it correctly."""

    model_config = ConfigDict(extra="forbid")

    format: int = NETWORK_FORMAT
    run_id: str  # the evaluation
    adaptation: str
    eval_seed: int
    model: str  # as the evaluation names it: a run's id or a baseline
    model_title: str
    model_key: str  # content hash of the encoder's weights and preprocessing (see `FeatureModel.key`)
    task: Literal["segmentation", "change"]
    classes: list[str]
    image_size: tuple[int, int]  # pixels, height and width, that it was trained at
    bands: list[ModelBand]  # what it takes, in order
    pack: PackInfo  # what it was trained on
    weights_hash: str
    bytes: int
    created: str

    @property
    def title(self) -> str:
        """For people: model, pack, adaptation and seed."""
        return f"{self.model_title} on {self.pack.name} ({ADAPTATIONS[self.adaptation][0]}, seed {self.eval_seed})"

    @property
    def gsd_m(self) -> float | None:
        """Metres per pixel of the images that it was trained on."""
        return self.trained_on.layer(self.trained_on.main).gsd_m

    @property
    def trained_on(self) -> Pack:
        """The pack of the training as it was then: its description, without its arrays."""
        return Pack(Path(self.pack.name), self.pack)

    def folder(self, workspace: Workspace) -> Path:
        return network_folder(RunFolder(workspace.runs / self.run_id), self.adaptation, self.eval_seed)

    @classmethod
    def read(cls, folder: Path) -> NetworkInfo:
        """Raises RsfmError: unreadable, or another format."""
        return read_description(
            cls, folder / "network.json", version=NETWORK_FORMAT, what="network description", remedy="Evaluate again."
        )


def network_folder(run: RunFolder, adaptation: str, eval_seed: int) -> Path:
    """Where an evaluation keeps the network of one adaptation and seed."""
    return run.path / "models" / f"{adaptation}-{eval_seed}"


def networks_of(run: RunFolder) -> list[NetworkInfo]:
    """What an evaluation has kept, by adaptation and seed.

    Raises:
        RsfmError: one of them is unreadable.
    """
    files = [f for f in run.path.glob("models/*/network.json") if not f.parent.name.startswith(".")]
    found = [NetworkInfo.read(file.parent) for file in files]
    return sorted(found, key=lambda info: (list(ADAPTATIONS).index(info.adaptation), info.eval_seed))


def list_networks(workspace: Workspace) -> tuple[list[NetworkInfo], dict[str, str]]:
    """Networks of all evaluations, newest run first; and those that could not be read: run id -> why."""
    good: list[NetworkInfo] = []
    bad: dict[str, str] = {}
    if not workspace.runs.is_dir():
        return good, bad
    with os.scandir(workspace.runs) as entries:
        names = sorted((entry.name for entry in entries if entry.name[:1].isdigit()), reverse=True)
    for name in names:
        folder = f"{workspace.runs}/{name}"
        if stamp := _stamp(f"{folder}/models"):
            found = _found(folder, stamp)
            if isinstance(found, str):
                bad[name] = found
            else:
                good += found
    return good, bad


@lru_cache(maxsize=20_000)
def _found(folder: str, stamp: _Stamp) -> list[NetworkInfo] | str:
    """`networks_of`, or why not, read once: forms ask for all networks again at each change of a field."""
    try:
        return networks_of(RunFolder(Path(folder)))
    except RsfmError as error:
        return str(error)


def _stamp(folder: str) -> _Stamp | None:
    """Which descriptions a run's networks have, and what changes when one is written anew; None: no such folder."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    try:
                        file = os.stat(f"{entry.path}/network.json")  # noqa: PTH116 - of hundreds, at each rerun
                    except OSError:  # a folder without one, or one that is gone
                        continue
                    found.append((entry.name, file.st_ino, file.st_mtime_ns, file.st_size))
    except OSError:  # most runs train no network
        return None
    return tuple(sorted(found))


def find_network(workspace: Workspace, run_id: str, adaptation: str = "", eval_seed: int | None = None) -> NetworkInfo:
    """The network of an evaluation.

    Args:
        adaptation: empty: the first that it has; eval_seed: None: the first.

    Raises:
        RsfmError: no such run, or it has kept no such network; with what there is.
    """
    run = open_run(workspace, run_id)
    kept = networks_of(run)
    fitting = [i for i in kept if i.adaptation == (adaptation or i.adaptation)]
    fitting = [i for i in fitting if eval_seed is None or i.eval_seed == eval_seed]
    if fitting:
        return fitting[0]
    if kept:
        there = ", ".join(f"{i.adaptation} with seed {i.eval_seed}" for i in kept)
        asked = " with ".join(filter(None, (adaptation, "" if eval_seed is None else f"seed {eval_seed}")))
        raise RsfmError(f"Run {run_id} has no network of {asked}; it has {there}.")
    if run.spec().kind != "evaluate":
        raise RsfmError(f"Run {run_id} is no evaluation: give one of segmentation or change detection.")
    raise RsfmError(
        f"Run {run_id} has no trained network that draws maps: give an evaluation on a pack with maps "
        "(segmentation or change) that has ended, or evaluate again where it is an old one."
    )
