"""One evaluation job: frozen features, several heads and seeds, one score per resolution (`rsfm evaluate`).

Heads are fitted on the training split at native resolution and tested on the test split at every severity. The test
images keep their pixel grid and their order, so predictions of different models and severities pair up by sample.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rsfm import stats
from rsfm.degrade import OperatorEntry, operator
from rsfm.errors import RsfmError
from rsfm.evaluation.features import FeatureCache, PackImages, extract, forward
from rsfm.evaluation.heads import fit_linear, knn_predict, stratified_draw
from rsfm.model_info import ModelInfo
from rsfm.models.baselines import resolve
from rsfm.models.export import EncoderModel, FeatureModel
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.store.job import JobContext
from rsfm.workspace import Workspace

HEADS = {"knn": "kNN", "linear": "linear probe"}
#: Below this many multiplications per pass, a second thread waits more than it works.
_SMALL = 1e8


@dataclass(frozen=True)
class Plan:
    """What a spec means on a pack: checked, with labels at hand."""

    pack: Pack
    operator: OperatorEntry
    train_split: str
    test_split: str
    train_labels: np.ndarray  # (N,) int64
    test_labels: np.ndarray  # (M,) int64
    draws: dict[int, np.ndarray]  # evaluation seed -> positions in the training split


def plan(spec: EvaluateSpec, workspace: Workspace) -> Plan:
    """Check everything that needs no model.

    Raises:
        RsfmError: an unlabelled pack, a split that is missing, empty or used twice, too few classes or samples, or a
            factor that leaves no pixel.
    """
    pack = Pack.named(workspace, spec.dataset)
    name = f"Pack {pack.name!r}"
    if pack.info.task != "classification":
        raise RsfmError(
            f"{name} cannot be evaluated: its task is {pack.info.task}, and kNN and the linear probe need one scene "
            "label per sample. Choose a classification pack."
        )
    splits = pack.info.splits
    test_split = spec.test_split or next((s for s in ("test", "val") if s in splits), "")
    if not test_split:
        raise RsfmError(f"{name} has neither a test nor a val split; name one of {', '.join(splits)} as test split.")
    if test_split == spec.train_split:
        raise RsfmError(f"{name}: training and test split are both {test_split!r}; a model must be tested on others.")
    labels = {split: _labels(pack, split) for split in (spec.train_split, test_split)}
    train, test = labels.values()
    if len(np.unique(train)) < 2 or len(np.unique(test)) < 2:
        raise RsfmError(f"{name} has fewer than two classes in {spec.train_split!r} or {test_split!r}.")
    degrade = operator(spec.operator)
    _, height, width = pack.layer().shape
    probe = np.zeros((1, 1, height, width), np.uint8)
    for factor in spec.factors:
        degrade(probe, factor)  # refuses a factor that does not fit
    draws = {seed: stratified_draw(train, spec.train_fraction, seed) for seed in spec.eval_seeds}
    fewest = min(len(d) for d in draws.values())
    if "knn" in spec.adaptations and fewest < spec.knn_k:
        raise RsfmError(
            f"kNN with {spec.knn_k} neighbours needs as many training samples, but {spec.train_fraction:.0%} of "
            f"{spec.train_split!r} in pack {pack.name!r} are {fewest}: lower knn_k or raise train_fraction."
        )
    return Plan(pack, degrade, spec.train_split, test_split, train, test, draws)


def _labels(pack: Pack, split: str) -> np.ndarray:
    samples = pack.split_samples(split)
    if samples.empty:
        raise RsfmError(f"Split {split!r} of pack {pack.name!r} is empty.")
    missing = int(samples["label_index"].isna().sum())
    if missing:
        raise RsfmError(f"{missing} of {len(samples)} samples in {split!r} of pack {pack.name!r} have no label.")
    return pack.label_indices(split)


def dry_run(spec: EvaluateSpec, workspace: Workspace) -> list[str]:
    """Check a spec without running it, one forward pass at the coarsest factor included.

    Returns:
        Remarks: what is unusual, and about how long it will take.

    Raises:
        RsfmError: the evaluation cannot run.
    """
    what = plan(spec, workspace)
    device = _device(spec, "cuda" if spec.device == "cuda" else "cpu")
    model = resolve(spec, what.pack, workspace, device)
    images = PackImages(what.pack, model, what.operator)
    remarks = _remarks(spec, what, model)
    count = min(spec.batch_size, len(what.test_labels), 64)
    values = images.read(what.test_split, 0, count, max(spec.factors))
    forward(model, values[:1], device)  # the first pass also sets things up
    start = time.perf_counter()
    features = forward(model, values, device)
    seconds = time.perf_counter() - start
    if not np.isfinite(features).all():
        raise RsfmError(f"Model {model.name} gives features that are not finite on pack {what.pack.name!r}.")
    total = len(what.train_labels) + len(spec.factors) * len(what.test_labels)
    remarks.append(f"{total} images to encode, about {seconds / count * total:.0f} s on {device} unless cached.")
    needed = total * model.feature_dim * 4
    if needed > workspace.free_bytes():
        raise RsfmError(f"The features take {needed / 1e9:.1f} GB, more than is free on the disk of {workspace.root}.")
    return remarks


def _remarks(spec: EvaluateSpec, what: Plan, model: FeatureModel) -> list[str]:
    remarks = []
    info, layer = what.pack.info, what.pack.layer()
    if info.synthetic:
        remarks.append(f"Pack {info.name!r} is synthetic: its scores say nothing about real imagery.")
    unseen = sorted(set(what.test_labels) - set(what.train_labels))
    if unseen:
        remarks.append(f"No training sample of {', '.join(info.classes[i] for i in unseen)}: always wrong in the test.")
    if layer.gsd_m is None:
        remarks.append(f"Pack {info.name!r} has no GSD in metres: its curve has factors only.")
    if 1 not in spec.factors:
        remarks.append("Without factor 1 there is no retention.")
    trained: ModelInfo | None = model.info if isinstance(model, EncoderModel) else None
    if trained and trained.gsd_m and layer.gsd_m and not 0.5 <= trained.gsd_m / layer.gsd_m <= 2:
        remarks.append(f"The model was trained at {trained.gsd_m:g} m, the pack is at {layer.gsd_m:g} m.")
    if trained and trained.image_size != layer.shape[1]:
        remarks.append(f"The model was trained on {trained.image_size} px images, the pack has {layer.shape[1]} px.")
    return remarks


def _device(spec: EvaluateSpec, granted: str) -> str:
    """The device to run on: what the slot grants, unless the spec says cpu."""
    if spec.device == "cpu":
        return "cpu"
    if spec.device == "cuda" and granted != "cuda":
        raise RsfmError("This evaluation asks for a GPU, but it was given a CPU slot: set device to auto or cpu.")
    if granted == "cuda" and not torch.cuda.is_available():
        raise RsfmError("This evaluation asks for a GPU, but PyTorch finds none here: set device to cpu.")
    return granted


def run_job(spec: EvaluateSpec, context: JobContext) -> None:
    """Evaluate one model on one pack; scores and predictions go to the run folder.

    Raises:
        RsfmError: see `plan` and `resolve`.
        Stopped: on request, between batches; features of finished splits stay in the cache.
    """
    torch.set_num_threads(spec.threads or context.threads)
    what = plan(spec, context.workspace)
    device = _device(spec, context.device)
    model = resolve(spec, what.pack, context.workspace, device)
    print(f"{model.title} on {what.pack.name} ({what.test_split}, {len(what.test_labels)} images)", flush=True)
    for remark in _remarks(spec, what, model):
        print(f"note: {remark}", flush=True)
    steps = _Steps(spec, what, context)
    images = PackImages(what.pack, model, what.operator)
    cache = FeatureCache(context.workspace)

    def features(split: str, severity: float, phase: str) -> Tensor:
        array = extract(
            model, images, split, severity, cache=cache, device=device, batch_size=spec.batch_size,
            after_batch=lambda count: steps.images(count, phase),
        )  # fmt: skip
        return torch.from_numpy(array).to(device)

    train = features(what.train_split, what.operator.identity, "features train")
    tests = {float(f): features(what.test_split, f, f"features {f}×") for f in spec.factors}
    predictions = _predict(spec, what, train, tests, steps)
    scores = score_rows(spec, what, model, predictions)
    _save_predictions(predictions, what, context)
    context.scores(scores)
    for row in scores:
        print(
            f"{row['adaptation']:7} seed {row['eval_seed']} {row['severity']:g}×: {row['value']:.4f} "
            f"[{row['ci_low']:.4f}, {row['ci_high']:.4f}]",
            flush=True,
        )
    steps.finish()


class _Steps:
    """Progress in images: those to encode, and for each head and seed as many as cost about the same time."""

    HEAD_IMAGES = 100

    def __init__(self, spec: EvaluateSpec, what: Plan, context: JobContext) -> None:
        self.context = context
        self.done, self.phase = 0, ""
        heads = len(spec.adaptations) * len(spec.eval_seeds)
        self.total = len(what.train_labels) + len(spec.factors) * len(what.test_labels) + heads * self.HEAD_IMAGES

    def images(self, count: int, phase: str) -> None:
        self.done += count
        self.context.progress(self.done, self.total, unit="images", phase=phase, force=phase != self.phase)
        self.phase = phase
        self.context.check_stop()

    def finish(self) -> None:
        self.context.progress(self.total, self.total, unit="images", phase="done", force=True)


@dataclass(frozen=True)
class Prediction:
    """One head with one seed at one severity, for every test sample."""

    adaptation: str
    eval_seed: int
    severity: float
    predicted: np.ndarray  # (M,) int64
    score: np.ndarray  # (M,) float32: confidence in the predicted class


def _predict(
    spec: EvaluateSpec, what: Plan, train: Tensor, tests: dict[float, Tensor], steps: _Steps
) -> list[Prediction]:
    labels = torch.tensor(what.train_labels, device=train.device)
    classes = len(what.pack.info.classes)
    result = []
    for adaptation in spec.adaptations:
        for seed in spec.eval_seeds:
            rows = torch.from_numpy(what.draws[seed]).to(train.device)
            x, y = train[rows], labels[rows]
            with _threads_for(x.numel() * classes):
                probe = fit_linear(x, y, seed) if adaptation == "linear" else None
                for severity, test in tests.items():
                    if probe is not None:
                        predicted, score = probe.predict(test)
                    else:
                        predicted, score = knn_predict(
                            x, y, test, classes=classes, k=spec.knn_k, temperature=spec.knn_temperature
                        )
                    result.append(Prediction(adaptation, seed, severity, predicted.cpu().numpy(), score.cpu().numpy()))
            steps.images(_Steps.HEAD_IMAGES, HEADS[adaptation])
    return result


@contextlib.contextmanager
def _threads_for(multiplications: float) -> Iterator[None]:
    threads = torch.get_num_threads()
    if multiplications < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def protocol_name(spec: EvaluateSpec, adaptation: str) -> str:
    """The adaptation as it is named in scores: settings that are not the defaults stand behind it.

    So results of different protocols are never folded into one mean.
    """
    fields = ["train_split", "train_fraction", *(("knn_k", "knn_temperature") if adaptation == "knn" else ())]
    usual = EvaluateSpec.model_fields
    changed = [f"{name}={getattr(spec, name)}" for name in fields if getattr(spec, name) != usual[name].default]
    return f"{adaptation} ({', '.join(changed)})" if changed else adaptation


def score_rows(
    spec: EvaluateSpec, what: Plan, model: FeatureModel, predictions: list[Prediction]
) -> list[dict[str, Any]]:
    """One row per prediction: accuracy with its bootstrap interval over the test samples."""
    correct = np.stack([p.predicted == what.test_labels for p in predictions], axis=1).astype(np.float64)
    # One seed for all models: intervals on one test set rest on the same resamples.
    low, high = stats.bootstrap_ci(correct, draws=spec.bootstrap, seed=0)
    info, layer = what.pack.info, what.pack.layer()
    return [
        {
            "model": spec.model, "model_title": model.title, "model_group": model.group, "model_seed": model.seed,
            "eval_seed": p.eval_seed, "dataset": info.name, "pack_hash": info.content_hash,
            "synthetic": info.synthetic, "split": what.test_split, "task": info.task,
            "adaptation": protocol_name(spec, p.adaptation),
            "bands": ",".join(band.name for band in model.bands), "operator": what.operator.name,
            "severity": p.severity, "gsd_m": what.operator.effective_gsd_m(layer.gsd_m, p.severity),
            "degrade_target": "single", "train_degrade": "none", "metric": "accuracy",
            "value": float(correct[:, i].mean()), "ci_low": float(low[i]), "ci_high": float(high[i]),
            "n": len(correct), "operator_hash": what.operator.operator_hash,
        }
        for i, p in enumerate(predictions)
    ]  # fmt: skip


def _save_predictions(predictions: list[Prediction], what: Plan, context: JobContext) -> None:
    ids = what.pack.split_samples(what.test_split)["id"].to_numpy()
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    "sample_id": ids, "label_index": what.test_labels, "adaptation": p.adaptation,
                    "severity": p.severity, "eval_seed": p.eval_seed, "predicted_index": p.predicted,
                    "correct": p.predicted == what.test_labels, "score": p.score,
                }
            )
            for p in predictions
        ],
        ignore_index=True,
    )  # fmt: skip
    path = context.folder.path / "artifacts" / "predictions.parquet"
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    frame.to_parquet(temporary, index=False)
    temporary.replace(path)
    context.artifact(path, kind="predictions", title=f"Predictions on {what.pack.name} ({what.test_split})")
