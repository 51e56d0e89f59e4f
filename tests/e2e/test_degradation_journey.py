"""From a curve to the samples behind one of its points, in Chromium; and a link that leads there."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from flipped import WRONG, make_flipped
from lab import embed
from PIL import Image
from playwright.sync_api import Page, expect

from rsfm.packs import Pack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def click_point(page: Page, number: int) -> None:
    """Click a point of the first curve, counted from the left."""
    points = page.locator(".js-plotly-plot .scatterlayer .trace .points path")
    points.first.wait_for(timeout=60_000)
    box = points.nth(number).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_a_click_on_a_curve_shows_the_samples_that_flip(
    tmp_path_factory: pytest.TempPathFactory, served: Callable, visit: Callable
) -> None:
    workspace = make_flipped(tmp_path_factory.mktemp("flipped") / "workspace")
    pack = Pack.named(workspace, "scenes")
    embed(workspace, pack.info, model="band-stats", title="Band statistics")
    base = served(workspace)
    first = visit(base, height=2200).open("/degradation?packs=scenes&seed=0/0")
    page = first.page
    click_point(page, 2)
    page.wait_for_url(re.compile(r"curve=[0-9a-f]{12}.*at=4"))
    lost = WRONG[4.0] - WRONG[1.0]
    expect(page.get_by_text(re.compile(f"From 1× to 4×: lost {lost} "))).to_be_visible()
    pictures = page.locator('img[src*="/rsfm/thumbs/scenes/test/"]')
    expect(pictures).to_have_count(2 * lost)

    # Two pictures of one sample: as it is, and coarser.
    seen = []
    for i in (0, 1):
        answer = page.request.get(f"{base}{pictures.nth(i).get_attribute('src')}")
        assert answer.status == 200
        seen.append(np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB")).astype(int))
        loaded = "i => i.complete && i.naturalWidth > 0"
        page.wait_for_function(loaded, arg=pictures.nth(i).element_handle())
    assert seen[0].shape == seen[1].shape and np.abs(seen[0] - seen[1]).mean() > 1

    # The link restores all of it in another browser, and the chart marks the point.
    second = visit(base, height=2200).open("/degradation?" + first.query())
    restored = second.page.locator('img[src*="/rsfm/thumbs/scenes/test/"]')
    expect(restored).to_have_count(2 * lost)
    addresses = [[locator.nth(i).get_attribute("src") for i in range(2 * lost)] for locator in (pictures, restored)]
    assert addresses[0] == addresses[1]
    second.page.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')?.data?.some(t => String(t.selectedpoints) === '2')"
    )

    # Another point of another curve; then the very samples on the page Embeddings.
    click_point(page, 7)
    page.wait_for_url(re.compile("at=8"))
    expect(page.get_by_text(re.compile("From 1× to 8×: lost"))).to_be_visible()
    second.page.get_by_role("button", name="Show on Embeddings").click()
    second.page.wait_for_url(re.compile(r"/embeddings\?"))
    expect(second.page.get_by_role("heading", name=f"{lost} selected")).to_be_visible()
    for one in (first, second):
        assert one.troubles == [] and one.foreign() == []
