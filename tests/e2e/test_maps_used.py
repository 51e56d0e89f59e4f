"""Maps in use, in Chromium: what is chosen on them holds on both sides of the swipe, and in another browser."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from lab_packs import make_pack
from PIL import Image
from playwright.sync_api import FrameLocator, Page, expect
from predicted import Predicted, hostile_copy, make_predicted

from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    return make_predicted(tmp_path_factory.mktemp("used"))


def map_of(page: Page, *, swiped: bool = False) -> FrameLocator:
    """The page's map, when it has drawn everything."""
    frame = page.frame_locator("iframe")
    frame.locator("html[data-ready=true]").wait_for(timeout=90_000)
    if swiped:
        frame.locator("html[data-swipe=ready]").wait_for(timeout=60_000)
    return frame


def sides(page: Page, frame: FrameLocator) -> tuple[np.ndarray, np.ndarray]:
    """The map's pixels left and right of its middle, over the scene and under nothing else."""
    page.wait_for_timeout(1200)
    pixels = np.asarray(Image.open(io.BytesIO(frame.locator("body").screenshot())).convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    rows = slice(height // 3, 2 * height // 3)
    return pixels[rows, width // 3 : width // 2 - 30], pixels[rows, width // 2 + 30 : 2 * width // 3]


def grey(pixels: np.ndarray) -> bool:
    return bool((np.ptp(pixels, axis=2) <= 2).mean() > 0.95)


def test_what_was_chosen_before_holds_on_both_sides_of_the_swipe(
    made: Predicted, served: Callable, visit: Callable
) -> None:
    analyst = visit(served(made.workspace), height=1300).open(f"/change?prediction={made.change}")
    page, frame = analyst.page, map_of(analyst.page)
    # Before lies on the left, after on the right: the right one is seen as red alone, and faintly.
    frame.get_by_role("combobox", name="Bands of Image").select_option("band:red")
    frame.get_by_role("combobox", name="Stretch of Image").select_option("soft")
    frame.get_by_role("slider", name="Opacity of Image").fill("0.9")
    frame.get_by_role("checkbox", name="Swipe").check()
    map_of(page, swiped=True)
    left, right = sides(page, frame)
    assert not grey(left) and grey(right), "the right side shows one band"

    # In another browser the same link shows the same.
    page.wait_for_url(re.compile("map=.*swipe"))
    link = page.url.removeprefix(analyst.base)
    again = visit(analyst.base, height=1300).open(link)
    restored = map_of(again.page, swiped=True)
    for frame_, page_ in ((frame, page), (restored, again.page)):
        expect(frame_.get_by_role("checkbox", name="Swipe")).to_be_checked()
        assert page_.url.removeprefix(analyst.base) == link
    expect(restored.get_by_role("combobox", name="Bands of Image")).to_have_value("band:red")
    expect(restored.get_by_role("slider", name="Opacity of Image")).to_have_value("0.9")
    for one, other in zip((left, right), sides(again.page, restored), strict=True):
        assert np.abs(one - other).mean() < 2
    assert analyst.troubles == again.troubles == [] and analyst.foreign() == again.foreign() == []


def test_layers_opacity_and_the_swipes_place_stand_in_the_address(
    made: Predicted, served: Callable, visit: Callable
) -> None:
    analyst = visit(served(made.workspace), height=1300).open(f"/segmentation?prediction={made.segmentation}")
    page, frame = analyst.page, map_of(analyst.page)
    assert "map=" not in page.url, "nothing was chosen"
    frame.get_by_role("checkbox", name="Classes").uncheck()
    frame.get_by_role("checkbox", name="Errors").check()
    frame.get_by_role("slider", name="Opacity of Errors").fill("0.35")
    page.wait_for_url(re.compile(re.escape("map=a%3Aclasses%2C0%2C0.75%3Ba%3Aerrors%2C1%2C0.35")))
    restored = map_of(visit(analyst.base).open(page.url.removeprefix(analyst.base)).page)
    expect(restored.get_by_role("checkbox", name="Classes")).not_to_be_checked()
    expect(restored.get_by_role("checkbox", name="Errors")).to_be_checked()
    expect(restored.get_by_role("slider", name="Opacity of Errors")).to_have_value("0.35")
    expect(restored.locator(".legend")).to_have_count(2)
    assert [n.is_visible() for n in restored.locator(".legend").all()] == [True, False]

    frame.get_by_role("checkbox", name="Swipe").check()
    map_of(page, swiped=True)
    frame.get_by_role("slider", name="Position of the swipe").press("ArrowLeft")
    page.wait_for_url(re.compile("swipe%2Ca%3Aimage%2Ca%3Aclasses%2C0.48$"))
    frame.get_by_role("checkbox", name="Swipe").uncheck()
    frame.get_by_role("checkbox", name="Errors").uncheck()
    frame.get_by_role("slider", name="Opacity of Errors").fill("0.75")
    frame.get_by_role("checkbox", name="Classes").check()
    page.wait_for_url(lambda url: "map=" not in url)
    assert analyst.troubles == [] and analyst.foreign() == []


def test_another_map_begins_where_this_one_is(made: Predicted, served: Callable, visit: Callable) -> None:
    analyst = visit(served(made.workspace), height=1300)
    analyst.open(f"/segmentation?prediction={made.segmentation}&at=15.00100,45.15200,15.00")
    page, frame = analyst.page, map_of(analyst.page)

    def asked() -> str:
        return str(page.locator("iframe").get_attribute("src"))

    assert "15.00" in asked()
    frame.get_by_role("button", name="Zoom in").click()
    page.wait_for_url(re.compile("16.00"))
    for option in (re.compile(made.coarser[-4:]), "Nothing"):  # beside it, and alone again
        page.get_by_role("combobox", name="Beside it").click()
        page.get_by_role("option", name=option).click()
        page.wait_for_url(re.compile("beside=none" if option == "Nothing" else f"beside={made.coarser}"))
        analyst.settle()
        expect(page.locator("iframe")).to_have_attribute("src", re.compile(r"at=15\.001.*%2C16\.00"))
        map_of(page)
    assert analyst.troubles == []


def click(page: Page, across: float) -> None:
    """Somewhere on the page's map, halfway down."""
    box = page.locator("iframe").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + across * box["width"], box["y"] + 0.5 * box["height"])


def test_a_click_tells_values_pixel_and_samples(made: Predicted, served: Callable, visit: Callable) -> None:
    analyst = visit(served(made.workspace), width=800, height=1300, scheme="dark")
    page = analyst.open(f"/segmentation?prediction={made.segmentation}").page
    frame = map_of(page)
    assert page.get_by_test_id("stMain").evaluate("m => m.scrollWidth - m.clientWidth") <= 0
    popup = frame.locator(".maplibregl-popup")
    click(page, 0.55)
    expect(popup).to_contain_text(re.compile(r"Pixel: row \d+, column \d+"))
    expect(popup).not_to_contain_text("Samples here")
    popup.get_by_role("button", name="Close").click()
    click(page, 0.45)
    expect(popup.get_by_role("link")).to_have_count(len(made.west))
    with page.expect_popup() as opened:
        popup.get_by_role("link").filter(has_text="fields · test").click()
    expect(opened.value.get_by_text("test, row 1").first).to_be_visible()
    assert analyst.troubles == [] and analyst.foreign() == []


def test_names_on_the_map_stay_text(
    made: Predicted, tmp_path_factory: pytest.TempPathFactory, served: Callable, visit: Callable
) -> None:
    hostile = hostile_copy(made, tmp_path_factory.mktemp("hostile"))
    analyst = visit(served(hostile.workspace), height=1300)
    verbatim = "</script><img src=x onerror=alert(1)>"
    for page_name, run, layer in (
        ("segmentation", hostile.segmentation, "classes"), ("change", hostile.change, "changes"),
        ("segmentation", hostile.nowhere, None),
    ):  # fmt: skip
        page = analyst.open(f"/{page_name}?prediction={run}").page
        places = [page.main_frame] if layer is None else page.frames
        if layer:
            frame = map_of(page)
            expect(frame.locator("#panel .legend:visible")).to_contain_text(verbatim)
            frame.get_by_role("combobox", name="Bands of").first.select_option(index=1)
            click(page, 0.45)
            expect(frame.locator(".maplibregl-popup")).to_contain_text(verbatim)
            page.wait_for_url(re.compile("map=a%3Aimage"))
            chosen = page.url.removeprefix(analyst.base)
            again = map_of(analyst.open(chosen).page)
            expect(again.get_by_role("combobox", name="Bands of").first).to_have_value(re.compile("script.* 1$"))
            places = page.frames
        page.wait_for_timeout(500)
        for place in places:
            assert place.locator('img[src="x"], img[src^="http://example"]').count() == 0, page_name
            assert "\u202e" not in place.locator("body").inner_text()
    assert analyst.foreign() == [] and analyst.troubles == []


def test_the_view_of_a_packs_map_stands_in_the_address(
    tmp_path_factory: pytest.TempPathFactory, served: Callable, visit: Callable
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("kept") / "workspace")
    workspace.packs.mkdir(parents=True)
    for name in ("tiny", "other"):
        make_pack(workspace, name, count=12)
    analyst = visit(served(workspace)).open("/datasets?pack=tiny&tab=Map")
    page = analyst.page
    map_of(page).get_by_role("button", name="Zoom out").click()
    page.wait_for_url(re.compile(r"at=\d"))
    at = re.search(r"at=[^&]+", page.url)[0]
    again = visit(analyst.base).open(page.url.removeprefix(analyst.base))
    expect(again.page.locator("iframe")).to_have_attribute("src", re.compile(re.escape(at)))
    # Another choice of samples is another map at the same place; another pack lies elsewhere.
    page.get_by_role("combobox", name="Split").click()
    page.get_by_role("option", name="train").click()
    expect(page.locator("iframe")).to_have_attribute("src", re.compile(f"split=train.*{re.escape(at)}"))
    page.get_by_role("combobox", name="Pack").click()
    page.get_by_role("option", name=re.compile("other")).click()
    expect(page.locator("iframe")).to_have_attribute("src", re.compile("packs/other.*at=$"))
    assert "at=" not in page.url and analyst.troubles == [] and analyst.foreign() == []


@pytest.mark.parametrize("name", ["CROWN", "SPLIT-ROW"])
def test_a_footprint_of_a_pack_of_any_name_shows_its_sample(
    tmp_path_factory: pytest.TempPathFactory, served: Callable, visit: Callable, name: str
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("named") / "workspace")
    workspace.packs.mkdir(parents=True)
    make_pack(workspace, name, count=12)
    base = served(workspace)
    analyst = visit(base, width=700, height=500)
    analyst.page.goto(f"{base}/rsfm/maps/packs/{name}")
    analyst.page.locator("html[data-ready=true]").wait_for()
    analyst.page.mouse.click(350, 250)
    shown = analyst.page.locator(".maplibregl-popup img")
    shown.wait_for()
    assert shown.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
    assert f"/rsfm/thumbs/{name}/" in str(shown.get_attribute("src")) and analyst.troubles == []
