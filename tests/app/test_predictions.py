"""Pictures and numbers of predicted scenes as the routes give them: tiles, previews, values, outlines."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from predicted import Predicted, picture
from rasterio.warp import transform
from rio_tiler.io import Reader
from scenes_world import write_scene
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app.imaging import View, views_of_bands
from app.predictions import find_look, open_prediction, paint, palette_of, positions, preview, samples_at, tile
from app.routes.predictions import finest_zoom, prediction_map_url
from rsfm.errors import RsfmError
from rsfm.prediction_info import LayerBand, LayerEntry, prediction_file
from rsfm.store.files import read_json, write_json

Open = Callable[..., AppTest]


def middle_tile(made: Predicted, run_id: str) -> tuple[int, int, int]:
    """Zoom, x, y of the tile that holds the scene's middle, at its finest zoom."""
    info = open_prediction(made.workspace, run_id)
    west, south, east, north = info.scene.bounds
    zoom = finest_zoom(info)
    with Reader(str(made.workspace.runs / run_id / "artifacts/image.tif")) as reader:
        tile = reader.tms.tile((west + east) / 2, (south + north) / 2, zoom)
    return zoom, tile.x, tile.y


# -- tiles ---------------------------------------------------------------------------------------------------------
def test_a_tile_of_classes_has_the_colours_of_its_legend(client: TestClient, made: Predicted) -> None:
    z, x, y = middle_tile(made, made.segmentation)
    tile = picture(client.get(f"/rsfm/tiles/{made.segmentation}/classes/{z}/{x}/{y}.png"))
    assert tile.shape == (256, 256, 4)
    entry = open_prediction(made.workspace, made.segmentation).layer("classes")
    known = {tuple(int(i.colour[k : k + 2], 16) for k in (1, 3, 5)) for i in entry.legend}
    seen = {tuple(c) for c in tile[tile[..., 3] > 0][:, :3]}
    assert seen <= known and len(seen) == 2, "land and roofs, and no mixture of their numbers"
    # As many pixels of each as the file holds there.
    with Reader(str(made.workspace.runs / made.segmentation / "artifacts/classes.tif")) as reader:
        data = reader.tile(x, y, z, tilesize=256, resampling_method="nearest", reproject_method="nearest")
    roof = tuple(int(entry.legend[1].colour[k : k + 2], 16) for k in (1, 3, 5))
    assert (
        ((tile[..., :3] == roof).all(axis=2) & (tile[..., 3] > 0)).sum()
        == ((data.data[0] == 1) & (data.mask > 0)).sum()
        > 50
    )


def test_a_tile_of_the_image_shows_the_bands_that_are_asked_for(client: TestClient, made: Predicted) -> None:
    z, x, y = middle_tile(made, made.segmentation)
    base = f"/rsfm/tiles/{made.segmentation}/image/{z}/{x}/{y}.png"
    natural = picture(client.get(base))
    grey = picture(client.get(f"{base}?bands=band:red"))
    assert (grey[..., 0] == grey[..., 1]).all() and not (natural[..., 0] == natural[..., 1]).all()
    assert np.array_equal(grey[..., 0], natural[..., 0]), "red as grey"
    inside = natural[..., 3] > 0
    assert picture(client.get(f"{base}?stretch=soft"))[inside][:, :3].std() < natural[inside][:, :3].std()


def test_outside_of_the_scene_is_nothing(client: TestClient, made: Predicted) -> None:
    z, x, y = middle_tile(made, made.segmentation)
    assert not picture(client.get(f"/rsfm/tiles/{made.segmentation}/classes/{z}/{x + 50}/{y}.png")).any()
    assert not picture(client.get(f"/rsfm/tiles/{made.segmentation}/image/0/0/0.png"))[:100].any()


def test_tiles_are_kept_by_browsers_only_under_their_version(client: TestClient, made: Predicted) -> None:
    z, x, y = middle_tile(made, made.segmentation)
    page = client.get(prediction_map_url(made.segmentation, theme="light")).text
    version = re.search(r"classes/\{z\}/\{x\}/\{y\}.png\?v=([0-9a-f]+)", page)[1]
    base = f"/rsfm/tiles/{made.segmentation}/classes/{z}/{x}/{y}.png"
    assert "immutable" in client.get(f"{base}?v={version}").headers["cache-control"]
    assert client.get(f"{base}?v=old").headers["cache-control"] == "no-cache"


