"""Scores of predictions, computed from counts that add up. numpy only.

A score of a whole test set is a function of *pooled counts*: those of all samples (images, tiles, scenes) added up, so
that every pixel counts once and a tile without any change neither helps nor hurts. A mean of the scores of single
tiles is another number, and for rare classes a useless one. What is kept per sample is its part of the counts, in one
of four layouts (the last axis of every array here):

    "right"      [right, counted]
    "per_class"  [tp, fp, fn] of class 0, of class 1, ...: 3 K numbers
    "confusion"  the K × K confusion matrix row by row; rows are the truth, columns the prediction
    "binary"     [tp, fp, fn, tn] of the positive class

All functions take counts (..., k) and give float64 (...). A score whose denominator is 0 is undefined: NaN, never 0.
The mean over classes is over those that are defined: a class that is neither in the truth nor predicted is left out,
one that is only predicted counts with 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Layout = Literal["right", "per_class", "confusion", "binary"]
Counts = np.ndarray  # (..., k) float64
Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
        range: smallest and largest value.
        layout: of the counts that `function` takes; None where counts do not suffice (`average_precision`).
    """

    name: str
    title: str
    higher_is_better: bool
    range: tuple[float, float]
    layout: Layout | None
    function: Function | None

    def of(self, counts: Counts, layout: Layout | None = None) -> np.ndarray:
        """The score of pooled counts (..., k).

        Args:
            layout: of these counts where it is not the metric's own; they are converted (see `convert`).

        Raises:
            ValueError: counts do not determine this score, or are in a layout that does not hold it.
        """
        if self.function is None or self.layout is None:
            raise ValueError(f"{self.name} follows from the scores of all samples, not from counts")
        counts = np.asarray(counts, np.float64)
        return self.function(counts if layout is None else convert(counts, layout, self.layout))


