"""Collapse monitors and schedules against recorded values."""

from __future__ import annotations

import math

import pytest
import torch

from rsfm.specs import OptimParams
from rsfm.train.monitors import collapse_monitors, knn_accuracy, rankme, standardised, std_l2, top1_eigen_share
from rsfm.train.schedules import cosine, learning_rate, warmup_cosine


def _x(n: int, d: int, a: float, b: float) -> torch.Tensor:
    """sin(a (i d + j) + b), float64."""
    return torch.sin(a * torch.arange(n * d, dtype=torch.float64) + b).view(n, d)


def test_std_l2_golden():
    assert std_l2(_x(4, 8, 0.7, 0.1)) == pytest.approx(0.2828742652636784, abs=1e-12)


def test_std_l2_of_random_and_of_constant_features():
    features = torch.randn(4096, 768, generator=torch.Generator().manual_seed(0))
    assert std_l2(features) == pytest.approx(1 / math.sqrt(768), rel=0.01)
    assert std_l2(torch.ones(64, 16)) == 0


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (torch.diag(torch.tensor([4.0, 2.0, 1.0, 1.0])), 3.3635864),
        (torch.eye(16), 16.00005),
        (torch.ones(16, 16), 1.00002),
    ],
)
def test_rankme_golden(matrix, expected):
    assert rankme(matrix) == pytest.approx(expected, abs=2e-5)


def test_top1_eigen_share():
    line = torch.arange(10.0).view(-1, 1) * torch.tensor([[3.0, -1.0, 2.0]]) + 5
    assert top1_eigen_share(line) == pytest.approx(1.0)
    assert top1_eigen_share(torch.cat([torch.eye(8), -torch.eye(8)])) == pytest.approx(1 / 8)


def test_monitors_survive_degenerate_features():
    assert collapse_monitors(torch.zeros(8, 4))["rankme"] == 1.0
    assert math.isnan(collapse_monitors(torch.full((8, 4), math.nan))["std_l2"])


def test_knn_votes_by_similarity():
    memory = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    queries = torch.tensor([[1.0, 0.05], [0.1, 1.0], [2.0, 0.0]])
    # With k = 3 a majority vote would always say class 0; the weights make the nearest neighbour win.
    assert knn_accuracy(memory, labels, queries, torch.tensor([0, 1, 0]), k=3) == 1.0
    assert knn_accuracy(memory, labels, queries, torch.tensor([1, 0, 1]), k=3) == 0.0


def test_learning_rate_golden():
    """10 epochs of 10 steps, 2 of warm-up, 1e-3 to 2e-6."""
    rate = [warmup_cosine(step, 100, 20, 1e-3, 2e-6) for step in range(100)]
    for step, value in {0: 0, 1: 5.26315789e-5, 19: 1e-3, 20: 1e-3, 21: 9.99615289e-4, 60: 5.01e-4}.items():
        assert rate[step] == pytest.approx(value, rel=1e-8)
    assert rate[99] == pytest.approx(2.38471e-6, rel=1e-5)


def test_cosine_golden():
    """A momentum of 0.996 to 1 over 100 steps."""
    for step, value in {25: 0.99658579, 50: 0.998, 75: 0.99941421, 99: 0.999999013}.items():
        assert cosine(step, 100, 0.996, 1.0) == pytest.approx(value, abs=5e-9)


def test_learning_rate_counts_samples():
    small = OptimParams(samples=6400, batch_size=64, warmup_samples=1280, base_lr=1e-3, min_lr=1e-6)
    large = OptimParams(samples=12800, batch_size=128, warmup_samples=2560, base_lr=5e-4, min_lr=1e-6)
    assert small.peak_lr == pytest.approx(2.5e-4)
    for step in (0, 5, 19, 20, 50, 99):
        assert learning_rate(small, step) == pytest.approx(learning_rate(large, step))
    assert learning_rate(OptimParams(samples=640, batch_size=64, warmup_samples=0), 0) > 0


def test_standardised_features_are_not_ruled_by_wide_dimensions():
    """The class is in narrow dimensions; two wide ones of noise decide plain distances."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    noise = 100 * torch.randn(200, 2, generator=generator)
    signal = (labels.float() * 2 - 1).view(-1, 1) * torch.ones(1, 3) + 0.1 * torch.randn(200, 3, generator=generator)
    features = torch.cat([noise, signal], dim=1)
    plain = knn_accuracy(features[:150], labels[:150], features[150:], labels[150:])
    memory, queries = standardised(features[:150], features[150:])
    torch.testing.assert_close(memory.std(dim=0), torch.ones(5))
    assert knn_accuracy(memory, labels[:150], queries, labels[150:]) == 1.0
    assert plain < 0.9
