"""Panels of images as PNG files for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rsfm.bands import RGB_NM
from rsfm.methods.base import Panel
from rsfm.model_info import ModelBand

_MARGIN = 6
_TEXT = 18


def display_bands(bands: Sequence[ModelBand]) -> list[int]:
    """Positions of the bands shown as red, green and blue; one position for a grey picture.

    The bands nearest to red, green and blue light where the visible range is covered, else the first three.
    """
    visible = [i for i, b in enumerate(bands) if b.wavelength_nm is not None and 400 <= b.wavelength_nm <= 720]
    nearest = (
        [min(visible, key=lambda i: abs(bands[i].wavelength_nm - nm)) for nm in RGB_NM.values()] if visible else []
    )
    if len(set(nearest)) == 3:
        return nearest
    return [0, 1, 2] if len(bands) >= 3 else [0]


def _pixels(images: Tensor, positions: list[int]) -> np.ndarray:
    """(n, C, H, W) standardised values to (n, H, W, 3) uint8: two standard deviations to either side."""
    chosen = images[:, positions].float().cpu().numpy().transpose(0, 2, 3, 1)
    chosen = np.clip(np.nan_to_num((chosen + 2) / 4, nan=0.0), 0, 1) * 255
    return np.broadcast_to(chosen.astype(np.uint8), (*chosen.shape[:3], 3))


def draw_panel(panel: Panel, bands: Sequence[ModelBand], *, columns: int = 8, cell: int = 112) -> Image.Image:
    """One picture: a row per kind of image with its name, and below it the caption and the bands shown."""
    positions = display_bands(bands)
    font = ImageFont.load_default(12)
    rows = [(name, _pixels(images[:columns], positions)) for name, images in panel.rows]
    count = max(len(pixels) for _, pixels in rows)
    width = max(count * (cell + _MARGIN) + _MARGIN, 560)
    height = len(rows) * (cell + _MARGIN + _TEXT) + 2 * _TEXT + _MARGIN
    picture = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    y = 0
    for name, pixels in rows:
        draw.text((_MARGIN, y + 2), name, fill=(40, 40, 40), font=font)
        y += _TEXT
        for number, array in enumerate(pixels):
            image = Image.fromarray(array)
            scale = cell / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
            picture.paste(image.resize(size, resample), (_MARGIN + number * (cell + _MARGIN), y))
        y += cell + _MARGIN
    shown = ", ".join(bands[p].name for p in positions)
    draw.text((_MARGIN, y), panel.caption, fill=(40, 40, 40), font=font)
    draw.text((_MARGIN, y + _TEXT), f"Shown: {shown}; mean ± 2 standard deviations.", fill=(110, 110, 110), font=font)
    return picture


def save_panel(panel: Panel, bands: Sequence[ModelBand], folder: Path, step: int) -> Path:
    """Write `<what>-<step>.png` in one step and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{panel.what}-{step:08d}.png"
    temporary = folder / f".{path.name}"
    draw_panel(panel, bands).save(temporary, format="PNG")
    temporary.replace(path)
    return path
