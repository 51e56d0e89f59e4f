"""The points of an embedding's map, for the browser that draws them."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.embedded import Points, points_of, words_of
from app.routes.common import IMMUTABLE, query_choice
from app.state import open_embedding_info, open_pack
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

#: Layout -> columns of the embedding.
LAYOUTS = {"UMAP": ("x", "y"), "PCA": ("pc1", "pc2")}


def points_url(run_id: str, severity: float, layout: str, points: Points) -> str:
    """The address of a map's points; it changes with what they are."""
    query = urlencode({"severity": repr(severity), "layout": layout, "v": points.version})
    return f"/rsfm/embeddings/{quote(run_id, safe='')}/points?{query}"


def points(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/embeddings/{run_id}/points?severity=&layout=`: N points.

    As float32, little-endian: N times x, N times y; then a line of UTF-8 for each, `id<tab>labels<tab>split/row`.
    """
    run_id = request.path_params["run_id"]
    columns = LAYOUTS[query_choice(request, "layout", tuple(LAYOUTS))]
    try:
        severity = float(request.query_params.get("severity", ""))
    except ValueError:
        raise HTTPException(400, "severity must be a number.") from None
    about = open_embedding_info(workspace, run_id).about
    pack = open_pack(workspace, about["dataset"])
    found = points_of(workspace, run_id, severity, pack)
    if pack.info.content_hash != about["pack_hash"] or (found.positions < 0).any():
        raise RsfmError(f"Pack {pack.name} was prepared again since this map was made: embed again.")
    words, frame = words_of(pack)[found.positions], found.frame
    lines = [
        f"{said}\t{quote(split, safe='')}/{row}"
        for said, split, row in zip(words, frame["split"].astype(str), frame["row"].astype(int), strict=True)
    ]
    places = np.concatenate([frame[c].to_numpy("<f4") for c in columns])
    fixed = request.query_params.get("v") == found.version
    return Response(
        places.tobytes() + "\n".join(lines).encode(), media_type="application/octet-stream",
        headers={"Cache-Control": IMMUTABLE if fixed else "no-cache"},
    )  # fmt: skip
