"""Stopping mid-epoch and resuming changes nothing, for every method: weights, averages, queues, centres, randomness."""

from __future__ import annotations

import pytest
import torch
from training_world import attempt, current_rows, make_world, start, weights

from rsfm.registry import METHODS
from rsfm.specs import PretrainSpec, pretrain_spec
from rsfm.store.job import Stopped
from rsfm.train import recorder
from rsfm.workspace import Workspace

torch.set_num_threads(1)

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


def make_spec(method: str, *settings: str) -> PretrainSpec:
    return pretrain_spec(method, "tiny", "smoke", [*SETTINGS, *MORE.get(method, []), *settings])


def first_run(method: str, workspace: Workspace) -> list[str]:
    """Train what the method builds on, and say so in its settings."""
    if method not in AFTER:
        return []
    needed, setting = AFTER[method]
    run = start(workspace, make_spec(needed))
    attempt(workspace, run)
    return [f"{setting}={run.id}"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_stop_and_resume_equal_the_uninterrupted_run(method, accumulate, workspace, monkeypatch):
    monkeypatch.setattr(recorder, "_POLL_S", 0.0)
    make_world(workspace)
    spec = make_spec(method, f"accumulate={accumulate}", *first_run(method, workspace))
    whole, parts = start(workspace, spec), start(workspace, spec)
    attempt(workspace, whole)
    with pytest.raises(Stopped):
        attempt(workspace, parts, 1, stop_step=4)
    with pytest.raises(Stopped):
        attempt(workspace, parts, 2, stop_step=7)
    attempt(workspace, parts, 3)
    assert len(current_rows(whole)) == 11
    assert repr(current_rows(parts)) == repr(current_rows(whole))  # repr: NaN equals NaN
    assert weights(workspace, parts) == weights(workspace, whole)
