"""Explicit downloads: resumable (HTTP Range into `<name>.part`), checksummed, with progress; never at import."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from data_catalog.entry import DatasetEntry, RemoteFile
from rsfm.errors import RsfmError
from rsfm.store.job import Stopped
from rsfm.workspace import Workspace

_BLOCK = 1 << 20
_TIMEOUT_S = 60
#: A connection that breaks is taken up again where it broke, so often at most without a byte of progress in between.
_RETRIES = 3

Progress = Callable[[int, int, str], None]


def download(
    entry: DatasetEntry,
    workspace: Workspace,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Fetch a dataset's files into `downloads/<name>` and unpack archives; skips what is there already.

    Args:
        progress: called with (bytes done, bytes in all or 0, file name).

    Raises:
        RsfmError: the entry has no address, the server fails, or a checksum is wrong.
        Stopped: `should_stop` said so; the next call continues.
    """
    if entry.download is None:
        raise RsfmError(f"{entry.title} cannot be downloaded from here: get it from {entry.homepage or 'its authors'}.")
    folder = workspace.downloads / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(workspace.downloads / f".{entry.name}.lock", timeout=0, is_singleton=False):
            for file in entry.download.resolve():
                marker = folder / f".{file.name}.unpacked"
                if file.unpack and marker.is_file():
                    continue
                fetch(file, folder, progress=progress, should_stop=should_stop)
                if file.unpack:
                    unpack(folder / file.name, folder)
                    marker.touch()
    except Timeout:
        raise RsfmError(f"{entry.title} is being downloaded by another process right now: wait for it.") from None
    return folder


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Fetch one file; what an interrupted call left is continued.

    Raises:
        RsfmError: the server fails, or the checksum is wrong (the wrong file is removed).
        Stopped: `should_stop` said so.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and _checksum_is_right(target, file):
        return target
    failures = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _receive(file, part, progress, should_stop)
            break
        except urllib.error.HTTPError as error:
            raise RsfmError(
                f"{file.url} answered {error.code} {error.reason}: the address may have changed."
            ) from error
        except (OSError, HTTPException) as error:  # URLError is an OSError
            after = part.stat().st_size if part.is_file() else 0
            failures = 0 if after > before else failures + 1
            if failures >= _RETRIES:
                reason = getattr(error, "reason", error)
                raise RsfmError(f"{file.url} could not be fetched: {reason}. Call again to continue.") from error
    if not _checksum_is_right(part, file):
        part.unlink()
        raise RsfmError(f"{file.name} does not have the expected checksum and was removed: fetch it again.")
    part.replace(target)
    return target


def _receive(file: RemoteFile, part: Path, progress: Progress | None, should_stop: Callable[[], bool] | None) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left beyond what we have: the checksum will judge it
            return
        raise
    with response:
        if have and response.status != 206:  # a server without ranges sends everything again
            have = 0
        total = have + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if have else "wb") as out:
            while block := response.read(_BLOCK):
                out.write(block)
                have += len(block)
                if progress is not None:
                    progress(have, max(total, have), file.name)
                if should_stop is not None and should_stop():
                    raise Stopped
    if have < total:
        raise ConnectionError(f"the connection broke after {have} of {total} bytes")


def _checksum_is_right(path: Path, file: RemoteFile) -> bool:
    algorithm, wanted = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest() == wanted


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar archive into `folder`: its top-level items appear whole, or not at all.

    Raises:
        RsfmError: not an archive, damaged, or with members that point outside.
    """
    staging = folder / f".unpacking-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                for name in bundle.namelist():
                    if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts:
                        raise RsfmError(f"{archive} holds {name!r}, which points outside its folder: not unpacked.")
                bundle.extractall(staging)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as bundle:
                bundle.extractall(staging, filter="data")
        else:
            raise RsfmError(f"{archive} is neither a zip nor a tar archive.")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise RsfmError(f"{archive} is damaged ({error}): remove it and fetch it again.") from error
    except RsfmError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    for item in sorted(staging.iterdir()):
        target = folder / item.name
        if target.is_dir():
            shutil.rmtree(target)
        item.replace(target)
    staging.rmdir()
