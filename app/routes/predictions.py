"""Predicted scenes: tiles, previews, values at a place, outlines of change, and the map that shows them."""

from __future__ import annotations

import hashlib
import math
from typing import Any
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from app.imaging import View, views_of_bands
from app.maps.choices import Choices, read_choices
from app.maps.compose import compose_prediction, render
from app.maps.geometry import MAX_ZOOM, parse_view, unwrapped
from app.maps.ground import GROUNDS, page_headers
from app.predictions import (
    STRETCHES,
    DamagedError,
    artifact_file,
    find_look,
    layer_file,
    open_prediction,
    preview,
    ramp_colours,
    require_place,
    tile,
    values_at,
)  # fmt: skip
from app.routes.common import IMMUTABLE, public_message, query_choice, query_int
from app.routes.vendor import vendor_files, vendor_url
from app.text import visible
from rsfm.prediction_info import LayerEntry, PredictionInfo, prediction_file
from rsfm.store.runs import open_run
from rsfm.workspace import Workspace

#: Outlines beyond this many bytes are downloaded, not drawn.
MAX_DRAWN = 30_000_000


def _version(workspace: Workspace, run_id: str) -> str:
    """Changes when the run predicts again."""
    stat = prediction_file(open_run(workspace, run_id).path).stat()
    return hashlib.blake2b(f"{stat.st_mtime_ns}{stat.st_size}".encode(), digest_size=6).hexdigest()


def _look(request: Request, layer: LayerEntry) -> tuple[View | None, str]:
    stretch = query_choice(request, "stretch", tuple(STRETCHES))
    return (find_look(layer, request.query_params.get("bands")) if layer.bands else None), stretch


def _cached(request: Request, workspace: Workspace, run_id: str) -> dict[str, str]:
    fixed = request.query_params.get("v") == _version(workspace, run_id)
    return {"Cache-Control": IMMUTABLE if fixed else "no-cache"}