def test_previews_are_the_layer_on_its_own_grid(client: TestClient, made: Predicted) -> None:
    answer = picture(client.get(f"/rsfm/predictions/{made.nowhere}/classes.png"))
    with rasterio.open(made.workspace.runs / made.nowhere / "artifacts/classes.tif") as file:
        classes = file.read(1)
    assert answer.shape[:2] == classes.shape
    entry = open_prediction(made.workspace, made.nowhere).layer("classes")
    assert np.array_equal(answer, palette_of(entry)[classes])


# -- values and outlines -------------------------------------------------------------------------------------------
def test_values_at_a_place(client: TestClient, made: Predicted) -> None:
    west, south, east, north = open_prediction(made.workspace, made.change).scene.bounds
    place = {"lon": (west + east) / 2, "lat": (south + north) / 2}
    told = {
        x["kind"]: x["text"]
        for x in client.get(f"/rsfm/predictions/{made.change}/values", params=place).json()["layers"]
    }
    assert set(told) == {"image", "image_before", "change_probability", "changes", "errors"}
    assert told["change_probability"].endswith(" %") and told["changes"] in ("change", "no change")
    assert re.fullmatch(r"red \d+, green \d+, blue \d+ \(uint8\)", told["image"])
    away = client.get(f"/rsfm/predictions/{made.change}/values", params={"lon": west - 1, "lat": south})
    assert away.json()["layers"] == []


def test_a_place_has_its_pixel_and_its_samples_of_the_networks_pack(client: TestClient, made: Predicted) -> None:
    west, south, east, north = open_prediction(made.workspace, made.segmentation).scene.bounds

    def told(lon: float, lat: float) -> dict:
        return client.get(f"/rsfm/predictions/{made.segmentation}/values", params={"lon": lon, "lat": lat}).json()

    with rasterio.open(made.workspace.runs / made.segmentation / "artifacts/image.tif") as file:
        for row, column, samples in ((30, 20, set(made.west)), (90, 140, set())):
            (lon,), (lat,) = transform(file.crs, "EPSG:4326", *([v] for v in file.xy(row, column)))
            here = told(lon, lat)
            assert here["pixel"] == {"row": row, "column": column}
            assert {f"{s['split']}:{s['row']}" for s in here["samples"]} == samples
            assert all(s["pack"] == "fields" and s["id"] for s in here["samples"])
    beyond = told(west - 0.001, (south + north) / 2)
    assert beyond["pixel"] is None and beyond["samples"] == []
    assert told(east - 1e-7, north - 1e-7)["samples"] == [], "a corner of the box of degrees"
    assert samples_at(made.workspace, "gone", west, south) == []


