"""A whole evaluation job on small packs: scores, predictions, cache, seeds, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from rsfm.bands import Band
from rsfm.degrade import OPERATORS
from rsfm.degrade.resolution import bilinear
from rsfm.errors import RsfmError
from rsfm.evaluation.evaluate import dry_run, run_job
from rsfm.evaluation.features import PackImages
from rsfm.models.baselines import BandStatistics, resolve
from rsfm.models.export import FeatureModel
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.store.files import read_json, read_jsonl
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace

SIZE = 32
RGB8 = [Band("red", 650, 1, "uint8"), Band("green", 550, 1, "uint8"), Band("blue", 470, 1, "uint8")]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def colour_task(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Class = mean colour; the texture is noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.normal(100, 25, (count, 3, SIZE, SIZE))
    images[np.arange(count), labels] += 40
    return images.clip(0, 255).astype(np.uint8), [f"colour-{i}" for i in labels]


def texture_task(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Class = direction of stripes of 3 pixels, finer than a factor of 4 can hold; coarse structure is random.

    Without coarse structure, as every image has, the few per cent of the stripes that aliasing lets through would
    still decide.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    phase = rng.uniform(0, 2 * np.pi, (count, 1))
    wave = np.sin(2 * np.pi * np.arange(SIZE)[None] / 3 + phase)
    stripes = np.where(labels[:, None, None] == 0, wave[:, None, :], wave[:, :, None])
    coarse = rng.uniform(80, 170, (count, 3, SIZE // 4, SIZE // 4)).repeat(4, axis=2).repeat(4, axis=3)
    images = coarse + 40 * stripes[:, None] + rng.normal(0, 10, coarse.shape)
    return images.clip(0, 255).astype(np.uint8), [("horizontal", "vertical")[i] for i in labels]


def make_pack(
    workspace: Workspace, name: str, task: Callable[..., Any], sizes: dict[str, int] | None = None, **more: object
) -> Pack:
    parts = {split: task(n, i) for i, (split, n) in enumerate((sizes or {"train": 150, "test": 90}).items())}
    images, labels = {s: p[0] for s, p in parts.items()}, {s: p[1] for s, p in parts.items()}
    return write_arrays(workspace, name, images, RGB8, labels=labels, **{"gsd_m": 2.0, **more})


def evaluate(workspace: Workspace, model: str, dataset: str, **more: object) -> tuple[pd.DataFrame, JobContext]:
    spec = EvaluateSpec(**{"model": model, "dataset": dataset, "eval_seeds": [0], **more})
    context = JobContext(workspace, create_run(workspace, spec), attempt=1)
    run_job(spec, context)
    return pd.DataFrame(read_jsonl(context.folder.path / "scores.jsonl")[0]), context


class OrientedEnergy(FeatureModel):
    """Mean absolute difference along rows and along columns, at the finest scale: sees fine texture and no colour."""

    def __init__(self, like: FeatureModel) -> None:
        super().__init__(
            key="oriented-energy", name="oriented", title="Oriented energy", group="o", seed=0, bands=like.bands,
            feature_dim=2 * len(like.bands),
        )  # fmt: skip

    def features(self, x: torch.Tensor) -> torch.Tensor:
        rows = (x[..., 1:] - x[..., :-1]).abs().mean(dim=(2, 3))
        columns = (x[..., 1:, :] - x[..., :-1, :]).abs().mean(dim=(2, 3))
        # Relative: which direction, not how much.
        return torch.cat([rows, columns], dim=1) / (rows + columns).mean(dim=1, keepdim=True).clamp(min=1e-6)


def test_colour_survives_losing_resolution(workspace: Workspace) -> None:
    make_pack(workspace, "colour", colour_task)
    scores, _ = evaluate(workspace, "random:vit-nano", "colour")
    for _, curve in scores.groupby("adaptation"):
        values = curve.set_index("severity")["value"]
        assert values[1] > 0.95
        assert (values - values[1]).abs().max() <= 0.01 + 1e-9


def test_fine_texture_does_not(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(workspace, "texture", texture_task)
    from rsfm.evaluation import evaluate as module

    monkeypatch.setattr(module, "resolve", lambda *a: OrientedEnergy(resolve(*a)))
    scores, _ = evaluate(workspace, "band-stats", "texture")
    for _, curve in scores.groupby("adaptation"):
        values = curve.set_index("severity")["value"]
        assert values[1] > 0.95
        assert 0.35 < values[[4, 8]].min() <= values[[4, 8]].max() < 0.65, values  # chance is 0.5; n = 90


def test_floor_does_not_see_texture(workspace: Workspace) -> None:
    make_pack(workspace, "texture", texture_task)
    scores, _ = evaluate(workspace, "band-stats", "texture")
    assert scores["value"].between(0.3, 0.7).all()


def test_scores_hold_every_column_and_combination(workspace: Workspace) -> None:
    pack = make_pack(workspace, "colour", colour_task, synthetic=True)
    scores, context = evaluate(
        workspace,
        "random:vit-nano",
        "colour",
        severities=[1, 4],
        eval_seeds=[0, 5],
        model_seed=3,
        bands=["blue", "red"],
    )
    assert len(scores) == 2 * 2 * 2
    assert not scores.duplicated(["adaptation", "severity", "eval_seed"]).any()
    fixed = {
        "model": "random:vit-nano", "model_title": "Random ViT vit-nano", "model_group": "random:vit-nano",
        "model_seed": 3, "dataset": "colour", "pack_hash": pack.info.content_hash, "synthetic": True, "split": "test",
        "task": "classification", "bands": "blue,red", "operator": "bilinear", "degrade_target": "single",
        "train_degrade": "none", "metric": "accuracy", "n": 90, "attempt": 1,
    }  # fmt: skip
    for name, value in fixed.items():
        assert (scores[name] == value).all(), name
    assert scores["operator_hash"].nunique() == scores["basis"].nunique() == 1
    assert dict(scores.groupby("severity")["gsd_m"].first()) == {1: 2.0, 4: 8.0}
    assert (scores["ci_low"] <= scores["value"]).all()
    assert (scores["value"] <= scores["ci_high"]).all()
    progress = context.folder.progress()
    assert progress["done"] == progress["total"]


def test_unknown_gsd_stays_unknown(workspace: Workspace) -> None:
    make_pack(workspace, "colour", colour_task, gsd_m=None)
    scores, _ = evaluate(workspace, "band-stats", "colour", severities=[1, 2], adaptations=["knn"])
    assert scores["gsd_m"].isna().all()


def test_predictions_agree_with_scores_and_pair_up(workspace: Workspace) -> None:
    pack = make_pack(workspace, "colour", colour_task)
    scores, context = evaluate(workspace, "band-stats", "colour", eval_seeds=[0, 1])
    (artifact,) = read_jsonl(context.folder.path / "artifacts.jsonl")[0]
    assert artifact["kind"] == "predictions"
    frame = pd.read_parquet(context.folder.path / artifact["path"])
    assert list(frame.columns) == [
        "sample_id", "scene", "adaptation", "operator", "severity", "degrade_target", "train_degrade", "eval_seed",
        "metric", "counts", "label_index", "predicted_index", "correct", "score",
    ]  # fmt: skip
    assert (frame["correct"] == (frame["label_index"] == frame["predicted_index"])).all()
    assert frame["score"].between(0, 1).all()
    key = ["adaptation", "severity", "eval_seed"]
    accuracy = frame.groupby(key)["correct"].mean()
    assert accuracy.to_dict() == pytest.approx(scores.set_index(key)["value"].to_dict())
    samples = pack.split_samples("test")
    for _, part in frame.groupby(key):
        assert part["sample_id"].tolist() == samples["id"].tolist()
        assert part["label_index"].tolist() == samples["label_index"].tolist()


def test_the_published_operator_is_what_the_model_sees(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = make_pack(workspace, "colour", colour_task)
    seen: list[torch.Tensor] = []
    original = BandStatistics.features

    def spy(self: BandStatistics, x: torch.Tensor) -> torch.Tensor:
        seen.append(x * self.std + self.mean)
        return original(self, x)

    monkeypatch.setattr(BandStatistics, "features", spy)
    evaluate(workspace, "band-stats", "colour", severities=[8], adaptations=["knn"])
    train, test = torch.cat(seen).split([150, 90])
    assert np.allclose(train.numpy(), pack.array("train"), atol=1e-3)  # fitted at native resolution
    small = [
        Image.fromarray(np.asarray(band)).resize((4, 4), Image.Resampling.BILINEAR) for band in pack.array("test")[7]
    ]
    expected = [np.asarray(band.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for band in small]
    assert np.allclose(test[7].numpy(), expected, atol=1e-3)


def count_images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    original = FeatureModel.extract

    def counting(self: FeatureModel, values: torch.Tensor) -> torch.Tensor:
        calls.append(len(values))
        return original(self, values)

    monkeypatch.setattr(FeatureModel, "extract", counting)
    return calls


def test_features_are_extracted_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(workspace, "colour", colour_task)
    calls = count_images(monkeypatch)
    first, _ = evaluate(workspace, "random:vit-nano", "colour", severities=[1, 2], eval_seeds=[0, 1, 2])
    assert sum(calls) == 150 + 2 * 90
    calls.clear()
    again, _ = evaluate(workspace, "random:vit-nano", "colour", severities=[1, 2], eval_seeds=[0, 1, 2])
    assert calls == []
    columns = ["adaptation", "severity", "eval_seed", "value", "ci_low", "ci_high"]
    pd.testing.assert_frame_equal(first[columns], again[columns])
    evaluate(workspace, "random:vit-nano", "colour", severities=[1, 2, 4])  # one more factor, one more pass
    assert sum(calls) == 90
    calls.clear()
    evaluate(workspace, "random:vit-nano", "colour", severities=[1], model_seed=1)  # another model
    assert sum(calls) == 150 + 90


def test_features_of_coarser_images_differ(workspace: Workspace) -> None:
    make_pack(workspace, "colour", colour_task)
    evaluate(workspace, "random:vit-nano", "colour", severities=[1, 2, 4, 8])
    arrays = [np.load(p) for p in workspace.features.glob("*.npy")]
    tests = [a for a in arrays if len(a) == 90]
    assert (len(arrays), len(tests)) == (5, 4)
    for i, a in enumerate(tests):
        assert np.isfinite(a).all()
        for b in tests[:i]:
            assert np.abs(a - b).max() > 1e-3


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut off", "of another shape"])
def test_damaged_cache_file_is_made_again(workspace: Workspace, damage: str) -> None:
    make_pack(workspace, "colour", colour_task)
    first, _ = evaluate(workspace, "band-stats", "colour")
    for file in workspace.features.glob("*.npy"):
        if damage == "of another shape":
            np.save(file, np.zeros((3, 3), np.float32))
        else:
            whole = file.read_bytes()
            file.write_bytes({"empty": b"", "garbage": whole[:8] + b"garbage", "cut off": whole[:-40]}[damage])
    again, _ = evaluate(workspace, "band-stats", "colour")
    assert first["value"].tolist() == again["value"].tolist()


def test_evaluation_seeds_draw_other_training_subsets(workspace: Workspace) -> None:
    make_pack(workspace, "texture", texture_task)
    drawn, _ = evaluate(
        workspace, "random:vit-nano", "texture", eval_seeds=list(range(6)), train_fraction=0.4, adaptations=["knn"]
    )
    assert drawn.groupby("severity")["value"].nunique().max() > 1
    whole, _ = evaluate(
        workspace, "random:vit-nano", "texture", eval_seeds=[0, 1, 2], train_fraction=1.0, adaptations=["knn"]
    )
    assert whole.groupby("severity")["value"].nunique().max() == 1


def test_stop_between_batches_keeps_what_is_done(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(workspace, "colour", colour_task)
    spec = EvaluateSpec(model="random:vit-nano", dataset="colour", eval_seeds=[0], images_per_pass=30)
    context = JobContext(workspace, create_run(workspace, spec), attempt=1)
    calls = count_images(monkeypatch)
    original = FeatureModel.extract

    def stop_later(self: FeatureModel, values: torch.Tensor) -> torch.Tensor:
        if len(calls) == 6:  # train is 5 batches: in the test images at 1×
            context.folder.request("stop")
        return original(self, values)

    monkeypatch.setattr(FeatureModel, "extract", stop_later)
    with pytest.raises(Stopped):
        run_job(spec, context)
    assert sum(calls) == 7 * 30
    assert not (context.folder.path / "scores.jsonl").exists()
    assert context.folder.progress()["phase"] == "features 1×"
    context.folder.clear_request("stop")
    calls.clear()
    monkeypatch.setattr(FeatureModel, "extract", original)
    run_job(spec, JobContext(workspace, context.folder, attempt=2))
    assert sum(calls) == 4 * 90  # the training split was done
    assert len(read_jsonl(context.folder.path / "scores.jsonl")[0]) == 8


def test_values_that_are_not_finite_count_as_the_mean(workspace: Workspace) -> None:
    """One missing pixel must not spread over the image when it is degraded."""
    rng = np.random.default_rng(0)
    images = rng.normal(5, 1, (40, 1, SIZE, SIZE)).astype(np.float32)
    images[::2] += 4
    images[:, 0, 10, 10] = np.nan
    labels = ["high", "low"] * 20
    write_arrays(
        workspace, "holes", {"train": images, "val": images[:20]}, [Band("VV", None, 10, "db")],
        labels={"train": labels, "val": labels[:20]},
    )  # fmt: skip
    pack = Pack.named(workspace, "holes")
    model = resolve(EvaluateSpec(model="band-stats", dataset="holes"), pack, workspace)
    values = PackImages(pack, model, OPERATORS["bilinear"]).read("train", slice(0, 40), 8)
    filled = np.where(np.isnan(images), np.float32(np.nanmean(images)), images)
    assert np.allclose(values, bilinear(filled, 8), atol=1e-3)
    scores, _ = evaluate(workspace, "band-stats", "holes", knn_k=5)
    assert (scores["split"] == "val").all()
    assert (scores["value"] == 1.0).all()


def test_model_that_diverged_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(workspace, "colour", colour_task)
    monkeypatch.setattr(BandStatistics, "features", lambda self, x: x.mean(dim=(2, 3)).repeat(1, 2) * math.nan)
    with pytest.raises(RsfmError, match="not finite"):
        evaluate(workspace, "band-stats", "colour")
    assert not list(workspace.features.glob("*.npy"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "nowhere"}, "No pack at"),
        ({"dataset": "plain"}, "cannot be evaluated"),
        ({"dataset": "single"}, "fewer than two classes"),
        ({"dataset": "train-only"}, "neither a test nor a val split"),
        ({"test_split": "train"}, "both 'train'"),
        ({"test_split": "holdout"}, "no split 'holdout'"),
        ({"train_split": "holdout"}, "no split 'holdout'"),
        ({"severities": [1, 64]}, "Resolution factor 64"),
        ({"knn_k": 200}, "lower knn_k"),
        ({"model": "random:nothing"}, "Unknown encoder"),
        ({"device": "cuda"}, "GPU"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_and_in_the_job(
    workspace: Workspace, change: dict[str, Any], message: str
) -> None:
    make_pack(workspace, "colour", colour_task)
    write_arrays(workspace, "plain", {"train": colour_task(6, 0)[0], "test": colour_task(6, 0)[0]}, RGB8)
    one = {"train": ["x"] * 6, "test": ["x"] * 6}
    write_arrays(workspace, "single", {s: colour_task(6, 0)[0] for s in one}, RGB8, labels=one)
    make_pack(workspace, "train-only", colour_task, {"train": 30})
    spec = EvaluateSpec(**{"model": "band-stats", "dataset": "colour", **change})
    with pytest.raises(RsfmError, match=message):
        dry_run(spec, workspace)
    with pytest.raises(RsfmError, match=message):
        run_job(spec, JobContext(workspace, create_run(workspace, spec), attempt=1))


def test_what_training_leaves_out_is_said_before_and_in_the_log(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).normal(5, 1, (8, 2, SIZE, SIZE)).astype(np.float32)
    bands = [Band("VV", None, 10, "db"), Band("VH", None, 10, "db")]
    parts = {"train": images, "test": images}
    write_arrays(workspace, "radar", parts, bands, labels=dict.fromkeys(parts, ["a", "b"] * 4))
    settings = {"adaptations": ["finetune"], "severities": [1], "fit": {"epochs": 1, "jitter": 0.2}}
    evaluate(workspace, "random:vit-nano", "radar", **settings)
    said = "Views without saturation: the 2 band(s) are not red, green and blue."
    assert f"note: {said}" in capsys.readouterr().out
    spec = EvaluateSpec(model="random:vit-nano", dataset="radar", **settings)
    assert any(said in remark for remark in dry_run(spec, workspace))


def test_dry_run_remarks(workspace: Workspace) -> None:
    make_pack(workspace, "colour", colour_task, synthetic=True, gsd_m=None)
    remarks = " ".join(dry_run(EvaluateSpec(model="band-stats", dataset="colour", severities=[2, 4]), workspace))
    for words in ("synthetic", "no GSD", "Without factor 1", "330 images to encode"):
        assert words in remarks
    assert not workspace.features.exists()


@pytest.mark.realdata
def test_real_thirteen_bands(workspace: Workspace, realdata: Any) -> None:
    """EuroSAT's 13 bands, stored ×10000, prepared through the catalog: floor and ImageNet encoder, four resolutions."""
    from data_catalog.prepare import prepare
    from rsfm.specs import PrepareSpec

    info = prepare(PrepareSpec(dataset="eurosat-ms", source=str(realdata / "eurosat_ms"), name="eurosat"), workspace)
    assert len(info.layers[0].bands) == 13
    for model, bands in (("band-stats", 13), ("efficientnet-lite0", 3)):
        scores, context = evaluate(workspace, model, "eurosat", eval_seeds=[0, 1])
        assert (scores["bands"].str.count(",") + 1 == bands).all()
        assert scores.loc[scores["severity"] == 1, "value"].min() > 0.3  # ten classes, 81 training images
        assert dict(scores.groupby("severity")["gsd_m"].first()) == pytest.approx(
            {1: 10, 2: 20, 4: 40, 8: 80}, rel=0.02
        )
        assert read_json(context.folder.path / "progress.json")["phase"] == "done"
