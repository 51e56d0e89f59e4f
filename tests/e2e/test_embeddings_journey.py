"""From an embedding launched in the browser to the samples, the map and the neighbours of what a lasso holds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from lab_packs import make_pack
from PIL import Image
from playwright.sync_api import Page, expect

from rsfm.embedding_info import PATH, read_embedding
from rsfm.packs import Pack
from rsfm.store.runs import list_runs
from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
Sample = tuple[str, int]
THUMBNAIL = re.compile(r"/rsfm/thumbs/tiny/([a-z]+)/(\d+)\.png")
#: Somewhere on the page where a map's point lies: the first pixel that is wholly of its colour.
POINT = """stage => {
    const canvas = stage.querySelector("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const box = canvas.getBoundingClientRect();
    for (let i = 3; i < data.length; i += 4) if (data[i] === 255) {
        const pixel = (i - 3) / 4;
        const ratio = canvas.width / box.width;
        return [box.x + (pixel % canvas.width) / ratio, box.y + Math.floor(pixel / canvas.width) / ratio + 1];
    }
}"""
#: Pixels that are wholly of their colour, in the upper half of a plot and in the lower one.
OPAQUE = """stage => {
    const canvas = stage.querySelector("canvas");
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const found = [0, 0];
    for (let i = 3; i < data.length; i += 4) if (data[i] === 255) found[i < 2 * width * height ? 0 : 1]++;
    return found;
}"""


def on_the_map(page: Page) -> set[Sample]:
    """The samples that the map on the page has in its data, once it is drawn."""
    frame = page.frame_locator("iframe")
    frame.locator("html[data-ready=true]").wait_for(timeout=90_000)
    data = json.loads(frame.locator("#data").text_content() or "")
    (source,) = (args[1] for name, args in data["map"]["calls"] if name == "addSource" and args[0] == "footprints")
    return {(f["properties"]["split"], f["properties"]["row"]) for f in source["data"]["features"]}


def in_thumbnails(page: Page) -> list[Sample]:
    """The samples whose pictures are on the page."""
    pictures = page.locator('img[src*="/rsfm/thumbs/"]')
    found = [THUMBNAIL.search(pictures.nth(i).get_attribute("src") or "") for i in range(pictures.count())]
    return [(match[1], int(match[2])) for match in found if match]


def test_from_an_embedding_to_what_a_lasso_holds(
    tmp_path_factory: pytest.TempPathFactory, served: Callable, visit: Callable
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("embedded") / "workspace")
    workspace.packs.mkdir(parents=True)
    make_pack(workspace, "tiny", synthetic=True)
    analyst = visit(served(workspace), height=1600).open("/launch?job=embed&pack=tiny&model=band-stats")
    page = analyst.page

    # A real embedding, from the form to its end; the run leads to its map.
    severities = analyst.main.get_by_label("Severities", exact=True)
    severities.fill("1, 4")
    severities.press("Enter")
    expect(analyst.main.get_by_text("--severities 1,4")).to_be_visible()
    analyst.main.get_by_role("button", name="Queue").click()
    analyst.main.get_by_role("link", name="Watch band-stats on tiny").click(timeout=150_000)
    expect(page.get_by_test_id("stMetric").filter(has_text="Ended")).to_be_visible(timeout=150_000)
    (run,) = list_runs(workspace)
    assert run.state() == "succeeded", run.log_tail(2000)
    analyst.main.get_by_role("link", name="Open the map").click()
    page.wait_for_url(re.compile(rf"/embeddings\?.*map={run.id}"))
    plots = page.locator(".stage[data-drawn]")
    plots.first.wait_for(timeout=90_000)

    # The same samples coarser, beside it.
    page.get_by_role("combobox", name="Beside it").click()
    page.get_by_role("option").filter(has_text="4×").click()
    expect(plots).to_have_count(2, timeout=60_000)
    analyst.settle()

    # A lasso around the upper half: those with the largest y.
    box = plots.first.bounding_box()
    assert box is not None
    left, top = box["x"] + 8, box["y"] + 8
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((1, 0), (1, 0.5), (0, 0.5), (0, 0)):
        page.mouse.move(left + x * (box["width"] - 16), top + y * (box["height"] - 16), steps=8)
    page.mouse.up()
    chosen = page.get_by_role("heading").filter(has_text="selected")
    chosen.wait_for(timeout=60_000)
    count = int(chosen.inner_text().split()[0])
    assert 5 < count < 55
    points = read_embedding(run.path / PATH).at(1.0).nlargest(count, "y")
    wanted = {(str(p.split), int(p.row)) for p in points.itertuples()}
    thumbnails = page.locator('img[src*="/rsfm/thumbs/"]')
    expect(thumbnails).to_have_count(min(count, 36))
    assert set(in_thumbnails(page)) <= wanted
    # Both maps mark that selection: what lies in the lower half is faint.
    for plot in (plots.nth(0), plots.nth(1)):
        expect(plot).to_have_attribute("data-chosen", str(count))
    upper, lower = plots.first.evaluate(OPAQUE)
    assert upper > 5 * count and lower < 0.1 * upper

    # A link shows them in another browser, and so does this page when it is loaded again.
    other = visit(analyst.base, height=1600).open("/embeddings?" + analyst.query())
    page.reload()
    for one in (other, analyst):
        expect(one.page.get_by_role("heading", name=f"{count} selected")).to_be_visible()
        for plot in (one.page.locator(".stage").nth(0), one.page.locator(".stage").nth(1)):
            expect(plot).to_have_attribute("data-chosen", str(count))
        assert in_thumbnails(one.page) and set(in_thumbnails(one.page)) <= wanted

    # The very same samples on the map; then what is near the first one.
    tabs = page.get_by_role("radiogroup", name="Selected")
    tabs.get_by_text("Map", exact=True).click()
    assert on_the_map(page) == wanted
    tabs.get_by_text("Neighbours", exact=True).click()
    expect(page.get_by_text("itself")).to_be_visible()
    expect(thumbnails).to_have_count(10)
    page.get_by_role("button", name="Clear").click()
    expect(chosen).to_have_count(0)

    # One class by its legend, which a keyboard reaches too; another one with it; and what lies under the pointer.
    legend = page.locator(".legend").first.get_by_role("button")
    name = legend.nth(0).inner_text()
    legend.nth(0).press("Enter")
    expect(chosen).to_have_text(re.compile("selected"))
    samples = Pack.named(workspace, "tiny").samples
    of_class = samples[samples["label"] == name]
    expect(chosen).to_have_text(f"{len(of_class)} selected")
    tabs.get_by_text("Map", exact=True).click()
    assert on_the_map(page) == {(str(s.split), int(s.row)) for s in of_class.itertuples()}
    legend.nth(1).click(modifiers=["Shift"])
    expect(chosen).not_to_have_text(f"{len(of_class)} selected")
    x, y = plots.first.evaluate(POINT)
    page.mouse.move(x, y)
    tip = page.locator(".tip:visible")
    expect(tip.locator("img")).to_have_attribute("src", re.compile("/rsfm/thumbs/"))
    page.mouse.click(x, y)
    expect(chosen).to_have_text("1 selected")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save", exact=True).first.click()
    assert Image.open(saved.value.path()).size > (box["width"], box["height"])
    for one in (analyst, other):
        assert one.foreign() == [] and one.troubles == []
