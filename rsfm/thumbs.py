"""Small pictures and footprints of a pack's samples, straight from the memory map. No torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from rsfm.bands import RGB_NM, select
from rsfm.data.observed import Observed
from rsfm.degrade import operator
from rsfm.degrade.entry import to_unit
from rsfm.errors import RsfmError
from rsfm.packs import BandInfo, LayerInfo, Pack


class Shown(Protocol):
    """What must be known of a band to show it: of a pack's, of a scene's."""

    @property
    def name(self) -> str: ...
    @property
    def wavelength_nm(self) -> float | None: ...


@dataclass(frozen=True)
class Degraded:
    """How a model saw an image.

    Attributes:
        operator, severity: see `rsfm.degrade`.
        bands: of the model, in any order: which ones are lost may depend on all of them.
    """

    operator: str
    severity: float
    bands: tuple[str, ...]


#: How far (nm) a band may be from the eye's red, green or blue to stand in.
_TOLERANCE_NM = 60.0
_MAX_SIZE = 2048


def display_bands(bands: Sequence[Shown]) -> list[str]:
    """Names of the bands to show: red, green and blue by name or by wavelength; else one band, shown grey."""
    names = {b.name.lower(): b.name for b in bands}
    if all(colour in names for colour in ("red", "green", "blue")):
        return [names["red"], names["green"], names["blue"]]
    chosen: list[str] = []
    for wanted in RGB_NM.values():
        near = sorted(
            (abs(b.wavelength_nm - wanted), b.name) for b in bands if b.wavelength_nm and b.name not in chosen
        )
        if not near or near[0][0] > _TOLERANCE_NM:
            return [bands[0].name]
        chosen.append(near[0][1])
    return chosen


def stretched(pack: Pack, image: np.ndarray, bands: Sequence[str] | None = None, *, layer: str = "image") -> np.ndarray:
    """(H, W, 3) uint8: stored values (C, H, W) stretched linearly from the pack's 2nd to its 98th percentile.

    Args:
        bands: one name (grey) or three (red, green, blue); default: `display_bands`.
    """
    info = pack.layer(layer)
    positions = _shown(pack, info, range(len(info.bands)), bands)
    chosen = [info.bands[i] for i in positions]
    return _picture(to_unit(image[None, positions], chosen)[0], chosen)


def degraded_image(
    pack: Pack, split: str, row: int, how: Degraded, bands: Sequence[str] | None = None, *, layer: str = "image"
) -> np.ndarray:
    """(H', W', 3) uint8: one sample as a model saw it, stretched as `stretched` does it.

    Raises:
        RsfmError: no such operator or band, a severity that cannot be, or a picture of bands that it did not see.
    """
    info, entry = pack.layer(layer), operator(how.operator)
    where = f"Pack {pack.name!r}"
    seen = select(pack.bands(layer), how.bands, where=where)
    of_model = [info.bands[i] for i in seen]
    # As `rsfm.evaluation.images` reads them: what was not observed is filled first, for a filter would spread it.
    stored = Observed(info, seen, where=where).read(pack.array(split, layer)[row][None], only_finite=True)
    samples = pack.samples
    sample = samples.loc[(samples["split"] == split) & (samples["row"] == row), "id"].iloc[0]
    values = entry.apply(stored, how.severity, of_model, [str(sample)], layer=layer)[0]
    shown = [seen.index(i) for i in _shown(pack, info, seen, bands)]
    return _picture(values[shown], [of_model[i] for i in shown])


def _shown(pack: Pack, info: LayerInfo, among: Sequence[int], bands: Sequence[str] | None) -> list[int]:
    """Positions of one band (grey) or three (red, green, blue), among those at some positions."""
    known = [info.bands[i] for i in among]
    names = list(bands) if bands else display_bands(known)
    if len(names) not in (1, 3):
        raise RsfmError(f"A picture needs one band or three, got {len(names)}.")
    # One band may stand for several colours, e.g. a false-colour picture with the same band twice.
    have = [b.band() for b in known]
    return [among[select(have, [name], where=f"Pack {pack.name!r}")[0]] for name in names]


def _picture(values: np.ndarray, bands: Sequence[BandInfo]) -> np.ndarray:
    """Values of one band or three, in their units, (c, H, W) to (H, W, 3) uint8."""
    limits = [(b.statistics.p2, b.statistics.p98) if b.statistics else (0.0, 1.0) for b in bands]
    planes = [stretch(plane, *limit) for plane, limit in zip(values, limits, strict=True)]
    return np.stack(planes * 3 if len(planes) == 1 else planes, axis=-1)


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values to uint8: `low` and below is 0, `high` and above is 255; what was not observed is 0."""
    scaled = np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def thumbnail(
    pack: Pack, split: str, row: int, bands: Sequence[str] | None = None, size: int = 128, *, layer: str = "image",
    degraded: Degraded | None = None,
) -> bytes:  # fmt: skip
    """One sample as a PNG, its longer side `size` pixels.

    Args:
        degraded: as a model saw it; as it is stored where left out.

    Raises:
        RsfmError: no such split, row, layer or band; a mask that is to be degraded; and as `degraded_image`.
    """
    from PIL import Image

    if not 1 <= size <= _MAX_SIZE:
        raise RsfmError(f"A thumbnail's size must be in 1..{_MAX_SIZE}, got {size}.")
    array = pack.array(split, layer)
    if not 0 <= row < len(array):
        raise RsfmError(f"Split {split!r} of pack {pack.name!r} has {len(array)} samples: there is no row {row}.")
    if degraded is not None:
        if pack.layer(layer).role == "mask":
            raise RsfmError(f"Layer {layer!r} of pack {pack.name!r} holds labels: they are never degraded.")
        picture = Image.fromarray(degraded_image(pack, split, row, degraded, bands, layer=layer))
    elif pack.layer(layer).role == "mask":
        picture = Image.fromarray(mask_colours(np.asarray(array[row][0]), pack.layer(layer).ignore_value))
    else:
        picture = Image.fromarray(stretched(pack, np.asarray(array[row]), bands, layer=layer))
    factor = size / max(picture.size)
    target = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    # Enlarged pixels stay pixels: a thumbnail must not look sharper, or smoother, than the data.
    kind = Image.Resampling.NEAREST if factor > 1 or pack.layer(layer).role == "mask" else Image.Resampling.BOX
    buffer = io.BytesIO()
    picture.resize(target, kind).save(buffer, "PNG")
    return buffer.getvalue()


