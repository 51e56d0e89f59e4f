"""Pictures of an unknown folder or scene before anything is kept: few files, read thinned out.

Files that cannot be read are named; what would take long is passed over and counted. No torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_catalog.describe import Understanding
from data_catalog.entry import DatasetEntry, EntryLayer
from data_catalog.examples import SHOWN, choose
from data_catalog.readers.base import BadFile, LeftOut, Reader
from data_catalog.readers.dense import DEFAULTS
from data_catalog.readers.files import RASTERS, Header, read_header, read_image, read_raster_at
from data_catalog.readers.masks import MaskCoding
from data_catalog.readers.tiles import IGNORE
from rsfm.rasters import open_raster
from rsfm.registry import load
from rsfm.specs import PrepareSpec
from rsfm.thumbs import display_bands, mask_colours, stretch
from rsfm.workspace import Workspace

#: Pixels of a picture's longer side: of a sample, of a scene.
SIDE, SCENE_SIDE = 192, 896
#: Stored pixels that may be decoded for all pictures together.
MOST_PIXELS = 250_000_000


@dataclass(frozen=True)
class Place:
    """Where a scene lies: of its whole grid, whatever its picture's size."""

    crs: str
    transform: tuple[float, ...]
    height: int
    width: int


@dataclass(frozen=True)
class Sight:
    """One sample, or one scene.

    Attributes:
        pictures: (layer, (H, W, 4) uint8); see-through where nothing was observed.
        shape: (height, width) of its image as stored.
    """

    name: str
    label: str | None
    pictures: tuple[tuple[str, np.ndarray], ...]
    shape: tuple[int, int]
    place: Place | None = None


@dataclass(frozen=True)
class Preview:
    """What is shown.

    Attributes:
        bands: of the pictures: one (grey) or three (red, green, blue).
        pixels: of the label maps among the sights, whole: how many pixels each class has, and behind them how many are
            not labelled; empty where there are none.
        bad: files that were tried and cannot be used.
        too_large: names of samples that take too long to read for a picture.
    """

    sights: tuple[Sight, ...]
    bands: tuple[str, ...]
    pixels: tuple[int, ...] = ()
    bad: tuple[BadFile, ...] = ()
    too_large: tuple[str, ...] = ()


class _TooLarge(Exception):
    """What is left of `MOST_PIXELS` is not enough."""


@dataclass
class _Raw:
    """A sample before its pictures are stretched: planes of the shown bands by layer, and class indices of masks."""

    name: str
    label: str | None
    planes: dict[str, np.ndarray]  # (1 or 3, H, W) float32, NaN where nothing was observed
    masks: dict[str, np.ndarray]  # (H, W) uint8
    header: Header
    pixels: np.ndarray | None = None  # (256,) of each class index, before the masks were thinned out


