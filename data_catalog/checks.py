"""What makes one sample unusable: found here, reported by name, never silently used."""

from __future__ import annotations

import numpy as np

from data_catalog.readers.base import BadFile, Sample
from rsfm.packs import BandInfo, LayerInfo

#: Surfaces, clouds and snow reflect between these; the median of a whole image is never outside when scaled rightly.
REFLECTANCE_MEDIAN_MAX = 1.6
REFLECTANCE_MIN = 0.001
#: Backscatter of land and water in dB is negative nearly everywhere.
DB_MEDIAN = (-60.0, 20.0)


def check_sample(sample: Sample, layers: list[LayerInfo], path: str, *, resample: bool) -> None:
    """Compare a sample with what its dataset promises.

    Args:
        layers: what the reader says its samples look like.
        resample: whether another size is fine, because images are resampled anyway.

    Raises:
        BadFile: with the first reason found.
    """
    for layer in layers:
        array = sample.arrays.get(layer.name)
        if array is None:
            raise BadFile(path, f"has no {layer.name}")
        _check_form(array, layer, path, resample)
        if layer.role == "image":
            _check_values(array, layer, path)


def _check_form(array: np.ndarray, layer: LayerInfo, path: str, resample: bool) -> None:
    channels, height, width = layer.shape
    if array.shape[0] != channels:
        raise BadFile(path, f"has {array.shape[0]} bands instead of {channels}")
    if array.dtype != np.dtype(layer.dtype):
        largest = f" (up to {array.max()})" if array.size else ""
        raise BadFile(path, f"holds {array.dtype} values{largest} instead of {layer.dtype}")
    if not array.size:
        raise BadFile(path, "has no pixels")
    if not resample and array.shape[1:] != (height, width):
        raise BadFile(
            path,
            f"has {array.shape[1]} x {array.shape[2]} pixels instead of the usual {height} x {width} "
            "(an image size would resample all of them)",
        )


def _check_values(array: np.ndarray, layer: LayerInfo, path: str) -> None:
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.any():
            raise BadFile(path, "holds no finite value")
        if not finite.all() and (layer.nodata is None or not np.isnan(layer.nodata)):
            raise BadFile(path, f"{1 - finite.mean():.1%} of its values are not finite")
    flat = array.reshape(array.shape[0], -1)
    # A few pixels tell most images from fill; only the doubtful ones are looked at whole.
    if (flat[:, :: max(1, flat.shape[1] // 64)] == flat[:, :1]).all() and (flat == flat[:, :1]).all():
        values = sorted({float(v) for v in flat[:, 0]})
        text = f"{values[0]:g}" if len(values) == 1 else "one value per band"
        raise BadFile(path, f"is constant ({text}): no image, only fill")
    for unit, check in (("reflectance", _check_reflectance), ("db", _check_db)):
        chosen = [i for i, band in enumerate(layer.bands) if band.unit == unit]
        if chosen:
            values = _in_unit(array, layer, chosen)
            if values.size:
                check(values, layer.bands[chosen[0]], path)


def _in_unit(array: np.ndarray, layer: LayerInfo, chosen: list[int]) -> np.ndarray:
    parts = []
    for i in chosen:
        stored = array[i]
        keep = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(stored.shape, bool)
        if layer.nodata is not None:
            keep &= stored != layer.nodata
        parts.append(layer.bands[i].band().to_unit(stored[keep]))
    return np.concatenate(parts)


def _check_reflectance(values: np.ndarray, band: BandInfo, path: str) -> None:
    median = float(np.median(values))
    if median > REFLECTANCE_MEDIAN_MAX:
        raise BadFile(path, f"is wrongly scaled: its median reflectance would be {median:.3g} (scale {band.scale:g})")
    if float(values.max()) < REFLECTANCE_MIN:
        raise BadFile(
            path,
            f"is wrongly scaled: its largest reflectance would be {float(values.max()):.3g} (scale {band.scale:g})",
        )


def _check_db(values: np.ndarray, band: BandInfo, path: str) -> None:
    median = float(np.median(values))
    if not DB_MEDIAN[0] <= median <= DB_MEDIAN[1] or float(values.min()) >= 0:
        raise BadFile(path, f"does not look like decibels: values from {float(values.min()):.3g}, median {median:.3g}")
