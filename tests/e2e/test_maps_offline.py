"""What lies below the maps, in Chromium: land and sea without a network, online tiles only where they are chosen."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lab_packs import make_pack
from PIL import Image, ImageColor
from playwright.sync_api import Page, expect

from app.maps.ground import OSM_HOST, THEMES
from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
PURPLE = (150, 40, 200)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("maps") / "workspace")
    made.packs.mkdir(parents=True)
    make_pack(made, "tiny", count=12)
    make_pack(made, "fiji", count=60, corner=(179.957, -16.5))
    return made


def colours(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def share(picture: np.ndarray, colour: tuple[int, ...]) -> float:
    """How much of a picture has a colour, give or take a little."""
    return float((np.abs(picture - np.array(colour)).max(axis=-1) <= 6).mean())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_land_and_sea_need_no_network(workspace: Workspace, served: Callable, visit: Callable, theme: str) -> None:
    base = served(workspace)
    analyst = visit(base, width=700, height=500)
    page = analyst.page
    page.goto(f"{base}/rsfm/maps/packs/tiny?theme={theme}")
    page.locator("html[data-ready]").wait_for()
    sea, land = (ImageColor.getrgb(THEMES[theme][k]) for k in ("sea", "land"))
    near = colours(page)
    assert share(near, land) > 0.2 > 0.01 > share(near, sea), "the samples lie in the Alps"
    expect(page.get_by_text("Natural Earth")).to_be_visible()
    for _ in range(14):
        if page.locator(".maplibregl-ctrl-scale").inner_text().split() in (["500", "km"], ["1000", "km"]):
            break
        page.locator(".maplibregl-ctrl-zoom-out").click()
        page.wait_for_timeout(400)
    page.wait_for_timeout(1500)
    far = colours(page)
    assert share(far, land) > 0.2 and share(far, sea) > 0.1, "Europe and the Atlantic"
    # North-west of Iberia is water, the middle of the map is not; names stand on it, so a majority of a patch decides.
    assert share(far[200:240, 10:60], sea) > 0.7 and share(far[180:210, 420:480], land) > 0.5
    assert analyst.foreign() == [] and analyst.troubles == []


def test_samples_across_the_antimeridian_lie_side_by_side(
    workspace: Workspace, served: Callable, visit: Callable
) -> None:
    base = served(workspace)
    page = visit(base, width=900, height=560).page
    page.goto(f"{base}/rsfm/maps/packs/fiji?theme=light")
    page.locator("html[data-ready]").wait_for()
    picture = colours(page)
    grounds = [
        np.abs(picture - np.array(ImageColor.getrgb(THEMES["light"][k]))).max(axis=-1) <= 6 for k in ("sea", "land")
    ]
    drawn = ~np.any(grounds, axis=0)
    # 180 degrees is the middle of the picture; the samples' pixels fill both sides of it.
    assert drawn[200:360, 250:440].mean() > 0.9 and drawn[200:360, 460:650].mean() > 0.9


def test_openstreetmap_is_asked_only_where_it_is_chosen(
    workspace: Workspace, served: Callable, visit: Callable, tmp_path: Path
) -> None:
    tile = io.BytesIO()
    Image.new("RGB", (256, 256), PURPLE).save(tile, "PNG")
    analyst = visit(served(workspace))
    page = analyst.page
    page.context.route(f"{OSM_HOST}/**", lambda route: route.fulfill(body=tile.getvalue(), content_type="image/png"))
    frame = page.frame_locator("iframe")
    analyst.open("/datasets?pack=tiny&tab=Map")
    frame.locator("html[data-ready]").wait_for()
    assert analyst.foreign() == [] and "osm" not in analyst.query()

    page.get_by_text("OpenStreetMap below").click()
    expect(frame.get_by_text("contributors")).to_be_visible()
    frame.locator("html[data-ready]").wait_for()
    page.wait_for_timeout(500)
    asked = analyst.foreign()
    assert asked and all(r.startswith(f"{OSM_HOST}/") for r in asked)
    map_box = page.locator("iframe").bounding_box()
    shot = tmp_path / "map.png"
    page.screenshot(path=shot, clip=map_box)
    picture = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert share(picture, PURPLE) > 0.3, "the tiles lie below the samples"
    assert share(picture, PURPLE) < 0.95

    # A link keeps the choice; a page without it asks nobody.
    other = visit(analyst.base)
    other.page.context.route(f"{OSM_HOST}/**", lambda route: route.abort())
    other.open(f"/datasets?{analyst.query()}")
    expect(other.page.frame_locator("iframe").get_by_text("OpenStreetMap cannot be reached")).to_be_visible()
    last = visit(analyst.base).open("/datasets?pack=tiny&tab=Map")
    last.page.frame_locator("iframe").locator("html[data-ready]").wait_for()
    assert last.foreign() == [] and last.troubles == []
