"""A model in one file, to be handed on: a zip with `model.safetensors`, `model.json` and its card `README.md`.

Writing and unpacking need no torch. What arrives from elsewhere is not trusted: only these three names, only regular
files of bounded size, and no weights but safetensors, which hold numbers and nothing that runs.
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, tensors_of
from rsfm.store.runs import is_run_id

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"
#: Largest size in bytes; weights may take what is free on the disk.
LIMITS = {DESCRIPTION: 1_000_000, CARD: 1_000_000}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_CHUNK = 1 << 20
#: What a model may ask for, far beyond any that exists.
MAX_BANDS, MAX_SIDE, MAX_POSITIONS = 1000, 8192, 2**27


def write_package(folder: Path, card: str, output: Path | IO[bytes]) -> None:
    """The zip of the model in `folder`, not compressed: weights do not get smaller.

    Raises:
        RsfmError: the model cannot be read, or the file cannot be written.
    """
    ModelInfo.read(folder)
    tensors_of(folder / WEIGHTS)
    try:
        if isinstance(output, Path):
            temporary = output.with_name(f".{output.name}.{os.getpid()}")
            try:
                _write(folder, card, temporary)
                temporary.replace(output)
            finally:
                temporary.unlink(missing_ok=True)
        else:
            _write(folder, card, output)
    except OSError as error:
        raise RsfmError(f"The package of {folder.name} cannot be written: {error.strerror or error}.") from error


def _write(folder: Path, card: str, output: Path | IO[bytes]) -> None:
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        archive.write(folder / WEIGHTS, WEIGHTS)
        archive.write(folder / DESCRIPTION, DESCRIPTION)
        archive.writestr(CARD, card)


# -- what comes from elsewhere --------------------------------------------------------------------------------------
def unpack(source: Path, target: Path, *, room: int) -> ModelInfo:
    """Copy a model's files from a zip or a folder into the empty folder `target`, and check its description.

    Args:
        room: bytes that may be written.

    Raises:
        RsfmError: names what is wrong, of the files or of what they say.
    """
    if source.is_dir():
        _from_folder(source, target, room)
    elif source.is_file():
        _from_zip(source, target, room)
    else:
        raise RsfmError(f"There is nothing at {source}: give a zip that `rsfm export` wrote, or a model's folder.")
    info = ModelInfo.read(target)
    _require_sound(info)
    tensors_of(target / WEIGHTS)
    return info


def _require_names(names: list[str], where: Path) -> None:
    """Raises RsfmError: a file is missing or has no place in a model."""
    allowed = {WEIGHTS, DESCRIPTION, CARD, "origin.json"}
    for name in names:
        if Path(name).suffix.lower() in _PICKLES:
            raise RsfmError(
                f"{where.name} holds {name!r}: pickled weights can run code when they are opened, so only safetensors "
                "are read. Export the model again with `rsfm export`."
            )
    extra = sorted(set(names) - allowed)
    if extra:
        raise RsfmError(f"{where.name} holds {extra[0]!r}, which has no place in a model.")
    missing = [name for name in (WEIGHTS, DESCRIPTION) if name not in names]
    if missing:
        raise RsfmError(f"{where.name} is no model: {', '.join(missing)} is missing.")
    if len(set(names)) != len(names):
        raise RsfmError(f"{where.name} holds a file twice: which one counts cannot be known.")


def _from_folder(source: Path, target: Path, room: int) -> None:
    found = sorted(source.iterdir())
    _require_names([p.name for p in found], source)
    for file in found:
        if file.name == "origin.json":
            continue  # how it came to its old place
        if file.is_symlink() or not file.is_file():
            raise RsfmError(f"{file} is not a regular file.")
        with file.open("rb") as opened:
            room -= _copy(opened, target / file.name, min(LIMITS.get(file.name, room), room), source)


def _from_zip(source: Path, target: Path, room: int) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            flat = {_flat_name(m, source): m for m in members}
            _require_names([_flat_name(m, source) for m in members], source)
            for name, member in flat.items():
                if name == "origin.json":
                    continue
                with archive.open(member) as opened:
                    room -= _copy(opened, target / name, min(LIMITS.get(name, room), room), source)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise RsfmError(f"{source.name} is not a whole zip file: {error}.") from error
    except RuntimeError as error:  # a password
        raise RsfmError(f"{source.name} cannot be opened: {error}.") from error


def _flat_name(member: zipfile.ZipInfo, source: Path) -> str:
    """A member's name; one folder around all files is fine, a way out of it is not.

    Raises:
        RsfmError: it leads elsewhere, or is a link.
    """
    path = PurePosixPath(member.filename)
    mode = member.external_attr >> 16
    odd = "\\" in member.filename or ":" in member.filename or path.is_absolute() or ".." in path.parts
    if odd or len(path.parts) > 2 or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG)):
        raise RsfmError(
            f"{source.name} holds {member.filename!r}, which is no plain file of a model: nothing was read."
        )
    return path.name


def _copy(source: IO[bytes], target: Path, limit: int, where: Path) -> int:
    """Copy at most `limit` bytes, whatever the file says of its size."""
    size = 0
    with target.open("xb") as out:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise RsfmError(f"{target.name} in {where.name} is larger than {limit:,} bytes: it was not read.")
            out.write(chunk)
    return size


def _require_sound(info: ModelInfo) -> None:
    """Raises RsfmError: the description asks for what no encoder can be."""

    def wrong(what: str) -> RsfmError:
        return RsfmError(f"The description of model {info.name} is not sound: {what}.")

    names = [band.name for band in info.bands]
    if not 0 < len(names) <= MAX_BANDS or len(set(names)) != len(names):
        raise wrong("it needs bands, each of them once")
    for band in info.bands:
        if not (math.isfinite(band.mean) and math.isfinite(band.std) and band.std > 0):
            raise wrong(f"band {band.name} has mean {band.mean} and standard deviation {band.std}")
    if not 0 < info.image_size <= MAX_SIDE:
        raise wrong(f"its images have {info.image_size} pixels per side")
    patch, width = (info.encoder.get(name) for name in ("patch_size", "width"))
    if type(patch) is int and type(width) is int and (info.image_size // max(patch, 1)) ** 2 * width > MAX_POSITIONS:
        raise wrong(f"its {info.image_size} pixels in patches of {patch} are more than fit")
    if not is_run_id(info.name):
        raise wrong("its name is not the id of a run")
    if info.samples < 0 or info.step < 0 or info.feature_dim < 1:
        raise wrong("a count in it is negative")
