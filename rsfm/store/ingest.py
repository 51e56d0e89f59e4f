"""Bring a database with the index's tables up to date with the folders. The same code fills a file and a memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from rsfm.store.folders import Update, read_folder
from rsfm.store.runs import FINISHED
from rsfm.store.scan import Known, Watch
from rsfm.store.schema import TABLES, arrow_schema
from rsfm.workspace import Workspace

#: About so many bytes and folders go into one transaction, so that nobody waits long for the lock.
BATCH_BYTES = 16_000_000
BATCH_FOLDERS = 250

_OF_A_RUN = [name for name, columns in TABLES.items() if "run" in columns]


class Ingest:
    """Feeds one database. Keeps in memory only the stat of each file, which makes a scan without news cheap."""

    def __init__(self, workspace: Workspace) -> None:
        self._root = workspace.root
        self.watch = Watch(workspace)

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Take over how far the database is."""
        finished = {f"runs/{i}" for (i,) in con.execute(_FINISHED_SQL, [sorted(FINISHED)]).fetchall()}
        files: dict[str, dict[str, Known]] = {}
        for owner, name, *numbers in con.execute("SELECT owner, name, inode, size, mtime_ns FROM files").fetchall():
            files.setdefault(owner, {})[name] = Known(*numbers)
        for (owner,) in con.execute("SELECT DISTINCT owner FROM problems").fetchall():
            files.setdefault(owner, {})  # a folder without a single file of ours
        for owner, known in files.items():
            self.watch.note(owner, known, finished=owner in finished)

    def batch(self, con: duckdb.DuckDBPyConnection, owners: Sequence[str]) -> list[str]:
        """Read the first of the owners and write them in one transaction; returns those that are left."""
        updates: list[Update] = []
        left = list(owners)
        size = 0
        known = _known(con, left[:BATCH_FOLDERS])
        while left and size < BATCH_BYTES and len(updates) < BATCH_FOLDERS:
            owner = left.pop(0)
            before = known.get(owner, {})
            update = read_folder(self._root, owner, before, BATCH_BYTES)
            size += update.consumed - (0 if update.restart else sum(k.consumed for k in before.values()))
            updates.append(update)
        con.begin()
        try:
            _write(con, updates)
            con.commit()
        except BaseException:
            with contextlib.suppress(duckdb.Error):  # a broken database cannot even take back
                con.rollback()
            raise
        for update in updates:
            if update.files or update.problems:
                self.watch.note(update.owner, update.files, finished=update.finished)
            else:
                self.watch.forget(update.owner)
        return left + [update.owner for update in updates if update.partial]


_FINISHED_SQL = "SELECT run_id FROM runs WHERE list_contains($1::VARCHAR[], state)"


def _known(con: duckdb.DuckDBPyConnection, owners: Sequence[str]) -> dict[str, dict[str, Known]]:
    rows = con.execute(
        "SELECT owner, name, inode, size, mtime_ns, consumed, head, bad FROM files "
        "WHERE owner IN (SELECT unnest($1::VARCHAR[]))",
        [list(owners)],
    ).fetchall()
    known: dict[str, dict[str, Known]] = {}
    for owner, name, *rest in rows:
        known.setdefault(owner, {})[name] = Known(*rest)
    return known


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]] | pa.Table) -> None:
    if not len(rows):
        return
    fresh = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=arrow_schema(table))
    con.register("fresh", fresh)
    try:
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM fresh")
    finally:
        con.unregister("fresh")


def _delete_runs(con: duckdb.DuckDBPyConnection, tables: Iterable[str], runs: Sequence[int]) -> None:
    for table in tables if runs else ():
        con.execute(f"DELETE FROM {table} WHERE run IN ({_marks(runs)})", list(runs))


