"""Self-distillation on prototypes: DINO (arXiv 2104.14294) between views, iBOT (arXiv 2111.07832) on hidden patches.

A teacher's logits become targets by centring and sharpening, or by Sinkhorn-Knopp; the student's log-probabilities are
pulled towards them. Centres are state of the method: the functions here only compute.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rsfm.losses.gather import gather_detached, mean_over_processes, sum_over_processes


def centred_targets(logits: Tensor, centre: Tensor, temperature: float | Tensor) -> Tensor:
    """softmax((logits − centre) / τ) of a teacher's (..., K) logits: the centre keeps one prototype from winning
    everywhere, a low temperature keeps all from being equal."""
    return F.softmax((logits.detach().float() - centre.float()) / temperature, dim=-1)


@torch.no_grad()
def sinkhorn_targets(logits: Tensor, temperature: float | Tensor, iterations: int = 3) -> Tensor:
    """Targets that use all prototypes equally over the batch (Sinkhorn-Knopp, arXiv 2006.09882).

    exp(logits / τ), scaled to a total of 1; then in turns each prototype to a share of 1/K and each sample to 1/B.
    The batch is that of all processes; each may hold a different number of samples.

    Args:
        logits: (B, K) of this process.

    Returns:
        (B, K) float32, each row summing to 1.
    """
    # In logarithms: exp(1 / 0.04) and its like neither overflow nor vanish.
    x = logits.detach().float() / temperature
    samples = sum_over_processes(x.new_tensor(float(len(x)))).log()
    # The total of 1 that the shares begin with cancels in the first division.
    for _ in range(iterations):
        x = x - _log_sum_over_samples(x) - math.log(x.shape[1])
        x = F.log_softmax(x, dim=1) - samples
    return (x + samples).exp()


def _log_sum_over_samples(x: Tensor) -> Tensor:
    """ln Σ exp over the rows of all processes: (B, K) to (K,)."""
    largest = x.amax(dim=0) if len(x) else x.new_full(x.shape[1:], -math.inf)
    largest = gather_detached(largest.unsqueeze(0)).amax(dim=0)
    return largest + sum_over_processes(torch.exp(x - largest).sum(dim=0)).log()


def between_views(targets: Tensor, student: Tensor, temperature: float) -> Tensor:
    """DINO's loss: cross-entropy of each teacher view with each other student view (equation 3).

    Args:
        targets: (G, B, K) probabilities of the teacher's views.
        student: (V, B, K) logits; its first G views are the teacher's.

    Returns:
        Scalar float32: the mean over the G·V − G pairs of the mean over the batch.
    """
    log_probabilities = F.log_softmax(student.float() / temperature, dim=-1)
    views, others = len(targets), len(student) - 1
    if not others:
        raise ValueError("between_views needs a second view.")
    # Σ over all other views of P·log S, with one product for each teacher view.
    rest = log_probabilities.sum(dim=0, keepdim=True) - log_probabilities[:views]
    return -(targets * rest).sum(dim=-1).mean() / others


def image_weights(hidden: Tensor) -> Tensor:
    """What each patch weighs in iBOT's patch loss, so that every image and view counts the same.

    1 / (hidden patches of its image) / (images and views). An image that hides nothing adds nothing but stays in the
    denominator: where half of the images do, the loss is half of a cross-entropy.

    Args:
        hidden: (V, B, N) bool.

    Returns:
        (V, B, N) float32, 0 where nothing is hidden.
    """
    count = hidden.sum(dim=-1, keepdim=True)
    share = 1 / (count.clamp(min=1) * count.numel()).float()
    return share * hidden


def cross_entropy(targets: Tensor, student: Tensor, temperature: float) -> Tensor:
    """−Σ P log softmax(logits / τ) for each row: (M, K) and (M, K) to (M,) float32."""
    return -(targets * F.log_softmax(student.float() / temperature, dim=-1)).sum(dim=-1)


def on_patches(targets: Tensor, student: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """iBOT's patch loss (equation 2): cross-entropy on the hidden patches, each in its own view.

    Args:
        targets: (M, K) probabilities of the teacher, which sees these patches.
        student: (M, K) logits of the student, which does not.
        weights: (M,) of `image_weights`.
    """
    return (weights * cross_entropy(targets, student, temperature)).sum()


def entropy(probabilities: Tensor) -> Tensor:
    """−Σ p ln p over the last dimension, in nats."""
    return torch.special.entr(probabilities).sum(dim=-1)


def moved_centre(centre: Tensor, total: Tensor, count: Tensor, momentum: float = 0.9) -> Tensor:
    """momentum · centre + (1 − momentum) · mean of the teacher's logits over all processes; unchanged without any.

    Args:
        centre: (K,).
        total, count: sum over this process' logits (K,), and how many they were.
    """
    total, count = mean_over_processes(total), mean_over_processes(count)
    moved = momentum * centre + (1 - momentum) * total / count.clamp(min=1e-6)
    return torch.where(count > 0, moved, centre)


def prototype_use(winners: Tensor, prototypes: int) -> Tensor:
    """Share of the prototypes that win at least once, of those that could (no more than there are samples).

    Args:
        winners: (B,) int64, the best prototype of each sample.
    """
    won = torch.zeros(prototypes, device=winners.device).scatter_(0, winners, 1.0)
    return won.sum() / max(1, min(prototypes, len(winners)))


def winner_signals(winners: Tensor, prototypes: int) -> dict[str, Tensor]:
    """`prototype_use` of (B,) winners, and how many prototypes these are."""
    use = prototype_use(winners, prototypes)
    return {"prototype_use": use, "prototypes_won": use * min(prototypes, len(winners))}
