"""Training images that are degraded at random: other numbers in every epoch, the same after a stop; tests have one."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from maps_world import FIT, QUICK, change_pack, evaluate, request

from rsfm.degrade import OPERATORS
from rsfm.evaluation.batches import Batch, LabelledImages, epoch_parts
from rsfm.evaluation.evaluate import run_job
from rsfm.evaluation.plan import plan
from rsfm.models.baselines import resolve
from rsfm.specs import EvaluateSpec
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace

RANDOM = [entry for entry in OPERATORS.values() if entry.random]
SETTINGS: dict[str, Any] = {
    "severities": [0, 1], "operator": "noise", "adaptations": ["linear"],
    "fit": {**FIT, "epochs": 3, "train_degrade": True, "flips": "none"},
}  # fmt: skip


@pytest.mark.parametrize("entry", RANDOM, ids=lambda entry: entry.name)
def test_each_epoch_has_draws_of_its_own(workspace: Workspace, entry: Any) -> None:
    torch.set_num_threads(1)
    change_pack(workspace)
    worst = entry.severities[-1]
    spec = EvaluateSpec(
        model="band-stats", dataset="pairs", operator=entry.name, severities=[worst],
        **{**QUICK, "fit": {**FIT, "train_degrade": True}},
    )  # fmt: skip
    what = plan(spec, workspace)
    images = LabelledImages(what, resolve(spec, what.pack, workspace))

    def epoch(seed: int, number: int) -> torch.Tensor:
        """The later images in the order of the rows."""
        parts = epoch_parts(what, spec.fit, seed, number)
        read = torch.cat([images.read("train", *part).images[1] for part in parts])
        return read[torch.cat([torch.from_numpy(rows) for rows, *_ in parts]).argsort()]

    what.draws[1] = what.draws[0]
    first = epoch(0, 0)
    assert torch.equal(first, epoch(0, 0)), "a function of seed and epoch"
    for other in (epoch(0, 1), epoch(1, 0)):
        assert (first != other).flatten(1).any(dim=1).float().mean() > 0.4, "signs and bands have few values"
    tests = [images.read("test", slice(0, 8), worst).images[1] for _ in range(2)]
    assert torch.equal(*tests), "one draw for each sample"


def test_a_stop_leaves_no_trace_in_random_training(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    change_pack(workspace)
    read, drawn = LabelledImages.read, []

    def noted(self: LabelledImages, split: str, *rest: Any) -> Batch:
        batch = read(self, split, *rest)
        if split == "train":
            drawn.append(batch.images[1].double().sum().item())
        return batch

    monkeypatch.setattr(LabelledImages, "read", noted)
    whole, _ = evaluate(workspace, "band-stats", "pairs", **SETTINGS)
    undisturbed = list(drawn)
    assert len(undisturbed) == 18 == len(set(undisturbed)), "three epochs of six batches, no two alike"
    spec = request(workspace, "band-stats", "pairs", **SETTINGS)
    run = create_run(workspace, spec)
    context, asked = JobContext(workspace, run, 1), []
    monkeypatch.setattr(context, "stop_requested", lambda: asked.append(1) or len(asked) >= 9)
    with pytest.raises(Stopped):
        run_job(spec, context)
    drawn.clear()
    run_job(spec, JobContext(workspace, run, 2))
    assert 0 < len(drawn) < 18 and drawn == undisturbed[-len(drawn) :]
    assert pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])["value"].tolist() == whole["value"].tolist()
