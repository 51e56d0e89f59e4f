"""One evaluation job: a model on a labelled pack, at several severities of a degradation (`rsfm evaluate`).

Heads are trained on the training split as it is (or degraded, where asked) and tested on the test split at
every severity. The test images keep their order, so predictions of different models and severities pair up by sample.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfm import metrics
from rsfm.data.seeding import seeded
from rsfm.device import granted_device
from rsfm.errors import RsfmError
from rsfm.evaluation.attempts import start_over_if_changed
from rsfm.evaluation.batches import IGNORE, LabelledImages
from rsfm.evaluation.facts import Looked, input_facts
from rsfm.evaluation.features import FeatureCache, extract, forward
from rsfm.evaluation.finite import outputs
from rsfm.evaluation.fit import Reports, fit_network, task_loss
from rsfm.evaluation.heads import centroid_predict, fit_linear, knn_predict
from rsfm.evaluation.kept import kept_bytes, save_network
from rsfm.evaluation.maps import FrozenMaps
from rsfm.evaluation.networks import TaskNetwork, autocast, build, encode
from rsfm.evaluation.plan import Plan, plan
from rsfm.evaluation.remarks import evaluation_remarks
from rsfm.evaluation.room import Room, sweep
from rsfm.evaluation.scores import Prediction, mean_ap, save_predictions, score_rows
from rsfm.evaluation.steps import Steps
from rsfm.models.baselines import resolve
from rsfm.models.export import FeatureModel
from rsfm.specs import EvaluateSpec
from rsfm.store.job import JobContext, Stopped
from rsfm.tasks import ADAPTATIONS, Adaptation
from rsfm.workspace import Workspace

#: Below this many multiplications per pass, a second thread waits more than it works.
_SMALL = 1e8


def dry_run(spec: EvaluateSpec, workspace: Workspace) -> list[str]:
    """Check a spec without running it, one pass at the worst severity and one training step included.

    Returns:
        Remarks: what is unusual, and about how long it will take.

    Raises:
        RsfmError: the evaluation cannot run.
    """
    what = plan(spec, workspace)
    device = granted_device(spec.device, "cuda" if spec.device == "cuda" else "cpu")
    model = resolve(spec, what.pack, workspace, device)
    images = LabelledImages(what, model)
    remarks = evaluation_remarks(spec, what, model)
    fitted = [a for a in what.adaptations if what.task.trains(a)]
    seconds = 0.0
    if len(fitted) < len(what.adaptations):
        count = min(spec.images_per_pass, what.n_test, 64)
        batch = images.read(what.test_split, slice(0, count), what.severities[-1])
        forward(model, batch.images[0][:1], device)  # the first pass also sets things up
        start = time.perf_counter()
        features = forward(model, batch.images[0], device)
        total = what.n_features
        seconds += (time.perf_counter() - start) / count * total
        if not np.isfinite(features).all():
            raise RsfmError(f"Model {model.name} gives features that are not finite on pack {what.pack.name!r}.")
        remarks.append(f"{total} images to encode, about {seconds:.0f} s on {device} unless cached.")
        needed = total * model.feature_dim * 4
        if needed > workspace.free_bytes():
            raise RsfmError(
                f"The features take {needed / 1e9:.1f} GB, more than is free on the disk of {workspace.root}."
            )
    maps = FrozenMaps(spec, what, model, images, Room(workspace))
    remarks += maps.remarks
    for adaptation in fitted:
        taken = _try_step(spec, what, model, images, maps, adaptation, device)
        remarks.append(
            f"{ADAPTATIONS[adaptation][0]}: {spec.fit.epochs} epochs over {len(what.draws[spec.eval_seeds[0]])} "
            f"samples for each of {len(spec.eval_seeds)} seeds, about {taken / 60:.0f} minutes in all on {device}."
        )
    if what.task.dense:
        kept = len(spec.eval_seeds) * sum(kept_bytes(_network(spec, what, model, a, 0)) for a in what.adaptations)
        if kept > workspace.free_bytes():
            raise RsfmError(f"The trained networks take {kept / 1e9:.1f} GB, more than is free at {workspace.root}.")
    return remarks


def _try_step(
    spec: EvaluateSpec, what: Plan, model: FeatureModel, images: LabelledImages, maps: FrozenMaps,
    adaptation: Adaptation, device: torch.device,
) -> float:  # fmt: skip
    """Seconds that the adaptation will take, from one forward and backward pass over a few samples."""
    network = _network(spec, what, model, adaptation, 0).train()
    count = min(4, spec.fit.batch_size, what.n_train)
    batch = images.read(what.train_split, slice(0, count), what.operator.identity).to(device)
    inputs, step, encoding = batch.images, math.inf, 0.0 if not network.frozen else math.inf
    for _ in range(3):  # the first pass also sets things up
        start = time.perf_counter()
        if network.frozen:
            with autocast(spec.fit.precision, device), torch.no_grad():
                inputs = [encode(model, image) for image in batch.images]
            encoding = min(encoding, (time.perf_counter() - start) / count / len(inputs))
            start = time.perf_counter()
        with autocast(spec.fit.precision, device):
            loss = task_loss(network(inputs, batch.target.shape[-2:]), batch.target)
        loss.backward()
        step = min(step, (time.perf_counter() - start) / count)
    if not torch.isfinite(loss):
        raise RsfmError(f"Model {model.name} gives a loss that is not finite on pack {what.pack.name!r}.")
    row, severity = slice(0, 1), what.severities[-1]
    worst = images.read(what.test_split, row, severity).to(device)
    outputs(network.eval(), worst, images, what.test_split, row, severity, spec.fit.precision)
    trained = spec.fit.epochs * len(what.draws[spec.eval_seeds[0]])
    encoding *= maps.encodings / max(1, sum(a != "finetune" for a in what.adaptations))  # shared by the heads
    return encoding + step * len(spec.eval_seeds) * (trained + len(what.severities) * what.n_test / 3)


def run_job(spec: EvaluateSpec, context: JobContext) -> None:
    """Evaluate one model on one pack; scores and predictions go to the run folder.

    A resumed run keeps what is trained already, unless the pack, the model or the operator is another one now.

    Raises:
        RsfmError: see `plan` and `resolve`.
        Stopped: on request; what is finished, and the state of what is being trained, stay for the next attempt.
    """
    torch.set_num_threads(spec.threads or context.threads)
    what = plan(spec, context.workspace)
    device = granted_device(spec.device, context.device)
    model = resolve(spec, what.pack, context.workspace, device)
    print(f"{model.title} on {what.pack.name} ({what.test_split}, {what.n_test} samples)", flush=True)
    for remark in evaluation_remarks(spec, what, model):
        print(f"note: {remark}", flush=True)
    if changed := start_over_if_changed(what, model, context):
        print(f"note: Starts over: not as in the attempt before: {', '.join(changed)}.", flush=True)
    if freed := sweep(context.workspace):
        print(f"note: Maps of runs that have ended are deleted ({freed / 1e9:.1f} GB).", flush=True)
    evaluation = Evaluation(spec, what, model, context, device)
    for remark in evaluation.maps.remarks:
        print(f"note: {remark}", flush=True)
    predictions = evaluation.predictions()
    scores = score_rows(spec, what, model, predictions)
    save_predictions(spec, what, predictions, context)
    # A score that is not defined (the precision of a model that predicts no change) is no row: its curve has a gap.
    context.scores([row for row in scores if row["value"] is not None])
    for row in scores:
        interval = "" if row["ci_low"] is None else f" [{row['ci_low']:.4f}, {row['ci_high']:.4f}]"
        value = "undefined" if row["value"] is None else f"{row['value']:.4f}"
        print(
            f"{row['adaptation']:8} seed {row['eval_seed']} {row['severity']:g}: {row['metric']} {value}{interval}",
            flush=True,
        )


class Evaluation:
    """All heads of one evaluation, one after the other."""

    def __init__(
        self, spec: EvaluateSpec, what: Plan, model: FeatureModel, context: JobContext, device: torch.device
    ) -> None:
        self.spec, self.what, self.model, self.context, self.device = spec, what, model, context, device
        self.images = LabelledImages(what, model)
        self.room = Room(context.workspace, context.folder)
        self.maps = FrozenMaps(spec, what, model, self.images, self.room)
        self.steps = Steps(spec, what, context, maps=self.maps.to_keep)
        self._features: tuple[dict[float, Tensor], dict[float, Tensor]] | None = None
        self._facts: dict[float, dict[str, float]] = {}
        self.input_facts = input_facts(self.images, model)

    def predictions(self) -> list[Prediction]:
        found: list[Prediction] = []
        try:
            for adaptation in self.what.adaptations:
                fitted = self.what.task.trains(adaptation)
                for seed in self.spec.eval_seeds:
                    found += self._trained(adaptation, seed) if fitted else self._on_features(adaptation, seed)
        except Stopped:  # the next attempt goes on with the maps
            raise
        except Exception:
            self.room.give_back()
            raise
        self.room.give_back()
        self.steps.finish()
        return found

    # -- heads on frozen features ----------------------------------------------------------------------------------
    def features(self) -> tuple[dict[float, Tensor], dict[float, Tensor]]:
        """Of the training split and of the test split, at each severity that is asked for; extracted once."""
        if self._features is None:
            cache = FeatureCache(self.context.workspace)
            (images,) = self.images.layers

            def of(split: str, severity: float, phase: str) -> Tensor:
                array = extract(
                    self.model, images, split, severity, cache=cache, device=self.device,
                    batch_size=self.spec.images_per_pass, after_batch=lambda count: self.steps.samples(count, phase),
                )  # fmt: skip
                return torch.from_numpy(array).to(self.device)

            what, unit = self.what, self.what.operator.severity_unit
            train = {s: of(what.train_split, s, f"features train {s:g}{unit}") for s in what.train_severities}
            tests = {s: of(what.test_split, s, f"features {s:g}{unit}") for s in what.severities}
            self._features = train, tests
        return self._features

    def feature_facts(self, severity: float) -> dict[str, float]:
        """What the result lint looks for collapse in."""
        if severity not in self._facts:
            looked = Looked()
            looked.add(self.features()[1][severity])
            self._facts[severity] = looked.facts()
        return self._facts[severity]

    def _on_features(self, adaptation: Adaptation, seed: int) -> list[Prediction]:
        """Degraded in training, a head is fitted on each image at every severity: what training that draws one for each
        image and epoch, all equally likely, sees in the mean. Each is a neighbour of its own to kNN, and of an operator
        that draws numbers there is one draw for each."""
        train, tests = self.features()
        what, spec = self.what, self.spec
        rows = torch.from_numpy(what.draws[seed]).to(self.device)
        x = torch.cat([features[rows] for features in train.values()])
        y = torch.tensor(what.train_labels, device=self.device)[rows.repeat(len(train))]
        classes = len(what.classes)
        result = []
        with _threads_for(x.numel() * classes):
            probe = fit_linear(x, y, seed, versions=len(train)) if adaptation == "linear" else None
            for severity, test in tests.items():
                self.context.check_stop()  # intervals of mean average precision take seconds
                if probe is not None:
                    predicted, score = probe.predict(test)
                elif adaptation == "centroid":
                    predicted, score = centroid_predict(x, y, test, classes=classes, temperature=spec.knn_temperature)
                else:
                    predicted, score = knn_predict(
                        x, y, test, classes=classes, k=spec.knn_k, temperature=spec.knn_temperature
                    )
                # Without a draw of training samples there is nothing in these heads that a seed could change.
                same = adaptation in ("knn", "centroid") and spec.train_fraction == 1
                facts = {"deterministic": same, **self.feature_facts(severity), **self.input_facts}
                result.append(self._labelled(adaptation, seed, severity, predicted, score, facts))
        self.steps.samples(Steps.HEAD_SAMPLES, ADAPTATIONS[adaptation][0])
        return result

    def _labelled(
        self, adaptation: str, seed: int, severity: float, predicted: Tensor, score: Tensor, facts: dict[str, Any]
    ) -> Prediction:
        """A prediction of whole images: one class each, or flags."""
        truth, found, score_ = self.what.test_labels, predicted.cpu().numpy(), score.float().cpu().numpy()
        assert truth is not None
        if truth.ndim == 2:
            # Zeros and ones, an eighth of the memory: of 100,000 samples, seeds and severities it is gigabytes.
            counts = metrics.multilabel_counts(truth, found).astype(np.uint8)
            whole = {"mean_ap": mean_ap(score_, truth, self.what.test_scenes, draws=self.spec.bootstrap)}
            return Prediction(adaptation, seed, severity, counts, {}, whole, facts)
        columns = {"label_index": truth, "predicted_index": found, "correct": found == truth, "score": score_}
        counts = metrics.classification_counts(truth, found)
        return Prediction(adaptation, seed, severity, counts, columns, {}, facts)

    # -- what is trained -------------------------------------------------------------------------------------------
    def _trained(self, adaptation: Adaptation, seed: int) -> list[Prediction]:
        name = f"{adaptation}-{seed}"
        done = self.context.folder.path / "checkpoints" / f"{name}.done.pt"
        if done.is_file():
            self.steps.samples(self.steps.per_fit(seed), f"{name} (kept)")
            return [Prediction.from_state(state) for state in torch.load(done, weights_only=True)]
        network = _network(self.spec, self.what, self.model, adaptation, seed)
        checkpoint = done.with_name(f"{name}.pt")
        epochs = self.spec.fit.epochs

        def after_epoch(number: int, values: dict[str, float]) -> None:
            at = (self.what.adaptations.index(adaptation) * len(self.spec.eval_seeds)
                  + self.spec.eval_seeds.index(seed)) * epochs + number  # fmt: skip
            self.context.metrics(step=at, samples=self.steps.done, values={f"{name}/{k}": v for k, v in values.items()})

        reports = Reports(
            samples=lambda count: self.steps.samples(count, f"training {name}", may_stop=False), epoch=after_epoch,
            stop=self.context.stop_requested, score=self._validation_score,
        )  # fmt: skip
        source = self._source(network, self.what.train_split, self.what.train_severities)
        fit_network(
            network, source, self.what, self.spec.fit, seed=seed, name=name, device=self.device,
            checkpoint=checkpoint, reports=reports,
        )  # fmt: skip
        result = [self._tested(network, adaptation, seed, s) for s in self.what.severities]
        if self.what.task.dense:
            save_network(self.context.folder, network, self.spec, self.what, adaptation, seed)
        done.parent.mkdir(exist_ok=True)
        temporary = done.with_name(f".{done.name}")
        torch.save([p.state() for p in result], temporary)
        temporary.replace(done)
        checkpoint.unlink(missing_ok=True)
        return result

    def _source(
        self, network: TaskNetwork, split: str, severities: Sequence[float]
    ) -> LabelledImages | FrozenMaps:  # fmt: skip
        """What the network reads of a split: images, or where its encoder is frozen the maps of them; may stop."""
        if not (network.frozen and self.maps.kept):
            return self.images
        self.maps.fill(split, severities, lambda count: self.steps.samples(count, f"encoding {split}"))
        return self.maps

    def _tested(self, network: TaskNetwork, adaptation: Adaptation, seed: int, severity: float) -> Prediction:
        phase = f"testing {adaptation}-{seed} {severity:g}{self.what.operator.severity_unit}"
        learnt = next(network.model.parameters(), None) is not None  # what has no weights cannot collapse
        known = network.frozen and severity in self._facts  # of another head or seed: its features are the same
        looked = Looked() if learnt and not known else None
        parts = list(self._outputs(network, self.what.test_split, severity, phase, looked))
        found = looked.facts() if looked else self._facts.get(severity, {})
        if network.frozen:
            self._facts[severity] = found
        facts = {"deterministic": False, **found, **self.input_facts}
        if self.what.task.dense:
            counts = np.concatenate([counts for counts, _ in parts])
            return Prediction(adaptation, seed, severity, counts, facts=facts)
        logits = torch.cat([output for _, output in parts])
        if self.what.task.name == "multilabel":
            return self._labelled(adaptation, seed, severity, logits >= 0, logits.sigmoid(), facts)
        score, predicted = logits.softmax(dim=1).max(dim=1)
        return self._labelled(adaptation, seed, severity, predicted, score, facts)

    @torch.no_grad()
    def _outputs(
        self, network: TaskNetwork, split: str, severity: float, phase: str = "", looked: Looked | None = None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """For each batch of a split its counts (maps), and the logits (labels of whole images); may raise `Stopped`."""
        total = self.what.pack.info.splits[split]
        size = min(self.spec.images_per_pass, 4 * self.spec.fit.batch_size)
        source = self._source(network, split, [severity])
        for start in range(0, total, size):
            if not phase:
                self.context.check_stop()
            rows = slice(start, min(start + size, total))
            batch = source.read(split, rows, severity).to(self.device)
            encoded, logits = outputs(network, batch, self.images, split, rows, severity, self.spec.fit.precision)
            for layer, levels in zip(self.images.layers, encoded, strict=True):
                if looked and self.what.degraded(layer.layer):
                    looked.add(levels[-1])
            if self.what.task.dense:
                yield self._map_counts(batch.target, logits.argmax(dim=1)), logits[:0]
            else:
                yield np.empty(0), logits.cpu()
            if phase:
                self.steps.samples(rows.stop - rows.start, phase)

    def _map_counts(self, target: Tensor, predicted: Tensor) -> np.ndarray:
        truth, found = target.cpu().numpy(), predicted.cpu().numpy()
        if self.what.task.name == "change":
            return metrics.binary_counts(truth, found, ignore=IGNORE)
        return metrics.confusion_counts(truth, found, classes=len(self.what.classes), ignore=IGNORE)

    def _validation_score(self, network: TaskNetwork) -> float:
        """The primary metric on the validation split, as it is."""
        split = self.what.val_split
        assert split is not None
        parts = list(self._outputs(network, split, self.what.operator.identity))
        function = metrics.METRICS[self.what.task.metrics[0]].of
        if self.what.task.dense:
            return float(function(np.concatenate([counts for counts, _ in parts]).sum(axis=0)))
        logits = torch.cat([output for _, output in parts])
        truth = self.images.targets(split, slice(None)).numpy()
        if truth.ndim == 2:
            counts = metrics.multilabel_counts(truth, (logits >= 0).numpy())
        else:
            counts = metrics.classification_counts(truth, logits.argmax(dim=1).numpy())
        return float(function(counts.sum(axis=0)))


def _network(spec: EvaluateSpec, what: Plan, model: FeatureModel, adaptation: Adaptation, seed: int) -> TaskNetwork:
    """The network of one adaptation; its head is a function of the seed."""
    size = what.pack.layer(what.pack.main).shape[1:]
    with seeded("head", adaptation, seed):
        return build(model, what.task, adaptation, len(what.classes), size, spec.fit).to(model.mean.device)


@contextlib.contextmanager
def _threads_for(multiplications: float) -> Iterator[None]:
    threads = torch.get_num_threads()
    if multiplications < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
