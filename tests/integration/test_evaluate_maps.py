"""Evaluations that are trained: segmentation, change detection, fine-tuning, several labels; stop and resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rsfm import stats
from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.evaluation import evaluate as evaluation
from rsfm.evaluation import fit as fitting
from rsfm.evaluation.evaluate import dry_run, run_job
from rsfm.evaluation.plan import plan
from rsfm.metrics import METRICS
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import RunFolder, create_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

SIZE = 32
RGB8 = [Band("red", 650, 1, "uint8"), Band("green", 550, 1, "uint8"), Band("blue", 470, 1, "uint8")]
FIT = {"epochs": 8, "batch_size": 4, "lr": 2e-3, "decoder_width": 16, "pool_width": 16, "flips": "dihedral"}
#: Small enough for seconds, large enough to learn a colour.
QUICK: dict[str, Any] = {"eval_seeds": [0], "bootstrap": 100, "fit": FIT, "device": "cpu"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of (N, 3, S, S) with a bright red square, and maps that are 1 inside."""
    rng = np.random.default_rng(seed)
    images = rng.normal(90, 15, (count, 3, SIZE, SIZE))
    maps = np.zeros((count, 1, SIZE, SIZE), np.uint8)
    for i in range(count):
        top, left = rng.integers(0, SIZE - 12, 2)
        images[i, 0, top : top + 12, left : left + 12] += 90
        maps[i, 0, top : top + 12, left : left + 12] = 1
    return images.clip(0, 255).astype(np.uint8), maps


def segmentation_pack(workspace: Workspace, *, ignore: bool = False, counts: tuple[int, int] = (24, 12)) -> Pack:
    images, masks = {}, {}
    for number, (split, count) in enumerate(zip(("train", "test"), counts, strict=True)):
        images[split], masks[split] = blobs(count, number)
        if ignore:
            masks[split][:, :, :4] = 255
    return write_arrays(
        workspace, "fields", images, RGB8, masks=masks, classes=["land", "roof"], ignore_value=255, gsd_m=1.0
    )


def change_pack(workspace: Workspace) -> Pack:
    before, after, masks = {}, {}, {}
    for number, (split, count) in enumerate((("train", 24), ("val", 8), ("test", 12))):
        rng = np.random.default_rng(100 + number)
        before[split] = rng.normal(90, 15, (count, 3, SIZE, SIZE)).clip(0, 255).astype(np.uint8)
        after[split], masks[split] = blobs(count, number)
    return write_arrays(
        workspace, "pairs", before, RGB8, later=after, masks=masks, classes=["no change", "change"], gsd_m=1.0
    )


def multilabel_pack(workspace: Workspace, val: int = 0, signal: float = 60) -> Pack:
    images, labels = {}, {}
    for number, (split, count) in enumerate((("train", 90), ("test", 60), *([("val", val)] if val else []))):
        rng = np.random.default_rng(number)
        flags = rng.random((count, 3)) < 0.4
        flags[~flags.any(axis=1), 0] = True
        images[split] = (rng.normal(90, 10, (count, 3, SIZE, SIZE)) + signal * flags[:, :, None, None]).clip(0, 255)
        images[split] = images[split].astype(np.uint8)
        labels[split] = [
            [name for name, on in zip(("blue", "green", "red"), row[::-1], strict=True) if on] for row in flags
        ]
    return write_arrays(workspace, "several", images, RGB8, labels=labels)


def request(workspace: Workspace, model: str, pack: str, **settings: Any) -> EvaluateSpec:
    """With as much of `QUICK` as means anything on that pack."""
    spec = EvaluateSpec(model=model, dataset=pack, **{**QUICK, **settings})
    return spec.only_used(TASKS[Pack.named(workspace, pack).info.task])


def evaluate(workspace: Workspace, model: str, pack: str, **settings: Any) -> tuple[pd.DataFrame, RunFolder]:
    spec = request(workspace, model, pack, **settings)
    run = create_run(workspace, spec)
    run_job(spec, JobContext(workspace, run, 1))
    return pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0]), run


def value(scores: pd.DataFrame, severity: float, metric: str) -> float:
    return float(scores.query("severity == @severity and metric == @metric")["value"].mean())


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


