"""What an evaluation means on a pack: checked before anything is computed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rsfm.degrade import OperatorEntry, operator
from rsfm.errors import RsfmError
from rsfm.evaluation.heads import stratified_draw
from rsfm.evaluation.unused import refuse_unused
from rsfm.packs import LayerInfo, Pack, scene_numbers
from rsfm.specs import EvaluateSpec
from rsfm.tasks import ADAPTATIONS, TASKS, Adaptation, Task
from rsfm.workspace import Workspace


@dataclass(frozen=True)
class Plan:
    """A spec on a pack, with its labels at hand.

    Attributes:
        severities: of the test; train_severities: those that training images are degraded at.
        target: which image is degraded: single, pre, post or both.
        classes: names of what is told apart.
        labels: split -> (N,) int64 class indices; (N, K) bool for several labels; None for maps.
        draws: evaluation seed -> sorted positions in the training split.
    """

    pack: Pack
    task: Task
    adaptations: tuple[Adaptation, ...]
    operator: OperatorEntry
    severities: tuple[float, ...]
    train_severities: tuple[float, ...]
    target: str
    classes: list[str]
    train_split: str
    test_split: str
    val_split: str | None
    labels: dict[str, np.ndarray | None]
    draws: dict[int, np.ndarray]

    @property
    def train_labels(self) -> np.ndarray | None:
        return self.labels[self.train_split]

    @property
    def test_labels(self) -> np.ndarray | None:
        return self.labels[self.test_split]

    @property
    def n_train(self) -> int:
        return self.pack.info.splits[self.train_split]

    @property
    def n_test(self) -> int:
        return self.pack.info.splits[self.test_split]

    @property
    def n_features(self) -> int:
        """Images to encode where heads are solved on stored features."""
        return len(self.train_severities) * self.n_train + len(self.severities) * self.n_test

    @cached_property
    def test_scenes(self) -> np.ndarray:
        """(M,) the scene that each test sample is a part of (`scene_numbers`): those of one are not independent."""
        return scene_numbers(self.pack.split_samples(self.test_split))

    @property
    def mask(self) -> LayerInfo:
        """The layer of label maps."""
        return self.pack.layer("mask")

    def degraded(self, layer: str) -> bool:
        """Whether that image layer is degraded."""
        return self.target in ("single", "both") or layer == f"image_{self.target}"


def plan(spec: EvaluateSpec, workspace: Workspace) -> Plan:
    """Check everything that needs no model.

    Raises:
        RsfmError: an unlabelled pack; a split that is missing, empty or used twice; too few classes or samples; an
            adaptation, a preset, a target or a severity that does not suit the task or the images; a setting that
            nothing would use.
    """
    pack = Pack.named(workspace, spec.dataset)
    name = f"Pack {pack.name!r}"
    if pack.info.task not in TASKS:
        raise RsfmError(
            f"{name} cannot be evaluated: it has no labels (its task is {pack.info.task}). Choose a labelled pack."
        )
    task = TASKS[pack.info.task]
    adaptations = tuple(spec.adaptations) or task.usual
    for adaptation in adaptations:
        if adaptation not in task.adaptations:
            raise RsfmError(
                f"{ADAPTATIONS[adaptation][0]} is not for {task.title.lower()} (pack {pack.name!r}): choose from "
                f"{', '.join(task.adaptations)}."
            )
    refuse_unused(spec, task)
    splits = pack.info.splits
    test_split = spec.test_split or next((s for s in ("test", "val") if s in splits), "")
    if not test_split:
        raise RsfmError(f"{name} has neither a test nor a val split; name one of {', '.join(splits)} as test split.")
    if test_split == spec.train_split:
        raise RsfmError(f"{name}: training and test split are both {test_split!r}; a model must be tested on others.")
    for split in (spec.train_split, test_split):
        pack.require_split(split)
        if not splits[split]:
            raise RsfmError(f"Split {split!r} of pack {pack.name!r} is empty.")
    chooses = spec.fit.select == "best" and any(task.trains(a) for a in adaptations)
    val_split = _validation_split(spec, pack, test_split) if chooses else None
    target = _target(spec, task, pack)
    degrade = operator(spec.operator)
    severities = _severities(spec, degrade, task, pack)
    if spec.fit.train_degrade:
        _require_training(degrade, severities, any(task.trains(a) for a in adaptations))
    used = [spec.train_split, test_split, *([val_split] if val_split else [])]
    labels: dict[str, np.ndarray | None] = dict.fromkeys(used)
    classes = _map_classes(pack) if task.dense else pack.info.classes
    if not task.dense:
        labels = {split: _labels(pack, split) for split in used}
        if task.name == "classification" and any(len(np.unique(labels[s])) < 2 for s in used[:2]):
            raise RsfmError(f"{name} has fewer than two classes in {spec.train_split!r} or {test_split!r}.")
    train = labels[spec.train_split]
    draws = {seed: _draw(train, splits[spec.train_split], spec.train_fraction, seed) for seed in spec.eval_seeds}
    fewest = min(len(d) for d in draws.values())
    if "knn" in adaptations and fewest < spec.knn_k:
        raise RsfmError(
            f"kNN with {spec.knn_k} neighbours needs as many training samples, but {spec.train_fraction:.0%} of "
            f"{spec.train_split!r} in pack {pack.name!r} are {fewest}: lower knn_k or raise train_fraction."
        )
    return Plan(
        pack, task, adaptations, degrade, severities, severities if spec.fit.train_degrade else (degrade.identity,),
        target, classes, spec.train_split, test_split, val_split, labels, draws,
    )  # fmt: skip


def _draw(labels: np.ndarray | None, count: int, fraction: float, seed: int) -> np.ndarray:
    """Sorted positions of a random share of the samples, by class where each has one."""
    if labels is None or labels.ndim > 1:
        labels = np.zeros(count, np.int64)
    return stratified_draw(labels, fraction, seed)


def _validation_split(spec: EvaluateSpec, pack: Pack, test_split: str) -> str:
    if "val" not in pack.info.splits or "val" in (test_split, spec.train_split):
        raise RsfmError(
            f"Pack {pack.name!r} has no val split besides the ones used: set fit.select to last. The test split must "
            "not choose the weights."
        )
    return "val"


def _target(spec: EvaluateSpec, task: Task, pack: Pack) -> str:
    if spec.degrade_target == "auto":
        return task.degrade_target
    if (spec.degrade_target == "single") == task.pairs:
        allowed = "pre, post or both" if task.pairs else "single"
        raise RsfmError(
            f"Samples of pack {pack.name!r} are {'pairs' if task.pairs else 'single images'}: degrade_target can be "
            f"{allowed}, not {spec.degrade_target}."
        )
    return spec.degrade_target


def _severities(spec: EvaluateSpec, degrade: OperatorEntry, task: Task, pack: Pack) -> tuple[float, ...]:
    if degrade.pairs_only and not task.pairs:
        raise RsfmError(f"{degrade.title} is for pairs of images, and pack {pack.name!r} has single ones.")
    if task.pairs and not degrade.keeps_grid and spec.degrade_target != "both":
        raise RsfmError(
            f"{degrade.title} changes the size of one image of a pair only, and the two could not be compared: set "
            "degrade_target=both, or take an operator that keeps the grid (bilinear)."
        )
    info = pack.layer(pack.main)
    _, height, width = info.shape
    if spec.severities:
        for severity in spec.severities:
            degrade.check(severity, height, width, info.bands)
        return tuple(map(float, spec.severities))
    # The operator's own, as far as they suit the images (a tile of 4 pixels has no 8× coarser one).
    first, second, *worse = map(float, degrade.severities)
    degrade.check(second, height, width, info.bands)
    possible = [first, second]
    for severity in worse:
        with contextlib.suppress(RsfmError):
            degrade.check(severity, height, width, info.bands)
            possible.append(severity)
    return tuple(possible)


def _require_training(degrade: OperatorEntry, severities: tuple[float, ...], by_steps: bool) -> None:
    """Whether images can be degraded in training (`by_steps`: batch by batch), and are."""
    if by_steps and not degrade.keeps_grid:
        raise RsfmError(f"{degrade.title} changes the size of images: it cannot be mixed into training.")
    if severities == (degrade.identity,):
        raise RsfmError(
            f"fit.train_degrade degrades nothing at {degrade.severity_name} {degrade.identity:g}, the only severity: "
            "add severities, or leave it out."
        )


def _map_classes(pack: Pack) -> list[str]:
    classes = pack.layer("mask").classes or pack.info.classes
    if len(classes) < 2:
        raise RsfmError(f"Pack {pack.name!r} has maps of fewer than two classes.")
    if pack.info.task == "change" and len(classes) != 2:
        raise RsfmError(
            f"Pack {pack.name!r} tells {len(classes)} kinds of change apart ({', '.join(classes[:6])}); change "
            "detection here is of two classes, no change and change. Prepare it with masks of 0 and 1."
        )
    return classes


def _labels(pack: Pack, split: str) -> np.ndarray:
    """(N,) class indices, or (N, K) flags where an image has several labels."""
    samples = pack.split_samples(split)
    if pack.info.task == "multilabel":
        index = {name: i for i, name in enumerate(pack.info.classes)}
        flags = np.zeros((len(samples), len(index)), bool)
        for row, names in enumerate(samples["labels"]):
            if names is None:
                raise RsfmError(f"Sample {samples['id'][row]!r} in {split!r} of pack {pack.name!r} has no labels.")
            flags[row, [index[name] for name in names]] = True
        return flags
    missing = int(samples["label_index"].isna().sum())
    if missing:
        raise RsfmError(f"{missing} of {len(samples)} samples in {split!r} of pack {pack.name!r} have no label.")
    return pack.label_indices(split)
