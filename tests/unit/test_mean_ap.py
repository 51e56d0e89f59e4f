"""The interval of a mean average precision: the same resamples of samples as every other score's."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk

from rsfm.evaluation.scores import mean_ap
from rsfm.stats import bootstrap, bootstrap_pooled


def ranking(n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    labels = rng.random((n, classes)) < rng.uniform(0.25, 0.6, classes)
    return (labels + rng.normal(size=(n, classes))).astype(np.float32), labels


def test_the_interval_is_that_of_samples_drawn_again() -> None:
    """Against scikit-learn on the samples themselves, in the draws of `bootstrap_pooled`."""
    scores, labels = ranking(80, 4)
    drawn = []
    for times in np.concatenate(list(bootstrap._resamples(80, 200, 0))):
        rows = np.repeat(np.arange(80), times)
        drawn.append(sk.average_precision_score(labels[rows], scores[rows], average="macro"))
    value, low, high = mean_ap(scores, labels, np.arange(len(scores)), draws=200)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert value == pytest.approx(sk.average_precision_score(labels, scores, average="macro"))
    assert low < value < high


def test_it_narrows_as_the_interval_of_a_share_does() -> None:
    widths = []
    for n in (100, 1600):
        scores, labels = ranking(n, 3)
        _, low, high = mean_ap(scores, labels, np.arange(len(scores)), draws=300)
        right = np.stack([(scores > 0.5) == labels, np.ones_like(labels)], axis=-1).sum(axis=1).astype(float)
        share = bootstrap_pooled(right, lambda c: c[..., 0] / c[..., 1], draws=300)
        widths.append((high - low, float(share[1] - share[0])))
    (wide, wide_share), (narrow, narrow_share) = widths
    assert narrow < wide / 2.5 and 0.4 < (narrow / wide) / (narrow_share / wide_share) < 2.5


def test_classes_that_no_draw_holds_are_left_out() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.4, 0.2]])
    rare = np.array([[1, 0], [0, 0], [0, 0]])  # the second class is never there, the first not in every draw
    value, low, high = mean_ap(scores, rare, np.arange(3), draws=100)
    assert value == low == high == 1
    assert np.isnan(mean_ap(scores, np.zeros((3, 2), int), np.arange(3), draws=100)).all()
