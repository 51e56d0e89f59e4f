"""What a resumed evaluation takes over, and what it does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rsfm.evaluation.attempts import start_over_if_changed
from rsfm.specs import EvaluateSpec
from rsfm.store.job import JobContext
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace


def basis(pack: str = "p1", model: str = "m1", operator: str = "o1") -> tuple[SimpleNamespace, SimpleNamespace]:
    what = SimpleNamespace(
        pack=SimpleNamespace(name="tiles", info=SimpleNamespace(content_hash=pack)),
        operator=SimpleNamespace(name="bilinear", operator_hash=operator),
    )
    return what, SimpleNamespace(name="timm:x", key=model)


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        ({}, []),
        ({"pack": "p2"}, ["pack tiles"]),
        ({"model": "m2"}, ["model timm:x"]),
        ({"operator": "o2", "pack": "p2"}, ["pack tiles", "operator bilinear"]),
    ],
)
def test_parts_of_something_else_are_thrown_away(workspace: Workspace, now: dict, changed: list[str]) -> None:
    run = create_run(workspace, EvaluateSpec(model="timm:x", dataset="tiles"))
    assert start_over_if_changed(*basis(), JobContext(workspace, run, 1)) == []
    for folder in ("checkpoints", "models/linear-0"):
        (run.path / folder).mkdir(parents=True)
        (run.path / folder / "part").touch()
    assert start_over_if_changed(*basis(**now), JobContext(workspace, run, 2)) == changed
    assert len(list(run.path.rglob("part"))) == (0 if changed else 2)
    assert start_over_if_changed(*basis(**now), JobContext(workspace, run, 3)) == [], "what counts is the last attempt"
