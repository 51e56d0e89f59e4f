"""Tables of the index over the workspace's folders.

The index can be thrown away at any time: a change here is a new `VERSION`, and an index of another version is built
again. Times are UTC without a zone; `run` is a number of this index (`runs.run`), small so that the ten million rows
of `metrics` stay small and a run's rows are found by their zone maps. There are no key constraints, for their
indexes would cost more than every check they make: one writer at a time replaces whole runs' rows.
"""

from __future__ import annotations

import uuid

import duckdb
import pyarrow as pa

from rsfm.store.lint import LINT

VERSION = 10

#: What makes two scores the same measurement; the same key with another value is kept and marked by the lint.
SCORE_KEY = (
    "model_group", "model_seed", "eval_seed", "dataset", "pack_hash", "split", "task", "adaptation", "bands",
    "operator", "severity", "degrade_target", "train_degrade", "metric",
)  # fmt: skip

_TYPES = {
    "INTEGER": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string(), "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us"), "BLOB": pa.binary(),
}  # fmt: skip

#: table -> column -> type.
TABLES: dict[str, dict[str, str]] = {
    "runs": {
        "run": "INTEGER", "run_id": "VARCHAR", "kind": "VARCHAR", "group_id": "VARCHAR", "method": "VARCHAR",
        "dataset": "VARCHAR", "model": "VARCHAR", "preset": "VARCHAR", "seed": "BIGINT", "state": "VARCHAR",
        "attempt": "INTEGER", "created": "TIMESTAMP", "started": "TIMESTAMP", "finished": "TIMESTAMP",
        "active_s": "DOUBLE", "active_since": "TIMESTAMP", "heartbeat_due": "TIMESTAMP", "done": "DOUBLE",
        "total": "DOUBLE", "unit": "VARCHAR", "phase": "VARCHAR", "rate": "DOUBLE", "eta_s": "DOUBLE",
        "loss": "DOUBLE", "knn": "DOUBLE", "message": "VARCHAR", "tags": "VARCHAR", "note": "VARCHAR",
        "priority": "BIGINT", "spec": "VARCHAR", "spec_hash": "VARCHAR", "versions": "VARCHAR",
        "git_revision": "VARCHAR", "host": "VARCHAR", "device": "VARCHAR", "slot": "VARCHAR",
    },
    "attempts": {
        "run": "INTEGER", "attempt": "INTEGER", "started": "TIMESTAMP", "finished": "TIMESTAMP", "state": "VARCHAR",
        "code": "BIGINT", "signal": "VARCHAR", "message": "VARCHAR",
    },
    # Where each attempt's metrics begin and end: what it supersedes of the attempts before it.
    "starts": {"run": "INTEGER", "attempt": "INTEGER", "start_step": "BIGINT", "last_step": "BIGINT"},
    "events": {
        "run": "INTEGER", "seq": "BIGINT", "time": "TIMESTAMP", "state": "VARCHAR", "attempt": "INTEGER",
        "message": "VARCHAR", "data": "VARCHAR",
    },
    "metrics": {
        "run": "INTEGER", "attempt": "INTEGER", "name": "VARCHAR", "step": "BIGINT", "samples": "BIGINT",
        "time": "TIMESTAMP", "value": "DOUBLE",
    },
    # Last and best value of every metric of every run.
    "series": {
        "run": "INTEGER", "name": "VARCHAR", "n": "BIGINT", "last_step": "BIGINT", "last": "DOUBLE",
        "best_min": "DOUBLE", "best_max": "DOUBLE",
    },
    "scores": {
        "run": "INTEGER", "seq": "BIGINT", "attempt": "INTEGER", "time": "TIMESTAMP", "key": "VARCHAR",
        "current": "BOOLEAN", "model": "VARCHAR", "model_title": "VARCHAR", "model_group": "VARCHAR",
        "model_seed": "BIGINT", "eval_seed": "BIGINT", "dataset": "VARCHAR", "pack_hash": "VARCHAR",
        "synthetic": "BOOLEAN", "split": "VARCHAR", "task": "VARCHAR", "adaptation": "VARCHAR", "bands": "VARCHAR",
        "operator": "VARCHAR", "severity": "DOUBLE", "gsd_m": "DOUBLE", "degrade_target": "VARCHAR",
        "train_degrade": "VARCHAR", "metric": "VARCHAR", "value": "DOUBLE", "ci_low": "DOUBLE", "ci_high": "DOUBLE",
        "n": "BIGINT", "scenes": "BIGINT", "operator_hash": "VARCHAR", "basis": "VARCHAR",
        # For the lint: see `rsfm.store.lint`.
        "deterministic": "BOOLEAN", "feature_dim": "BIGINT", "feature_std_l2": "DOUBLE", "feature_rank": "DOUBLE",
        "input_band": "VARCHAR", "input_mean": "DOUBLE", "input_std": "DOUBLE",
    },
    "artifacts": {
        "run": "INTEGER", "seq": "BIGINT", "artifact_id": "VARCHAR", "attempt": "INTEGER", "time": "TIMESTAMP",
        "path": "VARCHAR", "kind": "VARCHAR", "title": "VARCHAR", "step": "BIGINT", "bytes": "BIGINT",
        "ok": "BOOLEAN", "problem": "VARCHAR",
    },
    "datasets": {
        "name": "VARCHAR", "title": "VARCHAR", "dataset": "VARCHAR", "synthetic": "BOOLEAN", "task": "VARCHAR",
        "splits": "VARCHAR", "samples": "BIGINT", "bands": "VARCHAR", "sensor": "VARCHAR", "gsd_m": "DOUBLE",
        "size": "BIGINT", "classes": "BIGINT", "content_hash": "VARCHAR", "bytes": "BIGINT", "created": "TIMESTAMP",
        "problem": "VARCHAR",
    },
    "models": {
        "name": "VARCHAR", "title": "VARCHAR", "method": "VARCHAR", "run_id": "VARCHAR", "group_id": "VARCHAR",
        "seed": "BIGINT", "bands": "VARCHAR", "feature_dim": "BIGINT", "trained_on": "VARCHAR",
        "architecture": "VARCHAR", "parameters": "BIGINT", "image_size": "BIGINT", "sensor": "VARCHAR",
        "gsd_m": "DOUBLE", "step": "BIGINT", "samples": "BIGINT", "synthetic": "BOOLEAN", "bytes": "BIGINT",
        "imported": "TIMESTAMP", "created": "TIMESTAMP", "problem": "VARCHAR",
    },
    # What could not be read. `owner` is "runs/<id>", "packs/<name>" or "models/<name>".
    "problems": {"owner": "VARCHAR", "path": "VARCHAR", "problem": "VARCHAR"},
    # How far each file was read: identity and first bytes tell a file that only grew from one that was replaced.
    "files": {
        "owner": "VARCHAR", "name": "VARCHAR", "inode": "BIGINT", "size": "BIGINT", "mtime_ns": "BIGINT",
        "consumed": "BIGINT", "head": "BLOB", "bad": "INTEGER",
    },
}  # fmt: skip

