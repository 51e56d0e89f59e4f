"""Ways to look at a pack's samples: which bands make which picture. The pictures themselves: `rsfm.thumbs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsfm.errors import RsfmError
from rsfm.packs import LayerInfo, Pack
from rsfm.thumbs import Shown, display_bands, stretched

#: Wavelengths (nm) of red, green and blue in each false-colour picture, and how far a band may lie from each.
COMPOSITES: dict[str, tuple[str, tuple[float, float, float]]] = {
    "infrared": ("Colour infrared", (850, 660, 555)),
    "shortwave": ("Short-wave infrared", (2200, 850, 660)),
}
TOLERANCE_NM = {555: 35, 660: 45, 850: 90, 2200: 130}


@dataclass(frozen=True)
class View:
    """One way to look at a layer: three bands as red, green, blue, or one band as grey."""

    key: str
    title: str
    bands: tuple[str, ...]


def main_layer(pack: Pack) -> LayerInfo:
    """The layer that stands for a pack: `image`, or of several images (a pair of dates) the first one.

    Raises:
        RsfmError: the pack has no image at all.
    """
    images = [layer for layer in pack.info.layers if layer.role == "image"]
    if not images:
        raise RsfmError(f"Pack {pack.name!r} holds no images.")
    return next((layer for layer in images if layer.name == "image"), images[0])


def _nearest(bands: Sequence[Shown], wavelength: float) -> str | None:
    known = [(abs(b.wavelength_nm - wavelength), b.name) for b in bands if b.wavelength_nm is not None]
    distance, name = min(known, default=(float("inf"), ""))
    return name if distance <= TOLERANCE_NM[int(wavelength)] else None


def views_of_bands(bands: Sequence[Shown]) -> list[View]:
    """Every way to look at some bands, the most natural one first."""
    found = []
    natural = tuple(display_bands(bands))
    if len(natural) == 3:
        found.append(View("natural", "Natural colour", natural))
    for key, (title, wavelengths) in COMPOSITES.items():
        chosen = tuple(_nearest(bands, w) for w in wavelengths)
        if None not in chosen and len(set(chosen)) == 3:
            found.append(View(key, title, chosen))  # type: ignore[arg-type]
    return found + [View(f"band:{b.name}", f"Band {b.name}", (b.name,)) for b in bands]


def views(layer: LayerInfo) -> list[View]:
    """Every way to look at a layer. A mask has one, its class colours."""
    if layer.role == "mask":
        return [View("classes", "Classes", ())]
    return views_of_bands(layer.bands) if layer.bands else []


def find_view(layer: LayerInfo, key: str | None) -> View:
    """The view of that key, or the first one.

    Raises:
        RsfmError: no such view, or a layer without bands.
    """
    known = views(layer)
    if not known:
        raise RsfmError(f"Layer {layer.name!r} has no bands to look at.")
    if not key:
        return known[0]
    for view in known:
        if view.key == key:
            return view
    raise RsfmError(f"Layer {layer.name!r} has no view {key!r}; it has {', '.join(v.key for v in known)}.")


def sample_image(pack: Pack, split: str, row: int, view: View, layer: str = "image") -> np.ndarray:
    """One sample of an image layer as a picture (H, W, 3) uint8."""
    return stretched(pack, np.asarray(pack.array(split, layer)[row]), view.bands, layer=layer)
