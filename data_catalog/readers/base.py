"""The contract between a dataset's reader and the preparation of packs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from data_catalog.readers.options import read_options
from rsfm.errors import RsfmError
from rsfm.packs import LayerInfo
from rsfm.specs import PrepareSpec
from rsfm.workspace import Workspace

if TYPE_CHECKING:
    from data_catalog.entry import DatasetEntry, Task


@dataclass(frozen=True)
class SampleKey:
    """Names one sample before it is read.

    Attributes:
        id: unique and stable.
        split: where it belongs.
        path: its file, relative to the source folder; empty where there is none.
        partners: further files that it is made from (second image, mask): when one changes, the pack is made anew.
    """

    id: str
    split: str
    path: str = ""
    partners: tuple[str, ...] = ()


@dataclass
class Sample:
    """One sample as stored: arrays by layer name, (C, H, W) in the layer's dtype; and what is known of it.

    Attributes:
        part: it is a piece of a larger image that was checked as a whole, so it may be of one value only.
    """

    arrays: dict[str, np.ndarray]
    label: str | None = None
    labels: list[str] | None = None
    scene: str | None = None
    date: str | None = None
    crs: str | None = None
    transform: tuple[float, ...] | None = None
    gsd_m: float | None = None
    part: bool = False


class BadFile(Exception):
    """One sample cannot be used; the preparation reports it by name and skips it with a count, or refuses."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class LeftOut(Exception):
    """One sample is not meant to be used (a tile outside the scene): counted, but not a fault of the data."""


class Reader(Protocol):
    """Reads one dataset.

    `keys()` is deterministic and cheap; `layers()` may look into a few files, but never reads them all.
    """

    synthetic: bool
    task: Task
    origin: str  # where the data comes from, in words, never a local path; part of the request's hash

    def __init__(self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, workspace: Workspace) -> None: ...

    def layers(self) -> list[LayerInfo]:
        """Sizes, types and bands of what `read` gives, without statistics."""
        ...

    def classes(self) -> list[str]: ...

    def keys(self) -> list[SampleKey]: ...

    def read(self, key: SampleKey) -> Sample:
        """Raises BadFile (unusable) or LeftOut (not meant to be used)."""
        ...

    def notes(self) -> list[str]:
        """What a user of the pack should know, one sentence each."""
        ...


class EntryReader:
    """What readers of files share: the entry, the options, the source, and notes.

    Attributes:
        source: where the data is; wanted: what that is, and how it is named.
    """

    synthetic = False
    wanted: ClassVar[tuple[str, str]] = "its folder", "DIR"

    def __init__(
        self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, defaults: dict[str, Any], *,
        tiles: bool = False,
    ) -> None:  # fmt: skip
        """Args: defaults, tiles: see `read_options`; the entry's own options win over the defaults.

        Raises:
            RsfmError: as `read_options`, or no source is named.
        """
        self.entry = entry
        self.options = read_options(spec, {**defaults, **entry.reader_options}, tiles=tiles)
        if source is None:
            what, named = self.wanted
            raise RsfmError(f"Where is {entry.title}? Name {what}: rsfm data prepare {entry.name} --source {named}")
        self.source = source
        self._notes: list[str] = []

    @property
    def origin(self) -> str:
        return self.entry.homepage or self.entry.title

    def classes(self) -> list[str]:
        return self.entry.classes

    def notes(self) -> list[str]:
        return self._notes