def _write(con: duckdb.DuckDBPyConnection, updates: list[Update]) -> None:
    """All rows of some folders, within the caller's transaction."""
    owners = [update.owner for update in updates]
    names = [update.name for update in updates if update.owner.startswith("runs/")]
    numbers: dict[str, int] = {}
    if names:
        found = con.execute(f"SELECT run_id, run FROM runs WHERE run_id IN ({_marks(names)})", names)
        numbers = dict(found.fetchall())
    before = set(numbers.values())
    unused = con.execute("SELECT coalesce(max(run), 0) + 1 FROM runs").fetchall()[0][0]
    for update in updates:
        if update.rows.get("runs") and update.name not in numbers:
            numbers[update.name] = unused
            unused += 1

    void = [numbers[u.name] for u in updates if u.restart and numbers.get(u.name) in before]
    keys = _score_keys(con, void)
    _delete_runs(con, _OF_A_RUN, void)
    rows: dict[str, list[dict[str, Any]]] = {}
    for update in updates:
        for table, some in update.rows.items():
            if "run" in TABLES[table]:
                for row in some:
                    row["run"] = numbers[update.name]
            rows.setdefault(table, []).extend(some)
    runs = [row["run"] for row in rows.get("runs", [])]
    known = [run for run in runs if run in before]

    measured = _write_metrics(con, updates, numbers)
    _delete_runs(con, ("attempts",), known)
    _replace_artifacts(con, rows.get("artifacts", []), known)
    for table in ("events", "scores", "artifacts", "attempts"):
        _insert(con, table, rows.get(table, []))
    _series(con, [run for run in measured if run in before], measured)
    _write_runs(con, rows.get("runs", []), known)
    keys |= {row["key"] for row in rows.get("scores", [])}
    _mark_current(con, keys)
    if keys or _unreadable(con, owners) != {(u.owner, n, k.bad) for u in updates for n, k in u.files.items() if k.bad}:
        con.execute("UPDATE meta SET results = results + 1")

    for table, room in (("datasets", "packs/"), ("models", "models/")):
        touched = [u.name for u in updates if u.owner.startswith(room)]
        if touched:
            con.execute(f"DELETE FROM {table} WHERE name IN ({_marks(touched)})", touched)
            _insert(con, table, rows.get(table, []))
    for table in ("problems", "files"):
        con.execute(f"DELETE FROM {table} WHERE owner IN ({_marks(owners)})", owners)
    _insert(con, "problems", [problem for update in updates for problem in update.problems])
    _insert(
        con,
        "files",
        [
            {
                "owner": update.owner, "name": name, "inode": k.inode, "size": k.size, "mtime_ns": k.mtime_ns,
                "consumed": k.consumed, "head": k.head, "bad": k.bad,
            }
            for update in updates
            for name, k in update.files.items()
        ],
    )  # fmt: skip


def _unreadable(con: duckdb.DuckDBPyConnection, owners: Sequence[str]) -> set[tuple[str, str, int]]:
    """owner, name and number of the lines that were no rows."""
    query = f"SELECT owner, name, bad FROM files WHERE bad > 0 AND owner IN ({_marks(owners)})"
    return set(con.execute(query, list(owners)).fetchall())


# -- metrics -------------------------------------------------------------------------------------------------------
Span = tuple[int, int | None]  # first step, last step that has rows


def _write_metrics(con: duckdb.DuckDBPyConnection, updates: list[Update], numbers: dict[str, int]) -> list[int]:
    """Add metric rows; take away what a later attempt did again. Returns the runs whose metrics changed."""
    touched = [u for u in updates if u.metrics is not None and (len(u.metrics) or u.start_steps)]
    runs = [numbers[u.name] for u in touched]
    if not runs:
        return []
    spans: dict[int, dict[int, Span]] = {run: {} for run in runs}
    query = f"SELECT run, attempt, start_step, last_step FROM starts WHERE run IN ({_marks(runs)})"
    for run, attempt, first, last in con.execute(query, runs).fetchall():
        spans[run][attempt] = (first, last)
    tables = []
    changed: list[int] = []
    for update, run in zip(touched, runs, strict=True):
        assert update.metrics is not None
        old = spans[run]
        new = _merged(old, update)
        if new == old and not len(update.metrics):
            continue
        changed.append(run)
        if old:
            _supersede(con, run, old, new)
            _repeat(con, run, old, update)
        spans[run] = new
        tables.append(_metric_table(update, run, new))
    _insert(con, "metrics", pa.concat_tables(tables) if tables else [])
    _delete_runs(con, ("starts",), changed)
    _insert(
        con,
        "starts",
        [
            {"run": run, "attempt": attempt, "start_step": span[0], "last_step": span[1]}
            for run in changed
            for attempt, span in sorted(spans[run].items())
        ],
    )
    return changed


def _merged(old: dict[int, Span], update: Update) -> dict[int, Span]:
    new = dict(old)
    assert update.metrics is not None
    for attempt, (first, last) in update.metrics.span.items():
        begin, end = new.get(attempt, (first, None))
        new[attempt] = (min(begin, first), last if end is None else max(end, last))
    for attempt, first in update.start_steps.items():
        begin, end = new.get(attempt, (first, None))
        new[attempt] = (min(begin, first), end)
    return new


def _supersede(con: duckdb.DuckDBPyConnection, run: int, old: dict[int, Span], new: dict[int, Span]) -> None:
    """An attempt's first step voids the steps from there on of every attempt before it."""
    for attempt, (first, _) in new.items():
        moved = attempt not in old or old[attempt][0] != first
        if moved and any(a < attempt and last is not None and last >= first for a, (_, last) in old.items()):
            con.execute("DELETE FROM metrics WHERE run = ? AND attempt < ? AND step >= ?", [run, attempt, first])


