"""Images of any size to one size: centre crop to a square, then anti-aliased bilinear (nearest for masks)."""

from __future__ import annotations

import numpy as np

from data_catalog.readers.base import Sample
from rsfm.packs import LayerInfo


def resample_array(array: np.ndarray, size: int, *, mask: bool) -> np.ndarray:
    """(C, H, W) -> (C, size, size) in the same dtype; integers are rounded and clipped to their range."""
    _, height, width = array.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = array[:, top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    if mask:
        nearest = ((np.arange(size) + 0.5) * side / size).astype(np.int64)
        return np.ascontiguousarray(square[:, nearest][:, :, nearest])
    return stretch(square, size, size)


def stretch(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, H, W) -> (C, height, width), anti-aliased bilinear, in the same dtype."""
    from PIL import Image

    # Pillow's bilinear widens its support when it shrinks an image, which is what "anti-aliased" means.
    bands = [
        np.asarray(Image.fromarray(band.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
        for band in array
    ]
    result = np.stack(bands)
    if array.dtype.kind in "ui":
        limits = np.iinfo(array.dtype)
        result = np.clip(np.rint(result), limits.min, limits.max)
    return result.astype(array.dtype)


def resample_sample(sample: Sample, layers: list[LayerInfo], size: int) -> Sample:
    """A sample at `size` x `size` pixels; transform and ground sampling distance follow."""
    first = sample.arrays[layers[0].name]
    _, height, width = first.shape
    side = min(height, width)
    factor = side / size
    top, left = (height - side) // 2, (width - side) // 2
    arrays = {x.name: resample_array(sample.arrays[x.name], size, mask=x.role == "mask") for x in layers}
    transform = sample.transform
    if transform is not None:
        a, b, c, d, e, f = transform[:6]
        transform = (
            a * factor, b * factor, c + a * left + b * top, d * factor, e * factor, f + d * left + e * top
        )  # fmt: skip
    return Sample(
        arrays, sample.label, sample.labels, sample.scene, sample.date, sample.crs, transform,
        None if sample.gsd_m is None else sample.gsd_m * factor,
    )  # fmt: skip
