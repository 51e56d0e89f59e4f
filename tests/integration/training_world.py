"""A small labelled pack, and attempts of a training on it that can be stopped at a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rsfm.bands import Band
from rsfm.models.export import load_encoder
from rsfm.pack_arrays import write_arrays
from rsfm.registry import DRY_RUN_TARGETS, load
from rsfm.specs import PretrainSpec, pretrain_spec
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext
from rsfm.store.runs import RunFolder, create_run
from rsfm.train.pretrain import run_job
from rsfm.workspace import Workspace

BANDS = [Band(n, w, 10, "uint8") for n, w in (("blue", 490), ("green", 560), ("red", 665), ("nir", 842))]

#: Ten steps of eight images of 32 pixels; more than one epoch of the pack.
SETTINGS = [
    "image_size=32", "samples=80", "batch_size=8", "warmup_samples=16", "log_every_steps=1", "monitor_every_steps=4",
    "checkpoint_every_steps=3", "runtime.device=cpu",
]  # fmt: skip
#: What a method needs beyond its smoke preset: settings by method.
MORE: dict[str, list[str]] = {
    "beit_vq": ["encoder.drop_path=0.2", "jitter=0.3"],
    "ibot": ["lambda_overlap=1", "overlap_width=16", "overlap_pool_width=8", "view_degrade_p=0.5"],
}
#: A method that builds on a finished run of another one: that method, and the setting that takes the run's id.
AFTER: dict[str, tuple[str, str]] = {"beit_vq": ("vq_tokenizer", "tokenizer")}


def make_world(workspace: Workspace) -> Workspace:
    """A workspace with a small labelled pack: two classes of different mean, in 37 + 20 images of 32 pixels."""
    rng = np.random.default_rng(0)
    images, labels = {}, {}
    for split, count in (("train", 37), ("val", 20)):
        kinds = rng.integers(0, 2, count)
        smooth = rng.normal(0, 20, (count, 4, 8, 8)).repeat(4, 2).repeat(4, 3) + kinds[:, None, None, None] * 60 + 90
        images[split] = np.clip(smooth, 0, 255).astype("uint8")
        labels[split] = [("water", "forest")[k] for k in kinds]
    write_arrays(workspace, "tiny", images, BANDS, labels=labels, gsd_m=10, sensor="rgb")
    return workspace


def make_spec(**changes) -> PretrainSpec:
    """Fourteen steps of eight images, logged at each, saved at each fourth."""
    data = {
        "dataset": "tiny",
        "encoder": {"patch_size": 8, "width": 32, "depth": 1, "heads": 2},
        "optim": {"samples": 112, "batch_size": 8, "warmup_samples": 16, "base_lr": 0.05, "grad_clip": 1.0},
        "runtime": {"log_every_steps": 3, "monitor_every_steps": 6, "checkpoint_every_steps": 4, "device": "cpu"},
        "method_params": {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
    }
    for key, value in changes.items():
        data[key] = {**data[key], **value} if isinstance(data.get(key), dict) else value
    return PretrainSpec.model_validate(data)


@dataclass
class StopAt(JobContext):
    """A context whose run is asked to stop once `stop_step` has been reported."""

    stop_step: int = -1

    def progress(self, done, total, **more):
        super().progress(done, total, **more)
        self.seen = more.get("step", 0)

    def stop_requested(self):
        return self.stop_step == getattr(self, "seen", None)


def dry_run(spec: PretrainSpec, workspace: Workspace) -> list[str]:
    """What is checked before such a run is queued."""
    return load(DRY_RUN_TARGETS[spec.kind])(spec, workspace)


def start(workspace: Workspace, spec: PretrainSpec) -> RunFolder:
    return create_run(workspace, spec)


def attempt(workspace: Workspace, run: RunFolder, number: int = 1, stop_step: int = -1) -> None:
    run_job(run.spec(), StopAt(workspace, run, number, stop_step=stop_step))


def current_rows(run: RunFolder) -> dict[int, dict[str, float]]:
    """Values by step, a later attempt superseding earlier rows beyond its start; without what depends on time."""
    rows: dict[int, dict[str, float]] = {}
    number = 1
    for row in read_jsonl(run.path / "metrics.jsonl")[0]:
        if row["attempt"] != number:
            number = row["attempt"]
            rows = {step: values for step, values in rows.items() if step < row["step"]}
        timed = ("throughput", "data_wait_share")
        rows.setdefault(row["step"], {}).update({k: v for k, v in row["values"].items() if k not in timed})
    return rows


def weights(workspace: Workspace, run: RunFolder) -> str:
    return load_encoder(workspace.models / run.id)[1].weights_hash


def spec_of(method: str, *settings: str) -> PretrainSpec:
    return pretrain_spec(method, "tiny", "smoke", [*SETTINGS, *MORE.get(method, []), *settings])


def what_it_builds_on(method: str, workspace: Workspace) -> list[str]:
    """Train what the method needs first; the settings that say so."""
    if method not in AFTER:
        return []
    needed, setting = AFTER[method]
    run = start(workspace, spec_of(needed))
    attempt(workspace, run)
    return [f"{setting}={run.id}"]
