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


def within_bands(variance: Tensor, centred: Tensor, bands: int) -> Tensor:
    """The unbiased variance over the pixels of a patch in one band, as a mean over bands, from `patch_variance`.

    Differences between bands do not count: what was not observed has a value of its own in each band, by the rounding
    of what fills it and by jitter.

    Args:
        variance, centred: (..., 1) and (..., P), bands fastest.

    Returns:
        (...).
    """
    values = centred.shape[-1]
    # Less what is between bands: a twentieth of the time of a second pass over the values.
    of_bands = centred.unflatten(-1, (-1, bands)).mean(dim=-2)
    between = (of_bands * of_bands).sum(dim=-1) * (values // bands)
    return ((variance.squeeze(-1) * (values - 1) - between) / (values - bands)).clamp(min=0.0)


def pixel_targets(patches: Tensor, *, bands: int, norm_pix: bool, flat_variance: float) -> tuple[Tensor, Tensor]:
    """What the predictions of hidden patches are compared with, and which patches count.

    Args:
        patches: (B, N, P) standardised values, bands fastest.
        norm_pix: each patch standardised by itself.
        flat_variance: a patch with less variance within its bands (still water, no-data) does not count: there is
            nothing to see in it but sensor noise.

    Returns:
        (B, N, P) targets, and (B, N) bool.
    """
    _, variance, centred = patch_variance(patches)
    counts = within_bands(variance, centred, bands) >= flat_variance
    return standardise_patches(centred, variance) if norm_pix else patches, counts


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
