"""A folder of images, with `labels.csv`, with one folder per class, or without labels."""

from __future__ import annotations

import csv
import hashlib
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_catalog.entry import DatasetEntry, Task
from data_catalog.readers.base import BadFile, EntryReader, Sample, SampleKey
from data_catalog.readers.files import IMAGES, Header, band_order_problem, read_header, read_image
from rsfm.errors import RsfmError
from rsfm.geo import ground_gsd
from rsfm.packs import LayerInfo
from rsfm.specs import PrepareSpec
from rsfm.wording import counted
from rsfm.workspace import Workspace

LABELS = "labels.csv"
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
TEST_SHARE = 0.2
_LOOKED_INTO = 128  # files whose header decides what the usual size is


@dataclass(frozen=True)
class Item:
    """One image of the folder."""

    path: str  # relative, with forward slashes
    label: str | None
    split: str | None  # None: the folder does not say


@dataclass(frozen=True)
class Listing:
    """What a folder holds and how that was found."""

    items: list[Item]
    how: str  # "labels.csv", "class folders" or "images"
    notes: list[str]

    @property
    def classes(self) -> list[str]:
        return sorted({item.label for item in self.items if item.label is not None})


@dataclass(frozen=True)
class Bounds:
    """How much of a folder is looked through before it is refused as too large, where somebody waits."""

    files: int = 1_000_000
    seconds: float = 20.0


def image_files(folder: Path, bounds: Bounds | None = None) -> list[str]:
    """Relative paths of all images below the folder, sorted; hidden files and folders are left out.

    Raises:
        RsfmError: the folder cannot be listed, or there is more below it than the bounds allow.
    """
    begun, seen, found = time.monotonic(), 0, []

    def refuse(error: OSError) -> None:
        if error.filename == str(folder):  # below it, what is not ours to read is left out
            raise RsfmError(f"{folder} cannot be listed: {error.strerror}.") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [f for f in folders if not f.startswith(".")]
        seen += len(files)
        if bounds is not None and (seen > bounds.files or time.monotonic() - begun > bounds.seconds):
            raise RsfmError(
                f"There are more files below {folder} than can be looked through here ({seen:,} in "
                f"{time.monotonic() - begun:.0f} s so far): name the folder of the dataset alone, or register it with "
                f"rsfm data add {folder}"
            )
        images = (Path(place, f) for f in files if Path(f).suffix.lower() in IMAGES and not f.startswith("."))
        found += [p.relative_to(folder).as_posix() for p in images if p.is_file()]
    return sorted(found)


def list_folder(folder: Path, files: list[str] | None = None, bounds: Bounds | None = None) -> Listing:
    """Find images, labels and splits.

    Args:
        files: what `image_files` gave, where that was asked already.
        bounds: for `image_files`.

    Raises:
        RsfmError: not a folder, no image in it, more than the bounds allow, or a labels.csv that cannot be understood.
    """
    if not folder.is_dir():
        raise RsfmError(f"{folder} is not a folder.")
    files = image_files(folder, bounds) if files is None else files
    if (folder / LABELS).is_file():
        items = _from_csv(folder / LABELS)
        listed = {item.path for item in items}
        extra = sum(f not in listed for f in files)
        notes = [f"Not used, for {LABELS} does not name them: {counted(extra, 'images')}."] if extra else []
        return Listing(items, LABELS, notes)
    if not files:
        raise RsfmError(f"There is no image below {folder} (looked for {', '.join(sorted(IMAGES))}).")
    items = [_from_path(f) for f in files]
    if all(item.label is not None for item in items) and len({item.label for item in items}) > 1:
        return Listing(items, "class folders", [])
    return Listing([Item(item.path, None, item.split) for item in items], "images", [])


def _from_path(path: str) -> Item:
    *folders, _ = PurePosixPath(path).parts
    split = SPLITS.get(folders[0].lower()) if folders else None
    rest = folders[1:] if split else folders
    return Item(path, rest[-1] if len(rest) == 1 else None, split)


def _from_csv(file: Path) -> list[Item]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = reader.fieldnames or []
        if "file" not in columns:
            raise RsfmError(f"{file} needs the columns file,label[,split]; it has {','.join(columns) or 'none'}.")
        items, seen = [], set()
        for number, row in enumerate(reader, start=2):
            path = (row["file"] or "").strip().replace("\\", "/")
            if not path or path.startswith("/") or ".." in PurePosixPath(path).parts:
                raise RsfmError(f"{file}, line {number}: {path!r} is not a file below this folder.")
            if path in seen:
                raise RsfmError(f"{file}, line {number}: {path!r} is named twice.")
            seen.add(path)
            split = (row.get("split") or "").strip()
            items.append(Item(path, (row.get("label") or "").strip() or None, SPLITS.get(split.lower(), split) or None))
    if not items:
        raise RsfmError(f"{file} names no image.")
    if not any(item.split for item in items):
        items = [Item(item.path, item.label, _from_path(item.path).split) for item in items]
    return items


