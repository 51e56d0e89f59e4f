"""Checkpoints of a run: written to a temporary name, then renamed; read newest first, damaged ones passed over."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

#: What reading raises for a file that is cut off, overwritten or not a checkpoint.
_DAMAGED = (
    RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def checkpoint_step(path: Path) -> int:
    """The optimiser step that a checkpoint holds.

    Raises:
        One of `_DAMAGED`: the file is not whole.
    """
    with zipfile.ZipFile(path) as archive:
        # torch.load does not look at the checksums: overwritten weights would load as if nothing had happened.
        if bad := archive.testzip():
            raise zipfile.BadZipFile(f"checksum of {bad}")
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["global_step"])


class Checkpoints:
    """The folder `checkpoints/` of one run: `step-00000050.ckpt`, the newest `keep` of them.

    Args:
        say: called with one line about a damaged checkpoint.
    """

    def __init__(self, folder: Path, keep: int, say: Callable[[str], None] = print) -> None:
        self.folder, self.keep, self.say = folder, keep, say

    def paths(self) -> list[Path]:
        """Finished checkpoints, newest first."""
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Let `write` fill a temporary file, put it in place in one step, and drop what is too old.

        A checkpoint of the same step is replaced.
        """
        self.folder.mkdir(exist_ok=True)
        for leftover in self.folder.glob(".*.part"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        path = self.folder / f"step-{step:08d}.ckpt"
        temporary = self.folder / f".{path.name}.part"
        try:
            write(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def latest(self) -> Path | None:
        """The newest checkpoint that can be read; damaged ones are named, set aside and never used."""
        for path in self.paths():
            try:
                step = checkpoint_step(path)
            except _DAMAGED as error:
                self.say(f"Checkpoint {path.name} is damaged ({type(error).__name__}): trying the one before it.")
                path.replace(path.with_suffix(".damaged"))
                continue
            if f"step-{step:08d}" == path.stem:
                return path
            self.say(f"Checkpoint {path.name} holds step {step}: passed over.")
        return None
