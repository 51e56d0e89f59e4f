"""Maps of packs: a page for an iframe, and the picture of the samples' own pixels below the footprints."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.imaging import find_view, main_layer, sample_image
from app.maps.compose import OTHER_SPLIT, SPLIT_COLORS, compose_footprints, render
from app.maps.geometry import (
    MAX_LATITUDE,
    bounds_of,
    boxes_of,
    mosaic_layout,
    on_the_map,
    paint_mosaic,
    parse_view,
    side_by_side,
)  # fmt: skip
from app.maps.ground import GROUNDS, page_headers
from app.routes.common import IMMUTABLE, query_choice
from app.routes.vendor import vendor_files, vendor_url
from app.sample_filter import SampleFilter
from app.state import open_pack, opened, pack_stamp
from app.text import visible
from rsfm import thumbs
from rsfm.packs import Pack
from rsfm.workspace import Workspace

#: More footprints than this are thinned evenly, and the map says so.
MAX_FOOTPRINTS = 5_000
#: More samples than this, or tiles smaller than two pixels, and the mosaic would show nothing.
MAX_MOSAIC = 3_000
MOSAIC_PIXELS = 1_600
#: Samples that an address can name.
MAX_CHOSEN = 500
EVERYTHING = SampleFilter()


def map_url(
    pack: str,
    *,
    version: str,
    theme: str,
    view: str | None = None,
    ground: str = "offline",
    only: Mapping[str, Sequence[int]] | None = None,
    chosen: SampleFilter = EVERYTHING,
    at: str | None = None,
) -> str:
    """The address of a pack's map.

    Args:
        only: split -> rows of the samples to show, at most `MAX_CHOSEN` of them.
        chosen: a filter; the samples that fit are shown, however many.
        at: the view `lon,lat,zoom` that the map begins with, or empty: it shows all. Of a page that keeps the view in
            its own address under that name; None: it does not.
    """
    query = [("theme", theme), ("v", version), ("ground", ground), *([("view", view)] if view else []), *chosen.query()]
    if only is not None:
        query.append(("only", ";".join(f"{split}:{','.join(map(str, rows))}" for split, rows in only.items())))
    if at is not None:
        query.append(("at", at))
    return f"/rsfm/maps/packs/{quote(pack, safe='')}?{urlencode(query)}"


def _filter_of(request: Request) -> SampleFilter:
    return SampleFilter.read({name: request.query_params.getlist(name) for name in ("split", "class", "find")})


def _rows_of(pack: Pack, chosen: SampleFilter) -> dict[str, list[int]] | None:
    """Split -> rows of the samples that fit; None: all."""
    if not chosen:
        return None
    return {str(s): [int(r) for r in part["row"]] for s, part in chosen.apply(pack).groupby("split", sort=False)}


def chosen_samples(text: str | None) -> dict[str, list[int]] | None:
    """Split -> rows, of `train:1,5;test:3`; None where nothing is asked for."""
    if text is None:
        return None
    found: dict[str, list[int]] = {}
    for part in text.split(";"):
        split, colon, rows = part.partition(":")
        numbers = rows.split(",")
        if not colon or not all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers):
            raise HTTPException(400, "only: split:row,row;split:row")
        found.setdefault(split, []).extend(map(int, numbers))
    if sum(map(len, found.values())) > MAX_CHOSEN:
        raise HTTPException(400, f"only: at most {MAX_CHOSEN} samples.")
    return found


def _places(pack: Pack, rows: Mapping[str, Sequence[int]] | None) -> tuple[dict[str, Any], np.ndarray]:
    """Footprints that the map can show, and the boxes of those beyond its northern and southern end."""
    places = side_by_side(thumbs.footprints(pack, limit=MAX_FOOTPRINTS, only=rows))
    boxes = boxes_of(places)
    shown = on_the_map(boxes)
    features = [f for f, is_shown in zip(places["features"], shown, strict=True) if is_shown]
    for said in (f["properties"] for f in features):
        said |= {name: visible(said[name]) for name in ("id", "label") if said[name] is not None}
    return {**places, "features": features}, boxes[~shown]


def _mosaic(boxes: np.ndarray) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Where the samples' pixels go; None where a mosaic would show nothing."""
    if not 0 < len(boxes) <= MAX_MOSAIC:
        return None
    pixels, size = mosaic_layout(boxes, bounds_of(boxes), MOSAIC_PIXELS)
    return (pixels, size) if (pixels[:, 2:] - pixels[:, :2]).min(axis=1).mean() >= 2 else None


