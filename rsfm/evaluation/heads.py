"""What is fitted on frozen features: k nearest neighbours, class means and a linear probe.

All take features as they come from a model and labels as (N,) class indices, or as (N, K) flags where an image has
several. For each test image they give the predicted class and a confidence; with flags, the predicted flags and the
score of each class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, one_hot

from rsfm.errors import RsfmError

#: Strengths of the L2 penalty that the linear probe chooses from, strong to weak.
L2_GRID: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
HELD_OUT = 0.2
#: Enough to rank the penalties; the chosen one is then fitted to convergence.
_SEARCH_ITERATIONS = 50
_FINAL_ITERATIONS = 300
_KNN_CHUNK = 4096
#: Similarities of test to training images held at once: 512 MB.
_KNN_SIMILARITIES = 1 << 27
_PREDICT_CHUNK = 16_384


def stratified_draw(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A random share of every class, at least one sample of each: sorted positions.

    Args:
        labels: (N,) class indices.
        fraction: in (0, 1]; 1 gives all positions, whatever the seed.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        drawn.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(drawn))


@torch.no_grad()
def knn_predict(
    train: Tensor, train_labels: Tensor, test: Tensor, *, classes: int, k: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """Cosine k nearest neighbours, each voting for its class with e^{similarity / temperature}.

    Args:
        train: (N, D); train_labels: (N,) int64 or (N, K) bool; test: (M, D).
        k: at most N.

    Returns:
        Predicted class (M,) int64 and its share of the votes (M,) float32. With flags: (M, K) bool, those that half
        of the votes or more have, and the shares (M, K) float32.
    """
    if k > len(train):
        raise RsfmError(f"kNN with {k} neighbours needs at least {k} training samples, there are {len(train)}.")
    train = normalize(train.float(), dim=1)
    predicted, share = [], []
    for part in test.split(max(1, min(_KNN_CHUNK, _KNN_SIMILARITIES // len(train)))):
        similarity, neighbour = (normalize(part.float(), dim=1) @ train.T).topk(k, dim=1)
        # Relative to the nearest: the same shares, and no overflow at a low temperature.
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
        weight = weight / weight.sum(dim=1, keepdim=True)
        if train_labels.ndim == 2:
            votes = torch.einsum("mk,mkc->mc", weight, train_labels[neighbour].float())
            predicted.append(votes >= 0.5)
            share.append(votes.clamp(max=1))
            continue
        votes = torch.zeros(len(part), classes, device=part.device)
        votes.scatter_add_(1, train_labels[neighbour], weight)
        best, index = votes.max(dim=1)
        predicted.append(index)
        share.append(best.clamp(max=1))
    return torch.cat(predicted), torch.cat(share)


@torch.no_grad()
def centroid_predict(
    train: Tensor, train_labels: Tensor, test: Tensor, *, classes: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """The class whose mean of normalised training features is the nearest by cosine.

    Args:
        train: (N, D); train_labels: (N,) int64; test: (M, D).

    Returns:
        Predicted class (M,) int64 and its share e^{similarity / temperature} among all classes (M,) float32.
    """
    sums = torch.zeros(classes, train.shape[1], device=train.device)
    sums.index_add_(0, train_labels, normalize(train.float(), dim=1))
    absent = torch.bincount(train_labels, minlength=classes) == 0
    similarity = normalize(test.float(), dim=1) @ normalize(sums, dim=1).T
    similarity = similarity.masked_fill(absent, -torch.inf)
    best, index = (similarity / temperature).softmax(dim=1).max(dim=1)
    return index, best


@dataclass
class LinearProbe:
    """Logistic regression on standardised features: multinomial, or one yes or no for each class (`several`).

    Attributes:
        mean, std: (D,) of the training features; weight: (D, K); bias: (K,), all float64.
        l2: the penalty that was chosen; present: (K,) class index of each column (all, with `several`).
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    l2: float
    present: Tensor
    several: bool = False

    @torch.no_grad()
    def predict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(M, D) to the predicted class (M,) int64 and its probability (M,) float32; with `several` (M, K) each."""
        parts = features.split(_PREDICT_CHUNK)
        logits = torch.cat([(part.double() - self.mean) / self.std @ self.weight + self.bias for part in parts])
        if self.several:
            return logits >= 0, logits.sigmoid().float()
        best, column = logits.softmax(dim=1).max(dim=1)
        return self.present[column], best.float()


def minimise(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, l2: float, max_iterations: int = _FINAL_ITERATIONS
) -> None:
    """Minimise mean cross-entropy + l2/2 · ‖weight‖² by full-batch L-BFGS, in place. The bias is not penalised.

    Args:
        labels: (N,) int64 columns, or (N, K) flags.
    """
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=max_iterations, tolerance_grad=1e-5, tolerance_change=1e-9, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        solver.zero_grad()
        loss = _cross_entropy(features @ weight + bias, labels) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    weight.requires_grad_(False)
    bias.requires_grad_(False)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples; with flags the sum over classes."""
    if labels.ndim == 1:
        return cross_entropy(logits, labels)
    return binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="sum") / len(logits)


