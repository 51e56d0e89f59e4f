"""A model in one file, to be handed on: a zip with `model.safetensors`, `model.json` and its card `README.md`.

Writing and unpacking need no torch. What arrives from elsewhere is not trusted: only these three names, only regular
files of bounded size, and no weights but safetensors, which hold numbers and nothing that runs.
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, tensors_of
from rsfm.store.runs import is_run_id

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "model.json", "README.md"
#: The decoder for pairs of images, of methods that train one. Stays where the model was trained.
DECODER = "decoder.safetensors"
#: Largest size in bytes; that of weights follows from the description.
LIMITS = {DESCRIPTION: 1_000_000, CARD: 1_000_000}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_CHUNK = 1 << 20
#: What a model may ask for, far beyond any that exists.
MAX_BANDS, MAX_SIDE, MAX_TEXT, MAX_COUNT = 1000, 8192, 300, 2**53
#: Means and standard deviations beyond it are nothing in float32.
_HUGE = 1e30
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, UnicodeDecodeError, zlib.error)
Open = Callable[[], IO[bytes]]


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
def staging_name(pid: int) -> str:
    """How the folders begin in which a process checks what it imports."""
    return f".import-{pid}-"


def unpack(source: Path, target: Path, *, room: int, weights_size: Callable[[ModelInfo], int]) -> ModelInfo:
    """Copy a model's files from a zip or a folder into the empty folder `target`.

    The description comes first and is checked; no more is written of the weights than it asks for.

    Args:
        room: bytes that may be written.
        weights_size: how many bytes the weights of such a model have at most.

    Raises:
        RsfmError: names what is wrong, of the files or of what they say.
    """
    with _members(source) as members:

        def copy(name: str, limit: int) -> int:
            with _damage_named(source), members[name]() as opened:
                return _copy(opened, target / name, limit, source)

        room -= copy(DESCRIPTION, min(LIMITS[DESCRIPTION], room))
        info = ModelInfo.read(target)
        _require_sound(info)
        if CARD in members:
            room -= copy(CARD, min(LIMITS[CARD], room))
        copy(WEIGHTS, min(weights_size(info), room))
    tensors_of(target / WEIGHTS)
    return info


@contextmanager
def _members(source: Path) -> Iterator[dict[str, Open]]:
    """The files of a zip or a folder, to be opened one by one.

    Raises:
        RsfmError: it is neither, is damaged, or holds what is no part of a model.
    """
    if source.is_dir():
        files = sorted(source.iterdir())
        _require_names([f.name for f in files], source)
        for file in files:
            if file.is_symlink() or not file.is_file():
                raise RsfmError(f"{file} is not a regular file.")
        yield {f.name: partial(f.open, "rb") for f in files}
        return
    if not source.is_file():
        raise RsfmError(f"There is nothing at {source}: give a zip that `rsfm export` wrote, or a model's folder.")
    with _damage_named(source):
        archive = zipfile.ZipFile(source)
    with archive:
        members = [m for m in archive.infolist() if not m.filename.endswith("/")]
        names = [_flat_name(m, source) for m in members]
        _require_names(names, source)
        yield {n: partial(archive.open, m) for n, m in zip(names, members, strict=True)}


@contextmanager
def _damage_named(source: Path) -> Iterator[None]:
    """Raises RsfmError: the zip is damaged, or locked by a password."""
    try:
        yield
    except _DAMAGE as error:
        raise RsfmError(f"{source.name} is not a whole zip file: {error}.") from error
    except RuntimeError as error:  # a password
        raise RsfmError(f"{source.name} cannot be opened: {error}.") from error


def _require_names(names: list[str], where: Path) -> None:
    """Raises RsfmError: a file is missing or has no place in a model."""
    allowed = {WEIGHTS, DESCRIPTION, CARD, "origin.json", DECODER}
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
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RsfmError(f"{source.name} is packed in an unusual way: pack {path.name} again as a plain zip.")
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

    for field, value in (*info, *((f"band {i} {f}", v) for i, band in enumerate(info.bands) for f, v in band)):
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise wrong(f"{field} is longer than {MAX_TEXT} characters")
    if not is_run_id(info.name):
        raise wrong("its name is not the id of a run")
    if info.run_id not in (None, info.name):
        # Pages would show another run as its training.
        raise wrong(f"it says that run {info.run_id!r} trained it, whose model has another name")
    names = [band.name for band in info.bands]
    if not 0 < len(names) <= MAX_BANDS or len(set(names)) != len(names):
        raise wrong("it needs bands, each of them once")
    for band in info.bands:
        if not (abs(band.mean) < _HUGE and 1 / _HUGE < band.std < _HUGE):
            raise wrong(f"band {band.name!r} has mean {band.mean} and standard deviation {band.std}")
        if not all(v is None or _is_length(v) for v in (band.gsd_m, band.wavelength_nm)):
            raise wrong(f"band {band.name!r} has GSD {band.gsd_m} and wavelength {band.wavelength_nm}")
    if info.gsd_m is not None and not _is_length(info.gsd_m):
        raise wrong(f"its GSD is {info.gsd_m}")
    if not 0 < info.image_size <= MAX_SIDE:
        raise wrong(f"its images have {info.image_size} pixels per side")
    for count in ("seed", "step", "samples", "feature_dim"):
        if not 0 <= getattr(info, count) < MAX_COUNT:
            raise wrong(f"{count} is not between 0 and {MAX_COUNT:,}")


def _is_length(value: float) -> bool:
    return math.isfinite(value) and value > 0
