"""From a prediction that is launched in the browser to its swipe and its outlines."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from lab import history
from PIL import Image
from playwright.sync_api import expect
from scenes_world import LINEAR, evaluated, make_pack, write_village

from app.predictions import open_prediction
from rsfm.store.runs import list_runs, open_run
from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def place_in(url: str) -> str:
    """Longitude, latitude and zoom of a map, as an address has them."""
    return "".join(parse_qs(urlsplit(url).query).get("at", []))


def test_from_a_predicted_change_to_its_swipe_and_its_outlines(
    tmp_path: Path, served: Callable, visit: Callable
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    evaluation = evaluated(workspace, make_pack(workspace, pairs=True), **LINEAR)
    history(open_run(workspace, evaluation), "succeeded", 5, 1, "Done.")  # or the supervisor would start it
    before, after, truth = write_village(tmp_path)
    analyst = visit(served(workspace), height=1500).open("/launch?job=predict")
    page, main = analyst.page, analyst.main

    # A real prediction, from the form to its end; the run leads to its map.
    for label, file in (("Scene", after), ("Earlier scene", before), ("Truth", truth)):
        field = main.get_by_label(label, exact=True)
        field.fill(str(file))
        field.press("Enter")
        expect(main.locator("code").filter(has_text=str(file))).to_be_visible()
    main.get_by_role("button", name="Queue").click()
    main.get_by_role("link", name="Watch map of").click(timeout=150_000)
    expect(page.get_by_test_id("stMetric").filter(has_text="Ended")).to_be_visible(timeout=150_000)
    (run,) = (r for r in list_runs(workspace) if r.envelope()["kind"] == "predict")
    assert run.state() == "succeeded", run.log_tail(2000)
    main.get_by_role("link", name="Open the map").click()
    page.wait_for_url(re.compile(rf"/change\?.*prediction={run.id}"))
    frame = page.frame_locator("iframe")
    frame.locator("html[data-ready=true]").wait_for(timeout=90_000)

    def ground() -> np.ndarray:
        """The map's middle, without what lies over it."""
        page.wait_for_timeout(1500)
        shot = tmp_path / "map.png"
        frame.locator("#map").screenshot(path=shot)
        pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
        height, width, _ = pixels.shape
        return pixels[height // 10 : 9 * height // 10, width // 4 : 3 * width // 4]

    layers = open_prediction(workspace, run.id)
    found = tuple(int(layers.layer("errors").legend[1].colour[k : k + 2], 16) for k in (1, 3, 5))

    def share(pixels: np.ndarray) -> float:
        return float((np.abs(pixels - found).max(axis=2) < 12).mean())

    assert share(ground()) < 0.001
    frame.get_by_role("checkbox", name="Errors").check()
    frame.get_by_role("slider", name="Opacity of Errors").fill("1")
    assert share(ground()) > 0.01, "what was found is drawn in the colour that the legend gives it"
    frame.get_by_role("checkbox", name="Errors").uncheck()

    # Before and after: another picture on each side of the divider, which the keyboard moves.
    frame.get_by_role("checkbox", name="Swipe").check()
    frame.locator("html[data-swipe=ready]").wait_for(timeout=60_000)
    half = ground()
    divider = frame.get_by_role("slider", name="Position of the swipe")
    for _ in range(20):
        divider.press("ArrowLeft")
    moved = ground()
    middle = half.shape[1] // 2
    assert np.abs(half[:, : middle - 20] - moved[:, : middle - 20]).mean() > 10, "this side shows the later image now"
    assert np.abs(half[:, middle + 20 :] - moved[:, middle + 20 :]).mean() < 2
    frame.get_by_role("checkbox", name="Swipe").uncheck()

    # A click tells what each layer holds; the view goes into the address, and comes back from it.
    box = frame.locator("#map").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.55 * box["width"], box["y"] + 0.5 * box["height"])
    expect(frame.locator(".maplibregl-popup")).to_contain_text("Probability of change")
    before = place_in(page.url)
    frame.get_by_role("button", name="Zoom in").click()
    page.wait_for_url(lambda url: place_in(url) not in ("", before))
    link = page.url
    again = visit(analyst.base).open(link.removeprefix(analyst.base))
    source = again.page.locator("iframe").get_attribute("src")
    assert source is not None and place_in(source) == place_in(link)

    page.get_by_role("radiogroup", name="Show").get_by_text("Files", exact=True).click()
    file = page.get_by_role("link", name="Outlines (GeoJSON)").get_attribute("href")
    assert file is not None
    answer = page.request.get(analyst.base + file)
    assert answer.headers["content-disposition"].startswith("attachment")
    outlines = answer.json()
    assert len(outlines["features"]) == layers.polygons.count > 0
    assert analyst.foreign() == [] and analyst.troubles == []