def assign_splits(items: list[Item], seed: int, test_share: float = TEST_SHARE) -> tuple[list[Item], str | None]:
    """Give every image a split where the folder names none.

    Labelled images are divided per class by a hash of (seed, path), so the division does not change when files of
    other classes come or go. Unlabelled ones are all for training.

    Returns:
        the items, and a note on what was done (None where the folder said it all).

    Raises:
        RsfmError: some images have a split and others have none.
    """
    without = [item for item in items if item.split is None]
    if not without:
        return items, None
    if len(without) < len(items):
        raise RsfmError(
            f"{len(without)} of {len(items)} images have no split, e.g. {without[0].path!r}: name all or none."
        )
    if not any(item.label for item in items):
        return [Item(i.path, i.label, "train") for i in items], None
    test: set[str] = set()
    for label in {item.label for item in items}:
        test |= draw_test([i.path for i in items if i.label == label], seed, test_share)
    divided = [Item(i.path, i.label, "test" if i.path in test else "train") for i in items]
    return divided, f"No split was given: {test_share:.0%} of each class were drawn as test images (seed {seed})."


def draw_test(names: list[str], seed: int, share: float, least: int = 0) -> set[str]:
    """The share of the names that comes first by a hash of (seed, name), rounded; none of a single one.

    Args:
        least: draw this many where the share is less (but not none).

    Raises:
        RsfmError: the share is not in 0..1.
    """
    if not 0 <= share < 1:
        raise RsfmError(f"Option test_share must be in 0..1, got {share}.")
    drawn = sorted(names, key=lambda n: hashlib.blake2b(f"{seed}:{n}".encode(), digest_size=8).digest())
    number = max(int(len(drawn) * share + 0.5), least if share else 0)
    return set(drawn[:number]) if len(drawn) > 1 else set()


def usual_header(folder: Path, paths: list[str]) -> Header:
    """The most frequent (bands, size, type) among evenly spread files.

    Raises:
        RsfmError: none of them can be opened.
    """
    step = max(1, len(paths) // _LOOKED_INTO)
    headers: list[Header] = []
    reasons: list[BadFile] = []
    for path in paths[::step]:
        try:
            headers.append(read_header(folder / path, path))
        except BadFile as error:
            reasons.append(error)
    if not headers:
        raise RsfmError(f"None of the images in {folder} can be opened: {reasons[0].path} {reasons[0].reason}.")
    common = Counter((h.count, h.height, h.width, h.dtype) for h in headers).most_common(1)[0][0]
    return next(h for h in headers if (h.count, h.height, h.width, h.dtype) == common)


class ImageFolderReader(EntryReader):
    """Reads what `list_folder` finds. Band names, units and scaling come from the entry."""

    def __init__(self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, workspace: Workspace) -> None:
        super().__init__(entry, spec, source, {"split_seed": 0, "test_share": TEST_SHARE})
        self._items = self._list()
        self._by_path = {item.path: item for item in self._items}

    def _list(self) -> list[Item]:
        listing = list_folder(self.source)
        items, note = assign_splits(listing.items, self.options["split_seed"], self.options["test_share"])
        self._notes += [*listing.notes, *([note] if note else [])]
        return items

    @property
    def task(self) -> Task:
        return "classification" if any(item.label for item in self._items) else "unlabelled"

    def classes(self) -> list[str]:
        found = sorted({item.label for item in self._items if item.label is not None})
        return self.entry.classes if self.entry.classes and found else found

    def layers(self) -> list[LayerInfo]:
        layer = self.entry.layer()
        shape: tuple[int, int, int]
        dtype = layer.dtype
        if layer.size is not None and dtype:
            shape = (len(layer.bands), *layer.size)
        else:
            header = usual_header(self.source, [item.path for item in self._items])
            shape, dtype = (len(layer.bands), header.height, header.width), dtype or header.dtype
        return [self.entry.layer_info(shape=shape, dtype=dtype)]

    def keys(self) -> list[SampleKey]:
        return [SampleKey(item.path, item.split or "train", item.path) for item in self._items]

    def read(self, key: SampleKey) -> Sample:
        item = self._by_path[key.path]
        if self.task == "classification" and item.label is None:
            raise BadFile(key.path, "has no label")
        header, image = read_image(self.source / key.path, key.path)
        if problem := band_order_problem(header, [b.name for b in self.entry.bands]):
            raise BadFile(key.path, problem)
        return Sample(
            {"image": image}, label=item.label, crs=header.crs, transform=header.transform,
            gsd_m=ground_gsd(header.crs, header.transform, header.height, header.width) or self.entry.gsd_m,
        )  # fmt: skip
