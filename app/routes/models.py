"""Models to take away: one zip with weights, description and card; or the encoder as ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

import data_catalog
from app.state import store_of
from jobs.exports import onnx_file
from rsfm.errors import RsfmError
from rsfm.model_card import gather, model_card
from rsfm.model_info import ModelInfo, model_folder
from rsfm.model_package import WEIGHTS, write_package
from rsfm.workspace import Workspace

#: What must stay free on the disk while a package is made.
_SPARE_BYTES = 100_000_000
_CHUNK = 1 << 20


def package_url(name: str) -> str:
    return f"/rsfm/models/{quote(name, safe='')}/package.zip"


def onnx_url(name: str) -> str:
    return f"/rsfm/models/{quote(name, safe='')}/encoder.onnx"


def card_of(workspace: Workspace, info: ModelInfo, folder: Path) -> str:
    """The model's card, from what this workspace knows of it."""
    return model_card(info, gather(store_of(workspace), info, folder, data_catalog.entries(workspace)))


def package(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/models/{name}/package.zip`: as `rsfm export` writes it."""
    folder = model_folder(workspace, request.path_params["name"])
    info = ModelInfo.read(folder)
    size = (folder / WEIGHTS).stat().st_size if (folder / WEIGHTS).is_file() else 0
    if size + _SPARE_BYTES > workspace.free_bytes():
        raise RsfmError(f"The disk has no room for a copy of model {info.name}: it needs {size:,} bytes.")
    # Without a name, so that nothing stays behind whatever happens to the download; on the workspace's own disk, for a
    # memory-backed /tmp may be too small for weights.
    file = tempfile.TemporaryFile(dir=workspace.models)  # noqa: SIM115 - closed once it is sent
    try:
        write_package(folder, card_of(workspace, info, folder), file)
        length = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = {
        "Content-Disposition": f'attachment; filename="{quote(info.name)}.zip"', "Content-Length": str(length),
        "Cache-Control": "no-store",
    }  # fmt: skip
    return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


def encoder(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/models/{name}/encoder.onnx`: as it was written last (see `jobs.exports`)."""
    name = request.path_params["name"]
    file = onnx_file(workspace, name)
    if not file.is_file():
        raise RsfmError(f"Model {name} is not written as ONNX (any more): write it on the page Models.")
    return FileResponse(
        file, media_type="application/octet-stream", filename=f"{name}.onnx", headers={"Cache-Control": "no-store"}
    )
