"""Runs that belong together are queued once, in order, and found again."""

from __future__ import annotations

import json

import pytest

from jobs import client
from jobs.planned import queue_planned
from rsfm.commands.demo import demo_steps
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec, Planned
from rsfm.store.runs import create_run, list_runs, open_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.client.ensure_supervisor", lambda *_: None)


def test_the_demo_is_queued_once_and_in_order(workspace: Workspace) -> None:
    ids = queue_planned(workspace, demo_steps())
    assert ids == [run.id for run in sorted(list_runs(workspace), key=lambda run: ids.index(run.id))]
    runs = dict(zip((step.name for step in demo_steps()), map(lambda i: open_run(workspace, i), ids), strict=True))
    last = runs["evaluate {mae}"]
    assert last.spec().model == runs["mae"].id
    assert last.envelope()["after"] == [runs["labelled pack"].id, runs["mae"].id]
    assert last.envelope()["tags"] == ["demo", "evaluate {mae}"]
    assert runs["real pack"].envelope()["after"] == []
    assert queue_planned(workspace, demo_steps()) == ids and len(list_runs(workspace)) == len(ids)


def test_what_ended_badly_goes_on_and_what_succeeded_stays(workspace: Workspace) -> None:
    ids = queue_planned(workspace, demo_steps())
    for run_id, state in zip(ids, ("succeeded", "failed", "cancelled", "running"), strict=False):
        open_run(workspace, run_id).add_event(state=state, attempt=1)
    assert queue_planned(workspace, demo_steps()) == ids
    assert [open_run(workspace, i).requested("resume") for i in ids[:5]] == [False, True, True, False, False]


def plan(*models: str, tag: str = "t") -> list[Planned]:
    return [Planned(model, EvaluateSpec(model=model, dataset="p"), (tag, model)) for model in models]


def test_another_request_or_another_tag_is_another_run(workspace: Workspace) -> None:
    workspace.runs.mkdir(parents=True)
    (first,) = queue_planned(workspace, plan("a"))
    stray = create_run(workspace, EvaluateSpec(model="b", dataset="p"), tags=["mine"]).id
    ids = queue_planned(workspace, plan("a", "b"))
    assert ids[0] == first and ids[1] not in (first, stray)
    assert set(queue_planned(workspace, plan("a", tag="other"))).isdisjoint(ids)
    assert queue_planned(workspace, []) == []


def test_a_request_of_before_a_setting_existed_is_the_same(workspace: Workspace) -> None:
    """What was not asked then has its default now; what cannot be read is nobody's."""
    ids = queue_planned(workspace, plan("a", "b"))
    for run_id, change in zip(ids, (lambda spec: spec.pop("knn_k"), lambda spec: spec.update(gone=1)), strict=True):
        file = workspace.runs / run_id / "spec.json"
        envelope = json.loads(file.read_text())
        change(envelope["spec"])
        file.write_text(json.dumps(envelope))
    again = queue_planned(workspace, plan("a", "b"))
    assert again[0] == ids[0] and again[1] != ids[1]


def test_what_was_queued_before_a_refusal_is_worked_on(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Workspace] = []
    monkeypatch.setattr("jobs.client.ensure_supervisor", started.append)
    submit = client.submit

    def refuse(workspace: Workspace, spec: EvaluateSpec, **more: object) -> str:
        if spec.model == "b":
            raise RsfmError("no")
        return submit(workspace, spec, **more)

    monkeypatch.setattr(client, "submit", refuse)
    with pytest.raises(RsfmError, match="no"):
        queue_planned(workspace, plan("a", "b"))
    assert len(list_runs(workspace)) == 1 == len(started)
