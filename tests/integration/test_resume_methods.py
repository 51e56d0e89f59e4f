"""Every method trained: stopping mid-epoch and resuming changes nothing, and its alarms are judged.

Nothing: weights, averages, queues, centres, randomness, every logged value.
"""

from __future__ import annotations

import pytest
import torch
from training_world import attempt, current_rows, make_world, spec_of, start, weights, what_it_builds_on

from rsfm import alarms
from rsfm.registry import METHODS
from rsfm.store.job import Stopped
from rsfm.train import recorder

torch.set_num_threads(1)

OF_ALL = {"constant-collapse", "dimensional-collapse", "non-finite-steps"}
PARTNERS = {"collapsed-projections", "partners-given-away"}
TEACHER = {"constant-targets", "uniform-collapse"}
TOKENS = {"codebook-collapse", "tokens-not-learned", "tokens-of-one-direction"}
#: Method -> the alarms that its training judges. One whose values a method no longer logs would be silent for ever.
JUDGED = {
    "mae": OF_ALL,
    "dino": OF_ALL | TEACHER,
    "ibot": OF_ALL | TEACHER | {"constant-patches", "uniform-patches"},
    "vq_tokenizer": OF_ALL - {"dimensional-collapse"} | {"codebook-collapse"},
    "beit_vq": OF_ALL | TOKENS,
    "mim_kmeans": OF_ALL | TOKENS,
    "simclr": OF_ALL | PARTNERS,
    "moco_v2": OF_ALL | PARTNERS,
    "moco_v3": OF_ALL | PARTNERS,
    "mae_contrastive": OF_ALL | PARTNERS | {"one-task-dominates"},
}


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
    rows = current_rows(whole)
    assert len(rows) == 11
    judged = {name for row in rows.values() for name in row if name.startswith(alarms.PREFIX)}
    assert judged == {alarms.PREFIX + name for name in JUDGED[method]}
    assert repr(current_rows(parts)) == repr(rows)  # repr: NaN equals NaN
    assert weights(workspace, parts) == weights(workspace, whole)