def class_colours() -> np.ndarray:
    """(256, 3) uint8: the colour of each class index. Hues spread by the golden angle, class 0 dark grey."""
    hue = (np.arange(256) * 0.381966) % 1
    shifted = (hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1
    table = (np.clip(np.abs(shifted * 6 - 3) - 1, 0, 1) * 180 + 60).astype(np.uint8)
    table[0] = 40
    return table


def mask_colours(mask: np.ndarray, ignore: int | None = None) -> np.ndarray:
    """(H, W) class indices to (H, W, 3) uint8 colours, see `class_colours`.

    Args:
        ignore: the value of pixels that do not count: light grey.
    """
    table = class_colours()
    if ignore is not None:
        table[ignore] = 215
    return table[mask.astype(np.int64) % 256]


def footprints(
    pack: Pack, *, limit: int | None = None, only: Mapping[str, Sequence[int]] | None = None
) -> dict[str, Any]:
    """A GeoJSON FeatureCollection: one rectangle per georeferenced sample, with id, split, row and label.

    Args:
        limit: at most this many, evenly spread.
        only: split -> rows; the others are left out.
    """
    samples = pack.samples.dropna(subset=["west", "south", "east", "north"])
    if only is not None:
        wanted = pd.MultiIndex.from_tuples([(s, r) for s, rows in only.items() for r in rows], names=["split", "row"])
        samples = samples[pd.MultiIndex.from_frame(samples[["split", "row"]]).isin(wanted)]
    if limit is not None and len(samples) > limit:
        samples = samples.iloc[np.linspace(0, len(samples) - 1, limit).round().astype(int)]
    columns = ["id", "split", "row", "label", "west", "south", "east", "north"]
    features = []
    for id_, split, row, label, west, south, east, north in samples[columns].itertuples(index=False):
        east = east + 360 if east < west else east  # across the antimeridian: one rectangle, not the whole globe
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {
                    "id": id_, "split": split, "row": int(row), "label": label if isinstance(label, str) else None
                },
            }
        )  # fmt: skip
    return {"type": "FeatureCollection", "features": features}
