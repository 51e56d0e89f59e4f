"""What lies below every map: land, boundaries, names, a graticule, all from here; online tiles only where chosen."""

from __future__ import annotations

from typing import Any

from app.maps.geometry import Bounds, graticule

THEMES: dict[str, dict[str, str]] = {
    "light": {
        "sea": "#DCE7EC", "land": "#F4F3EC", "border": "#B3A9A0", "grid": "#B9C7CD", "outline": "#0B6E6E",
        "scheme": "light",
    },
    "dark": {
        "sea": "#0B1215", "land": "#1B272D", "border": "#4A5A62", "grid": "#2B3B43", "outline": "#5CC8C4",
        "scheme": "dark",
    },
}  # fmt: skip
#: What can lie below: the first needs no network.
GROUNDS = ("offline", "osm")
OSM_HOST = "https://tile.openstreetmap.org"
ATTRIBUTION = "Natural Earth"
OSM_ATTRIBUTION = '© <a href="https://www.openstreetmap.org/copyright" target="_blank">OpenStreetMap</a> contributors'


def base_style(bounds: Bounds, theme: str, *, world: str, ground: str = "offline") -> dict[str, Any]:
    """The style below all layers.

    Args:
        bounds: where the graticule is fine.
        world: address of `world.geojson` (see `world.LICENSE.txt`).
        ground: one of `GROUNDS`; online tiles cover what needs no network, which is seen where they do not come.
    """
    colors = THEMES[theme]
    sources: dict[str, Any] = {
        "world": {"type": "geojson", "data": world, "attribution": ATTRIBUTION},
        "graticule": {"type": "geojson", "data": graticule(bounds)},
    }
    land = {"fill-color": colors["land"], "fill-outline-color": colors["border"]}
    border = {"line-color": colors["border"], "line-width": 1, "line-dasharray": [3, 2]}
    layers: list[dict[str, Any]] = [
        {"id": "sea", "type": "background", "paint": {"background-color": colors["sea"]}},
        {"id": "land", "type": "fill", "source": "world", "filter": ["==", ["get", "kind"], "land"], "paint": land},
        {
            "id": "borders", "type": "line", "source": "world", "filter": ["==", ["get", "kind"], "border"],
            "paint": border,
        },
    ]  # fmt: skip
    if ground == "osm":
        sources["osm"] = {
            "type": "raster", "tiles": [f"{OSM_HOST}/{{z}}/{{x}}/{{y}}.png"], "tileSize": 256, "maxzoom": 19,
            "attribution": OSM_ATTRIBUTION,
        }  # fmt: skip
        shade = {"raster-brightness-max": 0.6, "raster-saturation": -0.4} if theme == "dark" else {}
        layers.append({"id": "OpenStreetMap", "type": "raster", "source": "osm", "paint": shade})
    grid = {"line-color": colors["grid"], "line-width": 0.8}
    layers.append({"id": "graticule", "type": "line", "source": "graticule", "paint": grid})
    # A style's own text needs files of glyphs; `map.js` draws each name as a picture instead.
    layers.append(
        {
            "id": "degrees", "type": "symbol", "source": "graticule",
            "layout": {
                "symbol-placement": "line", "symbol-spacing": 350, "icon-rotation-alignment": "viewport",
                "icon-image": ["concat", "text:", ["get", "label"]],
            },
        }
    )  # fmt: skip
    if ground == "offline":
        layers.append(
            {
                "id": "names", "type": "symbol", "source": "world", "filter": ["==", ["get", "kind"], "name"],
                "layout": {"icon-image": ["concat", "text:", ["get", "name"]], "symbol-sort-key": ["get", "rank"]},
            }
        )  # fmt: skip
    return {"version": 8, "sources": sources, "layers": layers}


def page_headers(ground: str) -> dict[str, str]:
    """Headers of a map's page: what it may load, and from where. Foreign hosts are named only where they are chosen."""
    tiles, headers = "", {"Cache-Control": "no-cache"}
    if ground == "osm":
        tiles = f" {OSM_HOST}"
        # OpenStreetMap serves no tiles to pages that do not say where they come from.
        headers["Referrer-Policy"] = "strict-origin-when-cross-origin"
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        f"img-src 'self' data: blob:{tiles}; connect-src 'self'{tiles}; worker-src blob:; child-src blob:; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return {**headers, "Content-Security-Policy": policy}
