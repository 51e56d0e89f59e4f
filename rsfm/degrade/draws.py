"""Random numbers as a pure function of where they are used: (sample, operator, layer, band), then a counter.

A counter is hashed (splitmix64's finaliser: Steele, Lea and Flood 2014), so any number can be had by itself, for all
samples at once, and the same integer arithmetic runs on numpy arrays and on tensors of any device: jobs on a CPU and
on a GPU draw the same numbers for the same sample. Batching, order, data type and the other bands change nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

#: In the definition of every random operator: raise it when a draw changes.
DRAWS_VERSION = 1

_STEP = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit numbers, which numpy and torch wrap alike
_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_LOW = 2**32 - 1


def word(*parts: str) -> int:
    """63 bits from words; the same on every machine."""
    text = "\0".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seeds_of(ids: Sequence[str]) -> np.ndarray:
    """(N,) int64: one seed per sample id."""
    return np.array([word(i) for i in ids], np.int64)


def _mix(x: Any) -> Any:
    """Every bit of the result depends on every bit of `x`; int64 array or tensor of any shape."""
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * factor  # the mask makes the shift a logical one
    return x ^ ((x >> 31) & (2**33 - 1))


def random_bits(seeds: Any, counter: Any, *use: str) -> Any:
    """(N,) int64 seeds and (M,) int64 counters 1, 2, ... to (N, M) random int64; arrays or tensors.

    Args:
        use: words that say what the numbers are for: operator, layer, band.
    """
    state = _mix(_mix(seeds) + word(*use))
    return _mix(state[:, None] + counter * _STEP)


def halves(bits: Any) -> tuple[Any, Any]:
    """Two independent whole numbers in 0..2³²-1 of each random number."""
    return (bits >> 32) & _LOW, bits & _LOW


class Draws:
    """Random numbers of a batch of samples for one operator on one layer.

    Every method takes a word that says what the numbers are for (a band's name) and how many are wanted per sample.
    """

    def __init__(self, operator: str, ids: Sequence[str], layer: str) -> None:
        self._seeds, self._use = seeds_of(ids), (operator, layer)

    def bits(self, what: str, count: int) -> np.ndarray:
        """(N, count) int64, uniform over all values."""
        return random_bits(self._seeds, np.arange(1, count + 1), *self._use, what)

    def signs(self, what: str, count: int) -> np.ndarray:
        """(N, count) float32: -1 or 1."""
        return np.where(self.bits(what, count) < 0, np.float32(-1), np.float32(1))

    def uniform(self, what: str, count: int) -> np.ndarray:
        """(N, count) float32 in (0, 1]."""
        return _unit(halves(self.bits(what, count))[0])

    def normal(self, what: str, count: int) -> np.ndarray:
        """(N, count) float32, standard normal (Box and Muller 1958: a radius and an angle give two)."""
        result = np.empty((len(self._seeds), count), np.float32)
        half = np.arange(1, (count + 1) // 2 + 1)
        for i in range(len(result)):  # sample by sample, so that what is in between stays small
            high, low = halves(random_bits(self._seeds[i : i + 1], half, *self._use, what)[0])
            radius, angle = np.sqrt(-2 * np.log(_unit(high))), 2 * np.float32(math.pi) * _unit(low)
            result[i] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
        return result


def _unit(whole: np.ndarray) -> np.ndarray:
    return (whole.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