def test_outlines_can_be_drawn_and_downloaded(client: TestClient, made: Predicted) -> None:
    drawn = client.get(f"/rsfm/predictions/{made.change}/outlines.geojson")
    assert drawn.json()["type"] == "FeatureCollection"
    assert len(drawn.json()["features"]) == open_prediction(made.workspace, made.change).polygons.count > 0
    package = client.get(f"/rsfm/predictions/{made.change}/outlines.gpkg")
    assert package.content.startswith(b"SQLite format 3") and "attachment" in package.headers["content-disposition"]
    assert client.get(f"/rsfm/predictions/{made.segmentation}/outlines.geojson").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "tiles/{run}/nothing/3/1/1.png", "tiles/{run}/classes/3/9/1.png", "tiles/{run}/classes/99/0/0.png",
        "tiles/{run}/classes/-1/0/0.png", "tiles/20261121-093045-no-run-7f3a/classes/0/0/0.png",
        "tiles/..%2f..%2fetc/classes/0/0/0.png", "tiles/{run}/..%2fimage/0/0/0.png", "predictions/{run}/passwd.png",
        "predictions/{run}/outlines.exe", "predictions/..%2f{run}/values?lon=1&lat=1", "maps/predictions/nobody",
        "maps/predictions/{nowhere}", "maps/predictions/{run}?beside=nobody", "predictions/{evaluation}/classes.png",
        "tiles/{nowhere}/classes/0/0/0.png", "predictions/{nowhere}/values?lon=1&lat=1",
        "maps/predictions/{run}?beside={nowhere}",
        "tiles/{run}/image/0/0/0.png?bands=band:99", "tiles/{run}/image/0/0/0.png?bands=<script>",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(client: TestClient, made: Predicted, path: str) -> None:
    evaluation = open_prediction(made.workspace, made.segmentation).model.evaluation
    answer = client.get("/rsfm/" + path.format(run=made.segmentation, nowhere=made.nowhere, evaluation=evaluation))
    assert answer.status_code == 404 and str(made.workspace.root) not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "predictions/{run}/values", "predictions/{run}/values?lon=nan&lat=0", "predictions/{run}/values?lon=0&lat=91",
        "predictions/{run}/values?lon=1e400&lat=0", "tiles/{run}/image/0/0/0.png?stretch=odd",
        "predictions/{run}/image.png?size=99999", "maps/predictions/{run}?theme=pink",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_400(client: TestClient, made: Predicted, path: str) -> None:
    assert client.get("/rsfm/" + path.format(run=made.segmentation)).status_code == 400


def test_a_prediction_cannot_point_out_of_its_folder(client: TestClient, made: Predicted) -> None:
    file = prediction_file(made.workspace.runs / made.coarser)
    before = read_json(file)
    try:
        for target in ("/etc/passwd", "../../../index.duckdb", "spec.json", "artifacts/../../x.tif"):
            changed = json.loads(json.dumps(before))
            changed["layers"][1]["file"] = target
            write_json(file, changed)
            assert client.get(f"/rsfm/predictions/{made.coarser}/classes.png").status_code == 404
    finally:
        write_json(file, before)


