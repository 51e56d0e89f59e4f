"""Add your own: pictures, counts and the map that are shown before anything is kept."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app import looked
from app.access import Access
from app.components.bars import share_text
from app.routes import build_routes
from app.security import Guard
from data_catalog.add import understand
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


def texts(test: AppTest) -> str:
    return "\n".join(str(e.value) for e in [*test.markdown, *test.caption, *test.warning]).replace("\\", "")


def look(test: AppTest, path: Path) -> AppTest:
    test.text_input[0].set_value(str(path))
    return next(b for b in test.button if b.label == "Look at it").click().run()


def pictures(test: AppTest) -> list[str]:
    """What is said of each picture to people who do not see it."""
    return [image.alt for element in test.get("image") for image in element.proto.imgs if image.alt]


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


@pytest.fixture
def client(place: Workspace) -> Iterator[TestClient]:
    app = Starlette(
        routes=build_routes(place), middleware=[Middleware(Guard, access=Access(hosts=frozenset({"testserver"})))]
    )
    with TestClient(app) as opened:
        yield opened


def write_scene(path: Path, *, crs: str | None = "EPSG:32632", east: float = 500_000, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((3, 600, 600), level, np.uint16)
    image += np.arange(600, dtype=np.uint16)[:, None]
    georef = {"crs": crs, "transform": from_origin(east, 5_200_000, 30, 30)} if crs else {}
    profile = {"driver": "GTiff", "count": 3, "height": 600, "width": 600, "dtype": "uint16", "nodata": 0, **georef}
    with rasterio.open(path, "w", **profile) as file:
        file.write(image)
        file.descriptions = ["B02", "B03", "B04"]
    return path


def test_images_of_every_class_and_how_many_there_are(
    open_page: Open, place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        folder = tmp_path / "set" / f"class {number:02d}"
        folder.mkdir(parents=True)
        for i in range(1 + (number < 26)):
            Image.new("RGB", (16, 16), (8 * number, 90, 10 * i)).save(folder / f"{i}.png")
    reads = []
    read = looked.preview
    monkeypatch.setattr(looked, "preview", lambda found: reads.append(1) or read(found))
    test = look(open_page(place, "datasets", view="Add your own"), tmp_path / "set")
    assert not test.exception and not test.error
    assert len(pictures(test)) == 8 and pictures(test)[0] == "class 00" and pictures(test)[-1] == "class 29"
    assert "8 of 56 samples, spread over the classes" in texts(test) and "Red, green, blue" in texts(test)
    assert "… and 6 more classes with 1 to 2 images each" in texts(test)
    figure = json.loads(test.get("plotly_chart")[0].proto.spec)
    assert len(figure["data"][0]["y"]) == 24
    test.run()
    test.number_input(key="add.size").set_value(16).run()
    assert len(reads) == 1 and len(pictures(test)) == 8, "nothing is read again when the page is drawn again"
    assert not place.root.exists()


def test_pairs_are_shown_before_after_and_with_their_change(open_page: Open, place: Workspace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        for folder in ("A", "B", "label"):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            mask = folder == "label"
            array = (
                rng.integers(0, 2, (16, 16), np.uint8) * 255 if mask else rng.integers(0, 255, (16, 16, 3), np.uint8)
            )
            Image.fromarray(array).save(tmp_path / "set" / folder / f"<b>{i}.png")
    (tmp_path / "set" / "B" / "<b>1.png").write_bytes(b"\x89PNG")
    test = look(open_page(place, "datasets", view="Add your own"), tmp_path / "set")
    assert not test.exception
    assert pictures(test) == [f"{x} of <b>{i}" for i in (0, 2) for x in ("Before", "After", "Change map")]
    assert "**B/<b>1.png** cannot be decoded" in texts(test) and "no change" in texts(test)
    # Of the two change maps that are shown, not of the third, whose pair is broken.
    assert "of the change maps above: 2 of 3" in texts(test) and "theirs may differ" in texts(test)
    chart = json.loads(test.get("plotly_chart")[0].proto.spec)["data"][0]
    maps = [np.asarray(Image.open(tmp_path / "set" / "label" / f"<b>{i}.png")) > 0 for i in (0, 2)]
    changed = int(np.sum(maps))
    assert dict(zip(chart["y"], chart["customdata"], strict=True)) == {"change": changed, "no change": 512 - changed}
    assert chart["text"] == [share_text(count, 512) for count in chart["customdata"]]
    assert not re.search(r"(?<!\\)<b>", "".join(str(c.value) for c in test.caption))


def test_shares_are_never_rounded_to_nothing_or_all() -> None:
    told = {0: "none", 1: "< 0.1 %", 12_345: "12.3 %", 99_999: "> 99.9 %", 100_000: "all"}
    assert {count: share_text(count, 100_000) for count in told} == told


def test_scenes_are_shown_whole_and_where_they_lie(
    open_page: Open, place: Workspace, tmp_path: Path, client: TestClient
) -> None:
    write_scene(tmp_path / "set" / "a.tif")
    write_scene(tmp_path / "set" / "b.tif", east=518_000, level=900)
    test = look(open_page(place, "datasets", view="Add your own"), tmp_path / "set")
    assert not test.exception and len(test.get("iframe")) == 1
    assert pictures(test) == ["The whole of a.tif", "The whole of b.tif"]
    address = test.get("iframe")[0].proto.src
    assert str(tmp_path) not in address
    page = client.get(address)
    assert page.status_code == 200 and page.text.count('"split":"scene"') == 2 and str(tmp_path) not in page.text
    base = urlsplit(address).path
    mosaic = np.asarray(Image.open(io.BytesIO(client.get(f"{base}/mosaic.png").content)))
    height, width = mosaic.shape[:2]
    west, east = mosaic[height // 2, width // 4], mosaic[height // 2, 3 * width // 4]
    assert width > 1.5 * height and west[3] == east[3] == 255 and east[0] > west[0], "each where it belongs"
    assert mosaic[1, 1, 3] == 0, "nothing around them"
    assert client.get(f"{base}/1.png").content[:4] == b"\x89PNG" and client.get(f"{base}/2.png").status_code == 404
    for unknown in ("/rsfm/maps/looked/nothing", "/rsfm/maps/looked/..%2F..%2Fetc/mosaic.png"):
        assert client.get(unknown).status_code == 404


def test_a_scene_without_a_place_has_no_map(
    open_page: Open, place: Workspace, tmp_path: Path, client: TestClient
) -> None:
    file = write_scene(tmp_path / "set" / "a.tif", crs=None)
    test = look(open_page(place, "datasets", view="Add your own"), file)
    assert not test.exception and not test.get("iframe") and pictures(test) == ["The whole of a.tif"]
    assert "No place is known" in texts(test)
    key = looked.remember(understand(file))
    assert client.get(f"/rsfm/maps/looked/{key}?theme=light").status_code == 404
    assert client.get(f"/rsfm/maps/looked/{key}/mosaic.png").status_code == 404


def test_what_was_looked_at_too_long_ago_is_said(
    open_page: Open, place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = look(open_page(place, "datasets", view="Add your own"), write_scene(tmp_path / "set" / "a.tif"))
    monkeypatch.setattr(looked, "KNOWN", 1)
    looked.remember(understand(write_scene(tmp_path / "other" / "b.tif")))
    test.run()
    assert not test.exception and "look at it again" in texts(test)
    assert next(b for b in test.button if b.label == "Keep and prepare")


def test_a_scene_across_the_antimeridian_is_one_rectangle(tmp_path: Path) -> None:
    file = write_scene(tmp_path / "a.tif", crs="EPSG:32601", east=166_000 - 9_000)
    shown = looked.pictures(looked.remember(understand(file)))
    (feature,) = looked.footprints(shown)["features"]
    easting = [x for x, _ in feature["geometry"]["coordinates"][0]]
    assert max(easting) - min(easting) < 1


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("path", "count", "layers"),
    [
        ("eurosat_ms", 8, 1), ("levir_cd_256", 8, 3), ("dubai_segmentation", 8, 2), ("bigearthnet_s1_s2", 6, 1),
        ("sentinel2_sundarbans/S2_L2A_2020-01-27_sundarbans_12band.tif", 1, 1), ("modis_ndvi_series", 8, 1),
    ],
)  # fmt: skip
def test_real_imagery(open_page: Open, place: Workspace, realdata: Path, path: str, count: int, layers: int) -> None:
    test = look(open_page(place, "datasets", view="Add your own"), realdata / path)
    assert not test.exception and not test.error and len(pictures(test)) == count * layers
    assert ("B04, B03, B02" in texts(test)) == (path[:3] in ("eur", "big", "sen"))
    assert bool(test.get("iframe")) == path.startswith("sentinel2")
