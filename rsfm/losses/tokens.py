"""Parts of methods with discrete tokens: counting them, straight-through codes, cross-entropy at masked places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rsfm.losses.gather import mean_over_processes


def token_counts(tokens: Tensor, size: int, where: Tensor | None = None) -> Tensor:
    """(size,) float32: how often each of `size` tokens occurs in an int64 tensor of any shape.

    Args:
        where: bool of the same shape; only tokens where it is True are counted.
    """
    # Not bincount, which has no deterministic version on a GPU; nor a choice of tokens, whose number would vary.
    listed = tokens.reshape(-1)
    each = torch.ones_like(listed) if where is None else where.reshape(-1).to(listed.dtype)
    counts = torch.zeros(size, dtype=torch.int64, device=listed.device)
    return counts.scatter_add_(0, listed, each).float()


def entropy_of_counts(counts: Tensor) -> Tensor:
    """Entropy −Σ p ln p in nats, of p = counts / Σ counts; 0 where nothing was counted. Scalar float32."""
    p = counts.float() / counts.sum().clamp(min=torch.finfo(torch.float32).tiny)
    return -torch.special.xlogy(p, p).sum()


def perplexity(counts: Tensor) -> Tensor:
    """exp(entropy): the number of tokens that would be in use if they were equally common. Scalar float32."""
    return entropy_of_counts(counts).exp()


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    """The codes, with the gradient of the vectors (arXiv 1711.00937, section 3.2). Equal shapes."""
    return vectors + (codes - vectors).detach()


def commitment(vectors: Tensor, codes: Tensor) -> Tensor:
    """Squared distance of each vector to its code, which stays put (third term of equation 3 there).

    Args:
        vectors, codes: (..., d).

    Returns:
        Scalar float32: the mean over all values, as usual; for unit vectors (2 − 2 · mean cosine) / d.
    """
    difference = vectors.float() - codes.detach().float()
    return (difference * difference).mean()


def masked_token_loss(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy at the masked places of a batch (arXiv 2106.08254, equation 4), in float32.

    A mean over places, not over images: images hide different numbers of patches. With several processes, the
    average of their losses (and gradients) is the mean over the places of all of them.

    Args:
        logits: (M, V) at the masked places of the whole batch.
        tokens: (M,) int64.

    Returns:
        The loss, and the share of places where the likeliest token is the right one; 0 where nothing is masked.
    """
    logits = logits.float()
    count = mean_over_processes(torch.tensor(float(len(tokens)), device=logits.device)).clamp(min=1.0)
    loss = F.cross_entropy(logits, tokens, reduction="sum") / count
    hits = (logits.detach().argmax(dim=-1) == tokens).float().sum() / max(len(tokens), 1)
    return loss, hits
