"""Evaluations that are trained: segmentation, change detection, fine-tuning, several labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from maps_world import (
    FIT,
    QUICK,
    RGB8,
    SIZE,
    blobs,
    change_pack,
    evaluate,
    multilabel_pack,
    request,
    segmentation_pack,
    value,
)

from rsfm import stats
from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.evaluation.evaluate import dry_run, run_job
from rsfm.evaluation.plan import plan
from rsfm.metrics import METRICS
from rsfm.pack_arrays import write_arrays
from rsfm.specs import EvaluateSpec
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# -- maps ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "adaptation"),
    [("band-stats", "linear"), ("random:vit-nano", "decoder"), ("random:vit-nano", "finetune"),
     ("efficientnet-lite0", "decoder")],
)  # fmt: skip
def test_segmentation_is_learnt(workspace: Workspace, model: str, adaptation: str) -> None:
    segmentation_pack(workspace)
    scores, run = evaluate(workspace, model, "fields", adaptations=[adaptation], severities=[1, 8])
    assert value(scores, 1, "mean_iou") > 0.55, "a constant map has 0.43"
    assert set(scores["metric"]) == {"mean_iou", "overall_accuracy"}
    assert set(scores["task"]) == {"segmentation"} and set(scores["train_degrade"]) == {"none"}
    frame = pd.read_parquet(run.path / "artifacts" / "predictions.parquet")
    assert len(frame) == 2 * 12 and set(frame["metric"]) == {"mean_iou"}
    for severity, part in frame.groupby("severity"):
        counts = np.stack(part["counts"].to_numpy())
        assert counts.sum() == 12 * SIZE * SIZE, "every pixel once"
        assert METRICS["mean_iou"].of(counts.sum(axis=0)) == pytest.approx(value(scores, severity, "mean_iou"))
    assert (scores["ci_low"] <= scores["value"]).all() and (scores["value"] <= scores["ci_high"]).all()


@pytest.mark.parametrize("labels", ["map", "flags"])
def test_intervals_draw_scenes(workspace: Workspace, labels: str) -> None:
    """Test samples that are parts of four scenes: their interval is that of the scenes, and what is kept says so."""
    pack = segmentation_pack(workspace) if labels == "map" else multilabel_pack(workspace, signal=0.6)
    fit = {"epochs": 8, "lr": 2e-3, "batch_size": 4} if labels == "map" else {}
    apart, _ = evaluate(workspace, "band-stats", pack.name, adaptations=["linear"], severities=[1], fit=fit)
    samples = pd.read_parquet(pack.path / "samples.parquet")
    samples["scene"] = [f"{split} {row % 4}" for split, row in samples[["split", "row"]].itertuples(index=False)]
    samples.to_parquet(pack.path / "samples.parquet")
    scores, run = evaluate(workspace, "band-stats", pack.name, adaptations=["linear"], severities=[1], fit=fit)
    n = pack.info.splits["test"]
    assert set(apart["scenes"]) == {n} and set(scores["scenes"]) == {4} and set(scores["n"]) == {n}
    assert scores["value"].tolist() == apart["value"].tolist()
    assert (scores[["ci_low", "ci_high"]] != apart[["ci_low", "ci_high"]]).all(axis=None)
    frame = pd.read_parquet(run.path / "artifacts" / "predictions.parquet")
    assert frame["scene"].tolist() == [f"test {i % 4}" for i in range(n)]
    counts = np.stack(frame["counts"].to_numpy())
    for metric in ("mean_iou",) if labels == "map" else ("micro_f1", "macro_f1"):
        row = scores[scores["metric"] == metric].iloc[0]
        summed = np.stack([counts[np.arange(n) % 4 == i].sum(axis=0) for i in range(4)])
        low, high = stats.bootstrap_pooled(summed, METRICS[metric].of, draws=QUICK["bootstrap"])
        assert (row["ci_low"], row["ci_high"]) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("model", ["random:vit-nano", "efficientnet-lite0"])
def test_images_need_not_be_square(workspace: Workspace, model: str) -> None:
    """Rows and columns are cropped, mirrored and put together again as they belong."""
    parts = {split: blobs(count, number) for number, (split, count) in enumerate((("train", 24), ("test", 12)))}
    wide = {s: np.concatenate([i, i[:, :, :, : SIZE // 2 + 3]], axis=3) for s, (i, _) in parts.items()}
    masks = {s: np.concatenate([m, m[:, :, :, : SIZE // 2 + 3]], axis=3) for s, (_, m) in parts.items()}
    classes, fit = ["land", "roof"], {**FIT, "crop_min_scale": 0.6, "jitter": 0.1}
    pack = write_arrays(workspace, "wide", wide, RGB8, masks=masks, classes=classes)
    assert pack.layer().shape[1] != pack.layer().shape[2]
    scores, run = evaluate(workspace, model, "wide", adaptations=["decoder"], severities=[1, 2], fit=fit)
    assert value(scores, 1, "mean_iou") > 0.5, "a constant map has 0.42"
    counts = np.stack(pd.read_parquet(run.path / "artifacts" / "predictions.parquet")["counts"].to_numpy())
    assert (counts.sum(axis=1) == SIZE * (SIZE + SIZE // 2 + 3)).all(), "every pixel once"


def test_ignored_pixels_count_nowhere(workspace: Workspace) -> None:
    segmentation_pack(workspace, ignore=True)
    _, run = evaluate(workspace, "band-stats", "fields", adaptations=["linear"], severities=[1])
    counts = np.stack(pd.read_parquet(run.path / "artifacts" / "predictions.parquet")["counts"].to_numpy())
    assert counts.sum() == 12 * SIZE * (SIZE - 4)


@pytest.mark.parametrize("fusion", ["diff", "abs", "concat"])
def test_change_is_learnt_and_only_the_later_image_is_degraded(workspace: Workspace, fusion: str) -> None:
    change_pack(workspace)
    scores, _ = evaluate(workspace, "random:vit-nano", "pairs", severities=[1, 16], fit={**FIT, "fusion": fusion})
    assert set(scores["adaptation"]) == {f"decoder ({changed(fusion=fusion)})"}
    assert set(scores["degrade_target"]) == {"post"}
    assert value(scores, 1, "f1") > 0.7 > value(scores, 16, "f1")


def changed(**more: Any) -> str:
    settings = {**FIT, **more}
    usual = EvaluateSpec(model="m", dataset="d").fit
    return ", ".join(
        f"{k}={settings[k]}"
        for k in type(usual).model_fields
        if settings.get(k, getattr(usual, k)) != getattr(usual, k)
    )


def test_another_target_is_another_curve(workspace: Workspace) -> None:
    change_pack(workspace)
    scores, _ = evaluate(
        workspace, "band-stats", "pairs", adaptations=["linear"], severities=[1, 16], degrade_target="pre"
    )
    later, _ = evaluate(workspace, "band-stats", "pairs", adaptations=["linear"], severities=[1, 16])
    assert set(scores["degrade_target"]) == {"pre"}
    assert value(scores, 1, "f1") == value(later, 1, "f1")
    assert value(scores, 16, "f1") > 0.8 > value(later, 16, "f1"), "the square is in the later image"


def test_degradation_while_training_flattens_the_curve(workspace: Workspace) -> None:
    change_pack(workspace)
    settings = {"severities": [1, 16], "fit": {**FIT, "epochs": 12}}
    plain, _ = evaluate(workspace, "random:vit-nano", "pairs", **settings)
    settings["fit"] = {**settings["fit"], "train_degrade": True}
    robust, _ = evaluate(workspace, "random:vit-nano", "pairs", **settings)
    assert set(robust["train_degrade"]) == {"bilinear (1, 16)"}, "not the operator's own severities"
    assert set(robust["adaptation"]) == set(plain["adaptation"])
    assert value(robust, 16, "f1") > value(plain, 16, "f1") + 0.1


def test_the_best_epoch_by_validation(workspace: Workspace) -> None:
    change_pack(workspace)
    _, run = evaluate(
        workspace, "band-stats", "pairs", adaptations=["linear"], severities=[1], fit={**FIT, "select": "best"}
    )
    rows = read_jsonl(run.path / "metrics.jsonl")[0]
    assert len(rows) == FIT["epochs"] and all(0 <= r["values"]["linear-0/val_score"] <= 1 for r in rows)
    segmentation_pack(workspace)
    with pytest.raises(RsfmError, match="no val split"):
        dry_run(EvaluateSpec(model="band-stats", dataset="fields", fit={"select": "best"}), workspace)


def test_smaller_images_for_the_operator_that_does_not_enlarge(workspace: Workspace) -> None:
    segmentation_pack(workspace)
    scores, _ = evaluate(workspace, "random:vit-nano", "fields", operator="native", severities=[1, 2])
    assert value(scores, 1, "mean_iou") > 0.7 and 0 <= value(scores, 2, "mean_iou") <= 1


def test_the_operators_own_severities_are_those_that_suit(workspace: Workspace) -> None:
    segmentation_pack(workspace)
    spec = EvaluateSpec(model="band-stats", dataset="fields")
    assert plan(spec, workspace).severities == (1, 2, 4, 8)
    assert plan(spec.model_copy(update={"operator": "band_loss"}), workspace).severities == (0, 1, 2)
    images = np.random.default_rng(0).normal(size=(4, 2, 4, 4)).astype(np.float32)
    two = write_arrays(
        workspace, "radar", {"train": images, "test": images}, [Band("VV", None, 10, "db"), Band("VH", None, 10, "db")],
        labels={"train": ["a", "b"] * 2, "test": ["a", "b"] * 2},
    )  # fmt: skip
    spec = EvaluateSpec(model="band-stats", dataset=two.name, knn_k=1)
    assert plan(spec, workspace).severities == (1, 2, 4)
    assert plan(spec.model_copy(update={"operator": "band_loss"}), workspace).severities == (0, 1)
    with pytest.raises(RsfmError, match="sunlight"):
        plan(spec.model_copy(update={"operator": "haze"}), workspace)


def test_an_undefined_score_is_a_gap_and_no_damage(workspace: Workspace) -> None:
    images, _ = blobs(8, 0)
    masks = np.zeros((8, 1, SIZE, SIZE), np.uint8)  # nothing ever changes, and so it is learnt
    write_arrays(
        workspace, "still", {"train": images, "test": images}, RGB8, later={"train": images, "test": images},
        masks={"train": masks, "test": masks}, classes=["no change", "change"],
    )  # fmt: skip
    spec = request(workspace, "band-stats", "still", adaptations=["linear"], severities=[1])
    run = create_run(workspace, spec)
    run_job(spec, JobContext(workspace, run, 1))
    assert read_jsonl(run.path / "scores.jsonl")[0] == []
    assert len(pd.read_parquet(run.path / "artifacts" / "predictions.parquet")) == 8


# -- labels of whole images --------------------------------------------------------------------------------------------
def test_several_labels(workspace: Workspace) -> None:
    multilabel_pack(workspace)
    scores, _ = evaluate(workspace, "band-stats", "several", adaptations=["knn", "linear"], severities=[1, 2])
    assert set(scores["metric"]) == {"micro_f1", "macro_f1", "mean_ap"}
    assert (scores["ci_low"] <= scores["value"]).all() and (scores["value"] <= scores["ci_high"]).all()
    for adaptation in ("knn", "linear"):
        part = scores[scores["adaptation"].str.startswith(adaptation)]
        assert value(part, 1, "micro_f1") > 0.9 and value(part, 1, "mean_ap") > 0.95


def test_fine_tuning_of_labels(workspace: Workspace) -> None:
    multilabel_pack(workspace)
    scores, _ = evaluate(workspace, "random:vit-nano", "several", adaptations=["finetune"], severities=[1])
    assert value(scores, 1, "micro_f1") > 0.8


# -- what can be asked -----------------------------------------------------------------------------------------------
def test_one_sample_per_step(workspace: Workspace) -> None:
    segmentation_pack(workspace, counts=(4, 2))
    fit = {**FIT, "batch_size": 1, "epochs": 1}
    scores, _ = evaluate(workspace, "random:vit-nano", "fields", severities=[1], fit=fit)
    assert len(scores) == 2


def test_the_best_epoch_of_several_labels(workspace: Workspace) -> None:
    multilabel_pack(workspace, val=20)
    fit = {**FIT, "epochs": 2, "select": "best"}
    scores, _ = evaluate(workspace, "random:vit-nano", "several", adaptations=["finetune"], severities=[1], fit=fit)
    assert 0 <= value(scores, 1, "micro_f1") <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operator": "native"}, "degrade_target=both"),
        ({"adaptations": ["linear"], "fit": {"select": "best"}}, None),
        ({"adaptations": ["finetune"], "fit": {"train_degrade": True}}, None),
    ],
)
def test_what_pairs_can_be_asked(workspace: Workspace, settings: dict, message: str | None) -> None:
    change_pack(workspace)
    spec = request(workspace, "random:vit-nano", "pairs", **settings)
    if message is None:
        assert dry_run(spec, workspace)
        return
    with pytest.raises(RsfmError, match=message):
        dry_run(spec, workspace)


def test_kinds_of_change_are_not_mistaken_for_change(workspace: Workspace) -> None:
    images, masks = blobs(4, 0)
    both = {"train": images, "test": images}
    write_arrays(
        workspace, "kinds", both, RGB8, later=both, masks={"train": masks, "test": masks},
        classes=["none", "built", "demolished"],
    )  # fmt: skip
    with pytest.raises(RsfmError, match="3 kinds of change"):
        plan(EvaluateSpec(model="band-stats", dataset="kinds"), workspace)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("band-stats", {"adaptations": ["finetune"]}, "no weights to fine-tune"),
        ("band-stats", {"adaptations": ["decoder"]}, "no feature pyramid"),
        ("random:vit-nano", {"adaptations": ["knn"]}, "kNN is not for semantic segmentation"),
        ("random:vit-nano", {"degrade_target": "post"}, "single images"),
        ("random:vit-nano", {"operator": "misregistration"}, "for pairs"),
        ("random:vit-nano", {"operator": "native", "fit": {"train_degrade": True}}, "changes the size"),
        ("random:vit-nano", {"severities": [64]}, "factor 64"),
    ],
)
def test_what_cannot_be_is_refused(workspace: Workspace, model: str, settings: dict, message: str) -> None:
    segmentation_pack(workspace)
    spec = request(workspace, model, "fields", **settings)
    with pytest.raises(RsfmError, match=message):
        dry_run(spec, workspace)
    with pytest.raises(RsfmError, match=message):
        run_job(spec, JobContext(workspace, create_run(workspace, spec), 1))


def test_dry_run_says_how_long(workspace: Workspace) -> None:
    change_pack(workspace)
    remarks = " ".join(dry_run(EvaluateSpec(model="random:vit-nano", dataset="pairs", **QUICK), workspace))
    assert "Frozen encoder + decoder: 8 epochs over 22 samples for each of 1 seeds" in remarks
