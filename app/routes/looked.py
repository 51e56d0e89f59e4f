"""Scenes that somebody looks at before keeping them: their map, by key and never by path."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app import looked
from app.maps.compose import OTHER_SPLIT, compose_footprints, render
from app.maps.geometry import bounds_of, boxes_of
from app.maps.ground import GROUNDS, page_headers
from app.routes.common import IMMUTABLE, query_choice
from app.routes.vendor import vendor_files, vendor_url
from rsfm.workspace import Workspace


def scene_map_url(key: str, *, theme: str, ground: str = "offline") -> str:
    """The address of the map of the scenes of `app.looked.remember`."""
    return f"/rsfm/maps/looked/{quote(key, safe='')}?{urlencode({'theme': theme, 'ground': ground})}"


def scene_map(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/maps/looked/{key}?theme=&ground=`: an HTML page."""
    theme = query_choice(request, "theme", ("light", "dark"))
    ground = query_choice(request, "ground", GROUNDS)
    key = request.path_params["key"]
    places = looked.footprints(looked.pictures(key))
    if not places["features"]:
        raise HTTPException(404, "These scenes have no place that a map can show.")
    base, bounds = f"/rsfm/maps/looked/{quote(key, safe='')}", bounds_of(boxes_of(places))
    page = render(
        compose_footprints(
            places, bounds, theme=theme, world=vendor_url("world.geojson"), ground=ground, mosaic=f"{base}/mosaic.png"
        ),
        title="Footprints of scenes",
        theme=theme,
        options={
            "layers": [{"id": i, "title": i} for i in ("Pixels", "Footprints")],
            "legend": [{"title": "scene", "color": OTHER_SPLIT}], "note": "", "copies": bounds[2] - bounds[0] < 180,
            "thumbnail": f"{base}/{{row}}.png",
        },
        files={file: vendor_url(file) for file in vendor_files()},
    )  # fmt: skip
    return HTMLResponse(page, headers=page_headers(ground))


def mosaic(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/maps/looked/{key}/mosaic.png`: the scenes at their places, in Web Mercator."""
    content = looked.mosaic(request.path_params["key"])
    return Response(content, media_type="image/png", headers={"Cache-Control": IMMUTABLE})


def quicklook(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/maps/looked/{key}/{row}.png`: one scene on its own grid."""
    key, row = request.path_params["key"], request.path_params["row"]
    if row >= len(looked.pictures(key).sights):
        raise HTTPException(404, "There is no such scene.")
    return Response(looked.picture_png(key, row, 0), media_type="image/png", headers={"Cache-Control": IMMUTABLE})
