"""Losses of masked image modelling with pixels as targets."""

from __future__ import annotations

import torch
from torch import Tensor

from rsfm.losses.gather import mean_over_processes

EPS = 1e-6  # inside the square root of the targets' normalisation
#: Patches with less than this share of the data's variance are flat: nothing was observed there, or open water.
FLAT_VARIANCE = 1e-4


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


def standardise_patches(centred: Tensor, variance: Tensor) -> Tensor:
    """(x − mean) / sqrt(variance + EPS), from what `patch_variance` gives."""
    return centred * torch.rsqrt(variance + EPS)


def normalised_patches(patches: Tensor) -> Tensor:
    """Each patch standardised by itself, with its unbiased variance; shape kept."""
    _, variance, centred = patch_variance(patches)
    return standardise_patches(centred, variance)


def pixel_targets(patches: Tensor, *, norm_pix: bool) -> tuple[Tensor, Tensor]:
    """What the predictions of hidden patches are compared with, and how much each patch varies.

    A patch that hardly varies (water, no-data) should not count: normalised by itself, it would be sensor noise blown
    up.

    Args:
        patches: (B, N, P) standardised values.
        norm_pix: each patch standardised by itself.

    Returns:
        (B, N, P) targets, and (B, N) variances.
    """
    _, variance, centred = patch_variance(patches)
    return standardise_patches(centred, variance) if norm_pix else patches, variance.squeeze(-1)


def flat_patches(images: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) standardised images to (B, N) bool: patches, row by row, whose bands' mean is flat."""
    rows, columns = (side // patch_size for side in images.shape[2:])
    patches = images.mean(dim=1).unflatten(1, (rows, patch_size)).unflatten(3, (columns, patch_size))
    return patches.transpose(2, 3).flatten(3).var(dim=-1).flatten(1) < FLAT_VARIANCE


def masked_patch_mse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Σ weight · e / Σ weight with e the mean squared error of a patch (arXiv 2111.06377, section 3).

    With several processes, the average of their losses (and gradients) is the mean over the patches of all of them.

    Args:
        prediction, target: (B, N, P).
        weight: (B, N), 1 (True) where a patch counts.

    Returns:
        Scalar float32; 0 where nothing counts.
    """
    difference = prediction.float() - target.float()
    error = (difference * difference).mean(dim=-1)
    weight = weight.float()
    return (error * weight).sum() / mean_over_processes(weight.sum()).clamp(min=1e-6)
