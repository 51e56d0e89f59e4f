"""Trained evaluations that were stopped or killed end as undisturbed ones."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from maps_world import FIT, evaluate, request, segmentation_pack

from rsfm.evaluation import evaluate as evaluation
from rsfm.evaluation import fit as fitting
from rsfm.evaluation.evaluate import run_job
from rsfm.packs import Pack
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_stop_and_resume_end_as_an_undisturbed_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation_pack(workspace)
    settings = {
        "severities": [1],
        "eval_seeds": [0, 1],
        "adaptations": ["decoder"],
        "fit": {**FIT, "epochs": 3, "jitter": 0.2, "crop_min_scale": 0.5},
    }
    whole, _ = evaluate(workspace, "random:vit-nano", "fields", **settings)
    spec = request(workspace, "random:vit-nano", "fields", **settings)
    run = create_run(workspace, spec)
    asked = {"steps": 0}
    for attempt, steps in enumerate((6, 13, None), start=1):
        context = JobContext(workspace, run, attempt)
        asked["steps"] = 0

        def stop(limit: int | None = steps) -> bool:
            asked["steps"] += 1
            return limit is not None and asked["steps"] >= limit

        monkeypatch.setattr(context, "stop_requested", stop)
        if steps is None:
            run_job(spec, context)
        else:
            with pytest.raises(Stopped):
                run_job(spec, context)
    parts = pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])
    assert parts["value"].tolist() == whole["value"].tolist()
    assert not list((run.path / "checkpoints").glob("*-?.pt")), "what was needed to go on is gone"


@pytest.mark.parametrize("again", [True, False], ids=["other pack", "same pack"])
def test_what_was_trained_on_another_content_is_not_mixed_in(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], again: bool
) -> None:
    """A pack that is prepared again between two attempts: the results are those of the pack as it is."""
    segmentation_pack(workspace)
    settings: dict[str, Any] = {"adaptations": ["linear"], "severities": [1], "eval_seeds": [0, 1]}
    run = create_run(workspace, request(workspace, "band-stats", "fields", **settings))
    first = JobContext(workspace, run, 1)
    monkeypatch.setattr(first, "stop_requested", lambda: (run.path / "checkpoints" / "linear-0.done.pt").exists())
    with pytest.raises(Stopped):
        run_job(run.spec(), first)
    if again:
        segmentation_pack(workspace, ignore=True)
    trained: list[str] = []
    monkeypatch.setattr(
        evaluation, "fit_network", lambda *a, **k: trained.append(k["name"]) or fitting.fit_network(*a, **k)
    )
    run_job(run.spec(), JobContext(workspace, run, 2))
    assert ("Starts over: not as in the attempt before: pack fields." in capsys.readouterr().out) == again
    assert trained == (["linear-0", "linear-1"] if again else ["linear-1"])
    found = pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])
    whole, _ = evaluate(workspace, "band-stats", "fields", **settings)
    assert found["value"].tolist() == whole["value"].tolist()
    assert set(found["pack_hash"]) == {Pack.named(workspace, "fields").info.content_hash}


def test_a_killed_training_goes_on_from_its_last_save(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation_pack(workspace)
    settings: dict[str, Any] = {"adaptations": ["linear"], "severities": [1]}
    spec = request(workspace, "band-stats", "fields", **settings)
    whole, _ = evaluate(workspace, "band-stats", "fields", **settings)
    monkeypatch.setattr(fitting, "_SAVE_S", 0.0)
    run, seen = create_run(workspace, spec), []

    def dies(network: Any, *rest: Any) -> float:
        seen.append(1)
        save(network, *rest)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return 0.0

    save = fitting._save
    monkeypatch.setattr(fitting, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        run_job(spec, JobContext(workspace, run, 1))
    run_job(spec, JobContext(workspace, run, 2))
    assert [r["value"] for r in read_jsonl(run.path / "scores.jsonl")[0]] == whole["value"].tolist()


def test_a_stop_while_testing_keeps_what_was_trained(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation_pack(workspace)
    settings: dict[str, Any] = {"adaptations": ["linear"], "severities": [1, 2]}
    whole, _ = evaluate(workspace, "band-stats", "fields", **settings)
    spec = request(workspace, "band-stats", "fields", **settings)
    run = create_run(workspace, spec)
    context = JobContext(workspace, run, 1)
    real = context.progress

    def progress(*args: Any, phase: str = "", **more: Any) -> None:
        if phase.startswith("testing"):
            monkeypatch.setattr(context, "stop_requested", lambda: True)
        real(*args, phase=phase, **more)

    monkeypatch.setattr(context, "progress", progress)
    with pytest.raises(Stopped):
        run_job(spec, context)
    steps: list[int] = []
    monkeypatch.setattr(fitting, "task_loss", lambda *_: steps.append(1))
    run_job(spec, JobContext(workspace, run, 2))
    assert not steps, "nothing is trained again"
    assert [r["value"] for r in read_jsonl(run.path / "scores.jsonl")[0]] == whole["value"].tolist()
