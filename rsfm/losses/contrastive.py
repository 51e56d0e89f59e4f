"""Losses that tell the views of one image from those of others: NT-Xent (SimCLR), MoCo v2 and MoCo v3.

All of them normalise their inputs and compare them in float32, whatever the precision around them. Across processes,
NT-Xent sees the features of all of them with gradients, MoCo v3 the keys of all of them without.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rsfm.losses.gather import gather, gather_detached, world


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """(n, d) and (m, d) float32 to (n, m), in float32 even inside autocast."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b.mT


def info_nce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of (B, M) float32 logits, positives in columns (B,).

    log Σ e^{logit − positive}. Not `F.cross_entropy`: on a CPU it adds its terms one by one, and among tens of
    thousands of negatives the small ones are lost.
    """
    return (logits - logits.gather(1, labels.unsqueeze(1))).logsumexp(dim=1).mean()


# -- SimCLR ------------------------------------------------------------------------------------------------------------
def nt_xent_logits(z1: Tensor, z2: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cosine similarities over the temperature of each view to all views of all processes but itself.

    Args:
        z1, z2: (B, d) projections; row i of both comes from the same image.

    Returns:
        (2B, 2 · world · B) logits, −∞ where a view meets itself, and (2B,) columns of the partners.
    """
    rank, size = world()
    count, total = len(z1), size * len(z1)
    first, second = _unit(z1), _unit(z2)
    logits = _products(torch.cat([first, second]), torch.cat([gather(first), gather(second)])) / temperature
    own = rank * count + torch.arange(count, device=z1.device)
    itself, partner = torch.cat([own, own + total]), torch.cat([own + total, own])
    return logits.scatter(1, itself.unsqueeze(1), -math.inf), partner


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NT-Xent (arXiv 2002.05709, equation 1), the mean over all 2N anchors as in the paper's algorithm 1.

    −log( e^{s(i,p)/τ} / Σ_{k≠i} e^{s(i,k)/τ} ), evaluated as a log-sum-exp, so that no temperature overflows. The
    authors' TensorFlow code sums the two views and averages over N: twice this value.

    Args:
        z1, z2: (B, d) projections of this process; row i of both comes from the same image.

    Returns:
        Scalar float32: the mean over this process' anchors.
    """
    return info_nce(*nt_xent_logits(z1, z2, temperature))


# -- MoCo --------------------------------------------------------------------------------------------------------------
def moco_v2_logits(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """[q·k⁺, q·queue] / τ; the positive is in column 0.

    Args:
        queries, keys: (B, d); row i of both comes from the same image. Keys get no gradient.
        queue: (K, d) rows of unit length.

    Returns:
        (B, 1 + K) float32.
    """
    q, k = _unit(queries), _unit(keys.detach())
    return torch.cat([(q * k).sum(dim=1, keepdim=True), _products(q, queue.float())], dim=1) / temperature


def moco_v2(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE against a queue of earlier keys (arXiv 1911.05722, equation 1). Scalar; see `moco_v2_logits`."""
    logits = moco_v2_logits(queries, keys, queue, temperature)
    return info_nce(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))


def moco_v3_logits(queries: Tensor, keys: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Similarities over τ of this process' queries to the keys of all processes.

    Args:
        queries, keys: (B, d) of this process; row i of both comes from the same image. Keys get no gradient.

    Returns:
        (B, world · B) logits and (B,) columns of the positives.
    """
    rank, _ = world()
    labels = rank * len(queries) + torch.arange(len(queries), device=queries.device)
    return _products(_unit(queries), gather_detached(_unit(keys))) / temperature, labels


def moco_v3_contrast(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """2τ · cross-entropy of `moco_v3_logits` (arXiv 2104.02057, algorithm 1). Scalar float32.

    Not NT-Xent: views of the same augmentation are no negatives, and the factor 2τ keeps the size of the gradient.
    """
    return 2 * temperature * info_nce(*moco_v3_logits(queries, keys, temperature))


def moco_v3(q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor, temperature: float) -> Tensor:
    """The symmetric loss of MoCo v3: each view's queries against the other view's keys. Scalar float32."""
    return moco_v3_contrast(q1, k2, temperature) + moco_v3_contrast(q2, k1, temperature)


# -- what is logged ----------------------------------------------------------------------------------------------------
@torch.no_grad()
def contrast_signals(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, Tensor]:
    """How well positives stand out.

    Args:
        logits: (B, M) similarities over the temperature; −∞ where there is no pair.
        labels: (B,) columns of the positives.

    Returns:
        `contrastive_top1`, the share of rows whose positive is the most similar, and the mean cosine similarity of
        the positive and of the negative pairs.
    """
    logits = logits.detach()
    positive = logits.gather(1, labels.unsqueeze(1))
    pairs = logits.isfinite()
    negatives = torch.where(pairs, logits, 0.0).sum() - positive.sum()
    return {
        "contrastive_top1": (logits.argmax(dim=1) == labels).float().mean(),
        "positive_similarity": positive.mean() * temperature,
        "negative_similarity": negatives / (pairs.sum() - len(logits)).clamp(min=1) * temperature,
    }


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared distance of the normalised features of two views, (n, d) each (arXiv 2005.10242)."""
    return (_unit(x) - _unit(y)).square().sum(dim=1).mean()


def uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    """log mean e^{−t‖xᵢ − xⱼ‖²} over the pairs of normalised features (n, d) (arXiv 2005.10242); 0: all alike."""
    x = _unit(x)
    exponents = -t * (2 - 2 * _products(x, x)).clamp(min=0)
    exponents = exponents.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), -math.inf)
    return exponents.flatten().logsumexp(dim=0) - math.log(max(len(x) * (len(x) - 1), 1))
