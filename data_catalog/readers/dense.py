"""Images with masks and pairs of images with masks: folders of files, whole or cut into tiles."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_catalog.entry import DatasetEntry, Task
from data_catalog.readers.base import BadFile, EntryReader, Sample, SampleKey
from data_catalog.readers.files import Header, band_order_problem, read_header, read_image
from data_catalog.readers.groups import LAYOUTS, Group, divide, group_files
from data_catalog.readers.image_folder import TEST_SHARE, image_files, usual_header
from data_catalog.readers.masks import MaskCoding
from data_catalog.readers.tiles import IGNORE, Tile, cut_image, cut_mask, tiles
from rsfm.errors import RsfmError
from rsfm.geo import ground_gsd
from rsfm.packs import LayerInfo
from rsfm.specs import PrepareSpec
from rsfm.wording import counted
from rsfm.workspace import Workspace

DEFAULTS: dict[str, Any] = {
    "tile_size": 0, "stride": 0, "edges": "cover", "coding": "index", "values": [], "colours": [], "ignore": [],
    "split_seed": 0, "test_share": TEST_SHARE, "below": [], "scene": "",
}  # fmt: skip


class _Scene(NamedTuple):
    """One group, decoded: arrays by layer, and the header of its first image."""

    arrays: dict[str, np.ndarray]
    header: Header


class DenseFolderReader(EntryReader):
    """Reads groups of files that `find_groups` puts together; subclasses name the task.

    Options (in the entry or in the spec):
        tile_size: pixels, 0 for whole images; stride: of tiles that are not for training, 0 for none; edges: `cover`
            or `drop`. See `tiles`; the spec's own fields win.
        coding, values, colours, ignore: what the numbers in the masks mean, see `MaskCoding`.
        split_seed, test_share: how images are divided where no folder names a split. Tiles follow their image.
        below: folders to look into, the first of these that exists, e.g. `Real/subset`.
        scene: regular expression for the names of images that are themselves cut from larger ones; its group is what
            they were cut from, e.g. `(.+)_\\d+_\\d+` for `test_102_0512_0000`. Such parts are not independent: they are
            divided together, and intervals and tests count what they were cut from. Empty: each image is its own scene.
    """

    task: Task

    def __init__(self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, workspace: Workspace) -> None:
        if clash := sorted({"tile_size", "stride"} & set(spec.options)):
            raise RsfmError(f"Write {' and '.join(clash)} as the spec's own field, not among its options.")
        super().__init__(entry, spec, source, DEFAULTS, tiles=True)
        if not self.source.is_dir():
            raise RsfmError(f"{self.source} is not a folder.")
        self.tile: int = spec.tile_size or self.options["tile_size"]
        self.stride: int = spec.stride or (0 if spec.tile_size else self.options["stride"])
        if self.stride and not self.tile:
            raise RsfmError(f"{entry.title} is not cut into tiles: give a tile size with the stride.")
        self._part_of = self._pattern(self.options["scene"])
        self.coding = MaskCoding.of(self.options, self.classes(), entry.title)
        self._groups = self._list()
        if not any(g.problem is None for g in self._groups):
            path, reason = self._groups[0].problem or ("", "")
            raise RsfmError(f"No image of {entry.title} can be used: {path} {reason}.")
        self._bad: dict[str, BadFile] = {}
        self._where: dict[str, tuple[Group, Tile | None]] = {}
        self._filled, self._cut_off = 0, 0  # images smaller than a tile, images with a remainder that is left out
        self._keys = [key for group in self._groups for key in self._keys_of(group)]
        self._notes += self._split_notes()
        self._last: _Scene | BadFile | None = None
        self._last_name: str | None = None

    @staticmethod
    def _pattern(text: str) -> re.Pattern[str] | None:
        try:
            pattern = re.compile(text) if text else None
        except re.error as error:
            raise RsfmError(f"Option scene, {text!r}, is no regular expression: {error}.") from error
        if pattern is not None and pattern.groups != 1:
            raise RsfmError(f"Option scene, {text!r}, needs one group in parentheses: the name of the larger image.")
        return pattern

    def _scene_of(self, name: str) -> str:
        """The larger image that an image of that name was cut from, or itself."""
        found = self._part_of and self._part_of.fullmatch(name)
        return found[1] if found else name

    # -- what there is -------------------------------------------------------------------------------------------------
    def _list(self) -> list[Group]:
        below = next((b for b in self.options["below"] if (self.source / b).is_dir()), "")
        found = group_files(image_files(self.source / below), self.task, below)
        if found is None:
            wanted = "; ".join(f"{layer} in {' or '.join(sorted(n))}" for layer, n in LAYOUTS[self.task].items())
            raise RsfmError(f"{self.source} holds no files that belong together (looked for {wanted}).")
        if found.unused:
            self._notes.append(f"Not used: {counted(found.unused, 'images')} in other folders.")
        groups, note = divide(found.items, self.options["split_seed"], self.options["test_share"], self._scene_of)
        self._notes += [note] if note else []
        return groups

    def _keys_of(self, group: Group) -> list[SampleKey]:
        split, path, partners = group.split or "train", next(iter(group.files.values())), tuple(self._paths(group))
        try:
            if group.problem is not None:
                raise BadFile(*group.problem)
            places = self._tiles_of(group) if self.tile else [None]
        except BadFile as error:
            self._bad[group.name] = error
            return [SampleKey(group.name, split, path, partners)]
        keys = []
        for tile in places:
            name = f"{group.name}-{tile.name}" if tile else group.name
            self._where[name] = group, tile
            keys.append(SampleKey(name, split, path, partners))
        return keys

    def _tiles_of(self, group: Group) -> list[Tile]:
        headers = {layer: self._header(group, layer) for layer in group.files}
        self._require_equal_sizes(group, {layer: (h.height, h.width) for layer, h in headers.items()})
        size = next(iter(headers.values()))
        stride = 0 if (group.split or "train") == "train" else self.stride
        found = tiles(size.height, size.width, self.tile, self.options["edges"], stride)
        if not found:
            text = f"has {size.height} x {size.width} pixels: no tile of {self.tile} fits into it"
            raise BadFile(group.files[next(iter(headers))], text)
        if self.options["edges"] == "drop":
            self._cut_off += bool(size.height % self.tile or size.width % self.tile)
        else:
            self._filled += min(size.height, size.width) < self.tile
        return found

    def _paths(self, group: Group) -> list[str]:
        """All files of a group, relative to the source."""
        return list(group.files.values())

    def _grid_file(self, group: Group, layer: str) -> str:
        """The file whose header says how large a layer is."""
        return group.files[layer]

    def _header(self, group: Group, layer: str) -> Header:
        path = self._grid_file(group, layer)
        return read_header(self.source / path, path)

    def _require_equal_sizes(self, group: Group, sizes: dict[str, tuple[int, int]]) -> None:
        first, *others = sizes
        for layer in others:
            if sizes[layer] != sizes[first]:
                (h, w), (fh, fw) = sizes[layer], sizes[first]
                raise BadFile(group.files[layer], f"has {h} x {w} pixels, but {group.files[first]} has {fh} x {fw}")

    # -- the reader's contract -----------------------------------------------------------------------------------------
    def classes(self) -> list[str]:
        return self.entry.layer("mask").classes or self.entry.classes

    def layers(self) -> list[LayerInfo]:
        first = next(iter(LAYOUTS[self.task]))
        size, dtype = self.entry.layer(first).size, self.entry.layer(first).dtype
        if self.tile:
            size = self.tile, self.tile
        if size is None or not dtype:
            good = [g for g in self._groups if g.problem is None]
            usual = usual_header(self.source, [self._grid_file(g, first) for g in good])
            size, dtype = size or (usual.height, usual.width), dtype or usual.dtype
        found = []
        for name in LAYOUTS[self.task]:
            layer = self.entry.layer(name)
            if layer.role == "mask":
                mask = self.entry.layer_info(shape=(1, *size), dtype="uint8", name=name)
                found.append(mask.model_copy(update={"classes": self.classes(), "ignore_value": IGNORE}))
            else:
                found.append(self.entry.layer_info(shape=(len(layer.bands), *size), dtype=dtype, name=name))
        return found

    def keys(self) -> list[SampleKey]:
        return self._keys

    def read(self, key: SampleKey) -> Sample:
        if key.id in self._bad:
            raise self._bad[key.id]
        group, tile = self._where[key.id]
        arrays, header = self._scene(group)
        transform, size = header.transform, (header.height, header.width)
        if tile is not None:
            masks = {x.name for x in self.entry.layers if x.role == "mask"}
            cut = {n: (cut_mask if n in masks else cut_image)(a, tile, self.tile) for n, a in arrays.items()}
            arrays, size = cut, (self.tile, self.tile)
            transform = transform and _shifted(transform, tile)
        gsd = ground_gsd(header.crs, transform, *size) or self.entry.gsd_m
        return Sample(
            arrays, scene=self._scene_of(group.name), date=self._date(group), crs=header.crs, transform=transform,
            gsd_m=gsd, part=tile is not None,
        )  # fmt: skip

    def _date(self, group: Group) -> str | None:
        return None

    # -- reading -------------------------------------------------------------------------------------------------------
    def _scene(self, group: Group) -> _Scene:
        """The decoded group; the last one is kept, because its tiles are asked for one after the other."""
        if self._last_name != group.name:
            try:
                self._last = self._decoded(group)
            except BadFile as error:
                self._last = error
            self._last_name = group.name
        if isinstance(self._last, BadFile):
            raise BadFile(self._last.path, self._last.reason)
        assert self._last is not None
        return self._last

    def _decoded(self, group: Group) -> _Scene:
        arrays: dict[str, np.ndarray] = {}
        first: Header | None = None
        for name in group.files:
            if self.entry.layer(name).role == "mask":
                arrays[name] = self.coding.read(self.source / group.files[name], group.files[name])
                continue
            header, arrays[name] = self._image(group, name)
            first = first or header
            if self.tile and (arrays[name] == arrays[name][:, :1, :1]).all():
                raise BadFile(group.files[name], "is constant: no image, only fill")
        self._require_equal_sizes(group, {name: a.shape[1:] for name, a in arrays.items()})
        assert first is not None
        return _Scene(arrays, first)

    def _image(self, group: Group, layer: str) -> tuple[Header, np.ndarray]:
        path = group.files[layer]
        header, image = read_image(self.source / path, path)
        if problem := band_order_problem(header, [b.name for b in self.entry.layer(layer).bands]):
            raise BadFile(path, problem)
        return header, image

    def _split_notes(self) -> list[str]:
        """What a tile is, and how many images each split has."""
        if not self.tile:
            return []
        used = [g for g in self._groups if g.name not in self._bad]
        counts = Counter(g.split or "train" for g in used)
        divided = ", ".join(f"{counted(n, 'images')} in {split}" for split, n in counts.items())
        notes = [f"Tiles of one image stay in one split: {divided}."]
        slid = {g.name for g in used if self.stride and (g.split or "train") != "train"}
        if any(tile and not tile.whole(self.tile) for g, tile in self._where.values() if g.name not in slid):
            notes.append(
                f"Tiles of {self.tile} pixels cover every image whole. Where the last tile of a row or column overlaps "
                f"the one before, its mask holds {IGNORE}, so that every pixel counts once."
            )
        if slid:
            notes.append(
                f"Where they are not for training, tiles of {self.tile} pixels are {self.stride} apart: every pixel "
                f"counts once, where it lies farthest from a tile's edge; other masks hold {IGNORE} there."
            )
        if self._cut_off:
            notes.append(
                f"Left out: right and bottom edges, less than a tile wide, of {counted(self._cut_off, 'images')}."
            )
        if self._filled:
            notes.append(
                f"Smaller than a tile: {counted(self._filled, 'images')}. Beyond its edges lies a mirror image, with "
                f"{IGNORE} in the mask."
            )
        return notes


class SegmentationFolderReader(DenseFolderReader):
    """`images/` and `masks/` (or `labels/`), in split folders or not."""

    task: Task = "segmentation"


class ChangeFolderReader(DenseFolderReader):
    """`A/`, `B/` and `label/`, in split folders or not."""

    task: Task = "change"


def _shifted(transform: tuple[float, ...], tile: Tile) -> tuple[float, ...]:
    a, b, c, d, e, f = transform[:6]
    return a, b, c + a * tile.column + b * tile.row, d, e, f + d * tile.column + e * tile.row
