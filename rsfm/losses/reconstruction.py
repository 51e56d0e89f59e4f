"""Losses of masked image modelling with pixels as targets."""

from __future__ import annotations

import torch
from torch import Tensor


def patch_variance(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, unbiased variance and the centred values of each patch.

    Args:
        patches: (..., P).

    Returns:
        mean (..., 1), variance (..., 1), patches − mean (..., P).
    """
    mean = patches.mean(dim=-1, keepdim=True)
    centred = patches - mean
    # Not Tensor.var or Tensor.square: both are several times slower on a CPU.
    variance = (centred * centred).sum(dim=-1, keepdim=True) / (patches.shape[-1] - 1)
    return mean, variance, centred


def normalised_patches(patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Each patch standardised by itself: (x − mean) / sqrt(unbiased variance + eps); shape kept."""
    _, variance, centred = patch_variance(patches)
    return centred * torch.rsqrt(variance + eps)


def masked_patch_mse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Σ weight · e / Σ weight with e the mean squared error of a patch (arXiv 2111.06377, section 3).

    Args:
        prediction, target: (B, N, P).
        weight: (B, N), 1 (True) where a patch counts.

    Returns:
        Scalar float32; 0 where nothing counts.
    """
    difference = prediction.float() - target.float()
    error = (difference * difference).mean(dim=-1)
    weight = weight.float()
    return (error * weight).sum() / weight.sum().clamp(min=1.0)