def stamp(found: Understanding) -> str:
    """A key of what was understood and of the files that would be shown: other content, another key."""
    digest = hashlib.blake2b(found.entry.model_dump_json().encode(), digest_size=12)
    source = Path(found.entry.default_source)
    for path in [source, *(_folder(source) / path for example in found.examples for _, path in example.files)]:
        try:
            state = path.stat()
            digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0".encode(errors="surrogateescape"))
        except OSError:
            digest.update(f"{path}\0gone\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def preview(found: Understanding) -> Preview:
    """Read the examples, thinned out, and make pictures of them; all pictures share one stretch.

    Raises:
        RsfmError: the folder is not what it was understood to be.
    """
    layer = next(x for x in found.entry.layers if x.role == "image")
    names = display_bands(layer.bands)
    positions = [[b.name for b in layer.bands].index(name) for name in names]
    reading = _Reading(found, positions)
    raws = list(reading.patches() if found.entry.task == "multilabel" else reading.examples())
    limits = _limits([planes for raw in raws for planes in raw.planes.values()], len(names))
    raws.sort(key=lambda raw: (raw.label or "", raw.name))
    sights = tuple(_sight(raw, limits, reading.side, found.is_scene) for raw in raws)
    return Preview(
        sights, tuple(names), _pixels(raws, found.entry), bad=tuple(reading.bad), too_large=tuple(reading.too_large)
    )


def _pixels(raws: list[_Raw], entry: DatasetEntry) -> tuple[int, ...]:
    mask = next((x for x in entry.layers if x.role == "mask"), None)
    counted = [raw.pixels for raw in raws if raw.pixels is not None]
    if mask is None or not counted:
        return ()
    total = np.sum(counted, axis=0)
    return (*map(int, total[: len(mask.classes)]), int(total[IGNORE]))


def _folder(source: Path) -> Path:
    return source.parent if source.is_file() else source


class _Reading:
    """One pass over the examples."""

    def __init__(self, found: Understanding, positions: list[int]) -> None:
        self.found, self.entry, self.positions = found, found.entry, positions
        self.source = Path(found.entry.default_source)
        self.folder = _folder(self.source)
        self.side = SCENE_SIDE if found.is_scene else SIDE
        self.bad: list[BadFile] = []
        self.too_large: list[str] = []
        self._left = MOST_PIXELS
        self._coding = _coding_of(found.entry)

    def examples(self) -> Iterator[_Raw]:
        good = 0
        for example in self.found.examples:
            try:
                yield self._read(example.name, example.label, dict(example.files))
            except BadFile as error:
                self.bad.append(error)
            except _TooLarge:
                self.too_large.append(example.name)
            else:
                good += 1
                if good == SHOWN:
                    return

    def patches(self) -> Iterator[_Raw]:
        """Of BigEarthNet, whose small patches have a file per band."""
        reader: Reader = load(self.entry.reader or "")(
            self.entry, PrepareSpec(dataset=self.entry.name), self.source, Workspace(self.folder)
        )
        keys, good = reader.keys(), 0
        for i in choose([None] * len(keys)):
            try:
                sample = reader.read(keys[i])
            except BadFile as error:
                self.bad.append(error)
                continue
            except LeftOut:
                continue
            image = sample.arrays["image"]
            header = Header(len(image), *image.shape[1:], str(image.dtype))
            planes = image[self.positions].astype(np.float32)
            yield _Raw(keys[i].id, ", ".join(sample.labels or []), {"image": planes}, {}, header)
            good += 1
            if good == SHOWN:
                return

    def _read(self, name: str, label: str | None, files: dict[str, str]) -> _Raw:
        headers = {layer: read_header(self.folder / path, path) for layer, path in files.items()}
        first = next(iter(headers.values()))
        planes, masks, pixels = {}, {}, None
        for layer, path in files.items():
            header = headers[layer]
            if (header.height, header.width) != (first.height, first.width):
                said = f"{first.height} x {first.width}, as {next(iter(files.values()))} has"
                raise BadFile(path, f"has {header.height} x {header.width} pixels instead of {said}")
            if self.entry.layer(layer).role == "mask":
                self._spend(header.height * header.width)
                assert self._coding is not None
                whole = self._coding.read(self.folder / path, path)[0]
                pixels = np.bincount(whole.ravel(), minlength=256)
                masks[layer] = _fewer(whole, self.side)
            else:
                planes[layer] = self._planes(path, header, self.entry.layer(layer))
        return _Raw(name, label, planes, masks, first, pixels)

    def _planes(self, path: str, header: Header, layer: EntryLayer) -> np.ndarray:
        if header.count != len(layer.bands):
            raise BadFile(path, f"has {header.count} bands instead of {len(layer.bands)}")
        if layer.dtype and header.dtype != layer.dtype:
            raise BadFile(path, f"holds {header.dtype} values instead of {layer.dtype}")
        file, longest = self.folder / path, max(header.height, header.width)
        if file.suffix.lower() in RASTERS and longest > self.side:
            self._spend(_to_decode(file, header, longest / self.side))
            target = [max(1, round(n * self.side / longest)) for n in (header.height, header.width)]
            stored = read_raster_at(file, path, *target, bands=[p + 1 for p in self.positions])[1]
        else:
            self._spend(header.height * header.width)
            stored = read_image(file, path)[1][self.positions]
        planes = stored.astype(np.float32)
        nodata = layer.nodata if layer.nodata is not None else header.nodata
        if nodata is not None:
            planes[:, (stored == nodata).all(axis=0)] = np.nan
        return _smaller(planes, self.side)

    def _spend(self, pixels: int) -> None:
        if pixels > self._left:
            raise _TooLarge
        self._left -= pixels


def _coding_of(entry: DatasetEntry) -> MaskCoding | None:
    mask = next((x for x in entry.layers if x.role == "mask"), None)
    return MaskCoding.of({**DEFAULTS, **entry.reader_options}, mask.classes, entry.title) if mask else None


def _to_decode(file: Path, header: Header, factor: float) -> int:
    """Pixels that are decoded for a picture so many times smaller: of the smaller copy that fits, else all."""
    with open_raster(file) as dataset:
        copies = [o for o in dataset.overviews(1) if o <= factor]
    return header.height * header.width // max([1, *copies]) ** 2


def _smaller(planes: np.ndarray, side: int) -> np.ndarray:
    """(C, H, W) float32, its longer side at most `side` pixels, each the mean of those that it stands for."""
    height, width = planes.shape[1:]
    if max(height, width) <= side:
        return planes
    target = [max(1, round(n * side / max(height, width))) for n in (width, height)]
    return np.stack([np.asarray(Image.fromarray(plane).resize(target, Image.Resampling.BOX)) for plane in planes])


def _fewer(mask: np.ndarray, side: int) -> np.ndarray:
    """(H, W), as `_smaller` but of single pixels: there is no mean of classes."""
    factor = side / max(mask.shape)
    if factor >= 1:
        return mask
    rows, columns = (
        ((np.arange(max(1, round(n * factor))) + 0.5) / factor).astype(int).clip(0, n - 1) for n in mask.shape
    )
    return mask[rows][:, columns]


def _limits(images: list[np.ndarray], count: int) -> list[tuple[float, float]]:
    """2nd and 98th percentile of each shown band, over all images."""
    found = []
    for i in range(count):
        values = [image[i][np.isfinite(image[i])][::7] for image in images]
        joined = np.concatenate(values) if values else np.empty(0)
        low, high = np.percentile(joined, (2, 98)) if joined.size else (0.0, 1.0)
        found.append((float(low), float(high)))
    return found


def _sight(raw: _Raw, limits: list[tuple[float, float]], side: int, is_scene: bool) -> Sight:
    pictures: list[tuple[str, np.ndarray]] = []
    for layer, planes in raw.planes.items():
        shown = [stretch(plane, *limit) for plane, limit in zip(planes, limits, strict=True)]
        alpha = np.where(np.isfinite(planes).all(axis=0), 255, 0).astype(np.uint8)
        pictures.append((layer, np.stack([*(shown * 3 if len(shown) == 1 else shown), alpha], axis=-1)))
    for layer, mask in raw.masks.items():
        colours = mask_colours(mask, IGNORE)
        pictures.append((layer, np.dstack([colours, np.full(mask.shape, 255, np.uint8)])))
    header, place = raw.header, None
    if is_scene and header.crs and header.transform:
        place = Place(header.crs, header.transform, header.height, header.width)
    enlarged = tuple((layer, _enlarged(picture, side)) for layer, picture in pictures)
    return Sight(raw.name, raw.label, enlarged, (header.height, header.width), place)


def _enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """Whole times larger, as far as it fits: pixels stay pixels."""
    factor = max(1, side // max(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
