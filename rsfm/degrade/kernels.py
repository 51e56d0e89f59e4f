"""Weights of linear resampling along one axis, and their application to many planes.

Pixel i of an axis covers [i, i + 1). Weights are taken inside the image only and rows sum to 1, as in Pillow, so
constant images stay as they are up to their edges.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

Kernel = Literal["triangle", "box", "gaussian", "nearest"]
#: A Gaussian is cut off at this many standard deviations.
GAUSSIAN_REACH = 4.0
#: Values that are worked on at a time: few enough to stay in a processor's cache.
_PIECE = 1 << 17


@lru_cache(maxsize=64)
def axis_weights(kernel: Kernel, source: int, target: int, sigma: float = 0.0) -> np.ndarray:
    """Weights that take an axis of `source` pixels to one of `target`.

    Args:
        kernel: `triangle` and `box` widen with the shrinking ratio, as in Pillow; `nearest` takes the pixel that
            holds the centre; `gaussian` has the standard deviation `sigma` > 0, in source pixels.

    Returns:
        (target, source) float64, read-only.
    """
    ratio = source / target
    width = max(ratio, 1.0)
    centres = (np.arange(target) + 0.5)[:, None] * ratio
    distance = np.arange(source) + 0.5 - centres
    if kernel == "nearest":
        weights = (np.arange(source) == np.floor(centres)).astype(float)
    elif kernel == "box":
        weights = ((distance > -width / 2) & (distance <= width / 2)).astype(float)
    elif kernel == "triangle":
        weights = np.clip(1 - np.abs(distance) / width, 0, None)
    else:
        nearest = np.abs(distance).min(axis=1, keepdims=True)  # never cut off all
        inside = np.abs(distance) <= max(GAUSSIAN_REACH * sigma, nearest.max())
        weights = np.exp(-0.5 * (distance**2 - nearest**2) / sigma**2) * inside
    weights /= weights.sum(axis=1, keepdims=True)
    weights.setflags(write=False)
    return weights


def filter_planes(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """rows · plane · columnsᵀ: float32 (P, H, W), (h, H), (w, W) to (P, h, w).

    Sums run tap by tap in a fixed order, not through a matrix product, whose last bits depend on the machine.
    """
    result = np.empty((len(planes), len(rows), len(columns)), np.float32)
    step = max(1, _PIECE // (planes.shape[1] * planes.shape[2]))
    for start in range(0, len(planes), step):
        part = _filter_rows(planes[start : start + step], rows)
        result[start : start + step] = _filter_rows(part.transpose(0, 2, 1), columns).transpose(0, 2, 1)
    return result


def _filter_rows(planes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(P, H, W) with weights (h, H) to (P, h, W): only the taps that are not zero."""
    at, values = taps(weights)
    values, planes = values.astype(np.float32), np.ascontiguousarray(planes)
    total = planes[:, at[:, 0]] * values[:, 0, None]
    for t in range(1, at.shape[1]):
        total += planes[:, at[:, t]] * values[:, t, None]
    return total


def taps(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (target, source) without most of their zeros: positions in the source, and weights, both (target, t)."""
    used = weights > 0
    first = used.argmax(axis=1)
    count = int((weights.shape[1] - used[:, ::-1].argmax(axis=1) - first).max())
    at = np.minimum(first, weights.shape[1] - count)[:, None] + np.arange(count)
    return at, np.take_along_axis(weights, at, axis=1)