def footprints(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/maps/packs/{pack}?theme=&view=&ground=&only=&split=&class=&find=&at=`: an HTML page."""
    theme = query_choice(request, "theme", ("light", "dark"))
    ground = query_choice(request, "ground", GROUNDS)
    pack = open_pack(workspace, request.path_params["pack"])
    only, chosen = chosen_samples(request.query_params.get("only")), _filter_of(request)
    rows = _rows_of(pack, chosen) if only is None else only
    if rows == {}:
        raise HTTPException(404, "No sample of this pack fits.")
    places, beyond = _places(pack, rows)
    boxes = boxes_of(places)
    if not len(boxes) and not len(beyond):
        raise HTTPException(404, "No such sample of this pack has a place on Earth.")
    layer = main_layer(pack)
    view = find_view(layer, request.query_params.get("view"))
    name = quote(pack.name, safe="")
    query = urlencode({"v": pack.info.content_hash, "view": view.key, "layer": layer.name})
    mosaic_query = urlencode([("v", pack.info.content_hash), ("view", view.key), *chosen.query()])
    drawn = {f["properties"]["split"] for f in places["features"]}
    notes = ["Synthetic data."] if pack.info.synthetic else []
    total = int(pack.samples["west"].notna().sum())
    if only is None and len(boxes) < total:
        notes.append(f"{len(boxes):,} of {total:,} samples drawn.")
    if len(beyond):
        notes.append(
            f"Samples beyond {MAX_LATITUDE:g}° north or south are not drawn: Web Mercator, this map, ends there."
        )
    bounds = bounds_of(boxes if len(boxes) else beyond)
    page = render(
        compose_footprints(
            places, bounds, theme=theme, world=vendor_url("world.geojson"), ground=ground,
            mosaic=f"/rsfm/maps/packs/{name}/mosaic.png?{mosaic_query}" if only is None and _mosaic(boxes) else None,
            view=parse_view(request.query_params.get("at")),
        ),
        title=f"Footprints of {pack.name}",
        theme=theme,
        options={
            "layers": [{"id": i, "title": i} for i in ("Pixels", "Footprints") if only is None or i == "Footprints"],
            "legend": [
                {"title": s, "color": SPLIT_COLORS.get(s, OTHER_SPLIT)} for s in pack.info.splits if s in drawn
            ],
            "note": " ".join(notes),
            "kept": "at" in request.query_params,
            "copies": bounds[2] - bounds[0] < 180,
            # Braces: a quoted name has none, so that nothing but these is filled in.
            "thumbnail": f"/rsfm/thumbs/{name}/{{split}}/{{row}}.png?{query}",
        },
        files={file: vendor_url(file) for file in vendor_files()},
    )  # fmt: skip
    return HTMLResponse(page, headers=page_headers(ground))


@lru_cache(maxsize=4)
def _mosaic_png(folder: Path, stamp: int, view: str, chosen: SampleFilter) -> bytes:
    pack = opened(folder, stamp)
    rows = _rows_of(pack, chosen)
    found = None
    if rows != {}:
        places, _ = _places(pack, rows)
        found = _mosaic(boxes_of(places))
    if found is None:
        raise HTTPException(404, "This pack's samples do not make a mosaic.")
    samples = [f["properties"] for f in places["features"]]
    layer = main_layer(pack)
    look = find_view(layer, view)
    picture = paint_mosaic(
        *found, lambda i: sample_image(pack, samples[i]["split"], samples[i]["row"], look, layer.name)
    )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def mosaic(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/maps/packs/{pack}/mosaic.png?view=`: the samples at their places, in Web Mercator, PNG."""
    pack = open_pack(workspace, request.path_params["pack"])
    view = find_view(main_layer(pack), request.query_params.get("view"))
    content = _mosaic_png(pack.path, pack_stamp(pack.path), view.key, _filter_of(request))
    fixed = request.query_params.get("v") == pack.info.content_hash
    return Response(content, media_type="image/png", headers={"Cache-Control": IMMUTABLE if fixed else "no-cache"})
