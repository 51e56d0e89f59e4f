"""Scripts, styles and land of the maps, from the installed `maplibre` wheel and this package: no network needed."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import util
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from app.routes.common import IMMUTABLE
from rsfm.workspace import Workspace

MAPS = Path(__file__).resolve().parents[1] / "maps"


@cache
def vendor_files() -> dict[str, tuple[Path, str]]:
    """Name in the address -> (file, media type). Finds the wheel without importing it."""
    files = {
        "map.js": (MAPS / "map.js", "text/javascript"),
        "map.css": (MAPS / "map.css", "text/css"),
        "world.geojson": (MAPS / "world.geojson", "application/geo+json"),
    }
    spec = util.find_spec("maplibre")
    if spec is not None and spec.origin is not None:
        source = Path(spec.origin).parent / "srcjs"
        files["maplibre-gl.js"] = (source / "maplibre-gl.js", "text/javascript")
        files["maplibre-gl.css"] = (source / "maplibre-gl.css", "text/css")
    return files


@cache
def vendor_url(name: str) -> str:
    """The address of a file; it changes with the content, so that a browser may keep it for ever."""
    content = vendor_files()[name][0].read_bytes()
    return f"/rsfm/vendor/{name}?v={hashlib.blake2b(content, digest_size=6).hexdigest()}"


def vendor(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/vendor/{name}`: one of `vendor_files`, nothing else."""
    entry = vendor_files().get(request.path_params["name"])
    if entry is None:
        raise HTTPException(404, "No such file.")
    file, media_type = entry
    return FileResponse(file, media_type=media_type, headers={"Cache-Control": IMMUTABLE})
