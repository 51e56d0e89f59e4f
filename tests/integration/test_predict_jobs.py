"""Predictions through the queue: submitted from python and from the command line, run by the supervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scenes_world import Lab, layer, write_village

from jobs import client
from rsfm.prediction_info import read_prediction
from rsfm.specs import PredictSpec
from rsfm.store.runs import open_run

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("RSFM_SUPERVISOR_IDLE_S", "2")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Lab.of(tmp_path)


def test_segmentation_and_change_through_the_queue(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, truth = write_village(tmp_path)
    monkeypatch.chdir(tmp_path)
    spec = PredictSpec(evaluation=lab.segmentation, scene="after.tif", truth="truth.tif")
    run_id = client.submit(lab.workspace, spec)
    assert "-predict-after-" in run_id
    env = {**os.environ, "RSFM_WORKSPACE": str(lab.workspace.root)}
    words = [
        "predict", "--evaluation", lab.change, "--scene", after.name, "--before", before.name, "--truth", truth.name,
        "--set", "min_area_m2=100", "--json",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "rsfm.cli", *words], capture_output=True, text=True, env=env, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["state"] == "succeeded" and answer["kind"] == "predict"
    assert "tiles" in done.stderr, "progress is shown"
    assert client.follow(lab.workspace, run_id) == "succeeded"

    segmented = open_run(lab.workspace, run_id)
    assert segmented.spec().scene == str(after), "a relative path means the caller's"
    assert read_prediction(segmented.path).scores.metrics["mean_iou"] > 0.7
    assert (segmented.progress()["phase"], segmented.progress()["unit"]) == ("done", "tiles")
    changed = open_run(lab.workspace, answer["run_id"])
    info = read_prediction(changed.path)
    assert info.scores.metrics["f1"] > 0.7 and info.polygons.count >= 4
    assert set(layer(changed, "changes").ravel()) == {0, 1}
