"""Thumbnails of a pack's samples, by pack, split and row: as they are stored, or as a model saw them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.imaging import find_view
from app.routes.common import IMMUTABLE, query_int
from app.state import open_pack, opened, pack_stamp, store_of
from rsfm import thumbs
from rsfm.degrade import OPERATORS
from rsfm.packs import Pack
from rsfm.thumbs import Degraded
from rsfm.workspace import Workspace

MAX_SIZE = 1024
#: Which image layers each degraded image of the scores stands for.
TARGET_LAYERS = {
    "single": ("image",), "pre": ("image_pre",), "post": ("image_post",), "both": ("image_pre", "image_post"),
}  # fmt: skip


def thumbnail_url(
    pack: str, split: str, row: int, *, version: str, view: str | None = None, size: int = 160, layer: str = "image",
    degraded: Degraded | None = None,
) -> str:  # fmt: skip
    """The address of one thumbnail. `version` is the pack's content hash: another pack, another address."""
    query = {"size": str(size), "v": version, **({"view": view} if view else {})}
    if layer != "image":
        query["layer"] = layer
    if degraded is not None:
        query |= {"operator": degraded.operator, "severity": repr(degraded.severity), "bands": ",".join(degraded.bands)}
    return f"/rsfm/thumbs/{quote(pack, safe='')}/{quote(split, safe='')}/{row}.png?{urlencode(query)}"


def _degraded(request: Request, workspace: Workspace, pack: Pack, layer: str) -> Degraded | None:
    """The degradation that the address asks for: one that a model of this lab was tested on, on this very content."""
    name = request.query_params.get("operator")
    if name is None:
        return None
    if name not in OPERATORS:
        raise HTTPException(400, f"operator must be one of {', '.join(OPERATORS)}.")
    bands = request.query_params.get("bands", "")
    try:
        severity = float(request.query_params.get("severity", ""))
    except ValueError:
        raise HTTPException(400, "severity must be a number.") from None
    scores = store_of(workspace).scores(dataset=pack.name)
    targets = [target for target, layers in TARGET_LAYERS.items() if layer in layers]
    measured = (
        (scores["pack_hash"] == pack.info.content_hash) & (scores["operator"] == name)
        & (scores["severity"] == severity) & (scores["bands"] == bands) & scores["degrade_target"].isin(targets)
    )  # fmt: skip
    if not measured.any():
        raise HTTPException(404, "No model was tested on these images degraded like that.")
    return Degraded(name, severity, tuple(bands.split(",")))


@lru_cache(maxsize=512)
def _degraded_png(
    folder: Path, stamp: int, split: str, row: int, view: str | None, size: int, layer: str, degraded: Degraded
) -> bytes:
    """Kept, for some operators take a while and a page asks for the same few again."""
    pack = opened(folder, stamp)
    seen = pack.layer(layer).model_copy(
        update={"bands": [b for b in pack.layer(layer).bands if b.name in degraded.bands]}
    )
    return thumbs.thumbnail(pack, split, row, find_view(seen, view).bands, size, layer=layer, degraded=degraded)


def thumbnail(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/thumbs/{pack}/{split}/{row}.png?size=&view=&layer=&operator=&severity=&bands=`: PNG."""
    size = query_int(request, "size", 160, 16, MAX_SIZE)
    pack = open_pack(workspace, request.path_params["pack"])
    split, row = request.path_params["split"], request.path_params["row"]
    layer, key = request.query_params.get("layer", "image"), request.query_params.get("view")
    degraded = _degraded(request, workspace, pack, layer)
    if degraded is not None:
        content = _degraded_png(pack.path, pack_stamp(pack.path), split, row, key, size, layer, degraded)
    else:
        content = thumbs.thumbnail(pack, split, row, find_view(pack.layer(layer), key).bands or None, size, layer=layer)
    fixed = request.query_params.get("v") == pack.info.content_hash
    return Response(content, media_type="image/png", headers={"Cache-Control": IMMUTABLE if fixed else "no-cache"})
