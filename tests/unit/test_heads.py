"""kNN and linear probe against scikit-learn, and what a head must not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from rsfm.errors import RsfmError
from rsfm.evaluation.heads import L2_GRID, centroid_predict, fit_linear, knn_predict, minimise, stratified_draw


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def clusters(count: int, width: int, classes: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, width))
    # Columns of very different scale and far from zero, as real features are.
    x = (centres[labels] + rng.normal(scale=spread, size=(count, width))) * np.logspace(-2, 2, width) + 3
    return torch.from_numpy(x).float(), torch.from_numpy(labels)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5)])
def test_knn_equals_scikit_learn(k: int, temperature: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 16)).astype(np.float32), rng.integers(0, 6, 300)
    test = rng.normal(size=(120, 16)).astype(np.float32)
    reference = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)
    ).fit(x, y)
    predicted, share = knn_predict(
        torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(test), classes=6, k=k, temperature=temperature
    )
    assert np.array_equal(predicted.numpy(), reference.predict(test))
    assert np.allclose(share.numpy(), reference.predict_proba(test).max(axis=1), atol=1e-5)


def test_knn_does_not_care_about_length_or_overflow() -> None:
    x, y = clusters(60, 8, 3, 0.5, 0)
    a = knn_predict(x, y, x * 1000, classes=3, k=5, temperature=1e-4)
    b = knn_predict(x / 7, y, x, classes=3, k=5, temperature=1e-4)
    assert torch.equal(a[0], b[0])
    assert torch.isfinite(a[1]).all()


def test_knn_in_pieces_equals_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clusters(60, 8, 3, 2.0, 0)
    whole = knn_predict(x, y, x, classes=3, k=5, temperature=0.07)
    monkeypatch.setattr("rsfm.evaluation.heads._KNN_CHUNK", 7)
    pieces = knn_predict(x, y, x, classes=3, k=5, temperature=0.07)
    assert torch.equal(whole[0], pieces[0])


def test_class_means_by_hand() -> None:
    x, y = clusters(90, 12, 3, 0.3, 0)
    test, truth = clusters(60, 12, 3, 0.3, 1)
    unit = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    means = np.stack([unit[y == c].mean(axis=0) for c in range(3)])
    cosine = test.numpy() @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    cosine /= np.linalg.norm(test.numpy(), axis=1, keepdims=True)
    # One class more than there are training samples of: it is never predicted.
    predicted, share = centroid_predict(x, y, test, classes=4, temperature=0.07)
    assert (predicted.numpy() == cosine.argmax(axis=1)).all() and (predicted == truth).float().mean() > 0.5
    expected = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / 0.07)
    assert np.allclose(share, 1 / expected.sum(axis=1), rtol=1e-3)


def test_several_labels_by_neighbours_are_shares_of_votes() -> None:
    train = torch.eye(4)
    flags = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=torch.bool)
    test = torch.tensor([[1.0, 1.0, 0, 0]])  # as near to the first as to the second
    predicted, share = knn_predict(train, flags, test, classes=2, k=2, temperature=0.1)
    assert predicted.tolist() == [[True, True]] and share[0].tolist() == pytest.approx([1.0, 0.5])


def test_several_labels_are_one_logistic_regression_each() -> None:
    x, _ = clusters(200, 6, 4, 1.0, 0)
    x = (x - x.mean(0)) / x.std(0)
    rng = np.random.default_rng(1)
    flags = torch.from_numpy((x.numpy() @ rng.normal(size=(6, 3)) + rng.normal(size=(200, 3))) > 0)
    weight, bias = torch.zeros(6, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    minimise(x.double(), flags, weight, bias, l2=0.01)
    for column in range(3):
        model = LogisticRegression(C=1 / (0.01 * 200), tol=1e-10, max_iter=2000).fit(
            x.numpy(), flags[:, column].numpy()
        )
        assert np.allclose(weight[:, column], model.coef_[0], atol=1e-3)
        assert np.allclose(bias[column], model.intercept_, atol=1e-3)
    predicted, share = fit_linear(x, flags, 0).predict(x)
    assert predicted.shape == share.shape == (200, 3) and (predicted == (share >= 0.5)).all()


def test_knn_refuses_more_neighbours_than_samples() -> None:
    x, y = clusters(6, 4, 2, 0.5, 0)
    with pytest.raises(RsfmError, match="at least 7 training samples"):
        knn_predict(x, y, x, classes=2, k=7, temperature=0.07)


def test_logistic_regression_equals_scikit_learn() -> None:
    x, y = clusters(240, 12, 4, 2.0, 1)
    x = ((x - x.mean(0)) / x.std(0)).double()
    for l2 in (1e-1, 1e-3):
        weight, bias = torch.zeros(12, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
        minimise(x, y, weight, bias, l2)
        reference = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-9, max_iter=5000).fit(x.numpy(), y.numpy())
        ours = (x @ weight + bias).softmax(1).numpy()
        assert np.allclose(ours, reference.predict_proba(x.numpy()), atol=2e-3)


def test_linear_probe_is_close_to_a_tuned_scikit_learn_model() -> None:
    x, y = clusters(600, 20, 5, 2.5, 2)
    test, truth = clusters(600, 20, 5, 2.5, 3)
    probe = fit_linear(x, y, seed=0)
    accuracy = (probe.predict(test)[0] == truth).double().mean().item()
    mean, std = x.mean(0), x.std(0)
    best = max(
        LogisticRegression(C=1 / (l2 * len(x)), max_iter=2000)
        .fit(((x - mean) / std).numpy(), y.numpy())
        .score(((test - mean) / std).numpy(), truth.numpy())
        for l2 in L2_GRID
    )
    assert accuracy > 0.6
    assert accuracy == pytest.approx(best, abs=0.03)


def test_penalty_is_strong_on_noise_and_weak_on_signal() -> None:
    """Where labels have nothing to do with the features, any weaker penalty fits noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(80, 300, generator=generator)
    y = torch.randint(2, (80,), generator=generator)
    assert fit_linear(noise, y, 0).l2 == max(L2_GRID)
    x, y = clusters(2000, 6, 3, 1.0, 0)
    assert fit_linear(x, y, 0).l2 <= 0.01