# -- from pooled counts to scores ----------------------------------------------------------------------------------
def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below; NaN where below is 0."""
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.divide(above, below, out=np.full(shape, np.nan), where=np.asarray(below) > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, without NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))


def _classes(counts: Counts) -> np.ndarray:
    """(..., 3 K) to (..., K, 3)."""
    if counts.shape[-1] % 3:
        raise ValueError(f"counts per class are tp, fp and fn of each: {counts.shape[-1]} is no multiple of 3")
    return counts.reshape(*counts.shape[:-1], -1, 3)


def _square(counts: Counts) -> np.ndarray:
    """(..., K²) to (..., K, K)."""
    k = math.isqrt(counts.shape[-1])
    if k * k != counts.shape[-1]:
        raise ValueError(f"a confusion matrix has K × K numbers: {counts.shape[-1]} is no square")
    return counts.reshape(*counts.shape[:-1], k, k)


def _four(counts: Counts) -> np.ndarray:
    if counts.shape[-1] != 4:
        raise ValueError(f"binary counts are tp, fp, fn, tn: got {counts.shape[-1]} numbers")
    return np.moveaxis(counts, -1, 0)


def _right(counts: Counts) -> np.ndarray:
    if counts.shape[-1] != 2:
        raise ValueError(f"the counts of an accuracy are right and counted: got {counts.shape[-1]} numbers")
    return _ratio(counts[..., 0], counts[..., 1])


def _f1_of(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _micro_f1(counts: Counts) -> np.ndarray:
    return _f1_of(*np.moveaxis(_classes(counts).sum(axis=-2), -1, 0))


def _macro_f1(counts: Counts) -> np.ndarray:
    return _mean_of_defined(_f1_of(*np.moveaxis(_classes(counts), -1, 0)))


def _mean_iou(counts: Counts) -> np.ndarray:
    tp, fp, fn = np.moveaxis(_classes(convert(counts, "confusion", "per_class")), -1, 0)
    return _mean_of_defined(_ratio(tp, tp + fp + fn))


def _overall_accuracy(counts: Counts) -> np.ndarray:
    return _right(convert(counts, "confusion", "right"))


def _f1(counts: Counts) -> np.ndarray:
    tp, fp, fn, _ = _four(counts)
    return _f1_of(tp, fp, fn)


def _iou(counts: Counts) -> np.ndarray:
    tp, fp, fn, _ = _four(counts)
    return _ratio(tp, tp + fp + fn)


def _precision(counts: Counts) -> np.ndarray:
    tp, fp, _, _ = _four(counts)
    return _ratio(tp, tp + fp)


def _recall(counts: Counts) -> np.ndarray:
    tp, _, fn, _ = _four(counts)
    return _ratio(tp, tp + fn)


def convert(counts: Counts, layout: Layout, wanted: Layout) -> np.ndarray:
    """Counts (..., k) of one layout in another one that they determine.

    A confusion matrix determines "per_class" and "right"; binary counts "right", and "per_class" of the positive
    class alone.

    Raises:
        ValueError: they do not determine it.
    """
    if layout == wanted:
        return counts
    if layout == "confusion":
        matrix = _square(counts)
        tp = np.diagonal(matrix, axis1=-2, axis2=-1)
        if wanted == "right":
            return np.stack([tp.sum(axis=-1), counts.sum(axis=-1)], axis=-1)
        if wanted == "per_class":
            parts = np.stack([tp, matrix.sum(axis=-2) - tp, matrix.sum(axis=-1) - tp], axis=-1)
            return parts.reshape(*counts.shape[:-1], -1)
    if layout == "binary":
        if wanted == "right":
            return np.stack([counts[..., 0] + counts[..., 3], counts.sum(axis=-1)], axis=-1)
        if wanted == "per_class":
            return counts[..., :3]
    raise ValueError(f"{layout} counts do not determine {wanted} counts")


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        # Undefined where nothing was counted.
        Metric("accuracy", "Accuracy", True, (0, 1), "right", _right),
        # Undefined where no label is true or predicted.
        Metric("micro_f1", "Micro F1", True, (0, 1), "per_class", _micro_f1),
        # A class is left out where it is neither true nor predicted; undefined where all are.
        Metric("macro_f1", "Macro F1", True, (0, 1), "per_class", _macro_f1),
        # From the scores of all samples: `average_precision`.
        Metric("mean_ap", "Mean average precision", True, (0, 1), None, None),
        # Classes as for macro F1.
        Metric("mean_iou", "Mean IoU", True, (0, 1), "confusion", _mean_iou),
        Metric("overall_accuracy", "Overall accuracy", True, (0, 1), "confusion", _overall_accuracy),
        # Of the positive class over all pixels: undefined where none is positive, in truth or prediction, ...
        Metric("f1", "F1", True, (0, 1), "binary", _f1),
        Metric("iou", "IoU", True, (0, 1), "binary", _iou),
        # ... where none is predicted positive, ...
        Metric("precision", "Precision", True, (0, 1), "binary", _precision),
        # ... and where none is truly positive.
        Metric("recall", "Recall", True, (0, 1), "binary", _recall),
    )
}


# -- from labels and predictions to counts of each sample ----------------------------------------------------------
def _pair(labels: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape or labels.ndim == 0:
        raise ValueError(f"labels and predictions need one shape (n, ...), got {labels.shape} and {predicted.shape}")
    return labels, predicted


def _counted(labels: np.ndarray, ignore: int | None) -> np.ndarray:
    return np.ones(labels.shape, bool) if ignore is None else labels != ignore


def _require_range(values: np.ndarray, classes: int, what: str) -> None:
    if values.size and not (values.min() >= 0 and values.max() < classes):
        raise ValueError(
            f"{what} must be 0 to {classes - 1} (or, of labels, the value to ignore), "
            f"got {values.min()} to {values.max()}"
        )


def classification_counts(labels: np.ndarray, predicted: np.ndarray, *, ignore: int | None = None) -> np.ndarray:
    """[right, counted] of each sample (n, 2), layout "right", from class indices (n,)."""
    labels, predicted = _pair(labels, predicted)
    counted = _counted(labels, ignore)
    return np.stack([(labels == predicted) & counted, counted], axis=-1).astype(np.float64)


def multilabel_counts(labels: np.ndarray, predicted: np.ndarray, *, ignore: int | None = None) -> np.ndarray:
    """[tp, fp, fn] of each class and sample (n, 3 K), layout "per_class".

    Args:
        labels: (n, K) of 0 and 1; a single entry of `ignore` leaves that class of that sample out.
        predicted: (n, K) of 0 and 1.
    """
    labels, predicted = _pair(labels, predicted)
    counted = _counted(labels, ignore)
    _require_range(labels[counted], 2, "labels")
    _require_range(predicted[counted], 2, "predictions")
    true, said = (labels == 1) & counted, (predicted == 1) & counted
    parts = np.stack([true & said, said & ~true, true & ~said], axis=-1)
    return parts.reshape(*labels.shape[:-1], -1).astype(np.float64)


def confusion_counts(
    labels: np.ndarray, predicted: np.ndarray, *, classes: int, ignore: int | None = None
) -> np.ndarray:
    """Each sample's confusion matrix (n, K²), layout "confusion", from class maps (n, ...)."""
    labels, predicted = _pair(labels, predicted)
    counted = _counted(labels, ignore)
    _require_range(labels[counted], classes, "labels")
    _require_range(predicted[counted], classes, "predictions")
    n, cells = len(labels), classes * classes
    sample = np.broadcast_to(np.arange(n).reshape(-1, *(1,) * (labels.ndim - 1)), labels.shape)[counted]
    cell = labels[counted].astype(np.int64) * classes + predicted[counted].astype(np.int64)
    return np.bincount(sample * cells + cell, minlength=n * cells).reshape(n, cells).astype(np.float64)


