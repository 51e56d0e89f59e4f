"""Layers of a map while it is made: plain bytes row after row, and a note of how many rows are complete.

A run that was killed goes on behind the last strip that the note counts; what was written after it is cut off.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsfm.store.files import read_json, write_json


class PartialLayers:
    """Layers of uint8 of one width in `folder`.

    Args:
        request: whatever decides the content; layers of another request are thrown away.
    """

    def __init__(self, folder: Path, width: int, names: Sequence[str], request: Any) -> None:
        self.folder, self.width, self.names, self.request = folder, width, list(names), request
        note = read_json(self._note)
        self.rows: int = 0
        if isinstance(note, dict) and note.get("request") == request and self._whole(note.get("rows")):
            self.rows = note["rows"]
        else:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            self.file(name).touch()
            os.truncate(self.file(name), self.rows * width)

    @property
    def _note(self) -> Path:
        return self.folder / "complete.json"

    def _whole(self, rows: Any) -> bool:
        """Whether every layer holds as many rows as were noted."""
        files = [self.file(name) for name in self.names]
        return isinstance(rows, int) and all(f.is_file() and f.stat().st_size >= rows * self.width for f in files)

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def append(self, layers: Mapping[str, np.ndarray]) -> None:
        """One strip of every layer, (h, width) uint8; complete once this returns."""
        for name in self.names:
            with self.file(name).open("ab") as file:
                file.write(np.ascontiguousarray(layers[name]).tobytes())
                file.flush()
                os.fsync(file.fileno())
        self.rows += len(layers[self.names[0]])
        write_json(self._note, {"rows": self.rows, "request": self.request})

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """(stop - start, width) uint8."""
        count = (stop - start) * self.width
        return np.fromfile(self.file(name), np.uint8, count, offset=start * self.width).reshape(-1, self.width)
