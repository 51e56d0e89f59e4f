"""A selection of samples as a word for an address. A short one is that word; a long one lies in the workspace.

    <workspace>/selections/<id>.json   {"pack": content hash, "rows": word}; the id is a hash of both

The folder is bounded: what nobody has opened for longest goes first.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
import time
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from rsfm.errors import RsfmError
from rsfm.store.files import read_json, write_json
from rsfm.store.tidy import keep_newest
from rsfm.workspace import Workspace

#: Longer words are kept in the workspace: browsers and proxies take addresses of about 2,000 characters.
LONGEST_WORD = 1_000
#: Files that are kept, and their bytes together.
MOST_FILES, MOST_BYTES = 500, 100_000_000
#: No selection is larger: neither a file nor what it is unpacked to.
_LARGEST_FILE, _MOST_SAMPLES = 20_000_000, 5_000_000
#: A file counts as opened once in so many seconds.
_OPENED_S = 3600.0
_KEPT = re.compile("kept-([0-9a-f]{20})")
_GONE = "is not in this workspace (any more): it was made elsewhere, or many others were opened since. Choose it again."


@dataclass(frozen=True)
class Selection:
    """Samples of a pack.

    Attributes:
        content: the pack's content hash.
        positions: (k,) rising, in the pack's samples.
    """

    content: str
    positions: np.ndarray


def _packed(positions: np.ndarray) -> str:
    """Steps between positions, byte planes apart, compressed: a class of thousands takes a few characters."""
    steps = np.diff(positions, prepend=-1).astype("<u4")
    planes = steps.view(np.uint8).reshape(-1, 4).T.tobytes()
    return base64.urlsafe_b64encode(zlib.compress(planes, 9)).decode().rstrip("=")


@lru_cache(maxsize=16)
def _unpacked(rows: str) -> np.ndarray:
    """Raises ValueError: it is no such word."""
    unpacker = zlib.decompressobj()
    try:
        packed = base64.b64decode(rows + "=" * (-len(rows) % 4), altchars=b"-_", validate=True)
        planes = unpacker.decompress(packed, 4 * _MOST_SAMPLES)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if not unpacker.eof or unpacker.unused_data or len(planes) % 4:
        raise ValueError("it is cut off")
    steps = np.frombuffer(planes, np.uint8).reshape(4, -1).T.copy().view("<u4")[:, 0].astype(np.int64)
    positions = np.cumsum(steps) - 1
    if not len(steps) or not steps.all():
        raise ValueError("it holds no sample, or one twice")
    positions.flags.writeable = False
    return positions


def word_of(workspace: Workspace, chosen: Selection) -> str:
    """What an address holds in the place of these samples; a long selection is written into the workspace.

    Raises:
        RsfmError: it cannot be written.
    """
    rows = _packed(np.unique(chosen.positions))
    if len(rows) <= LONGEST_WORD:
        return f"{chosen.content}.{rows}"
    name = _id(chosen.content, rows)
    folder = workspace.selections
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{name}.json"
        write_json(file, {"pack": chosen.content, "rows": rows})
        keep_newest(folder, "*", most=MOST_FILES, most_bytes=MOST_BYTES, spare=file)
    except OSError as error:
        raise RsfmError(f"So long a selection is kept as a file, which cannot be written: {error.strerror}.") from error
    return f"kept-{name}"


def selection_of(workspace: Workspace, word: str) -> Selection:
    """The samples that a word stands for.

    Raises:
        RsfmError: it is no such word, or what it stands for is not in this workspace.
    """
    kept = _KEPT.fullmatch(word)
    content, dot, rows = word.partition(".")
    if kept:
        content, rows = _read(workspace.selections / f"{kept[1]}.json", kept[1])
    elif not dot or len(rows) > LONGEST_WORD:
        raise RsfmError(f"{word[:40]} stands for no selection.")
    try:
        return Selection(content, _unpacked(rows))
    except ValueError as error:
        raise RsfmError(f"{word[:40]} stands for no selection: {error}.") from error


def _id(content: str, rows: str) -> str:
    return hashlib.sha256(f"{content}.{rows}".encode()).hexdigest()[:20]


def _read(file: Path, name: str) -> tuple[str, str]:
    try:
        found = read_json(file) if file.stat().st_size <= _LARGEST_FILE else None
    except OSError:
        raise RsfmError(f"kept-{name} {_GONE}") from None
    content, rows = (found.get(k) for k in ("pack", "rows")) if isinstance(found, dict) else (None, None)
    if not isinstance(content, str) or not isinstance(rows, str) or _id(content, rows) != name:
        raise RsfmError(f"kept-{name} is damaged. Choose it again.")
    with contextlib.suppress(OSError):  # where this cannot be noted, it is cleared a little earlier
        if time.time() - file.stat().st_mtime > _OPENED_S:
            os.utime(file)
    return content, rows
