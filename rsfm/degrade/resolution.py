"""Resolution degradation: fewer pixels of ground detail, on the same pixel grid unless it says otherwise.

`bilinear` is the published operator (arXiv 2510.17014):

    down: Pillow's bilinear to (W // f, H // f)      (a triangle filter of half-width f: anti-aliased)
    up:   Pillow's bilinear back to (W, H)

The others change one half of it. On uint8 Pillow rounds to grey levels after every pass, and the other filters round
the coarse image once. On every other type it is the same filter per band in float32 without rounding, because 8-bit
rounding of a reflectance would be a second, unintended degradation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rsfm.degrade.entry import OperatorEntry, Resample
from rsfm.degrade.kernels import Kernel, axis_weights, filter_planes
from rsfm.errors import RsfmError

if TYPE_CHECKING:
    from rsfm.packs import BandInfo

#: Contrast that `mtf` leaves at the Nyquist frequency of the coarse grid, 1 / (2 f) cycles per pixel. The square
#: aperture of a detector alone leaves 2/π = 0.64, the triangle filter of `bilinear` 0.41; with optics, motion and
#: electronics multispectral instruments end near 0.3, the usual value where coarser images are simulated for
#: pansharpening (Aiazzi et al. 2006).
MTF_AT_NYQUIST = 0.3
#: Standard deviation of that Gaussian in coarse pixels: exp(-2 π² σ² ν²) = 0.3 at ν = 1/2.
MTF_SIGMA = math.sqrt(-2 * math.log(MTF_AT_NYQUIST)) / math.pi


def coarse_size(height: int, width: int, factor: float) -> tuple[int, int]:
    """Pixels that are left: (H // f, W // f)."""
    return height // int(factor), width // int(factor)


def bilinear(images: np.ndarray, factor: float) -> np.ndarray:
    """Down and up again with Pillow's bilinear: the published operator.

    Args:
        images: (N, C, H, W). uint8 stays uint8; other real types come back as float32. What is not finite spreads
            to its neighbourhood: fill it before.
        factor: a whole number from 1 to min(H, W).
    """
    return _back(native(images, factor), images)


def area(images: np.ndarray, factor: float) -> np.ndarray:
    """The mean of each block of f × f pixels (an ideal coarser detector), then bilinear up; arguments as `bilinear`."""
    return _back(_filtered(images, factor, "box"), images)


def mtf(images: np.ndarray, factor: float) -> np.ndarray:
    """A Gaussian with a stated transfer (`MTF_AT_NYQUIST`), taken at the centres of the coarse pixels, then bilinear
    up; arguments as `bilinear`."""
    return _back(_filtered(images, factor, "gaussian"), images)


def nearest(images: np.ndarray, factor: float) -> np.ndarray:
    """One pixel of each block (right and below of the centre for even f) stands for all: aliasing on purpose;
    arguments as `bilinear`."""
    rows, columns = nearest_pixels(*images.shape[2:], factor)
    return _real(images)[:, :, rows[:, None], columns]


def nearest_pixels(height: int, width: int, factor: float) -> list[np.ndarray]:
    """Of `nearest`: the row that stands for each row, and the column for each column."""
    return [
        axis_weights("nearest", size, small).argmax(axis=1)[axis_weights("nearest", small, size).argmax(axis=1)]
        for size, small in zip((height, width), coarse_size(height, width, factor), strict=True)
    ]


def native(images: np.ndarray, factor: float) -> np.ndarray:
    """Down as `bilinear`, and not up again: (N, C, H // f, W // f); arguments as `bilinear`."""
    return _pillow(_real(images), coarse_size(*images.shape[2:], factor), Image.Resampling.BILINEAR)


def _real(images: np.ndarray) -> np.ndarray:
    """What Pillow can resize: uint8 or float32."""
    return images if images.dtype == np.uint8 else images.astype(np.float32)


def _filtered(images: np.ndarray, factor: float, kernel: Kernel) -> np.ndarray:
    """The coarse image, (N, C, H // f, W // f)."""
    n, c, *full = images.shape
    coarse = coarse_size(*full, factor)
    weights = (axis_weights(kernel, a, b, MTF_SIGMA * a / b) for a, b in zip(full, coarse, strict=True))
    small = filter_planes(images.reshape(n * c, *full).astype(np.float32), *weights).reshape(n, c, *coarse)
    # Once for both axes and halves to even: rounding up after each would brighten means of 2 × 2 by half a level.
    return np.rint(small).clip(0, 255).astype(np.uint8) if images.dtype == np.uint8 else small


def _back(small: np.ndarray, images: np.ndarray) -> np.ndarray:
    return _pillow(small, images.shape[2:], Image.Resampling.BILINEAR)


def _pillow(images: np.ndarray, size: Sequence[int], method: Image.Resampling) -> np.ndarray:
    """Pillow's resize of every band to `size` = (rows, columns)."""
    n, c, height, width = images.shape
    if images.size == 0:
        return np.empty((n, c, *size), images.dtype)
    planes = _resize_rows(images.reshape(n * c, height, width), size[1], method)
    planes = _resize_rows(planes.transpose(0, 2, 1), size[0], method).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).reshape(n, c, *size)


def _resize_rows(planes: np.ndarray, size: int, method: Image.Resampling) -> np.ndarray:
    """Pillow's resize along the last axis: (N, A, B) to (N, A, size).

    Pillow resizes in two passes, along rows and then along columns, with the same arithmetic. Stacking all images
    into one tall image and resizing rows only gives the same bits as image by image, in one call.
    """
    n, a, b = planes.shape
    tall = Image.fromarray(np.ascontiguousarray(planes).reshape(n * a, b))  # mode L or F by dtype
    return np.asarray(tall.resize((size, n * a), method)).reshape(n, a, size)


def _refuse(factor: float, height: int, width: int, bands: Sequence[BandInfo]) -> None:
    if not 1 <= factor <= min(height, width) or factor != int(factor):
        raise RsfmError(
            f"Resolution factor {factor:g} does not fit images of {height}×{width} pixels: use a whole number from 1 "
            f"to {min(height, width)}."
        )


def _entry(
    name: str, title: str, paper: str, resample: Resample, definition: dict[str, str | int | float], *,
    keeps_grid: bool = True,
) -> OperatorEntry:  # fmt: skip
    return OperatorEntry(
        name=name, title=title, paper=paper, severity_name="factor", severity_unit="×", identity=1,
        severities=(1, 2, 4, 8), changes_gsd=True, keeps_grid=keeps_grid, refuse=_refuse, resample=resample,
        definition={**definition, "where": "tile", "rounding": "uint8-only", "v": 1},
    )  # fmt: skip


ENTRIES = (
    _entry(
        "bilinear", "Coarser by bilinear resampling", "arXiv 2510.17014", bilinear,
        {"down": "pil-bilinear", "up": "pil-bilinear"},
    ),
    _entry("area", "Coarser by block means", "", area, {"down": "box", "up": "pil-bilinear"}),
    _entry(
        "mtf", "Coarser through a sensor's transfer function", "Aiazzi et al. 2006, doi:10.14358/PERS.72.5.591", mtf,
        {"down": "gaussian", "mtf_at_nyquist": MTF_AT_NYQUIST, "reach": 4, "up": "pil-bilinear"},
    ),
    _entry("nearest", "Coarser by leaving pixels out (aliased)", "", nearest, {"down": "nearest", "up": "nearest"}),
    _entry(
        "native", "Coarser on the coarse grid (smaller images)", "", native, {"down": "pil-bilinear", "up": "none"},
        keeps_grid=False,
    ),
)  # fmt: skip