_GROUPS = """
CREATE VIEW groups AS
SELECT group_id, kind, any_value(method) AS method, any_value(dataset) AS dataset, count(*) AS n,
       count(*) FILTER (WHERE state = 'succeeded') AS succeeded, list(seed ORDER BY seed) AS seeds,
       list(run_id ORDER BY run_id) AS run_ids
FROM runs GROUP BY group_id, kind
"""
# The content of each pack that was measured last: what comparisons are about.
_NEWEST_CONTENT = """
CREATE VIEW newest_content AS
SELECT dataset, arg_max(pack_hash, (time, run, seq)) AS pack_hash FROM scores WHERE current GROUP BY dataset
"""


def arrow_schema(table: str) -> pa.Schema:
    """The columns of a table, typed for bulk inserts."""
    return pa.schema([(name, _TYPES[kind]) for name, kind in TABLES[table].items()])


def create(con: duckdb.DuckDBPyConnection) -> None:
    """Make all tables in the connection's current (empty) database."""
    for table, columns in TABLES.items():
        definition = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        con.execute(f"CREATE TABLE {table} ({definition})")
    con.execute(_GROUPS)
    con.execute(_NEWEST_CONTENT)
    con.execute(LINT)
    con.execute("CREATE TABLE meta (version INTEGER, id VARCHAR, built TIMESTAMP, results BIGINT)")
    values = [VERSION, uuid.uuid4().hex]
    con.execute("INSERT INTO meta VALUES (?, ?, (now() AT TIME ZONE 'UTC')::TIMESTAMP, 0)", values)


def version(con: duckdb.DuckDBPyConnection) -> int | None:
    """The schema's version in the connection's current database; None where it is no index at all."""
    try:
        rows = con.execute("SELECT version FROM meta").fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        return None
    return rows[0][0] if len(rows) == 1 else None


def results(con: duckdb.DuckDBPyConnection) -> tuple[str, int]:
    """Changes whenever scores do, or what the lint says of them: most refreshes of a busy lab bring metrics only."""
    ((index, count),) = con.execute("SELECT id, results FROM meta").fetchall()
    return index, count
