"""HTTP routes beside the pages, all below `/rsfm`: read-only, addressed by id and never by path."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from app.routes.common import PREFIX, bind
from rsfm.workspace import Workspace

#: Address below `/rsfm` -> "module:function" (request, workspace) -> response, imported at its first request.
TABLE: dict[str, str] = {
    "/health": "app.routes.common:health",
    "/api/runs": "app.routes.api:runs",
    "/api/runs/{run_id}": "app.routes.api:run",
    "/thumbs/{pack}/{split}/{row:small}.png": "app.routes.thumbnails:thumbnail",
    "/embeddings/{run_id}/points": "app.routes.embeddings:points",
    "/artifacts/{run_id}/{artifact_id}": "app.routes.artifacts:artifact",
    "/maps/packs/{pack}": "app.routes.maps:footprints",
    "/maps/packs/{pack}/mosaic.png": "app.routes.maps:mosaic",
    "/maps/looked/{key}": "app.routes.looked:scene_map",
    "/maps/looked/{key}/mosaic.png": "app.routes.looked:mosaic",
    "/maps/looked/{key}/{row:small}.png": "app.routes.looked:quicklook",
    "/maps/predictions/{run_id}": "app.routes.predictions:prediction_map",
    "/tiles/{run_id}/{kind}/{z:small}/{x:small}/{y:small}.png": "app.routes.predictions:tile_png",
    "/predictions/{run_id}/values": "app.routes.predictions:values",
    "/predictions/{run_id}/outlines.{form}": "app.routes.predictions:outlines",
    "/predictions/{run_id}/{kind}.png": "app.routes.predictions:preview_png",
    "/models/{name}/package.zip": "app.routes.models:package",
    "/models/{name}/encoder.onnx": "app.routes.models:encoder",
    "/vendor/{name}": "app.routes.vendor:vendor",
}


class Small(Convertor[int]):
    """Digits of a row or a tile; Starlette's own takes thousands of them, which Python refuses to read."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


def front(request: Request) -> Response:
    """`/`: to the page Now, so that every page has an address of its own."""
    return RedirectResponse("now" + (f"?{request.url.query}" if request.url.query else ""), 307)


def build_routes(workspace: Workspace) -> list[BaseRoute]:
    """All routes of one workspace's dashboard."""
    register_url_convertor("small", Small())
    # A mount of its own, so that an unknown address below it is a 404 and not Streamlit's front page.
    ours = [Route(path, bind(target, workspace), methods=["GET"]) for path, target in TABLE.items()]
    return [Mount(PREFIX, routes=ours), Route("/", front, methods=["GET"])]