def tile_png(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/tiles/{run_id}/{kind}/{z}/{x}/{y}.png?bands=&stretch=`: PNG of 256 × 256 in Web Mercator."""
    run_id, z, x, y = (request.path_params[k] for k in ("run_id", "z", "x", "y"))
    if not (0 <= z <= MAX_ZOOM and 0 <= x < 2**z and 0 <= y < 2**z):
        raise HTTPException(404, "There is no such tile.")
    require_place(open_prediction(workspace, run_id))
    layer, file = layer_file(workspace, run_id, request.path_params["kind"])
    look, stretch = _look(request, layer)
    try:
        content = tile(file, layer, z, x, y, look, stretch)
    except DamagedError as error:  # not 404: maps take that for a place without pixels, and say nothing
        raise HTTPException(410, public_message(error, workspace)) from None
    return Response(content, media_type="image/png", headers=_cached(request, workspace, run_id))


def preview_png(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/predictions/{run_id}/{kind}.png?bands=&stretch=&size=`: the whole layer on its own grid."""
    run_id = request.path_params["run_id"]
    layer, file = layer_file(workspace, run_id, request.path_params["kind"])
    look, stretch = _look(request, layer)
    content = preview(file, layer, look, stretch, query_int(request, "size", 1024, 16, 2048))
    return Response(content, media_type="image/png", headers=_cached(request, workspace, run_id))


def values(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/predictions/{run_id}/values?lon=&lat=`: what each layer holds there."""
    place = []
    for name, limit in (("lon", 180.0), ("lat", 90.0)):
        try:
            number = float(request.query_params.get(name, ""))
        except ValueError:
            number = math.nan
        if not abs(number) <= limit:
            raise HTTPException(400, f"{name} must be a number from {-limit:g} to {limit:g}.")
        place.append(number)
    return JSONResponse(values_at(workspace, request.path_params["run_id"], *place))


def outlines(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/predictions/{run_id}/outlines.{geojson,gpkg}`: of change."""
    run_id, form = request.path_params["run_id"], request.path_params["form"]
    found = open_prediction(workspace, run_id).polygons
    if found is None or form not in ("geojson", "gpkg"):
        raise HTTPException(404, "This prediction has no such outlines.")
    file = artifact_file(workspace, run_id, found.geojson if form == "geojson" else found.gpkg)
    kind = "application/geo+json" if form == "geojson" else "application/geopackage+sqlite3"
    return FileResponse(
        file, media_type=kind, filename=f"{run_id}-changes.{form}", headers=_cached(request, workspace, run_id)
    )


# -- the map -------------------------------------------------------------------------------------------------------
def prediction_map_url(
    run_id: str, *, theme: str, beside: str | None = None, at: str | None = None, ground: str = "offline",
    chosen: str | None = None,
) -> str:  # fmt: skip
    """The address of a prediction's map, of another one's layers on it too, at a view `lon,lat,zoom`.

    Args:
        chosen: layers, looks and swipe, see `app.maps.choices`.
    """
    more = {"beside": beside, "at": at, "map": chosen}
    query = {"theme": theme, "ground": ground, **{k: v for k, v in more.items() if v}}
    return f"/rsfm/maps/predictions/{quote(run_id, safe='')}?{urlencode(query)}"


def near(view: tuple[float, float, float], info: PredictionInfo) -> bool:
    """Whether a view shows a scene's place: its middle lies inside, or less than the scene's own size away."""
    if info.scene.bounds is None:
        return False
    west, south, east, north = unwrapped(info.scene.bounds)
    away = (view[0] - west) % 360  # degrees to the east of its western edge
    width, height = east - west, north - south
    return (away <= 2 * width or away >= 360 - width) and south - height <= view[1] <= north + height


def choices_of(text: str | None, info: PredictionInfo, beside: PredictionInfo | None = None) -> Choices:
    """What an address says of the layers of a prediction, and of another one beside it."""
    looks: dict[str, list[str] | None] = {}
    for prefix, shown in (("a:", info), ("b:", beside)):
        for layer in shown.layers if shown else []:
            looks[f"{prefix}{layer.kind}"] = [v.key for v in views_of_bands(layer.bands)] if layer.bands else []
        if shown and shown.polygons and shown.polygons.count:
            looks[f"{prefix}outlines"] = None
    return read_choices(text or "", looks, tuple(STRETCHES))


def finest_zoom(info: PredictionInfo) -> int:
    """The zoom at which a tile's pixels are as fine as the scene's."""
    if info.scene.gsd_m is None or info.scene.bounds is None:
        return 18
    latitude = (info.scene.bounds[1] + info.scene.bounds[3]) / 2
    equator = 40_075_016.7 / 256 * math.cos(math.radians(latitude))  # metres per pixel at zoom 0
    return min(MAX_ZOOM, max(0, math.ceil(math.log2(equator / info.scene.gsd_m))))


def _drawn(workspace: Workspace, run_id: str, info: PredictionInfo, prefix: str, title: str) -> list[dict[str, Any]]:
    """Layers of one prediction for the map: ids, titles, tiles, legends; the ground first."""
    version, found = _version(workspace, run_id), []
    place = {"bounds": unwrapped(info.scene.bounds), "maxzoom": finest_zoom(info)}  # type: ignore[arg-type]
    order = ("image_before", "image", "confidence", "change_probability", "classes", "changes", "errors")
    for layer in sorted(info.layers, key=lambda x: order.index(x.kind)):
        base = f"/rsfm/tiles/{quote(run_id, safe='')}/{layer.kind}/{{z}}/{{x}}/{{y}}.png"
        ways = views_of_bands(layer.bands) if layer.bands else []
        legend = [
            {"title": visible(i.label), "color": i.colour, "share": i.share} for i in layer.legend if not i.clear
        ]  # fmt: skip
        found.append(
            {
                "id": f"{prefix}{layer.kind}", "title": f"{title}{visible(layer.title)}", "kind": layer.kind,
                "tiles": base,
                "version": version, "ways": [{"key": w.key, "title": visible(w.title)} for w in ways], "legend": legend,
                "ramp": ramp_colours(layer.kind) if layer.unit == "percent" else [],
                # The ground and the answer at first; what explains it at a click.
                "visible": layer.kind in ("image", "classes", "changes"), "image": bool(ways), **place,
            }
        )  # fmt: skip
    if info.polygons is not None:
        size = artifact_file(workspace, run_id, info.polygons.geojson).stat().st_size
        if info.polygons.count and size <= MAX_DRAWN:
            found.append(
                {
                    "id": f"{prefix}outlines", "title": f"{title}Outlines", "kind": "outlines", "legend": [],
                    "ramp": [], "ways": [], "visible": False, "image": False, "version": version,
                    "data": f"/rsfm/predictions/{quote(run_id, safe='')}/outlines.geojson?v={version}",
                }
            )  # fmt: skip
    return found


def prediction_map(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/maps/predictions/{run_id}?theme=&beside=&at=&map=&ground=`: an HTML page."""
    theme = query_choice(request, "theme", ("light", "dark"))
    ground = query_choice(request, "ground", GROUNDS)
    run_id, beside = request.path_params["run_id"], request.query_params.get("beside")
    info = open_prediction(workspace, run_id)
    if info.scene.bounds is None:
        raise HTTPException(404, "This scene has no place on Earth.")
    layers = _drawn(workspace, run_id, info, "a:", "A: " if beside else "")
    runs, other = [run_id], None
    if beside:
        other = open_prediction(workspace, beside)
        if other.scene.bounds is None:
            raise HTTPException(404, "The scene beside it has no place on Earth.")
        layers += _drawn(workspace, beside, other, "b:", "B: ")
        runs.append(beside)
    notes = ["Trained on synthetic data."] if info.model.synthetic else []
    chosen = choices_of(request.query_params.get("map"), info, other)
    composed = compose_prediction(
        layers, unwrapped(info.scene.bounds), theme=theme, view=parse_view(request.query_params.get("at")),
        world=vendor_url("world.geojson"), ground=ground,
    )  # fmt: skip
    options = {
        "prediction": True, "kept": True, "layers": [{k: v for k, v in x.items() if k != "data"} for x in layers],
        "stretches": list(STRETCHES), "note": " ".join(notes), "chosen": chosen.layers, "swipe": chosen.swipe,
        "values": [f"/rsfm/predictions/{quote(r, safe='')}/values" for r in runs],
    }  # fmt: skip
    files = {file: vendor_url(file) for file in vendor_files()}
    page = render(composed, title=f"Prediction of {info.scene.name}", theme=theme, options=options, files=files)
    return HTMLResponse(page, headers=page_headers(ground))