def fit_linear(train: Tensor, train_labels: Tensor, seed: int, *, versions: int = 1) -> LinearProbe:
    """Fit a linear probe. Its L2 penalty has the lowest cross-entropy on a held-out part of the training data.

    Args:
        train: (N, D); train_labels: (N,) int64 or (N, K) bool.
        seed: draws the held-out part and the head's initial weights.
        versions: how many blocks of N / versions rows there are of the same images in the same order. An image is held
            out in all of them: a penalty chosen on images that were fitted, in another version, would be too weak.

    Raises:
        RsfmError: fewer than two classes, or no class with two samples.
    """
    several = train_labels.ndim == 2
    if several:
        present, column = torch.arange(train_labels.shape[1], device=train_labels.device), train_labels
    else:
        present, column = train_labels.unique(return_inverse=True)
    if len(present) < 2:
        raise RsfmError("A linear probe needs training samples of at least two classes.")
    x = train.to(torch.float64, copy=True)
    std, mean = torch.std_mean(x, dim=0, correction=0)
    std = torch.where(std > 1e-8 * mean.abs().clamp(min=1e-8), std, 1.0)  # a constant feature becomes 0
    x.sub_(mean).div_(std)

    count = len(column) // versions
    fitting, held = (
        torch.cat([part + count * block for block in range(versions)]) for part in _hold_out(column[:count], seed)
    )
    x_fit = x[fitting]
    generator = torch.Generator().manual_seed(seed)
    weight = (0.01 * torch.randn(x.shape[1], len(present), generator=generator, dtype=x.dtype)).to(x.device)
    bias = torch.zeros(len(present), dtype=x.dtype, device=x.device)
    lowest, chosen = float("inf"), (L2_GRID[0], weight, bias)
    for l2 in L2_GRID:  # each starts from the last one's solution
        minimise(x_fit, column[fitting], weight, bias, l2, _SEARCH_ITERATIONS)
        # Not accuracy: on a small held-out part it takes few values, and a tie or a lucky sample decides.
        loss = _cross_entropy(x[held] @ weight + bias, column[held]).item()
        if loss < lowest:
            lowest, chosen = loss, (l2, weight.clone(), bias.clone())
    l2, weight, bias = chosen
    minimise(x, column, weight, bias, l2)
    return LinearProbe(mean, std, weight, bias, l2, present, several)


def _hold_out(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Positions to fit on and positions held out: a fifth of every class that has two samples or more.

    With flags: a fifth of all samples.
    """
    if labels.ndim == 2:
        labels = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
    counts = one_hot(labels).sum(dim=0).tolist()
    if max(counts) < 2:
        raise RsfmError("A linear probe needs at least two training samples in a class, to choose its L2 penalty.")
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    classes = labels.cpu().numpy()
    for index, count in enumerate(counts):
        if count >= 2:
            held[rng.permutation(np.flatnonzero(classes == index))[: max(1, round(HELD_OUT * count))]] = True
    where = torch.from_numpy(held).to(labels.device)
    return (~where).nonzero()[:, 0], where.nonzero()[:, 0]
