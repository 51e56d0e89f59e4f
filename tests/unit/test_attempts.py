"""What a resumed evaluation takes over, and what it does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rsfm.evaluation.attempts import PARTS_FORMAT, start_over_if_changed
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


@pytest.mark.parametrize("note", [None, {"pack tiles": "p1", "model timm:x": "m1", "operator bilinear": "o1"}])
def test_parts_of_another_version_are_thrown_away(workspace: Workspace, note: dict | None) -> None:
    """Nothing was noted then, or not in which format the parts are."""
    run = create_run(workspace, EvaluateSpec(model="timm:x", dataset="tiles"))
    context = JobContext(workspace, run, 2)
    if note is not None:
        context.remember("basis", note)
    (run.path / "checkpoints").mkdir()
    assert "format of kept parts" in start_over_if_changed(*basis(), context)
    assert not (run.path / "checkpoints").exists() and context.recall("basis")["format of kept parts"] == PARTS_FORMAT
    assert start_over_if_changed(*basis(), context) == []


def test_what_cannot_be_thrown_away_is_not_passed_over(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(workspace, EvaluateSpec(model="timm:x", dataset="tiles"))
    (run.path / "models").mkdir()

    def refused(*_: object, **__: object) -> None:
        raise OSError("busy")

    monkeypatch.setattr("os.rmdir", refused)
    with pytest.raises(OSError, match="busy"):
        start_over_if_changed(*basis(), JobContext(workspace, run, 2))
    assert JobContext(workspace, run, 2).recall("basis") is None, "the next attempt sees it too"
