"""Two tasks whose answer to a loss of resolution is known beforehand.

`texture_task`: only detail finer than a 4x coarser image can carry tells the classes apart, so at 8x nothing is left.
`colour_task`: only the mean of each channel tells them apart, so nothing changes at any resolution.
"""

from __future__ import annotations

import numpy as np

from rsfm.errors import RsfmError

#: Centre frequency of each texture class in cycles per pixel. 4x coarser images end at 1/8.
TEXTURE_FREQUENCIES = (0.16, 0.22, 0.30, 0.40)

#: Mean (red, green, blue) of each colour class.
COLOUR_MEANS = ((96, 110, 104), (118, 104, 96), (104, 96, 118), (120, 122, 120))


def texture_task(count: int, *, seed: int = 0, size: int = 64, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Isotropic noise of one narrow frequency band per class; means and contrast are the same in every class.

    Returns:
        images (N, C, size, size) uint8; labels (N,) int64, balanced, in turn.
    """
    _check(count, size, channels)
    rng = np.random.default_rng([seed, 1])
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    rings = [np.exp(-0.5 * ((frequency - f) / 0.012) ** 2) for f in TEXTURE_FREQUENCIES]
    images = np.empty((count, channels, size, size), np.uint8)
    labels = np.arange(count) % len(rings)
    for i, label in enumerate(labels):
        waves = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((channels, size, size))) * rings[label], (size, size))
        waves -= waves.mean(axis=(1, 2), keepdims=True)
        waves *= 24 / waves.std(axis=(1, 2), keepdims=True)
        level = rng.uniform(110, 146, (channels, 1, 1))
        images[i] = np.clip(np.rint(level + waves), 0, 255)
    return images, labels.astype(np.int64)


def colour_task(count: int, *, seed: int = 0, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The same white noise in every class, around a mean colour that varies a little from image to image.

    Returns:
        images (N, 3, size, size) uint8; labels (N,) int64, balanced, in turn.
    """
    _check(count, size, 3)
    rng = np.random.default_rng([seed, 2])
    labels = np.arange(count) % len(COLOUR_MEANS)
    means = np.array(COLOUR_MEANS, float)[labels] + rng.normal(0, 5, (count, 3))
    noise = rng.normal(0, 20, (count, 3, size, size))
    noise -= noise.mean(axis=(2, 3), keepdims=True)
    return np.clip(np.rint(means[:, :, None, None] + noise), 0, 255).astype(np.uint8), labels.astype(np.int64)


def _check(count: int, size: int, channels: int) -> None:
    if count < 1 or size < 16 or channels < 1:
        raise RsfmError(f"A task needs at least 1 image, 16 pixels, 1 channel; got {count}, {size}, {channels}.")
