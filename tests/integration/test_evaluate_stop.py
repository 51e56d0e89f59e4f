"""A stop in the middle of a validation: obeyed at once, and without a trace in the scores."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from maps_world import FIT, change_pack, evaluate, request

from rsfm.evaluation import fit as fitting
from rsfm.evaluation.batches import Batch, LabelledImages
from rsfm.evaluation.evaluate import run_job
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import RunFolder, create_run
from rsfm.workspace import Workspace

#: The 8 samples of the validation split are four batches.
SETTINGS: dict[str, Any] = {
    "severities": [1], "adaptations": ["linear"], "images_per_pass": 2,
    "fit": {**FIT, "epochs": 3, "select": "best", "jitter": 0.2},
}  # fmt: skip


def epochs(run: RunFolder) -> list[dict[str, float]]:
    return [row["values"] for row in read_jsonl(run.path / "metrics.jsonl")[0]]


@pytest.mark.parametrize("validation", [1, 2, 3])
def test_a_stop_during_a_validation(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, validation: int) -> None:
    torch.set_num_threads(1)
    change_pack(workspace)
    whole, undisturbed = evaluate(workspace, "band-stats", "pairs", **SETTINGS)
    spec = request(workspace, "band-stats", "pairs", **SETTINGS)
    run = create_run(workspace, spec)
    reads: list[str] = []
    read, loss = LabelledImages.read, fitting.task_loss

    def counted(self: LabelledImages, split: str, *rest: Any) -> Batch:
        reads.append(split)
        return read(self, split, *rest)

    trained: list[int] = []

    def step(*given: Any) -> torch.Tensor:
        trained.append(1)
        return loss(*given)

    monkeypatch.setattr(LabelledImages, "read", counted)
    monkeypatch.setattr(fitting, "task_loss", step)
    context = JobContext(workspace, run, 1)
    asked_after = 4 * (validation - 1) + 2
    monkeypatch.setattr(context, "stop_requested", lambda: reads.count("val") >= asked_after)
    with pytest.raises(Stopped):
        run_job(spec, context)
    assert reads.count("val") == asked_after, "not another batch"
    run_job(spec, JobContext(workspace, run, 2))
    assert len(trained) == 3 * 6, "no step twice"
    assert reads.count("val") == asked_after + 4 * (4 - validation), "that validation again, and those to come"
    assert pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])["value"].tolist() == whole["value"].tolist()
    assert epochs(run) == epochs(undisturbed)
