"""Stopping mid-epoch and resuming changes nothing, for every method: weights, averages, queues, centres, randomness."""

from __future__ import annotations

import pytest
import torch
from training_world import attempt, current_rows, make_world, spec_of, start, weights, what_it_builds_on

from rsfm.registry import METHODS
from rsfm.store.job import Stopped
from rsfm.train import recorder

torch.set_num_threads(1)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_stop_and_resume_equal_the_uninterrupted_run(method, accumulate, workspace, monkeypatch):
    monkeypatch.setattr(recorder, "_POLL_S", 0.0)
    make_world(workspace)
    spec = spec_of(method, f"accumulate={accumulate}", *what_it_builds_on(method, workspace))
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
