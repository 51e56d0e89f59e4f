"""Streamed statistics of arrays that do not fit into memory.

Every band has a histogram of 65,536 bins, whatever the length. For 8- and 16-bit integers a bin is a value, and all
statistics follow from it exactly. For other types mean and standard deviation are merged chunk by chunk in float64
(Chan, Golub and LeVeque 1983), and a bin holds the values that share sign, exponent and 7 mantissa bits of their
float32 form, so a percentile is within 1/128 of its true value, relatively.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rsfm.packs import BandInfo, BandStatistics

_BINS = 1 << 16


def _is_short(dtype: np.dtype) -> bool:
    return dtype.kind in "ui" and dtype.itemsize <= 2


def _bins(values: np.ndarray) -> np.ndarray:
    """Bin number of each value; the order of the bins is the order of the values."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(np.int64)
    if values.dtype.kind == "i" and values.dtype.itemsize <= 2:
        return values.astype(np.int64) + (1 << 15)
    # Float bits sort like integers once negative numbers are flipped over.
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> 16).astype(np.int64)


def _edges(bins: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of each bin, float64."""
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return bins.astype(np.float64), bins.astype(np.float64)
    if dtype.kind == "i" and dtype.itemsize <= 2:
        return bins - float(1 << 15), bins - float(1 << 15)

    def value(ordered: np.ndarray) -> np.ndarray:
        bits = np.where(ordered >> 31, ordered & np.uint32(0x7FFFFFFF), ~ordered).astype(np.uint32)
        return bits.view(np.float32).astype(np.float64)

    low = bins.astype(np.uint32) << 16
    return value(low), value(low | np.uint32(0xFFFF))


@dataclass
class RunningStatistics:
    """Of one band, over stored values; `of` turns them into the band's unit."""

    dtype: np.dtype
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations
    low: float = np.inf
    high: float = -np.inf
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Take in stored values of any shape; non-finite ones do not count."""
        values = np.asarray(values).ravel()
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if not values.size:
            return
        self.histogram += np.bincount(_bins(values), minlength=_BINS)
        if not _is_short(self.dtype):
            self._merge(values)

    def _merge(self, values: np.ndarray) -> None:
        exact = values.astype(np.float64)
        mean = float(exact.mean())
        delta, total = mean - self.mean, self.count + values.size
        self.squares += float(np.square(exact - mean).sum()) + delta * delta * self.count * values.size / total
        self.mean += delta * values.size / total
        self.count = total
        self.low, self.high = min(self.low, float(exact.min())), max(self.high, float(exact.max()))

    def _from_histogram(self) -> None:
        used = np.flatnonzero(self.histogram)
        counts, values = self.histogram[used], _edges(used, self.dtype)[0]
        self.count = int(counts.sum())
        if self.count:
            self.low, self.high = float(values[0]), float(values[-1])
            self.mean = float(counts @ values) / self.count
            self.squares = float(counts @ np.square(values - self.mean))

    def _percentile(self, q: float) -> float:
        """The stored value below which a share of q/100 lies (linear within a bin)."""
        target = q / 100 * (self.count - 1)
        edges = np.cumsum(self.histogram)
        index = int(np.searchsorted(edges, target, side="right"))
        low, high = (float(v[0]) for v in _edges(np.array([index]), self.dtype))
        inside = (target - (edges[index] - self.histogram[index])) / self.histogram[index]
        return float(np.clip(low + inside * (high - low), self.low, self.high))

    def of(self, band: BandInfo) -> BandStatistics | None:
        """In the band's unit; None where there was no value at all."""
        if _is_short(self.dtype):
            self._from_histogram()
        if not self.count:
            return None

        def unit(*stored: float) -> list[float]:
            return sorted(v * band.scale + band.offset for v in stored)  # a negative scale turns the order around

        (low, high), (p2, p98) = unit(self.low, self.high), unit(self._percentile(2), self._percentile(98))
        return BandStatistics(
            mean=unit(self.mean)[0],
            std=float(np.sqrt(self.squares / self.count)) * abs(band.scale),
            min=low,
            max=high,
            p2=p2,
            p98=p98,
            count=self.count,
        )
