"""Somebody's own images, in Chromium: looked at, kept, prepared, browsed, and found again by a link."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from rsfm.packs import Pack
from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
CLASSES = ("crop", "forest", "water")


@pytest.fixture(scope="module")
def own_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small pictures of each class, in a folder per class."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("own") / "tiles"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(5):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{name}{i}.png")
    return folder


def test_from_a_folder_to_a_link(tmp_path: Path, own_images: Path, served: Callable, visit: Callable) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.packs.mkdir(parents=True)
    analyst = visit(served(workspace)).open("/datasets?view=Add+your+own")
    page = analyst.page

    # What was understood is shown before anything is kept.
    page.get_by_label("Path").fill(str(own_images))
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("button", name="Look at it").click()
    for finding in ("15 images in one folder per class, 3 classes", "three 8-bit bands", "8-bit values"):
        expect(page.get_by_text(re.compile(finding)).first).to_be_visible()
    assert not workspace.datasets.exists()

    # Kept, queued, and prepared by a real job.
    page.get_by_role("button", name="Keep and prepare").click()
    page.get_by_role("link", name="Watch it being prepared").click()
    expect(analyst.main.get_by_text("succeeded").first).to_be_visible(timeout=90_000)
    pack = Pack.named(workspace, "mine")
    assert set(pack.info.classes) == set(CLASSES)

    # Browsed with a filter; one sample close up.
    analyst.open("/datasets?pack=mine")
    pictures = analyst.main.locator('img[src*="/rsfm/thumbs/"]')
    expect(pictures).to_have_count(15)
    find = page.get_by_label("Find")
    find.fill("FOREST")
    find.press("Enter")
    expect(pictures).to_have_count(5)
    expect(page.get_by_text("5 of 15 samples")).to_be_visible()
    analyst.main.get_by_role("button", name="forest").first.click()
    close = page.get_by_role("button", name="Close")
    close.wait_for()
    assert "text=FOREST" in analyst.query() and "sample=" in analyst.query()

    # The link shows the same in another browser.
    other = visit(analyst.base).open(f"/datasets?{analyst.query()}")
    expect(other.page.get_by_label("Find")).to_have_value("FOREST")
    expect(other.page.get_by_role("button", name="Close")).to_be_visible()
    expect(other.main.locator('img[src*="/rsfm/thumbs/"]')).to_have_count(6)
    for one in (analyst, other):
        assert one.troubles == [] and one.foreign() == []
