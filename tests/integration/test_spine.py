"""The whole way, from the command line: pixels -> pack -> MAE -> evaluation -> comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import client
from rsfm.packs import Pack
from rsfm.store.runs import RunFolder, open_run
from rsfm.workspace import Workspace

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def rsfm(workspace: Workspace):
    """Run a verb in the workspace; fails the test on a wrong exit code. The supervisor ends with the test."""
    env = {**os.environ, "RSFM_WORKSPACE": str(workspace.root), "RSFM_SUPERVISOR_IDLE_S": "3"}

    def call(*args: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "rsfm.cli", *args], capture_output=True, text=True, env=env, check=False
        )
        assert done.returncode == code, f"rsfm {' '.join(args)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return call


def curve_of(rows: list[dict], model: str, adaptation: str) -> dict[float, dict]:
    return {r["severity"]: r for r in rows if r["model"] == model and r["adaptation"] == adaptation}


def check_comparison(rows: list[dict], models: list[str], n: int) -> None:
    for model in models:
        for adaptation in ("knn", "linear"):
            curve = curve_of(rows, model, adaptation)
            assert sorted(curve) == [1, 2, 4, 8], (model, adaptation)
            for row in curve.values():
                assert 0 <= row["ci_low"] <= row["mean"] <= row["ci_high"] <= 1
                assert row["n"] == n
                assert row["seeds"] == 2
                assert row["seed_kind"] == "evaluation seeds"


def check_memory(workspace: Workspace, run: RunFolder) -> None:
    """What the dry run says of the memory is what the run then took."""
    (said,) = [r for r in client.dry_run(run.spec(), workspace).remarks if r.startswith("Peak memory: about ")]
    (took,) = [e["peak_memory_bytes"] for e in run.events() if e.get("peak_memory_bytes")]
    assert float(said.split()[3]) == pytest.approx(took / 1e9, rel=0.2)


def test_synthetic_pack_to_curve(rsfm, workspace: Workspace) -> None:
    rsfm("data", "prepare", "synthetic-landsat7", "--limit", "120")
    pack = Pack.named(workspace, "synthetic-landsat7")
    assert pack.info.synthetic
    answer = json.loads(
        rsfm("pretrain", "--method", "mae", "--dataset", pack.name, "--preset", "smoke", "--seed", "3", "--json")
    )
    assert answer["state"] == "succeeded"
    run_id = answer["run_id"]
    run = open_run(workspace, run_id)
    assert run.spec().seed == 3
    check_memory(workspace, run)
    for model in (run_id, "band-stats"):
        rsfm("evaluate", "--model", model, "--dataset", pack.name, "--seeds", "0,1")
    rows = json.loads(rsfm("compare", "--json"))
    test_split = "test" if "test" in pack.info.splits else "val"
    check_comparison(rows, [run_id, "band-stats"], pack.info.splits[test_split])
    assert all(r["synthetic"] for r in rows)
    before = json.loads(rsfm("runs", "--json"))
    assert {r["state"] for r in before} == {"succeeded"}
    workspace.index.unlink()
    rsfm("index", "rebuild")
    assert json.loads(rsfm("compare", "--json")) == rows
    assert [r["run_id"] for r in json.loads(rsfm("runs", "--json"))] == [r["run_id"] for r in before]
    rsfm("evaluate", "--model", run_id, "--dataset", "nothing", code=2)


@pytest.mark.realdata
def test_real_13_band_eurosat_to_curve(rsfm, workspace: Workspace, realdata: Path) -> None:
    rsfm("data", "prepare", "eurosat-ms", "--source", str(realdata / "eurosat_ms"))
    pack = Pack.named(workspace, "eurosat-ms")
    assert [b.name for b in pack.bands()][-1] == "B8A", "the files hold B8A last"
    assert len(pack.bands()) == 13
    assert pack.layer().gsd_m == pytest.approx(10, abs=0.2)
    run_id = rsfm("pretrain", "--method", "mae", "--dataset", pack.name, "--preset", "smoke").splitlines()[-1]
    models = [run_id, "random:vit-nano", "band-stats", "efficientnet-lite0"]
    for model in models:
        rsfm("evaluate", "--model", model, "--dataset", pack.name, "--seeds", "0,1")
    rows = json.loads(rsfm("compare", "--dataset", pack.name, "--json"))
    check_comparison(rows, models, pack.info.splits["val"])
    assert [curve_of(rows, run_id, "knn")[s]["gsd_m"] for s in (1, 2, 4, 8)] == pytest.approx(
        [pack.layer().gsd_m * s for s in (1, 2, 4, 8)]
    )
