"""What lies below a map: a choice of every page that shows one."""

from __future__ import annotations

from app.view_state import choose_whether


def choose_ground() -> str:
    """One of `app.maps.ground.GROUNDS`. Without the choice no map asks another host for anything."""
    online = choose_whether(
        "OpenStreetMap below", "osm",
        help="Needs the network: tiles come from openstreetmap.org, which learns where you look. Off, maps show land, "
        "boundaries and names from this machine.",
    )  # fmt: skip
    return "osm" if online else "offline"
