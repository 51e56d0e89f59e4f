"""From an evaluation to the samples behind a point of its curve, in Chromium; and a link that leads there."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from lab import embed
from PIL import Image
from playwright.sync_api import Page, expect

from rsfm.pack_writer import PackWriter
from rsfm.packs import BandInfo, LayerInfo, Pack, PackInfo
from rsfm.store.runs import list_runs
from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
#: Test samples of each class.
TESTED = 7


def make_textures(workspace: Workspace) -> PackInfo:
    """Plain fields and chequered ones of one mean: they differ by what is lost where pixels are twice as large."""
    rng = np.random.default_rng(0)
    bands = [BandInfo(name=n, wavelength_nm=w, gsd_m=10, unit="uint8")
             for n, w in (("red", 650), ("green", 550), ("blue", 470))]  # fmt: skip
    layer = LayerInfo(dtype="uint8", shape=(3, 32, 32), gsd_m=10.0, bands=bands)
    chequered = 60.0 * (np.indices((32, 32)).sum(axis=0) % 2) - 30
    with PackWriter(workspace, "textures", request_hash="textures", layers=[layer]) as writer:
        for i in range(2 * (TESTED + 12)):
            image = rng.normal(120, 3, (3, 32, 32)) + (chequered if i % 2 else 0)
            writer.add(
                id=f"tile-{i:02d}", split="test" if i < 2 * TESTED else "train", label=("plain", "chequered")[i % 2],
                arrays={"image": image.clip(0, 255).astype(np.uint8)},
            )  # fmt: skip
        return writer.finish(
            dataset="textures", title="Textures", task="classification", classes=["plain", "chequered"], synthetic=True
        )


def click_point(page: Page, number: int) -> None:
    """Click a point of the first curve, counted from the left."""
    points = page.locator(".js-plotly-plot .scatterlayer .trace .points path")
    points.first.wait_for(timeout=60_000)
    box = points.nth(number).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_from_an_evaluation_to_the_samples_that_flip(
    tmp_path_factory: pytest.TempPathFactory, served: Callable, visit: Callable
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("flipped") / "workspace")
    workspace.packs.mkdir(parents=True)
    info = make_textures(workspace)
    embed(workspace, info, model="band-stats", title="Band statistics")
    base = served(workspace)
    first = visit(base, height=2200).open("/launch?job=evaluate&pack=textures&model=band-stats")
    page = first.page

    # A real evaluation, from the form to its end.
    seeds = first.main.get_by_label("Evaluation seeds", exact=True)
    seeds.fill("0")
    seeds.press("Enter")
    expect(first.main.get_by_text("--seeds 0").first).to_be_visible()
    first.main.get_by_role("button", name="Queue").click()
    first.main.get_by_role("link", name="Watch band-stats on textures").click(timeout=150_000)
    expect(page.get_by_test_id("stMetric").filter(has_text="Ended")).to_be_visible(timeout=150_000)
    run = next(r for r in list_runs(workspace) if r.envelope()["kind"] == "evaluate")
    assert run.state() == "succeeded", run.log_tail(2000)

    # Its curve: a linear probe of band statistics tells textures apart as long as they are there.
    first.open("/degradation?packs=textures&adaptation=linear&seed=0/0")
    click_point(page, 2)
    page.wait_for_url(re.compile(r"curve=[0-9a-f]{12}.*at=4"))
    expect(page.get_by_text(re.compile(f"From 1× to 4×: lost {TESTED} "))).to_be_visible()
    pictures = page.locator('img[src*="/rsfm/thumbs/textures/test/"]')
    expect(pictures).to_have_count(2 * TESTED)
    test = Pack.named(workspace, "textures").split_samples("test")
    shown = {int(re.search(r"/test/(\d+)\.png", pictures.nth(i).get_attribute("src") or "")[1])
             for i in range(2 * TESTED)}  # fmt: skip
    assert shown == set(test.loc[test["label"] == "chequered", "row"])

    # Two pictures of one sample: as it is, and as the model saw it, without its texture.
    contrast = []
    for i in (0, 1):
        answer = page.request.get(f"{base}{pictures.nth(i).get_attribute('src')}")
        assert answer.status == 200
        contrast.append(np.asarray(Image.open(io.BytesIO(answer.body())).convert("L")).std())
        loaded = "i => i.complete && i.naturalWidth > 0"
        page.wait_for_function(loaded, arg=pictures.nth(i).element_handle())
    assert contrast[0] > 3 * contrast[1]

    # The link restores all of it in another browser, and the chart marks the point.
    second = visit(base, height=2200).open("/degradation?" + first.query())
    restored = second.page.locator('img[src*="/rsfm/thumbs/textures/test/"]')
    expect(restored).to_have_count(2 * TESTED)
    addresses = [[locator.nth(i).get_attribute("src") for i in range(2 * TESTED)] for locator in (pictures, restored)]
    assert addresses[0] == addresses[1]
    second.page.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')?.data?.some(t => String(t.selectedpoints) === '2')"
    )

    # Another point; then the very samples on the page Embeddings.
    click_point(page, 3)
    page.wait_for_url(re.compile("at=8"))
    expect(page.get_by_text(re.compile("From 1× to 8×: lost"))).to_be_visible()
    second.page.get_by_role("button", name="Show on Embeddings").click()
    second.page.wait_for_url(re.compile(r"/embeddings\?"))
    expect(second.page.get_by_role("heading", name=f"{TESTED} selected")).to_be_visible()
    expect(second.page.locator(".stage")).to_have_attribute("data-chosen", str(TESTED))
    for one in (first, second):
        assert one.troubles == [] and one.foreign() == []
