"""What makes one sample unusable: found here, reported by name, never silently used."""

from __future__ import annotations

import numpy as np

from data_catalog.readers.base import BadFile, Sample
from rsfm.packs import BandInfo, LayerInfo

#: Surfaces, clouds and snow reflect less than this in every band (a band's median over a whole image), and somewhere
#: more than the other. A file that was scaled by 65535 instead of 10000 is 6.5 times too bright: land in the near
#: infrared then exceeds the first.
REFLECTANCE_MEDIAN_MAX = 1.6
REFLECTANCE_MIN = 0.001
_MEDIAN_PIXELS = 1024  # enough for a median that is to tell 0.3 from 2
#: A file this many times brighter or darker than its dataset in *every* band has another scale: clouds and snow are
#: that bright in visible light only, water that dark in the infrared only. Needs a few bands to be a sound argument.
SCALE_RATIO = 3.5
_SCALE_BANDS = 4
_SCALE_SAMPLES = 16
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
            _check_values(array, layer, path, part=sample.part)
        else:
            _check_classes(array, layer, path)


def has_usual_medians(layer: LayerInfo) -> bool:
    """Whether the layer has enough bands of reflectance for `band_medians`."""
    return (
        layer.role == "image"
        and len(layer.bands) >= _SCALE_BANDS
        and all(band.unit == "reflectance" for band in layer.bands)
    )


def band_medians(sample: Sample, layers: list[LayerInfo]) -> dict[str, np.ndarray]:
    """Median reflectance of each band, by image layer; only layers with enough bands of reflectance."""
    found = {}
    for layer in layers:
        if not has_usual_medians(layer):
            continue
        array = sample.arrays[layer.name]
        flat = array.reshape(array.shape[0], -1)[:, :: max(1, array[0].size // _MEDIAN_PIXELS)]
        values = [_in_unit(flat[i], band, layer.nodata) for i, band in enumerate(layer.bands)]
        if all(v.size for v in values):
            found[layer.name] = np.array([np.median(v) for v in values])
    return found


def usual_medians(seen: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The dataset's own medians from some samples' `band_medians`; empty where too few were seen."""
    names = {name for medians in seen for name in medians}
    stacks = {name: np.stack([m[name] for m in seen if name in m]) for name in sorted(names)}
    return {name: np.median(stack, axis=0) for name, stack in stacks.items() if len(stack) >= _SCALE_SAMPLES}


def check_scale(sample: Sample, layers: list[LayerInfo], usual: dict[str, np.ndarray], path: str) -> None:
    """Compare a sample's brightness with its dataset's.

    Raises:
        BadFile: all bands are brighter, or all darker, than usual by more than `SCALE_RATIO`.
    """
    for name, medians in band_medians(sample, layers).items():
        if name not in usual or (usual[name] <= 0).any():
            continue
        ratio = medians / usual[name]
        if ratio.min() > SCALE_RATIO or ratio.max() < 1 / SCALE_RATIO:
            raise BadFile(
                path,
                f"is wrongly scaled: all its bands are {np.median(ratio):.2g} times as bright as usual in this dataset "
                f"({ratio.min():.2g} to {ratio.max():.2g})",
            )


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


def _check_classes(mask: np.ndarray, layer: LayerInfo, path: str) -> None:
    known = [*range(len(layer.classes)), *([] if layer.ignore_value is None else [layer.ignore_value])]
    if layer.classes and (unknown := np.setdiff1d(np.unique(mask), known)).size:
        raise BadFile(path, f"has {unknown.tolist()} in its mask, which has {len(layer.classes)} classes")


def _check_values(array: np.ndarray, layer: LayerInfo, path: str, *, part: bool) -> None:
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.any():
            raise BadFile(path, "holds no finite value")
        if not finite.all() and (layer.nodata is None or not np.isnan(layer.nodata)):
            raise BadFile(path, f"{1 - finite.mean():.1%} of its values are not finite")
    flat = array.reshape(array.shape[0], -1)
    # A few pixels tell most images from fill; only the doubtful ones are looked at whole.
    thin = flat[:, :: max(1, flat.shape[1] // 64)]
    if not part and (thin == flat[:, :1]).all() and (flat == flat[:, :1]).all():
        values = sorted({float(v) for v in flat[:, 0]})
        text = f"{values[0]:g}" if len(values) == 1 else "one value per band"
        raise BadFile(path, f"is constant ({text}): no image, only fill")
    light = 0.0
    for i, band in enumerate(layer.bands):
        if band.unit == "reflectance":
            thinned = flat[i, :: max(1, flat.shape[1] // _MEDIAN_PIXELS)]
            values = _in_unit(thinned, band, layer.nodata)
            _check_reflectance(values, band, path)
            light = max(light, float(values.max(initial=0.0)))
    if light < REFLECTANCE_MIN and any(band.unit == "reflectance" for band in layer.bands):
        _check_not_black(array, layer, path)
    decibels = [_in_unit(array[i], b, layer.nodata) for i, b in enumerate(layer.bands) if b.unit == "db"]
    if decibels:
        _check_db(np.concatenate(decibels), path)


def _in_unit(stored: np.ndarray, band: BandInfo, nodata: float | None) -> np.ndarray:
    """(N,) values with data of one band, in its unit."""
    keep = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(stored.shape, bool)
    if nodata is not None:
        keep &= stored != nodata
    return band.band().to_unit(stored[keep])


def _check_reflectance(values: np.ndarray, band: BandInfo, path: str) -> None:
    if values.size and (median := float(np.median(values))) > REFLECTANCE_MEDIAN_MAX:
        raise BadFile(
            path,
            f"is wrongly scaled: its median reflectance in {band.name} would be {median:.3g} (scale {band.scale:g})",
        )


def _check_not_black(array: np.ndarray, layer: LayerInfo, path: str) -> None:
    chosen = [(i, b) for i, b in enumerate(layer.bands) if b.unit == "reflectance"]
    largest = max((float(v.max()) for i, b in chosen if (v := _in_unit(array[i], b, layer.nodata)).size), default=None)
    if largest is not None and largest < REFLECTANCE_MIN:
        raise BadFile(
            path, f"is wrongly scaled: its largest reflectance would be {largest:.3g} (scale {chosen[0][1].scale:g})"
        )


def _check_db(values: np.ndarray, path: str) -> None:
    if not values.size:
        return
    median, low = float(np.median(values)), float(values.min())
    if not DB_MEDIAN[0] <= median <= DB_MEDIAN[1] or low >= 0:
        raise BadFile(path, f"does not look like decibels: values from {low:.3g}, median {median:.3g}")
