"""Thumbnails of a pack's samples, by pack, split and row."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from app.imaging import find_view
from app.routes.common import IMMUTABLE, query_int
from app.state import open_pack
from rsfm import thumbs
from rsfm.workspace import Workspace

MAX_SIZE = 1024


def thumbnail_url(
    pack: str, split: str, row: int, *, version: str, view: str | None = None, size: int = 160, layer: str = "image"
) -> str:
    """The address of one thumbnail. `version` is the pack's content hash: another pack, another address."""
    query = {"size": str(size), "v": version, **({"view": view} if view else {})}
    if layer != "image":
        query["layer"] = layer
    return f"/rsfm/thumbs/{quote(pack, safe='')}/{quote(split, safe='')}/{row}.png?{urlencode(query)}"


def thumbnail(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/thumbs/{pack}/{split}/{row}.png?size=&view=&layer=`: PNG."""
    size = query_int(request, "size", 160, 16, MAX_SIZE)
    pack = open_pack(workspace, request.path_params["pack"])
    layer = request.query_params.get("layer", "image")
    view = find_view(pack.layer(layer), request.query_params.get("view"))
    content = thumbs.thumbnail(
        pack, request.path_params["split"], request.path_params["row"], view.bands or None, size, layer=layer
    )
    fixed = request.query_params.get("v") == pack.info.content_hash
    return Response(content, media_type="image/png", headers={"Cache-Control": IMMUTABLE if fixed else "no-cache"})
