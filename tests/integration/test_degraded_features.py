"""Heads on stored features, fitted on images that are degraded: what it changes, and that it is told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from maps_world import evaluate, multilabel_pack
from test_evaluate import RGB8, SIZE, make_pack

from rsfm.errors import RsfmError
from rsfm.evaluation.evaluate import dry_run
from rsfm.evaluation.heads import fit_linear
from rsfm.evaluation.plan import plan
from rsfm.models.export import FeatureModel
from rsfm.pack_arrays import write_arrays
from rsfm.specs import EvaluateSpec
from rsfm.workspace import Workspace

DEGRADED = {"train_degrade": True}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def rough_task(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Class = how strong the noise is, which a factor of 8 takes away, and a little how dark, which it does not."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    bright = 100 - np.array([0, 16])[labels] + rng.normal(0, 8, count)
    noise = np.array([12, 36])[labels][:, None, None, None] * rng.normal(size=(count, 3, SIZE, SIZE))
    images = bright[:, None, None, None] + noise
    return images.clip(0, 255).astype(np.uint8), [("smooth", "rough")[i] for i in labels]


def values(scores: pd.DataFrame, adaptation: str) -> pd.Series:
    return scores[scores["adaptation"] == adaptation].set_index("severity")["value"]


def test_the_curve_flattens(workspace: Workspace) -> None:
    make_pack(workspace, "rough", rough_task)
    asked: dict[str, Any] = {"adaptations": ["knn", "centroid", "linear"], "severities": [1, 2, 4, 8]}
    plain, usual = evaluate(workspace, "band-stats", "rough", **asked)
    robust, run = evaluate(workspace, "band-stats", "rough", **asked, fit=DEGRADED)
    for adaptation in ("knn", "linear"):
        before, after = values(plain, adaptation), values(robust, adaptation)
        assert before[1] > 0.85 and before[8] < 0.6, "degradation hurts"
        assert after.min() > 0.85
    assert values(robust, "centroid").min() > 0.85
    assert set(plain["train_degrade"]) == {"none"} and set(robust["train_degrade"]) == {"bilinear"}
    assert set(plain["adaptation"]) == set(robust["adaptation"])
    frames = [pd.read_parquet(r.path / "artifacts" / "predictions.parquet") for r in (usual, run)]
    assert set(frames[1]["train_degrade"]) == {"bilinear"}
    for adaptation in asked["adaptations"]:
        one, other = (f.loc[f["adaptation"] == adaptation, "score"] for f in frames)
        assert (one != other).mean() > 0.5, "fitted on other features"


def test_each_training_image_is_encoded_once_per_severity(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(workspace, "rough", rough_task)
    counted: list[int] = []
    extract = FeatureModel.extract
    monkeypatch.setattr(FeatureModel, "extract", lambda self, x: counted.append(len(x)) or extract(self, x))
    asked: dict[str, Any] = {"severities": [1, 4], "eval_seeds": [0, 1], "fit": DEGRADED}
    evaluate(workspace, "band-stats", "rough", **asked, adaptations=["knn", "centroid", "linear"])
    assert sum(counted) == 2 * 150 + 2 * 90
    counted.clear()
    scores, _ = evaluate(workspace, "band-stats", "rough", **asked, adaptations=["knn"])
    assert not counted, "features lie in the cache"
    assert set(scores["train_degrade"]) == {"bilinear (1, 4)"}, "not the operator's own severities"


@pytest.mark.parametrize("adaptation", ["knn", "linear"])
def test_flags_too(workspace: Workspace, adaptation: str) -> None:
    multilabel_pack(workspace)
    scores, _ = evaluate(workspace, "band-stats", "several", adaptations=[adaptation], severities=[1, 8], fit=DEGRADED)
    assert scores["value"].min() > 0.9 and set(scores["train_degrade"]) == {"bilinear (1, 8)"}


def test_no_image_is_fitted_and_held_out_at_once() -> None:
    """With labels by chance, an image seen before in another version would speak for the weakest penalty."""
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(60, 40))), torch.from_numpy(rng.integers(0, 2, 60))
    both, twice = torch.cat([x, x + 0.01 * torch.from_numpy(rng.normal(size=x.shape))]), torch.cat([y, y])
    alone = fit_linear(x, y, 0)
    assert fit_linear(both, twice, 0, versions=2).l2 == alone.l2 == 1.0
    assert fit_linear(both, twice, 0).l2 < 0.1, "the same images as if they were others"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"severities": [1]}, "degrades nothing at factor 1, the only severity"),
        ({"severities": [1], "adaptations": ["finetune"]}, "degrades nothing"),
        ({"adaptations": ["finetune"], "operator": "native"}, "changes the size of images"),
        ({"fit": {**DEGRADED, "epochs": 3}}, "fit.epochs=3"),
        ({"adaptations": ["knn"], "fit": {**DEGRADED, "flips": "none"}}, "fit.flips=none .*for finetune"),
    ],
)
def test_what_it_cannot_do_is_refused(workspace: Workspace, settings: dict, message: str) -> None:
    make_pack(workspace, "rough", rough_task, {"train": 30, "test": 4})
    spec = EvaluateSpec(**{"model": "random:vit-nano", "dataset": "rough", "fit": DEGRADED, **settings})
    with pytest.raises(RsfmError, match=message):
        plan(spec, workspace)


@pytest.mark.parametrize("operator", ["native", "noise", "band_loss"])
def test_any_operator_suits_stored_features(workspace: Workspace, operator: str) -> None:
    """Also one that changes the size of images: each severity is encoded by itself."""
    make_pack(workspace, "rough", rough_task, {"train": 30, "test": 12})
    settings: dict[str, Any] = {"operator": operator, "fit": DEGRADED}
    assert dry_run(EvaluateSpec(model="random:vit-nano", dataset="rough", **settings), workspace)
    scores, _ = evaluate(workspace, "band-stats", "rough", adaptations=["linear"], **settings)
    assert set(scores["train_degrade"]) == {operator} and scores["value"].notna().all()


def test_what_an_evaluation_takes_is_said_before(workspace: Workspace) -> None:
    images = {split: rough_task(12, 0)[0] for split in ("train", "test")}
    write_arrays(workspace, "few", images, RGB8, labels={split: ["a", "b"] * 6 for split in images})
    spec = EvaluateSpec(model="band-stats", dataset="few", knn_k=3, fit=DEGRADED)
    assert any("96 images to encode" in remark for remark in dry_run(spec, workspace))
