"""Resolution degradation: fewer pixels of ground detail on the same pixel grid (arXiv 2510.17014).

    down: Pillow's bilinear to (W // f, H // f)      (a triangle filter of half-width f: anti-aliased)
    up:   Pillow's bilinear back to (W, H)

On uint8 this is the published operator, with its rounding to grey levels after each pass. On every other type it is
the same filter per band in float32 without rounding, because 8-bit rounding of a reflectance would be a second,
unintended degradation.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from rsfm.errors import RsfmError


def bilinear(images: np.ndarray, factor: float) -> np.ndarray:
    """Down by `factor` and up again.

    Args:
        images: (N, C, H, W). uint8 stays uint8; other real types come back as float32. What is not finite spreads
            to its neighbourhood: fill it before.
        factor: a whole number from 1 to min(H, W); 1 leaves the values untouched.

    Raises:
        RsfmError: the factor is not whole, below 1, or leaves no pixel.
    """
    n, c, height, width = images.shape
    f = int(factor)
    if f != factor or not 1 <= f <= min(height, width):
        raise RsfmError(
            f"Resolution factor {factor:g} does not fit images of {height}×{width} pixels: use a whole number from 1 "
            f"to {min(height, width)}."
        )
    planes = images if images.dtype == np.uint8 else images.astype(np.float32)
    if f == 1 or planes.size == 0:
        return planes
    planes = planes.reshape(n * c, height, width)
    for rows, columns in ((height // f, width // f), (height, width)):
        planes = _resize_rows(planes, columns)
        planes = _resize_rows(planes.transpose(0, 2, 1), rows).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).reshape(images.shape)


def _resize_rows(planes: np.ndarray, size: int) -> np.ndarray:
    """Pillow's bilinear along the last axis: (N, A, B) to (N, A, size).

    Pillow resizes in two passes, along rows and then along columns, with the same arithmetic. Stacking all images
    into one tall image and resizing rows only gives the same bits as image by image, in one call.
    """
    n, a, b = planes.shape
    tall = Image.fromarray(np.ascontiguousarray(planes).reshape(n * a, b))  # mode L or F by dtype
    return np.asarray(tall.resize((size, n * a), Image.Resampling.BILINEAR)).reshape(n, a, size)