def _repeat(con: duckdb.DuckDBPyConnection, run: int, old: dict[int, Span], update: Update) -> None:
    """A step that an attempt writes once more counts as written last."""
    rows = update.metrics
    assert rows is not None
    for attempt, (first, _) in rows.span.items():
        last = old.get(attempt, (0, None))[1]
        if last is None or first > last:
            continue
        again = [i for i, (a, s) in enumerate(zip(rows.attempt, rows.step, strict=True)) if a == attempt and s <= last]
        con.register("again", pa.table({"step": [rows.step[i] for i in again], "name": [rows.name[i] for i in again]}))
        con.execute(
            "DELETE FROM metrics WHERE run = ? AND attempt = ? AND step >= ? AND (step, name) IN (FROM again)",
            [run, attempt, first],
        )
        con.unregister("again")


def _metric_table(update: Update, run: int, spans: dict[int, Span]) -> pa.Table:
    """The rows of one run that no later attempt voids."""
    rows = update.metrics
    assert rows is not None
    schema = arrow_schema("metrics")
    columns: dict[str, Any] = {name: getattr(rows, name) for name in schema.names if name != "run"}
    columns["run"] = np.full(len(rows), run, np.int32)
    table = pa.table({f.name: pa.array(columns[f.name], f.type) for f in schema})
    if rows.repeats:
        table = table.take(rows.unique())
    if len(spans) > 1 and len(table):
        attempts, steps = table["attempt"].to_numpy(), table["step"].to_numpy()
        keep = np.ones(len(table), bool)
        for attempt, (first, _) in spans.items():
            keep &= ~((attempts < attempt) & (steps >= first))
        table = table.filter(pa.array(keep))
    return table


def _series(con: duckdb.DuckDBPyConnection, known: Sequence[int], measured: Sequence[int]) -> None:
    """Last and best values, from what counts now."""
    _delete_runs(con, ("series",), known)
    if measured:
        con.execute(
            "INSERT INTO series BY NAME SELECT run, name, count(*) AS n, max(step) AS last_step, "
            "arg_max(value, step) AS last, min(value) FILTER (isfinite(value)) AS best_min, "
            f"max(value) FILTER (isfinite(value)) AS best_max FROM metrics WHERE run IN ({_marks(measured)}) "
            "GROUP BY run, name",
            list(measured),
        )


# -- the rest of a run ---------------------------------------------------------------------------------------------
def _write_runs(con: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], known: Sequence[int]) -> None:
    if not rows:
        return
    _delete_runs(con, ("runs",), known)
    con.register("fresh", pa.Table.from_pylist(rows, schema=arrow_schema("runs")))
    try:
        con.execute(
            "INSERT INTO runs BY NAME SELECT f.* REPLACE (l.last AS loss, k.best_max AS knn) FROM fresh f "
            "LEFT JOIN series l ON l.run = f.run AND l.name = 'loss' "
            "LEFT JOIN series k ON k.run = f.run AND k.name = 'knn'"
        )
    finally:
        con.unregister("fresh")


def _replace_artifacts(con: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], known: Sequence[int]) -> None:
    """A path that is registered again replaces the row it had."""
    again = [row for row in rows if row["run"] in set(known)]
    if again:
        con.register("again", pa.table({"run": [r["run"] for r in again], "path": [r["path"] for r in again]}))
        con.execute("DELETE FROM artifacts WHERE (run, path) IN (FROM again)")
        con.unregister("again")


def _score_keys(con: duckdb.DuckDBPyConnection, runs: Sequence[int]) -> set[str]:
    if not runs:
        return set()
    found = con.execute(f"SELECT DISTINCT key FROM scores WHERE run IN ({_marks(runs)})", list(runs))
    return {key for (key,) in found.fetchall()}


def _mark_current(con: duckdb.DuckDBPyConnection, keys: set[str]) -> None:
    """Of the same key the newest row counts; the others stay, for the lint."""
    if not keys:
        return
    con.register("touched", pa.table({"key": sorted(keys)}))
    con.execute(
        "UPDATE scores SET current = ranked.first FROM ("
        "  SELECT s.run, s.seq, row_number() OVER (PARTITION BY s.key "
        "    ORDER BY s.time DESC NULLS LAST, s.attempt DESC NULLS LAST, r.run_id DESC, s.seq DESC) = 1 AS first"
        "  FROM scores s JOIN runs r USING (run) WHERE s.key IN (SELECT key FROM touched)"
        ") ranked WHERE scores.run = ranked.run AND scores.seq = ranked.seq"
    )
    con.unregister("touched")
