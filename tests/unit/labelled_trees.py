"""Small folders of images with masks, and of pairs with masks, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rasters import save

from data_catalog.add import understand
from data_catalog.entry import write_registered
from data_catalog.prepare import prepare
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec
from rsfm.workspace import Workspace

SIDE = 16
NAMES = [f"place_{i}" for i in range(10)]


def picture(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def truth(seed: int, height: int = SIDE, width: int = SIDE, classes: int = 2) -> np.ndarray:
    """(H, W) uint8 class indices; every class occurs."""
    mask = np.random.default_rng([seed, 1]).integers(0, classes, (height, width), np.uint8)
    mask.flat[:classes] = np.arange(classes)
    return mask


def segmentation_tree(root: Path, names: list[str], classes: int = 3) -> Path:
    """images/<name>.png with masks/<name>.png of class indices; the n-th has seed n. A name may hold folders."""
    for seed, name in enumerate(names):
        above, _, stem = name.rpartition("/")
        save(root / above / "images" / f"{stem}.png", picture(seed))
        save(root / above / "masks" / f"{stem}.png", truth(seed, classes=classes))
    return root


def change_tree(
    root: Path, names: list[str], *, folders=("A", "B", "label"), ending: str = "png", high: int = 255, **options
) -> Path:
    """A, B and label with binary masks of 0 and `high`; the n-th pair has seeds 2n and 2n + 1."""
    for n, name in enumerate(names):
        above, _, stem = name.rpartition("/")
        arrays = (picture(2 * n), picture(2 * n + 1), truth(n) * np.uint8(high))
        for folder, array in zip(folders, arrays, strict=True):
            save(root / above / folder / f"{stem}.{ending}", array, **options)
    return root


def pack_of(folder: Path, workspace: Workspace, known: dict[str, Any] | None = None, **spec: Any) -> Pack:
    """The folder as dataset `mine`: understood, registered and prepared."""
    write_registered(understand(folder, "mine", **(known or {})).entry, workspace)
    prepare(PrepareSpec(dataset="mine", **spec), workspace)
    return Pack.named(workspace, "mine")


def rows(pack: Pack) -> list[tuple[str, int, pd.Series]]:
    """(split, row number, sample) of all samples."""
    return [(s, i, row) for s in pack.info.splits for i, row in pack.split_samples(s).iterrows()]
