"""How often which values occur in a pack: per band in the band's unit, per class of a mask; from a bounded sample."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rsfm.data.observed import storable, unobserved
from rsfm.degrade.entry import to_unit
from rsfm.packs import LayerInfo, Pack

#: Windows that are looked at in each split, and their side in pixels at most: memory and time are bounded by these.
WINDOWS = 48
SIDE = 64
BINS = 60


@dataclass(frozen=True)
class BandHistogram:
    """Of one band.

    Attributes:
        edges: (bins + 1,) in the band's unit, about `BINS` bins; the outermost bins hold what lies beyond them.
        shares: split -> (bins,) shares of the observed pixels that were looked at; they sum to 1.
    """

    band: str
    unit: str
    edges: np.ndarray
    shares: dict[str, np.ndarray]


def in_units(layer: LayerInfo, stored: np.ndarray, chosen: Sequence[int] | None = None) -> np.ndarray:
    """Stored (N, C, H, W) to float32 in the bands' units, NaN where nothing was observed.

    Args:
        chosen: positions of the bands that are wanted; default: all. What was observed is said by all bands.
    """
    wanted = list(range(len(layer.bands))) if chosen is None else list(chosen)
    values = to_unit(stored[:, wanted], [layer.bands[i] for i in wanted])
    absent = unobserved(stored, storable(layer.nodata, np.dtype(layer.dtype)))
    if absent is not None:
        values[np.broadcast_to(absent if absent.shape[1] == 1 else absent[:, wanted], values.shape)] = np.nan
    return values


def windows(pack: Pack, split: str, layer: LayerInfo) -> Iterator[np.ndarray]:
    """(C, h, w) stored values of windows at random places of random samples: the same ones each time."""
    array = pack.array(split, layer.name)
    _, height, width = layer.shape
    h, w = min(SIDE, height), min(SIDE, width)
    rng = np.random.default_rng(zlib.crc32(f"{pack.info.content_hash}{split}".encode()))
    chosen = np.sort(rng.choice(len(array), min(WINDOWS, len(array)), replace=False))
    tops, lefts = rng.integers(0, height - h + 1, len(chosen)), rng.integers(0, width - w + 1, len(chosen))
    for i, top, left in zip(chosen, tops, lefts, strict=True):
        yield array[i, :, top : top + h, left : left + w]


def _edges(low: float, high: float, step: float | None) -> np.ndarray:
    """About `BINS` bins from `low` to `high`.

    Args:
        step: between two storable values: a bin holds a whole number of them, or it would hold now more, now fewer.
    """
    if step is None:
        return np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    width = max(1, math.ceil((high - low) / step / BINS)) * step
    return low - step / 2 + width * np.arange(math.ceil((high - low + step) / width) + 1)


def band_histograms(pack: Pack, layer: str, bands: Sequence[str]) -> list[BandHistogram]:
    """One histogram per wanted band of an image layer, in the layer's order; all splits on common edges.

    Of the other bands no more than one window at a time is held.
    """
    info = pack.layer(layer)
    chosen = [i for i, band in enumerate(info.bands) if band.name in bands]
    seen = {
        split: [in_units(info, window[None], chosen)[0] for window in windows(pack, split, info)]
        for split, n in pack.info.splits.items() if n
    }  # fmt: skip
    found = []
    for place, band in enumerate(info.bands[i] for i in chosen):
        values_of = {s: np.concatenate([w[place].ravel() for w in cut]) for s, cut in seen.items()}
        finite = {s: v[np.isfinite(v)] for s, v in values_of.items()}
        every = np.concatenate(list(finite.values())) if finite else np.zeros(0)
        # A few extreme pixels would press all others into one bin.
        low, high = np.quantile(every, [0.002, 0.998]) if every.size else (0.0, 1.0)
        step = abs(band.scale) if np.dtype(info.dtype).kind in "iu" else None
        edges = _edges(float(low), float(high), step)
        shares = {}
        for split, values in finite.items():
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            shares[split] = counts / max(1, counts.sum())
        found.append(BandHistogram(band.name, band.unit, edges, shares))
    return found


def class_shares(pack: Pack, layer: str) -> dict[str, np.ndarray]:
    """Split -> (classes,) share of the pixels that count, for a mask layer."""
    info = pack.layer(layer)
    found = {}
    for split, n in pack.info.splits.items():
        if n:
            values = np.concatenate([w.ravel() for w in windows(pack, split, info)]).astype(np.int64)
            values = values[(values >= 0) & (values < len(info.classes))]
            if info.ignore_value is not None:
                values = values[values != info.ignore_value]
            counts = np.bincount(values, minlength=len(info.classes))
            found[split] = counts / max(1, counts.sum())
    return found
