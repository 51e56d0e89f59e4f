"""A small JSON API: which runs are there, how is one doing."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.routes.common import query_int
from app.state import store_of
from rsfm.store.live import live
from rsfm.store.runs import STATES, open_run
from rsfm.workspace import Workspace


def runs(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/api/runs?limit=&offset=&kind=&state=&search=`: the newest runs first."""
    states = request.query_params.getlist("state")
    unknown = [s for s in states if s not in STATES]
    if unknown:
        return JSONResponse({"error": f"state must be one of {', '.join(STATES)}."}, 400)
    store = store_of(workspace)
    store.refresh_if_stale()
    frame = store.runs(
        kind=request.query_params.get("kind"),
        states=states or None,
        search=request.query_params.get("search"),
        limit=query_int(request, "limit", 200, 1, 5000),
        offset=query_int(request, "offset", 0, 0, 10_000_000),
    )
    rows = json.loads(frame.to_json(orient="records", date_format="iso"))
    return JSONResponse({"runs": rows, "notice": store.notice}, headers={"Cache-Control": "no-store"})


def run(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/api/runs/{run_id}`: the live view of one run, straight from its folder."""
    folder = open_run(workspace, request.path_params["run_id"])
    # NaN is no JSON, and a training that diverged reports it.
    plain = json.loads(json.dumps(live(workspace, folder.id), default=str), parse_constant=lambda _: None)
    return JSONResponse(plain, headers={"Cache-Control": "no-store"})
