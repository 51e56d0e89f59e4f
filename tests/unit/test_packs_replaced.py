"""An opened pack keeps its content when another pack takes its name."""

from __future__ import annotations

import numpy as np
import pytest

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.workspace import Workspace

BANDS = [Band("red", 665, 10, "uint8")]


def write(workspace: Workspace, value: int, count: int = 5) -> Pack:
    return write_arrays(workspace, "p", {"train": np.full((count, 1, 8, 8), value, np.uint8)}, BANDS)


def test_an_opened_pack_keeps_its_pixels(workspace: Workspace) -> None:
    first = write(workspace, 1)
    second = write(workspace, 9)
    assert first.info.content_hash != second.info.content_hash
    assert np.unique(first.array("train")).tolist() == [1]
    assert np.unique(Pack.named(workspace, "p").array("train")).tolist() == [9]


def test_samples_of_another_pack_are_refused(workspace: Workspace) -> None:
    first = write(workspace, 1, count=5)
    write(workspace, 9, count=3)
    with pytest.raises(RsfmError, match="was replaced"):
        _ = first.samples
