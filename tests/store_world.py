"""Run folders for tests of the store, and the whole content of an index in a form that can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from rsfm.specs import EvaluateSpec, pretrain_spec
from rsfm.store import schema
from rsfm.store.database import Database, Memory
from rsfm.store.files import append_jsonl, utc_now
from rsfm.store.index import fill
from rsfm.store.ingest import Ingest
from rsfm.store.job import JobContext
from rsfm.store.runs import RunFolder, create_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace


def pretrain(workspace: Workspace, *, seed: int = 0, dataset: str = "pack", tags: list[str] | None = None) -> RunFolder:
    return create_run(workspace, pretrain_spec("mae", dataset, "smoke", seed=seed), tags=tags)


def evaluate(workspace: Workspace, model: str = "band-stats") -> RunFolder:
    return create_run(workspace, EvaluateSpec(model=model, dataset="pack"))


def begin(run: RunFolder, attempt: int = 1) -> JobContext:
    """The supervisor starts an attempt."""
    run.add_event(state="starting", attempt=attempt, slot="cpu-0", device="cpu", host="here")
    run.add_event(state="running", attempt=attempt)
    return JobContext(Workspace(run.path.parents[1]), run, attempt)


def log(job: JobContext, steps: range, name: str = "loss") -> None:
    """The job measures something at these steps."""
    append_jsonl(
        job.folder.path / "metrics.jsonl",
        *(
            {
                "attempt": job.attempt, "step": step, "samples": step * 8, "time": utc_now(),
                "values": {name: job.attempt + step / 1000, "lr": 0.1},
            }
            for step in steps
        ),
    )  # fmt: skip


def finish(run: RunFolder, state: str = "succeeded", attempt: int = 1) -> None:
    run.add_event(state=state, attempt=attempt, message=f"{state}.")


def score(**changes: Any) -> dict[str, Any]:
    """A row as evaluations write it."""
    row = {
        "model": "m", "model_title": "M", "model_group": "g", "model_seed": 0, "eval_seed": 0, "dataset": "pack",
        "pack_hash": "h", "synthetic": False, "split": "test", "task": "classification", "adaptation": "knn",
        "bands": "B02,B03", "operator": "bilinear", "severity": 1, "gsd_m": 10.0, "degrade_target": "single",
        "train_degrade": "none", "metric": "accuracy", "value": 0.5, "ci_low": 0.4, "ci_high": 0.7, "n": 100,
        "operator_hash": "o",
    }  # fmt: skip
    return row | changes


def indexed(workspace: Workspace) -> Store:
    """A store whose index holds all that is in the folders now."""
    Store(workspace).rebuild()
    store = Store(workspace)
    store.refresh_if_stale(0)
    return store


def small_lab(workspace: Workspace) -> list[RunFolder]:
    """A few runs of every kind, with everything that the index holds of runs."""
    runs = []
    for seed in range(3):
        run = pretrain(workspace, seed=seed, tags=["lab"])
        job = begin(run)
        log(job, range(400))
        job.progress(400, 400, unit="samples", force=True)
        figure = run.path / "artifacts" / "curve.json"
        figure.write_text("{}")
        job.artifact(figure, kind="figure", step=3)
        finish(run)
        runs.append(run)
    run = evaluate(workspace)
    job = begin(run)
    job.scores([score(severity=s, eval_seed=e, value=0.9 / s + e / 100) for s in (1, 2, 4) for e in (0, 1)])
    finish(run)
    job.scores([score(value=0.123)])  # the same key with another value
    broken = workspace.runs / "20260101-000000-mae-broken-0000"
    broken.mkdir()
    (workspace.packs / "half").mkdir(parents=True)
    return [*runs, run]


def content(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """All rows of all tables, without the numbers that one index happens to give to its runs."""
    rows: dict[str, list[str]] = {}
    for table, columns in schema.TABLES.items():
        if "run" in columns and table != "runs":
            sql = f"SELECT r.run_id, t.* EXCLUDE (run) FROM {table} t LEFT JOIN runs r USING (run)"
        else:
            sql = f"SELECT t.* EXCLUDE (run) FROM {table} t" if table == "runs" else f"SELECT * FROM {table}"
        # As text: not-a-number is not equal to itself.
        rows[table] = sorted(map(repr, con.execute(sql).fetchall()))
    return rows


def index_content(workspace: Workspace) -> dict[str, list[str]]:
    database = Database(workspace.index, write=False)
    try:
        with database.attached() as con:
            return content(con)
    finally:
        database.close()


def folder_content(workspace: Workspace) -> dict[str, list[str]]:
    """What an index must hold: read afresh from the folders, in one go."""
    memory = Memory()
    with memory.attached() as con:
        schema.create(con)
        fill(Ingest(workspace), con, None)
        return content(con)


def append_raw(path: Path, data: bytes | dict[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n")
