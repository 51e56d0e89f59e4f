"""Files that belong together by folder and name: images with masks, or pairs of images with masks."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from data_catalog.readers.image_folder import SPLITS, draw_test
from rsfm.errors import RsfmError

_MASKS = frozenset({"label", "labels", "mask", "masks", "gt", "out"})
#: Layer -> names of the folder that holds its files, whatever their case.
LAYOUTS: dict[str, dict[str, frozenset[str]]] = {
    "segmentation": {"image": frozenset({"image", "images", "img", "imgs"}), "mask": _MASKS},
    "change": {
        "image_pre": frozenset({"a", "im1", "image1", "t1", "time1", "pre", "before"}),
        "image_post": frozenset({"b", "im2", "image2", "t2", "time2", "post", "after"}),
        "mask": _MASKS,
    },
}
_MASK_ENDINGS = re.compile(r"_(mask|masks|label|labels|gt)$", re.I)
_NAMED_SPLIT = re.compile(rf"^({'|'.join(SPLITS)})[_-]", re.I)

_Key = tuple[tuple[str, ...], tuple[str, ...], str]  # folders above the layer's, folders below it, stem


@dataclass(frozen=True)
class Group:
    """One image or pair with its mask.

    Attributes:
        name: unique in the dataset, e.g. `train/scene_7` for `train/A/scene_7.png`.
        files: layer -> path, relative to the source folder.
        problem: (path, reason) where it cannot be used.
    """

    name: str
    split: str | None
    files: dict[str, str]
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class Groups:
    """What a folder holds.

    Attributes:
        folders: layer -> names of its folders, as they are written.
        unused: number of images in other folders.
    """

    items: list[Group]
    folders: dict[str, str]
    unused: int

    @property
    def complete(self) -> list[Group]:
        return [g for g in self.items if g.problem is None]


def group_files(paths: Iterable[str], task: str, below: str = "") -> Groups | None:
    """Put the files of each sample together, by the names of their folders (`LAYOUTS`) and by their own.

    The layers' folders may lie in split folders, hold split folders, or lie in folders of parts; a file's split is
    the folder `train`, `val` or `test` on its way, or what all names begin with (`train_7.png`).

    Args:
        paths: of all images, relative to `below`.
        below: a folder of the source, which is prefixed to each path.

    Returns:
        None where no two files of different layers belong together.
    """
    roles = {name: layer for layer, names in LAYOUTS[task].items() for name in names}
    found: dict[_Key, dict[str, str]] = defaultdict(dict)
    twice: dict[_Key, str] = {}
    folders: dict[str, Counter[str]] = {layer: Counter() for layer in LAYOUTS[task]}
    unused = 0
    masks: list[tuple[_Key, str]] = []
    for path in paths:
        placed = _place(path, roles)
        if placed is None:
            unused += 1
            continue
        layer, key, folder = placed
        folders[layer][folder] += 1
        if layer == "mask":
            masks.append((key, path))
        elif layer in found[key]:
            twice[key] = path
        else:
            found[key][layer] = path
    for key, path in masks:
        plain = (*key[:2], _MASK_ENDINGS.sub("", key[2]))
        own = key if key in found or plain not in found else plain
        if "mask" in found[own]:
            twice[own] = path
        found[own]["mask"] = path
    if not any(len(files) == len(LAYOUTS[task]) for files in found.values()):
        return None
    named = {layer: "/".join(sorted(names)) for layer, names in folders.items()}
    items = [_group(key, files, twice.get(key), named, below) for key, files in sorted(found.items())]
    return Groups(_named_splits(items), named, unused)


def _place(path: str, roles: dict[str, str]) -> tuple[str, _Key, str] | None:
    """(layer, key, folder name) of a file: the deepest folder that is named as a layer's decides."""
    *parts, name = PurePosixPath(path).parts
    for i in reversed(range(len(parts))):
        layer = roles.get(parts[i].lower())
        if layer is not None:
            return layer, (tuple(parts[:i]), tuple(parts[i + 1 :]), PurePosixPath(name).stem), parts[i]
    return None


def _group(key: _Key, files: dict[str, str], twice: str | None, folders: dict[str, str], below: str) -> Group:
    above, inside, stem = key
    split = next((SPLITS[p.lower()] for p in (*above, *inside) if p.lower() in SPLITS), None)
    problem = None
    if missing := [layer for layer in folders if layer not in files]:
        path = next(iter(files.values()))
        problem = (path, f"has no {missing[0]}: there is no file of its name in {folders[missing[0]]}/")
    elif twice:
        problem = (twice, "is the second file of this name in its folder: remove one of them")
    prefix = f"{below}/" if below else ""
    return Group(
        "/".join((*above, *inside, stem)),
        split,
        {layer: prefix + files[layer] for layer in folders if layer in files},
        (prefix + problem[0], problem[1]) if problem else None,
    )


def _named_splits(items: list[Group]) -> list[Group]:
    """Splits from the files' own names, where no folder says them and all names do."""
    if any(g.split for g in items):
        return items
    said = [_NAMED_SPLIT.match(PurePosixPath(g.name).name) for g in items]
    if not all(said):
        return items
    return [replace(g, split=SPLITS[m.group(1).lower()]) for g, m in zip(items, said, strict=True) if m]


def divide(
    items: list[Group], seed: int, test_share: float, scene: Callable[[str], str] = str
) -> tuple[list[Group], str | None]:
    """Give every group a split where the folder names none: a share of the scenes, drawn by a hash, is for testing.

    Args:
        scene: name of a group -> that of the scene that it is a part of; parts of one scene are not divided.

    Returns:
        the groups, and a note on what was done (None where the folder said it all).

    Raises:
        RsfmError: some have a split and others have none, or the share is none.
    """
    without = [g for g in items if g.split is None]
    if not without:
        return items, None
    if len(without) < len(items):
        raise RsfmError(
            f"{len(without)} of {len(items)} images lie in no split folder, e.g. {without[0].name!r}: "
            "put all into train, val or test, or none."
        )
    scenes = list(dict.fromkeys(scene(g.name) for g in items))
    test = draw_test(scenes, seed, test_share, least=1)
    divided = [replace(g, split="test" if scene(g.name) in test else "train") for g in items]
    what = "images" if len(scenes) == len(items) else "scenes"
    drawn = (
        f"{len(test)} of {len(scenes)} {what} (a share of {test_share:.0%}) were drawn as test {what} (seed {seed})."
    )
    return divided, f"No split was given: {drawn}"
