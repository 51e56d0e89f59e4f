"""When a question is asked of the index again, and when its last answer stands."""

from __future__ import annotations

import shutil

import duckdb
import pandas as pd
import pytest
from store_world import begin, evaluate, indexed, log, pretrain, score

from rsfm.store import queries
from rsfm.workspace import Workspace


def asked_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that are run from now on."""
    seen: list[str] = []
    plain = queries.frame

    def frame(cursor: duckdb.DuckDBPyConnection, sql: str, **parameters: object) -> pd.DataFrame:
        seen.append(sql)
        return plain(cursor, sql, **parameters)

    monkeypatch.setattr(queries, "frame", frame)
    return seen


def test_what_rests_on_scores_is_asked_again_when_they_change_and_only_then(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = begin(pretrain(workspace))
    begin(evaluate(workspace)).scores([score(value=0.5)])
    store = indexed(workspace)
    seen = asked_again(monkeypatch)

    def ask() -> tuple[list[float], int]:
        """Everything that rests on scores, and how many statements that took."""
        store.refresh_if_stale(0)
        seen.clear()
        values = store.compare()["mean"].tolist()
        assert store.scores()["value"].tolist() == values
        store.lint()
        return values, len(seen)

    assert ask() == ([0.5], 3)
    log(watched, range(10))
    assert ask() == ([0.5], 0)
    assert store.metrics(watched.folder.id)["step"].max() == 9
    second = evaluate(workspace)
    begin(second).scores([score(value=0.7)])
    assert ask() == ([0.7], 3), "the newest counts"
    with (second.path / "scores.jsonl").open("a") as file:
        file.write("nothing that is a row\n")
    assert ask() == ([0.7], 3)
    assert "unreadable-line" in set(store.lint()["rule"])
    assert ask() == ([0.7], 0)
    shutil.rmtree(second.path)
    assert ask() == ([0.5], 3)
    store.rebuild()
    assert ask() == ([0.5], 3)