def binary_counts(labels: np.ndarray, predicted: np.ndarray, *, ignore: int | None = None) -> np.ndarray:
    """[tp, fp, fn, tn] of each sample (n, 4), layout "binary", from maps (n, ...) of 0 and 1.

    Raises:
        ValueError: other values, such as masks of 0 and 255 as they lie on disk.
    """
    matrix = confusion_counts(labels, predicted, classes=2, ignore=ignore)
    return matrix[:, [3, 1, 2, 0]]  # rows of the matrix: tn fp, fn tp


# -- mean average precision ----------------------------------------------------------------------------------------
def average_precision(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision of a ranking, mean over classes.

    Σ (Rᵢ − Rᵢ₋₁) Pᵢ over the thresholds from high to low, equal scores at once; no interpolation. Classes without a
    positive sample are left out; NaN where no class has one.

    Args:
        scores: (n, K) of any scale, larger is more positive; labels: (n, K) of 0 and 1.
        weights: (..., n) how often each sample counts, e.g. in a bootstrap; once where it is left out.

    Returns:
        (...), the leading axes of `weights`.
    """
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    pieces = weights.reshape(math.prod(weights.shape[:-1]), len(scores))
    return Rankings(scores, labels).average_precision(pieces).reshape(weights.shape[:-1])


class Rankings:
    """The samples in the order of their scores, class by class: found once, for many ways to count them.

    Args:
        scores, labels: as for `average_precision`.
    """

    def __init__(self, scores: np.ndarray, labels: np.ndarray) -> None:
        labels, scores = _pair(labels, scores)
        if scores.ndim != 2 or np.isnan(scores).any():
            raise ValueError(f"average precision takes scores (n, K) without NaN, got shape {scores.shape}")
        _require_range(labels, 2, "labels")
        self._classes = [_ranked(score, label) for score, label in zip(scores.T, labels.T, strict=True)]

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """`average_precision` of (d, n) weights: (d,)."""
        times = np.ascontiguousarray(np.asarray(weights, np.float64).T)
        classes = [_class_precision(ranked, times) for ranked in self._classes]
        return _mean_of_defined(np.stack(classes, axis=-1))


def _ranked(score: np.ndarray, label: np.ndarray) -> tuple[csr_matrix, csr_matrix] | None:
    """Which samples, and which positive ones, each step of one class's recall takes in: two (steps, n) of ones.

    None without a positive sample.
    """
    from scipy.sparse import csr_matrix  # a third of a second: not at import, for pages start with this module

    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(score[order][1:] != score[order][:-1], True))
    positives = np.flatnonzero(label[order])
    if not len(positives):
        return None
    # Recall rises only at thresholds that take in a positive sample: what lies between two of them is added up first,
    # as the product with a matrix of ones, which is much faster than adding up in order.
    bounds = np.append(0, np.unique(ends[np.searchsorted(ends, positives)]) + 1)
    shape = (len(bounds) - 1, len(score))
    between = csr_matrix((np.ones(bounds[-1]), order[: bounds[-1]], bounds), shape)
    found = csr_matrix((np.ones(len(positives)), order[positives], np.searchsorted(positives, bounds)), shape)
    return between, found


def _class_precision(ranked: tuple[csr_matrix, csr_matrix] | None, times: np.ndarray) -> np.ndarray:
    """Average precision (d,) of one class, from how often each sample counts (n, d)."""
    if ranked is None:
        return np.full(times.shape[1], np.nan)
    between, found = ranked
    steps = found @ times
    taken, tp = np.cumsum(between @ times, axis=0), np.cumsum(steps, axis=0)
    # Where nothing is taken yet, nothing is found either: the step is 0, whatever the precision.
    return _ratio((steps * np.nan_to_num(_ratio(tp, taken))).sum(axis=0), tp[-1])


# -- what needs no model -------------------------------------------------------------------------------------------
def constant_floor(metric: str, counts: np.ndarray, labels: np.ndarray | None = None) -> float:
    """The best score that a constant prediction reaches on these samples: the floor of a metric on a test set.

    It follows from the truth alone, so any model's counts give the same. Constants tried: each class; of several
    labels per sample, the commonest 1, 2, ... K labels; of a positive class, everything and nothing.

    Args:
        counts: (n, k) of each sample, in the metric's own layout.
        labels: (n,) class indices, needed for "accuracy", whose counts do not hold the truth.

    Returns:
        NaN where no constant has a defined score.
    """
    entry = METRICS[metric]
    counts = np.asarray(counts, np.float64)
    if entry.layout == "right":
        if labels is None:
            raise ValueError("the floor of an accuracy is the share of the commonest class: it needs the labels")
        return float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    total = counts.sum(axis=0)
    if entry.layout == "binary":
        tp, fp, fn, tn = total
        candidates = np.array([[tp + fn, fp + tn, 0, 0], [0, 0, tp + fn, fp + tn]])
    elif entry.layout == "confusion":
        truth = _square(total).sum(axis=1)
        k = len(truth)
        matrices = np.zeros((k, k, k))
        matrices[np.arange(k), :, np.arange(k)] = truth
        candidates = matrices.reshape(k, -1)
    else:
        candidates = _constant_labels(counts)
    values = entry.of(candidates)
    return float(np.nanmax(values)) if not np.isnan(values).all() else math.nan


def _constant_labels(counts: np.ndarray) -> np.ndarray:
    """(K, 3 K) pooled counts per class of the constant predictions, from those of each sample (n, 3 K)."""
    positives = _classes(counts)[..., 0] + _classes(counts)[..., 2]  # (n, K)
    n, k = positives.shape
    truth = positives.sum(axis=0)
    one_each = bool((positives.sum(axis=1) <= 1).all())
    if one_each:  # one class per sample, so a constant names one; samples that are ignored have none
        said = np.eye(k, dtype=bool)
        n = int(positives.sum())
    else:
        rank = np.argsort(np.argsort(-truth, kind="stable"))
        said = rank[None, :] <= np.arange(k)[:, None]
    tp, fp, fn = np.where(said, truth, 0), np.where(said, n - truth, 0), np.where(said, 0, truth)
    return np.stack([tp, fp, fn], axis=-1).reshape(k, -1)
