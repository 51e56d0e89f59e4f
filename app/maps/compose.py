"""Compose a map with leafmap and render it with our own page.

leafmap's own HTML is never shipped: a property that holds `</script>` would run there. We take the map as a dict and
put it as JSON, with `<` escaped, into `map.html`; `map.js` replays it with the MapLibre of the installed wheel.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

from app.loading import load
from app.maps.geometry import Bounds
from app.maps.ground import THEMES, base_style
from app.text import visible

HERE = Path(__file__).parent

#: Fill of the splits' footprints; any other split takes the last colour. Okabe and Ito's palette.
SPLIT_COLORS = {"train": "#0072B2", "val": "#E69F00", "test": "#D55E00"}
OTHER_SPLIT = "#CC79A7"
#: From this many footprints on they are drawn faintly.
DENSE = 400


def compose_footprints(
    footprints: dict[str, Any], bounds: Bounds, *, theme: str, mosaic: str | None, world: str, ground: str = "offline",
    view: tuple[float, float, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Footprints by split over a mosaic of the samples' own pixels, as leafmap's dict.

    Args:
        footprints: GeoJSON from `rsfm.thumbs.footprints`.
        mosaic: address of the picture that covers `bounds`, or None.
        world, ground: see `app.maps.ground.base_style`.
        view: as `compose_prediction` has it.
    """
    leafmap = load("leafmap.maplibregl")
    # Many footprints, often overlapping ones, would hide the pixels below them.
    dense = len(footprints["features"]) > DENSE
    fill = (0.02 if dense else 0.1) if mosaic else (0.15 if dense else 0.4)
    west, south, east, north = bounds
    composed = leafmap.Map(
        style=base_style(bounds, theme, world=world, ground=ground),
        **_place(bounds, view),
        controls={"navigation": "top-right", "fullscreen": "top-right", "scale": "bottom-left"},
        use_message_queue=True,
    )
    if mosaic:
        corners = [[west, north], [east, north], [east, south], [west, south]]
        composed.add_source("pixels", {"type": "image", "url": mosaic, "coordinates": corners})
        raster = {"raster-fade-duration": 0, "raster-resampling": "nearest"}
        composed.add_layer({"id": "Pixels", "type": "raster", "source": "pixels", "paint": raster})
    composed.add_source("footprints", {"type": "geojson", "data": footprints})
    by_split = [x for pair in SPLIT_COLORS.items() for x in pair]
    color = ["match", ["get", "split"], *by_split, OTHER_SPLIT]
    composed.add_layer(
        {"id": "Footprints", "type": "fill", "source": "footprints", "paint": {"fill-color": color}},
        opacity=fill,
    )
    composed.add_layer(
        {"id": "Outlines", "type": "line", "source": "footprints", "paint": {"line-color": color, "line-width": 1}},
        opacity=0.2 if dense else 0.9,
    )
    return composed.to_dict()


def compose_prediction(
    layers: list[dict[str, Any]],
    bounds: Bounds,
    *,
    theme: str,
    view: tuple[float, float, float] | None,
    world: str,
    ground: str = "offline",
) -> dict[str, Any]:
    """Layers of predictions over each other, the first one at the bottom, as leafmap's dict.

    Args:
        layers: see `app.routes.predictions`: id, tiles or data, version, visible; of tiles also `bounds` and
            `maxzoom`, beyond which the browser enlarges them, so that pixels stay pixels.
        bounds: of the first prediction, west < east.
        view: longitude, latitude, zoom; None: the whole of `bounds`.
        world, ground: see `app.maps.ground.base_style`.
    """
    leafmap = load("leafmap.maplibregl")
    composed = leafmap.Map(
        style=base_style(bounds, theme, world=world, ground=ground), **_place(bounds, view), use_message_queue=True,
        controls={"navigation": "top-right", "fullscreen": "top-right", "scale": "bottom-left"},
    )  # fmt: skip
    outline = THEMES[theme]["outline"]
    for layer in layers:
        if "data" in layer:
            composed.add_source(layer["id"], {"type": "geojson", "data": layer["data"]})
            drawn: dict[str, Any] = {"type": "line", "paint": {"line-color": outline, "line-width": 1.5}}
        else:
            source = {"type": "raster", "tiles": [f"{layer['tiles']}?v={layer['version']}"], "tileSize": 256}
            # Across the antimeridian bounds would hide what lies beyond it; tiles are empty outside of the scene.
            box = {"bounds": list(layer["bounds"])} if layer["bounds"][2] <= 180 else {}
            composed.add_source(layer["id"], {**source, **box, "maxzoom": layer["maxzoom"]})
            drawn = {"type": "raster", "paint": {"raster-fade-duration": 0, "raster-resampling": "nearest"}}
        composed.add_layer(
            {"id": layer["id"], "source": layer["id"], **drawn}, visible=layer["visible"],
            opacity=1.0 if layer["image"] or "data" in layer else 0.75,
        )  # fmt: skip
    return composed.to_dict()


def _place(bounds: Bounds, view: tuple[float, float, float] | None) -> dict[str, Any]:
    """Where a map begins."""
    return {"bounds": list(bounds)} if view is None else {"center": list(view[:2]), "zoom": view[2]}


def for_script(value: Any) -> str:
    """JSON that is safe inside a `<script>` element: no character of it can end the element or start a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render(composed: dict[str, Any], *, title: str, theme: str, options: dict[str, Any], files: dict[str, str]) -> str:
    """The map's own page.

    Args:
        composed: leafmap's dict.
        options: what `map.js` needs beside it: layers to list, legend, thumbnail address.
        files: name -> address of scripts and styles, as `app.routes.vendor.vendor_files` names them.
    """
    page = (HERE / "map.html").read_text(encoding="utf-8")
    values = {
        "title": html.escape(visible(title)),
        "scheme": THEMES[theme]["scheme"],
        "data": for_script({"map": composed, "options": options}),
        **{name.replace("-", "_").replace(".", "_"): html.escape(url) for name, url in files.items()},
    }
    # In one pass: a value that looks like a placeholder stays as it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], page)