def test_a_tile_that_is_asked_for_again_is_not_drawn_again(
    client: TestClient, made: Predicted, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, x, y = middle_tile(made, made.coarser)
    address = f"/rsfm/tiles/{made.coarser}/classes/{z}/{x}/{y}.png"
    first = client.get(address).content
    with monkeypatch.context() as closed:
        closed.setattr("app.predictions.load", lambda name: pytest.fail(f"{name} was asked for"))
        assert client.get(address).content == first
    file = made.workspace.runs / made.coarser / "artifacts/classes.tif"
    whole = file.read_bytes()
    try:
        with rasterio.open(file, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as opened:
            opened.write(1 - np.minimum(opened.read(), 1))
        assert client.get(address).content != first, "the file is another"
    finally:
        file.write_bytes(whole)


def test_a_damaged_layer_is_told(client: TestClient, made: Predicted) -> None:
    z, x, y = middle_tile(made, made.coarser)
    file = made.workspace.runs / made.coarser / "artifacts/image.tif"
    whole = file.read_bytes()
    for left in (whole[: len(whole) // 3], b"nothing"):
        file.write_bytes(left)
        try:
            answers = [
                client.get(f"/rsfm/tiles/{made.coarser}/image/{z}/{x}/{y}.png"),
                client.get(f"/rsfm/predictions/{made.coarser}/image.png"),
                client.get(f"/rsfm/predictions/{made.coarser}/values?lon=15.001&lat=45.1525"),
            ]
        finally:
            file.write_bytes(whole)
        assert [a.status_code for a in answers] == [410, 404, 404]
        for answer in answers:
            assert "damaged or cut off" in answer.text and str(made.workspace.root) not in answer.text


def test_a_layer_that_has_lost_its_place_is_told(client: TestClient, made: Predicted) -> None:
    z, x, y = middle_tile(made, made.coarser)
    file, other = (made.workspace.runs / run / "artifacts/image.tif" for run in (made.coarser, made.nowhere))
    whole = file.read_bytes()
    file.write_bytes(other.read_bytes())
    try:
        answers = [
            client.get(f"/rsfm/tiles/{made.coarser}/image/{z}/{x}/{y}.png"),
            client.get(f"/rsfm/predictions/{made.coarser}/values?lon=15.001&lat=45.1525"),
        ]
    finally:
        file.write_bytes(whole)
    assert [a.status_code for a in answers] == [410, 404] and all("damaged" in a.text for a in answers)


def test_only_the_shown_bands_are_opened(tmp_path: Path) -> None:
    """A picture by way of GDAL's list of bands is that of the file itself, with its mask and overviews."""
    layer = image_layer(*[(f"b{i}", None) for i in range(5)])
    ramp, seen = np.linspace(10, 110, 900) * np.ones((700, 1)), np.arange(700)[:, None].repeat(900, 1) < 350
    values = np.stack([ramp, ramp[:, ::-1], ramp / 2, ramp[::-1] + 20, 120 - ramp]).astype(np.uint8)
    file = write_scene(tmp_path / "five.tif", values, names=[b.name for b in layer.bands], tiled=True, blockxsize=256,
        blockysize=256)  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(file, "r+") as opened:
        opened.write_mask(seen)
        opened.build_overviews([2, 4])
    look = View("x", "x", ("b3", "b0", "b4"))
    shown = np.asarray(Image.open(io.BytesIO(preview(file, layer, look, "normal", 2048))))
    assert np.array_equal(shown, paint(layer, values[[3, 0, 4]], seen, look, "normal"))
    with Reader(str(file)) as reader:
        west, south, east, north = reader.get_geographic_bounds("epsg:4326")
        at = reader.tms.tile((west + east) / 2, (south + north) / 2, 15)
        plain = reader.tile(at.x, at.y, 15, tilesize=256, indexes=[4, 1, 5], resampling_method="bilinear",
            reproject_method="bilinear")  # fmt: skip
    drawn = np.asarray(Image.open(io.BytesIO(tile(file, layer, 15, at.x, at.y, look, "normal"))))
    told = paint(layer, plain.data, plain.mask > 0, look, "normal")
    assert np.array_equal(drawn[..., 3], told[..., 3]) and 0 < (drawn[..., 3] > 0).mean() < 1
    seen = drawn[..., 3] > 0
    assert np.abs(drawn.astype(int) - told)[seen].max() <= 3, "one stored number"


# -- colours -------------------------------------------------------------------------------------------------------
def image_layer(*bands: tuple[str, float | None]) -> LayerEntry:
    made = [LayerBand(name=n, wavelength_nm=w, unit="uint8", scale=1, offset=0, p2=10, p98=110) for n, w in bands]
    return LayerEntry(
        kind="image", title="Image", file="artifacts/image.tif", dtype="uint8", nodata=None, unit="uint8", bands=made
    )


def test_composites_are_found_by_wavelength() -> None:
    layer = image_layer(("B8", 842), ("B4", 665), ("B3", 560), ("B2", 490), ("B11", 1610), ("B12", 2190))
    found = {v.key: tuple(positions(layer, v)) for v in views_of_bands(layer.bands)}
    assert found["natural"] == (1, 2, 3) and found["infrared"] == (0, 1, 2) and found["shortwave"] == (5, 0, 1)
    assert found["band:B11"] == (4,)
    radar = views_of_bands(image_layer(("VV", None), ("VH", None)).bands)
    assert [c.key for c in radar] == ["band:VV", "band:VH"]
    with pytest.raises(RsfmError, match="natural"):
        find_look(layer, "odd")


def test_stretching_shows_the_middle_of_the_numbers() -> None:
    layer = image_layer(("red", 650))
    look = views_of_bands(layer.bands)[-1]
    values = np.array([[[0, 10, 60, 110, 200]]], float)
    valid = np.array([[True, True, True, True, False]])
    shown = paint(layer, values, valid, look, "normal")[0]
    assert shown[:, 0].tolist() == [0, 0, 128, 255, 255] and shown[:, 3].tolist() == [255, 255, 255, 255, 0]
    assert paint(layer, values, valid, look, "soft")[0, 1, 0] > 0
