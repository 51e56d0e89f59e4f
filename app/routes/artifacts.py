"""Files that runs leave for people, by run id and artifact id."""

from __future__ import annotations

import mimetypes
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from app.routes.common import IMMUTABLE
from app.state import store_of
from rsfm.store.runs import open_run
from rsfm.workspace import Workspace

#: Shown in place; everything else is downloaded, so that nothing a run wrote can act as a page of this origin.
INLINE = {"image/png", "image/jpeg", "image/webp", "image/gif"}


def artifact_url(run_id: str, artifact_id: str) -> str:
    return f"/rsfm/artifacts/{quote(run_id, safe='')}/{quote(artifact_id, safe='')}"


def artifact(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/artifacts/{run_id}/{artifact_id}`: the file, if the run registered it and it lies in the run's folder."""
    folder = open_run(workspace, request.path_params["run_id"])
    frame = store_of(workspace).artifacts(folder.id)
    rows = frame[frame["artifact_id"].astype(str) == request.path_params["artifact_id"]]
    if rows.empty:
        raise HTTPException(404, "No such artifact.")
    root = folder.path.resolve()
    file = (root / str(rows.iloc[0]["path"])).resolve()
    if not file.is_relative_to(root / "artifacts") or not file.is_file():
        raise HTTPException(404, "No such artifact.")
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    inline = media_type in INLINE
    return FileResponse(
        file,
        media_type=media_type if inline else "application/octet-stream",
        filename=None if inline else f"{folder.id}-{file.name}",
        headers={"Cache-Control": IMMUTABLE},
    )