# -- stop, resume, refuse ----------------------------------------------------------------------------------------------
def test_stop_and_resume_end_as_an_undisturbed_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation_pack(workspace)
    settings = {
        "severities": [1],
        "eval_seeds": [0, 1],
        "adaptations": ["decoder"],
        "fit": {**FIT, "epochs": 3, "jitter": 0.2, "crop_min_scale": 0.5},
    }
    whole, _ = evaluate(workspace, "random:vit-nano", "fields", **settings)
    spec = request(workspace, "random:vit-nano", "fields", **settings)
    run = create_run(workspace, spec)
    asked = {"steps": 0}
    for attempt, steps in enumerate((6, 13, None), start=1):
        context = JobContext(workspace, run, attempt)
        asked["steps"] = 0

        def stop(limit: int | None = steps) -> bool:
            asked["steps"] += 1
            return limit is not None and asked["steps"] >= limit

        monkeypatch.setattr(context, "stop_requested", stop)
        if steps is None:
            run_job(spec, context)
        else:
            with pytest.raises(Stopped):
                run_job(spec, context)
    parts = pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])
    assert parts["value"].tolist() == whole["value"].tolist()
    assert not list((run.path / "checkpoints").glob("*-?.pt")), "what was needed to go on is gone"


@pytest.mark.parametrize("again", [True, False], ids=["other pack", "same pack"])
def test_what_was_trained_on_another_content_is_not_mixed_in(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], again: bool
) -> None:
    """A pack that is prepared again between two attempts: the results are those of the pack as it is."""
    segmentation_pack(workspace)
    settings: dict[str, Any] = {"adaptations": ["linear"], "severities": [1], "eval_seeds": [0, 1]}
    run = create_run(workspace, request(workspace, "band-stats", "fields", **settings))
    first = JobContext(workspace, run, 1)
    monkeypatch.setattr(first, "stop_requested", lambda: (run.path / "checkpoints" / "linear-0.done.pt").exists())
    with pytest.raises(Stopped):
        run_job(run.spec(), first)
    if again:
        segmentation_pack(workspace, ignore=True)
    trained: list[str] = []
    monkeypatch.setattr(
        evaluation, "fit_network", lambda *a, **k: trained.append(k["name"]) or fitting.fit_network(*a, **k)
    )
    run_job(run.spec(), JobContext(workspace, run, 2))
    assert ("Starts over: not as in the attempt before: pack fields." in capsys.readouterr().out) == again
    assert trained == (["linear-0", "linear-1"] if again else ["linear-1"])
    found = pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])
    whole, _ = evaluate(workspace, "band-stats", "fields", **settings)
    assert found["value"].tolist() == whole["value"].tolist()
    assert set(found["pack_hash"]) == {Pack.named(workspace, "fields").info.content_hash}


def test_a_killed_training_goes_on_from_its_last_save(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation_pack(workspace)
    settings: dict[str, Any] = {"adaptations": ["linear"], "severities": [1]}
    spec = request(workspace, "band-stats", "fields", **settings)
    whole, _ = evaluate(workspace, "band-stats", "fields", **settings)
    monkeypatch.setattr(fitting, "_SAVE_S", 0.0)
    run, seen = create_run(workspace, spec), []

    def dies(network: Any, *rest: Any) -> float:
        seen.append(1)
        save(network, *rest)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return 0.0

    save = fitting._save
    monkeypatch.setattr(fitting, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        run_job(spec, JobContext(workspace, run, 1))
    run_job(spec, JobContext(workspace, run, 2))
    assert [r["value"] for r in read_jsonl(run.path / "scores.jsonl")[0]] == whole["value"].tolist()


def test_a_stop_while_testing_keeps_what_was_trained(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentation_pack(workspace)
    settings: dict[str, Any] = {"adaptations": ["linear"], "severities": [1, 2]}
    whole, _ = evaluate(workspace, "band-stats", "fields", **settings)
    spec = request(workspace, "band-stats", "fields", **settings)
    run = create_run(workspace, spec)
    context = JobContext(workspace, run, 1)
    real = context.progress

    def progress(*args: Any, phase: str = "", **more: Any) -> None:
        if phase.startswith("testing"):
            monkeypatch.setattr(context, "stop_requested", lambda: True)
        real(*args, phase=phase, **more)

    monkeypatch.setattr(context, "progress", progress)
    with pytest.raises(Stopped):
        run_job(spec, context)
    steps: list[int] = []
    monkeypatch.setattr(fitting, "task_loss", lambda *_: steps.append(1))
    run_job(spec, JobContext(workspace, run, 2))
    assert not steps, "nothing is trained again"
    assert [r["value"] for r in read_jsonl(run.path / "scores.jsonl")[0]] == whole["value"].tolist()


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