def test_linear_probe_survives_constant_features_and_missing_classes() -> None:
    x, y = clusters(60, 6, 3, 0.3, 0)
    x = torch.cat([x, torch.full((60, 1), 5.0), torch.zeros(60, 1)], dim=1)
    probe = fit_linear(x, y * 2 + 1, seed=0)  # classes 1, 3, 5 of a longer list
    predicted, score = probe.predict(x)
    assert torch.equal(predicted, y * 2 + 1)
    assert torch.isfinite(probe.weight).all()
    assert ((score > 1 / 3) & (score <= 1)).all()


def test_linear_probe_is_a_function_of_its_seed() -> None:
    x, y = clusters(90, 6, 3, 2.0, 0)
    a, b = fit_linear(x, y, 5), fit_linear(x, y, 5)
    assert torch.equal(a.weight, b.weight)
    assert a.l2 == b.l2


def test_linear_probe_refuses_what_it_cannot_learn() -> None:
    with pytest.raises(RsfmError, match="two classes"):
        fit_linear(torch.randn(5, 3), torch.zeros(5, dtype=torch.int64), 0)
    with pytest.raises(RsfmError, match="two training samples in a class"):
        fit_linear(torch.randn(3, 3), torch.arange(3), 0)


@settings(deadline=None, max_examples=40)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0.01, 1),
    seed=st.integers(0, 2**31 - 1),
)
def test_stratified_draw(labels: list[int], fraction: float, seed: int) -> None:
    y = np.array(labels)
    drawn = stratified_draw(y, fraction, seed)
    assert np.array_equal(drawn, np.unique(drawn))
    assert np.array_equal(drawn, stratified_draw(y, fraction, seed))
    for label in np.unique(y):
        members = int((y == label).sum())
        assert int((y[drawn] == label).sum()) == max(1, round(fraction * members))


def test_stratified_draws_of_different_seeds_differ() -> None:
    y = np.repeat([0, 1], 50)
    assert not np.array_equal(stratified_draw(y, 0.5, 0), stratified_draw(y, 0.5, 1))
    assert np.array_equal(stratified_draw(y, 1.0, 0), np.arange(100))
