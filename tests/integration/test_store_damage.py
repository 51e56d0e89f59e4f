"""Whatever happens to index.duckdb, it is made again with the same content, and nobody sees an error."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest
from store_world import begin, folder_content, index_content, log, pretrain, small_lab

from rsfm.errors import RsfmError
from rsfm.store import index, schema
from rsfm.store.index import Index
from rsfm.store.job import JobContext
from rsfm.store.runs import RunFolder
from rsfm.store.view import Store
from rsfm.workspace import Workspace

QUERIES = ("runs", "run_counts", "scores", "compare", "datasets", "models", "lint", "problems")


def ask_everything(store: Store) -> dict[str, str]:
    answers = {name: repr(getattr(store, name)().to_dict("list")) for name in QUERIES}
    for run_id in store.runs()["run_id"][:2]:
        for name in ("run", "events", "attempts", "metric_names", "metrics", "artifacts"):
            answers[f"{name} {run_id}"] = repr(getattr(store, name)(run_id).to_dict("list"))
    return answers


@pytest.fixture
def lab(workspace: Workspace) -> Workspace:
    small_lab(workspace)
    Index(workspace).rebuild()
    return workspace


def corrupt_files(workspace: Workspace) -> list[Path]:
    return sorted(workspace.root.glob("index.duckdb.corrupt-*"))


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(60_000))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4100)
        file.write(b"\xff" * 40)


@pytest.mark.parametrize("damage", [garbage, empty, cut, header])
@pytest.mark.parametrize("meet", ["refresh", "query"])
def test_a_damaged_file_is_put_aside_and_made_again(lab: Workspace, damage, meet: str) -> None:
    before = index_content(lab)
    expected = ask_everything(Store(lab))
    damage(lab.index)
    lab.index.with_name("index.duckdb.wal").write_bytes(b"its log goes with it")
    store = Store(lab)
    if meet == "refresh":
        store.refresh_if_stale(0)
    assert ask_everything(store) == expected
    assert index_content(lab) == before == folder_content(lab)
    assert len(corrupt_files(lab)) == 2, "the file and its log, under names that belong together"
    assert corrupt_files(lab)[1].name == corrupt_files(lab)[0].name + ".wal"
    assert store.notice is None


def test_a_warm_store_meets_damage_too(lab: Workspace) -> None:
    store = Store(lab)
    store.refresh_if_stale(0)
    expected = ask_everything(store)
    garbage(lab.index)
    assert ask_everything(store) == expected, "last frames, while it is made again"
    assert ask_everything(Store(lab)) == expected
    assert index_content(lab) == folder_content(lab)


def test_damage_that_only_a_query_meets(workspace: Workspace) -> None:
    run = pretrain(workspace)
    job = begin(run)
    log(job, range(6000), "loss")
    store = Store(workspace)
    points = store.metrics(run.id, max_points=10**6)
    before = index_content(workspace)
    # Flip bytes in the blocks of the metric values only: opening, and refreshing, work as ever.
    con = duckdb.connect(str(workspace.index), read_only=True)
    rows = con.execute("SELECT block_id FROM pragma_storage_info('metrics') WHERE column_name = 'value'").fetchall()
    size = con.execute("SELECT block_size FROM pragma_database_size()").fetchall()[0][0]
    con.close()
    blocks = {block for (block,) in rows if block is not None and block >= 0}
    assert blocks
    with workspace.index.open("r+b") as file:
        for block in blocks:
            file.seek(3 * 4096 + block * size + size // 3)
            old = file.read(64)
            file.seek(-64, os.SEEK_CUR)
            file.write(bytes(b ^ 0x55 for b in old))
    cold = Store(workspace)
    cold.refresh_if_stale(0)
    assert len(cold.runs()) == 1 and not corrupt_files(workspace), "nobody has met it yet"
    found = cold.metrics(run.id, max_points=10**6)
    assert found.equals(points)
    assert corrupt_files(workspace)
    assert index_content(workspace) == before == folder_content(workspace)


def test_a_deleted_index_is_made_again_cold_and_warm(lab: Workspace) -> None:
    expected = ask_everything(Store(lab))
    lab.index.unlink()
    cold = Store(lab)
    assert ask_everything(cold) == expected
    lab.index.unlink()
    assert ask_everything(cold) == expected
    cold.refresh_if_stale(0)
    builder = cold._builder
    if builder is not None:
        builder.join()
    assert index_content(lab) == folder_content(lab)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET version = version + 1",
        "DELETE FROM meta",
        "DROP TABLE meta",
        "DROP TABLE metrics",
        "ALTER TABLE runs DROP COLUMN spec",
    ],
)
def test_an_index_of_another_form_is_made_again(lab: Workspace, change: str) -> None:
    expected = ask_everything(Store(lab))
    with duckdb.connect(str(lab.index)) as con:
        con.execute(change)
    store = Store(lab)
    store.refresh_if_stale(0)
    assert ask_everything(store) == expected
    assert index_content(lab) == folder_content(lab)


def test_a_foreign_database_under_our_name_is_put_aside(lab: Workspace) -> None:
    lab.index.unlink()
    with duckdb.connect(str(lab.index)) as con:
        con.execute("CREATE TABLE theirs AS SELECT 1 AS a")
    store = Store(lab)
    store.refresh_if_stale(0)
    assert len(store.runs()) == 4


def test_rebuild_counts_and_tells_how_far_it_is(lab: Workspace) -> None:
    told: list[tuple[int, int]] = []
    before = index_content(lab)
    counts = Store(lab).rebuild(lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6)
    assert counts["runs"] == 4 and counts["metrics"] == 2400 and counts["scores"] == 7 and counts["problems"] == 2
    assert index_content(lab) == before
    assert not list(lab.root.glob(".index.duckdb.new-*"))


def test_what_others_take_in_during_a_rebuild_is_not_lost(lab: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that grows after the rebuild read it, and is taken into the old index before the swap."""
    store, other = Store(lab), Store(lab)
    other.refresh_if_stale(0)
    run = next(r for r in sorted(lab.runs.iterdir()) if "mae-pack" in r.name)
    fill = index.fill
    calls = []

    def late(*args) -> None:
        fill(*args)
        if not calls:
            log(JobContext(lab, RunFolder(run), 1), range(400, 410))
            other.refresh_if_stale(0)
        calls.append(1)

    monkeypatch.setattr(index, "fill", late)
    store.rebuild()
    assert len(calls) == 2
    other.refresh_if_stale(0)
    assert len(other.metrics(run.name, ["loss"])) == 410
    assert index_content(lab) == folder_content(lab)


def test_damage_again_and_again_is_said_instead_of_built_forever(
    lab: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(lab)
    garbage(lab.index)
    assert len(store.runs()) == 4
    garbage(lab.index)
    with pytest.raises(RsfmError, match="damaged twice"):
        store.lint()


def test_only_the_newest_damaged_files_are_kept(lab: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_AGAIN_S", 0.0)
    for _ in range(index.KEEP_CORRUPT + 2):
        garbage(lab.index)
        assert len(Store(lab).runs()) == 4
    assert len(corrupt_files(lab)) == index.KEEP_CORRUPT


def test_the_schema_says_its_version(workspace: Workspace) -> None:
    pretrain(workspace)
    Store(workspace).refresh_if_stale(0)
    Store(workspace).runs()
    with duckdb.connect(str(workspace.index), read_only=True) as con:
        assert schema.version(con) == schema.VERSION
        assert {t for (t,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()} == {
            *schema.TABLES,
            "meta",
        }
        assert len(con.execute("FROM groups").fetchall()) == 1, "views work in an analyst's own shell"
        assert con.execute("FROM lint").fetchall() == []
