"""Scores of pooled counts against scikit-learn and torchmetrics, and what pooling means."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from torchmetrics import classification as tm

from rsfm import metrics
from rsfm.metrics import METRICS

torch.set_num_threads(1)
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = {"right": 2, "per_class": 9, "confusion": 16, "binary": 4}


def score(name: str, counts: np.ndarray, layout: metrics.Layout | None = None) -> float:
    """Of counts per sample, pooled."""
    return float(METRICS[name].of(counts.sum(axis=0), layout))


# -- against others -------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, n=st.integers(1, 30), classes=st.integers(2, 5))
def test_multiclass_scores_are_those_of_scikit_learn(seed: int, n: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, said = rng.integers(0, classes, (2, n))
    hits = metrics.classification_counts(labels, said)
    # A map of one pixel per image is a scene label.
    confusion = metrics.confusion_counts(labels[:, None], said[:, None], classes=classes)
    per_class = metrics.convert(confusion, "confusion", "per_class")
    assert score("accuracy", hits) == pytest.approx(sk.accuracy_score(labels, said))
    for name, average in (("micro_f1", "micro"), ("macro_f1", "macro")):
        # Classes that neither occur nor are predicted are left out of the mean.
        kept = np.unique([labels, said])
        expected = sk.f1_score(labels, said, labels=kept, average=average, zero_division=np.nan)
        assert score(name, per_class) == pytest.approx(expected)
    matrix = sk.confusion_matrix(labels, said, labels=np.arange(classes))
    assert np.array_equal(confusion.sum(axis=0), matrix.ravel())
    assert np.array_equal(metrics.convert(confusion, "confusion", "right"), hits)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, n=st.integers(1, 20), classes=st.integers(1, 5), share=st.floats(0, 1))
def test_multilabel_scores_are_those_of_scikit_learn(seed: int, n: int, classes: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels, said = rng.random((2, n, classes)) < share
    counts = metrics.multilabel_counts(labels, said)
    assert counts.shape == (n, 3 * classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        per_class = sk.f1_score(labels, said, average=None, zero_division=np.nan) if classes > 1 else np.atleast_1d(
            sk.f1_score(labels[:, 0], said[:, 0], zero_division=np.nan)
        )  # fmt: skip
        expected = float(np.nanmean(per_class))
    assert score("macro_f1", counts) == pytest.approx(expected, nan_ok=True)
    micro = sk.f1_score(labels.ravel(), said.ravel(), zero_division=np.nan)
    assert score("micro_f1", counts) == pytest.approx(micro, nan_ok=True)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, tiles=st.integers(1, 4), classes=st.integers(2, 5))
def test_segmentation_scores_are_those_of_torchmetrics_and_scikit_learn(seed: int, tiles: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels, said = rng.integers(0, classes, (2, tiles, 5, 5))
    labels[rng.random(labels.shape) < 0.2] = 255
    assume((labels != 255).any())
    counts = metrics.confusion_counts(labels, said, classes=classes, ignore=255)
    kept = labels != 255
    assert counts.sum() == kept.sum()
    matrix = sk.confusion_matrix(labels[kept], said[kept], labels=np.arange(classes))
    assert np.array_equal(counts.sum(axis=0).reshape(classes, classes), matrix), "rows are the truth"
    assert score("overall_accuracy", counts) == pytest.approx(sk.accuracy_score(labels[kept], said[kept]))
    iou = tm.MulticlassJaccardIndex(classes, ignore_index=255)(torch.from_numpy(said), torch.from_numpy(labels))
    assert score("mean_iou", counts) == pytest.approx(float(iou), abs=1e-6)
    present = np.unique([labels[kept], said[kept]])
    macro = sk.f1_score(labels[kept], said[kept], labels=present, average="macro", zero_division=np.nan)
    assert score("macro_f1", counts, "confusion") == pytest.approx(macro)
    jaccard = sk.jaccard_score(labels[kept], said[kept], labels=present, average="macro")
    assert score("mean_iou", counts) == pytest.approx(jaccard)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, share=st.floats(0, 1), tiles=st.integers(1, 4))
def test_scores_of_the_positive_class_are_those_of_scikit_learn(seed: int, share: float, tiles: int) -> None:
    rng = np.random.default_rng(seed)
    labels, said = (rng.random((2, tiles, 4, 4)) < share).astype(int)
    counts = metrics.binary_counts(labels, said)
    y, p = labels.ravel(), said.ravel()
    tn, fp, fn, tp = sk.confusion_matrix(y, p, labels=[0, 1]).ravel()
    assert counts.sum(axis=0).tolist() == [tp, fp, fn, tn]
    defined = {"f1": tp + fp + fn, "iou": tp + fp + fn, "precision": tp + fp, "recall": tp + fn}
    theirs = {"f1": sk.f1_score, "iou": sk.jaccard_score, "precision": sk.precision_score, "recall": sk.recall_score}
    for name, function in theirs.items():
        expected = function(y, p, zero_division=0) if defined[name] else math.nan
        assert score(name, counts) == pytest.approx(expected, nan_ok=True), name
    assert score("accuracy", counts, "binary") == pytest.approx(sk.accuracy_score(y, p))
    assert score("micro_f1", counts, "binary") == pytest.approx(score("f1", counts), nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, n=st.integers(1, 25), classes=st.integers(1, 4), levels=st.integers(1, 30))
def test_average_precision_is_that_of_scikit_learn_and_torchmetrics(
    seed: int, n: int, classes: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (n, classes)) / 32  # with ties
    labels = (rng.random((n, classes)) < 0.4).astype(int)
    kept = labels.any(axis=0)
    found = float(metrics.average_precision(scores, labels))
    if not kept.any():
        assert math.isnan(found)
        return
    expected = np.mean([sk.average_precision_score(labels[:, k], scores[:, k]) for k in np.flatnonzero(kept)])
    assert found == pytest.approx(expected)
    if classes > 1 and kept.all():
        theirs = tm.MultilabelAveragePrecision(classes)(torch.from_numpy(scores), torch.from_numpy(labels))
        assert found == pytest.approx(float(theirs), abs=1e-6)
    weights = rng.integers(0, 3, (2, n)).astype(float)
    weights[:, labels.argmax(axis=0)] = 1  # every class keeps a positive
    drawn = metrics.average_precision(scores, labels, weights)
    for row, w in zip(drawn, weights, strict=True):
        expected = [
            sk.average_precision_score(labels[:, k], scores[:, k], sample_weight=w) for k in np.flatnonzero(kept)
        ]
        assert row == pytest.approx(np.mean(expected))
        copies = np.repeat(np.arange(n), w.astype(int))
        assert row == pytest.approx(float(metrics.average_precision(scores[copies], labels[copies])))


def test_average_precision_by_hand() -> None:
    # Found at ranks 1 and 3: (1/1 + 2/3) / 2. One tie: both at once.
    assert metrics.average_precision(np.array([[4], [3], [2], [1]]), np.array([[1], [0], [1], [0]])) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert metrics.average_precision(np.full((4, 1), -np.inf), np.array([[1], [0], [0], [0]])) == 0.25
    with pytest.raises(ValueError, match="without NaN"):
        metrics.average_precision(np.array([[np.nan]]), np.array([[1]]))
    with pytest.raises(ValueError, match="not from counts"):
        METRICS["mean_ap"].of(np.ones(3))


# -- what pooling means ---------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, size=st.sampled_from([4, 8]), ignored=st.floats(0, 0.6))
def test_a_scene_in_tiles_scores_as_the_scene(seed: int, size: int, ignored: float) -> None:
    """Every pixel counts once, those that are ignored not at all."""
    rng = np.random.default_rng(seed)
    labels, said = (rng.random((2, 16, 16)) < 0.3).astype(int)
    labels[rng.random((16, 16)) < ignored] = 255
    cut = lambda m: m.reshape(16 // size, size, 16 // size, size).swapaxes(1, 2).reshape(-1, size, size)  # noqa: E731
    whole = metrics.binary_counts(labels[None], said[None], ignore=255)
    tiles = metrics.binary_counts(cut(labels), cut(said), ignore=255)
    assert len(tiles) == (16 // size) ** 2 and tiles.sum() == (labels != 255).sum()
    for name in ("f1", "iou", "precision", "recall"):
        assert score(name, tiles) == pytest.approx(score(name, whole), nan_ok=True)
    said[labels == 255] = 1 - said[labels == 255]
    assert np.array_equal(metrics.binary_counts(cut(labels), cut(said), ignore=255), tiles)


def test_the_mean_over_tiles_is_another_number() -> None:
    """A tile without change is undefined; where it counts as 0, or is left out, the mean is far from the pooled F1."""
    tiles = np.array([[90, 10, 10, 890], [1, 0, 9, 990], *[[0, 1, 0, 999]] * 3, [0, 0, 0, 1000]], float)
    f1 = METRICS["f1"]
    pooled = float(f1.of(tiles.sum(axis=0)))
    assert pooled == pytest.approx(2 * 91 / (2 * 91 + 13 + 19))
    of_tiles = f1.of(tiles)
    assert np.isnan(of_tiles[-1])
    assert np.nanmean(of_tiles) < 0.25 < 0.8 < pooled
    assert np.nan_to_num(of_tiles).mean() < 0.2


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from([n for n, m in METRICS.items() if m.layout]), seed=SEEDS)
def test_scores_are_vectorised_within_range_and_free_of_scale(name: str, seed: int) -> None:
    entry = METRICS[name]
    assert entry.layout is not None and entry.function is not None
    counts = np.random.default_rng(seed).integers(0, 5, (3, 4, SHAPES[entry.layout])).astype(float)
    if entry.layout == "right":
        counts[..., 1] += counts[..., 0]
    values = entry.of(counts)
    assert values.shape == (3, 4) and values.dtype == np.float64
    assert all(entry.of(counts[i, j]) == pytest.approx(values[i, j], nan_ok=True) for i in range(3) for j in range(4))
    low, high = entry.range
    assert ((low <= values) & (values <= high) | np.isnan(values)).all()
    assert np.allclose(entry.of(7 * counts), values, equal_nan=True)
    nothing = entry.of(np.zeros(SHAPES[entry.layout]))
    assert nothing.shape == () and np.isnan(nothing), "nothing counted is no score of 0"


def test_when_a_score_is_undefined() -> None:
    of = lambda name, *counts: float(METRICS[name].of(np.array(counts, float)))  # noqa: E731
    assert math.isnan(of("precision", 0, 0, 3, 5)) and of("f1", 0, 0, 3, 5) == 0 and of("recall", 0, 0, 3, 5) == 0
    assert math.isnan(of("recall", 0, 2, 0, 5)) and of("f1", 0, 2, 0, 5) == 0
    assert math.isnan(of("f1", 0, 0, 0, 9)) and math.isnan(of("iou", 0, 0, 0, 9))
    # A class that is neither there nor predicted is left out; one that is only predicted is wrong.
    assert of("macro_f1", 2, 0, 0, 0, 0, 0) == 1 and of("macro_f1", 2, 0, 0, 0, 1, 0) == 0.5
    assert of("mean_iou", 2, 0, 0, 0) == 1 and of("mean_iou", 2, 1, 0, 0) == pytest.approx((2 / 3 + 0) / 2)


def test_labels_that_are_no_classes_are_refused() -> None:
    mask = np.array([[0, 255, 255]])
    with pytest.raises(ValueError, match="0 to 1"):
        metrics.binary_counts(mask, np.zeros_like(mask))  # a mask as it lies on disk
    with pytest.raises(ValueError, match="labels must be 0 to 2"):
        metrics.confusion_counts(np.array([[3]]), np.array([[0]]), classes=3)
    with pytest.raises(ValueError, match="predictions must be 0 to 2"):
        metrics.confusion_counts(np.array([[0]]), np.array([[-1]]), classes=3)
    with pytest.raises(ValueError, match="one shape"):
        metrics.classification_counts(np.array([0, 1]), np.array([0]))
    for name, width in (("accuracy", 3), ("macro_f1", 4), ("mean_iou", 8), ("f1", 3)):
        with pytest.raises(ValueError):
            METRICS[name].of(np.ones(width))
    with pytest.raises(ValueError, match="do not determine"):
        METRICS["mean_iou"].of(np.ones(9), "per_class")


def test_what_is_ignored_counts_nowhere() -> None:
    labels, said = np.array([0, 1, -1]), np.array([0, 0, 0])
    assert metrics.classification_counts(labels, said, ignore=-1).tolist() == [[1, 1], [0, 1], [0, 0]]
    assert metrics.confusion_counts(labels[:, None], said[:, None], classes=2, ignore=-1)[2].tolist() == [0] * 4
    some = np.array([[1, -1], [0, 1]])
    assert metrics.multilabel_counts(some, np.ones((2, 2), int), ignore=-1).tolist() == [
        [1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0],
    ]  # fmt: skip


# -- the floor ------------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, classes=st.integers(2, 4))
def test_the_floor_is_the_best_constant_prediction(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (12, 3))
    anything, other = rng.integers(0, classes, (2, 12, 3))

    def by_trying(name: str, counts: Callable[[np.ndarray], np.ndarray]) -> float:
        return np.nanmax([score(name, counts(np.full_like(labels, k))) for k in range(classes)])

    maps = lambda said: metrics.confusion_counts(labels, said, classes=classes)  # noqa: E731
    for name in ("mean_iou", "overall_accuracy"):
        floors = [metrics.constant_floor(name, maps(said)) for said in (anything, other)]
        assert floors[0] == floors[1] == pytest.approx(by_trying(name, maps)), "it follows from the truth"

    def scenes(said: np.ndarray) -> np.ndarray:  # a map of one pixel
        counts = metrics.confusion_counts(labels[:, :1], said[:, :1], classes=classes)
        return metrics.convert(counts, "confusion", "per_class")

    for name in ("micro_f1", "macro_f1"):
        assert metrics.constant_floor(name, scenes(anything)) == pytest.approx(by_trying(name, scenes))
    change = (labels == 0).astype(int)
    binary = lambda said: metrics.binary_counts(change, (said == 0).astype(int))  # noqa: E731
    for name in ("f1", "iou", "precision", "recall"):
        expected = np.nanmax([score(name, metrics.binary_counts(change, np.full_like(change, k))) for k in (0, 1)])
        assert metrics.constant_floor(name, binary(anything)) == pytest.approx(expected, nan_ok=True)
    hits = metrics.classification_counts(labels[:, 0], anything[:, 0])
    share = np.bincount(labels[:, 0]).max() / 12
    assert metrics.constant_floor("accuracy", hits, labels[:, 0]) == share
    with pytest.raises(ValueError, match="needs the labels"):
        metrics.constant_floor("accuracy", hits)


def test_the_floor_of_several_labels_names_the_commonest() -> None:
    labels = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1]])
    counts = metrics.multilabel_counts(labels, np.zeros_like(labels))
    by_hand = {s: score("micro_f1", metrics.multilabel_counts(labels, np.tile(s, (4, 1)))) for s in np.ndindex(2, 2, 2)}
    assert metrics.constant_floor("micro_f1", counts) == pytest.approx(max(v for v in by_hand.values() if v == v))
    assert metrics.constant_floor("macro_f1", counts) == pytest.approx(
        score("macro_f1", metrics.multilabel_counts(labels, np.ones_like(labels)))
    )
