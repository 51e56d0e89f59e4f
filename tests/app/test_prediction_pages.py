"""A prediction's map and the two pages around it: what they list, what their address holds, what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from predicted import Predicted, hostile_copy, picture
from shown import MARKUP
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app.maps.choices import read_choices
from app.maps.compose import compose_prediction
from app.maps.geometry import parse_view
from app.panels.prediction_view import _overlap
from app.predictions import open_prediction
from app.routes import build_routes
from app.routes.predictions import near, prediction_map_url
from app.routes.vendor import MAPS
from rsfm.errors import RsfmError
from rsfm.prediction_info import PredictionInfo, prediction_file, read_prediction
from rsfm.specs import PredictSpec
from rsfm.store.files import read_json, write_json

Open = Callable[..., AppTest]


# -- the map's page ------------------------------------------------------------------------------------------------
def test_the_map_lists_the_layers_of_both(client: TestClient, made: Predicted) -> None:
    answer = client.get(prediction_map_url(made.segmentation, theme="dark", beside=made.coarser, at="15.0,45.1,12"))
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    data = json.loads(re.search(r'id="data">(.*?)</script>', answer.text, re.S)[1])
    ids = [layer["id"] for layer in data["options"]["layers"]]
    assert {"a:image", "a:classes", "a:errors", "b:classes"} <= set(ids) and "b:errors" not in ids
    assert data["map"]["mapOptions"]["zoom"] == 12 and "bounds" not in data["map"]["mapOptions"]
    shown = {args[0]: args[2] for name, args in data["map"]["calls"] if name == "setLayoutProperty"}
    assert shown["a:classes"] == "visible" and shown["a:errors"] == "none"


def test_each_prediction_has_its_own_place_on_the_map() -> None:
    layers = [
        {"id": "a:image", "tiles": "/a/{z}/{x}/{y}.png", "version": "1", "visible": True, "image": True,
            "bounds": (15, 45, 15.1, 45.1), "maxzoom": 14},
        {"id": "b:image", "tiles": "/b/{z}/{x}/{y}.png", "version": "1", "visible": True, "image": True,
            "bounds": (179.9, 45, 180.3, 45.1), "maxzoom": 17},
    ]  # fmt: skip
    made = compose_prediction(layers, (15, 45, 15.1, 45.1), theme="light", view=None, world="/w")
    sources = {args[0]: args[1] for name, args in made["calls"] if name == "addSource"}
    assert (sources["a:image"]["bounds"], sources["a:image"]["maxzoom"]) == ([15, 45, 15.1, 45.1], 14)
    assert "bounds" not in sources["b:image"] and sources["b:image"]["maxzoom"] == 17


def moved(info: PredictionInfo, *bounds: float) -> PredictionInfo:
    return info.model_copy(update={"scene": info.scene.model_copy(update={"bounds": bounds})})


def test_places_across_the_antimeridian(made: Predicted) -> None:
    info = open_prediction(made.workspace, made.segmentation)
    across, east, west, far = (
        moved(info, w, -18, e, -17) for w, e in ((179.5, -179.5), (-179.8, -179), (179, 179.8), (0, 1))
    )
    assert _overlap(across, east) and _overlap(west, across) and not _overlap(east, west)
    assert not _overlap(across, far) and not _overlap(far, west)
    assert near((-179.6, -17.5, 9), across) and near((179.6, -17.5, 9), across) and not near((0, -17.5, 9), across)
    assert near((0.5, -17.5, 9), far) and near((1.5, -16.5, 9), far) and not near((0.5, -15, 9), far)


def test_views_that_make_no_sense_are_left_out() -> None:
    assert parse_view("15.5,-45,7.25") == (15.5, -45.0, 7.25)
    for text in (None, "", "1,2", "200,0,3", "0,95,3", "0,0,99", "nan,0,1", "a,b,c", "1,2,3,4"):
        assert parse_view(text) is None, text


# -- names that try to be code --------------------------------------------------------------------------------------
#: What turns the reading direction round.
TURNS = re.compile("[\u202e\u2066]")


@pytest.fixture(scope="module")
def hostile(made: Predicted, tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    return hostile_copy(made, tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("run", ["segmentation", "change", "nowhere"])
@pytest.mark.parametrize("tab", ["Classes", "Scores", "Files"])
def test_names_of_a_prediction_are_never_markup(open_page: Open, hostile: Predicted, run: str, tab: str) -> None:
    page = "change" if run == "change" else "segmentation"
    test = open_page(hostile.workspace, page, prediction=getattr(hostile, run), tab=tab)
    assert not test.exception
    bodies = [e for kind in ("markdown", "caption", "info", "warning", "badge") for e in test.get(kind)]
    shown = [str(e.value) for e in bodies] + [e.proto.label for k in ("metric", "link_button") for e in test.get(k)]
    assert not any(getattr(e.proto, "allow_html", False) for e in bodies)
    for body in shown:
        # Our own pictures are the only ones.
        assert not MARKUP.search(re.sub(r"!\[[^]]*\\\)[^]]*]\(/rsfm/[\w./?=&%+-]*\)", "", body)), body
    assert sum("onerror" in body for body in shown) >= 2, "scene and model, and the remark"
    told = [shown, [s.options for s in test.selectbox], [f.value.astype(str).to_dict() for f in test.dataframe]]
    assert "onerror" in str(told[1]) and not TURNS.search(json.dumps(told, ensure_ascii=False))


def test_names_on_a_map_cannot_end_its_script(hostile: Predicted) -> None:
    client = TestClient(Starlette(routes=build_routes(hostile.workspace)))
    url = prediction_map_url(hostile.segmentation, theme="light", beside=hostile.coarser)
    page = client.get(url).text
    assert page.count("</script>") == (MAPS / "map.html").read_text().count("</script>")
    assert "<img" not in page and "\u202e" not in page
    options = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])["options"]
    layer = next(x for x in options["layers"] if x["id"] == "a:image")
    for text in (layer["title"], layer["ways"][0]["title"], options["layers"][-1]["legend"][0]["title"]):
        assert "</script><img src=x onerror=alert(1)>" in text and "\u202e" not in text
    assert "\u202e" in layer["ways"][0]["key"], "the band is asked for by its whole name"
    west, south, east, north = open_prediction(hostile.workspace, hostile.segmentation).scene.bounds
    place = {"lon": west + (east - west) / 4, "lat": (south + north) / 2}
    told = client.get(f"/rsfm/predictions/{hostile.segmentation}/values", params=place).json()
    assert (
        len(told["samples"]) == 2 and "onerror" in str(told) and "\u202e" not in str(told["samples"] + told["layers"])
    )


# -- pages ---------------------------------------------------------------------------------------------------------
def said(test: AppTest) -> str:
    kinds = ("markdown", "caption", "subheader", "warning", "info")
    return "\n".join(str(e.value) for kind in kinds for e in test.get(kind)).replace("\\", "")


def test_segmentation_page(open_page: Open, made: Predicted) -> None:
    test = open_page(made.workspace, "segmentation", prediction=made.segmentation)
    assert not test.exception
    assert test.get("iframe")[0].proto.src.startswith(f"/rsfm/maps/predictions/{made.segmentation}?")
    tiles = {m.label: m.value for m in test.metric}
    assert tiles["Size (px)"] == "160 × 120" and tiles["Pixel"] == "2 m" and "Mean IoU" in tiles
    assert list(test.dataframe[0].value["Class"]) == ["land", "roof"]
    options = test.selectbox(key="url.beside").options
    assert len(options) == 2, "the other prediction of that place; not the one of nowhere, nor those of change"


def test_a_prediction_of_the_address_that_cannot_be_shown_is_told(open_page: Open, made: Predicted) -> None:
    for run_id, reason in (
        (made.change, "it is on the page Change"), ("20260101-000000-nothing-0000", "There is no run"),
        (open_prediction(made.workspace, made.change).model.evaluation, "has no prediction"),
    ):  # fmt: skip
        test = open_page(made.workspace, "segmentation", prediction=run_id)
        assert not test.exception and len(test.warning) == 1
        assert test.selectbox(key="url.prediction").value == made.nowhere, "the newest is shown instead"
        assert reason in test.warning[0].value.replace("\\", "")


@pytest.mark.parametrize("page", ["segmentation", "change"])
def test_a_link_to_what_is_not_beside_it_is_said(open_page: Open, made: Predicted, page: str) -> None:
    wanted = {"segmentation": made.segmentation, "change": made.change}[page]
    test = open_page(made.workspace, page, prediction=wanted, beside="gone", tab="gone")
    assert not test.exception and [w.value.replace("\\", "") for w in test.warning] == [
        f"{label}: the address asks for gone, which cannot be chosen here; showing {instead} instead."
        for label, instead in (("Beside it", "Nothing"), ("Show", "Classes"))
    ]


def test_the_newest_are_listed_and_an_older_one_is_shown_by_its_address(
    open_page: Open, made: Predicted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.panels.prediction_view.MOST", 1)
    test = open_page(made.workspace, "segmentation", prediction=made.segmentation)
    assert not test.exception and not test.warning and len(test.selectbox(key="url.prediction").options) == 2
    assert made.segmentation in test.get("iframe")[0].proto.src


def test_a_prediction_of_another_run_is_refused(made: Predicted, tmp_path: Path) -> None:
    folder = tmp_path / "another-run"
    prediction_file(folder).parent.mkdir(parents=True)
    prediction_file(folder).write_bytes(prediction_file(made.workspace.runs / made.change).read_bytes())
    with pytest.raises(RsfmError, match=f"another run, {made.change}"):
        read_prediction(folder)


def test_change_page(open_page: Open, made: Predicted) -> None:
    test = open_page(made.workspace, "change", tab="Scores")
    assert not test.exception
    tiles = {m.label: m.value for m in test.metric}
    assert int(tiles["Places of change"]) > 0 and tiles["Changed area"].endswith("m²")
    assert "before.tif" in said(test) and "truth.tif" in said(test)
    assert list(test.dataframe[0].value["Class"])[-1] == "change"
    test = open_page(made.workspace, "change", tab="Files")
    assert not test.exception and len(test.get("link_button")) == 5


def test_a_scene_without_a_place_is_shown_as_pictures(open_page: Open, made: Predicted) -> None:
    test = open_page(made.workspace, "segmentation", prediction=made.nowhere, tab="Scores")
    assert not test.exception and not test.get("iframe")
    assert f"/rsfm/predictions/{made.nowhere}/classes.png" in said(test) and "no place on Earth" in said(test)
    assert "No truth was given" in said(test)


@pytest.mark.parametrize(
    "band", ["4 (red) [10 m]", "r&size=16#x", 'x) ![i](http://example.com/x.png "', "</a> _r_ :red[x]"]
)
def test_a_picture_of_any_band_is_that_band_and_nothing_else(
    open_page: Open, client: TestClient, made: Predicted, band: str
) -> None:
    """Grey pictures are asked for by the band's name, which is whatever the file says."""
    file = prediction_file(made.workspace.runs / made.nowhere)
    before = read_json(file)
    changed = json.loads(json.dumps(before))
    image = next(x for x in changed["layers"] if x["kind"] == "image")
    for number, known in enumerate(image["bands"]):
        known |= {"name": f"other {number}" if number else band, "wavelength_nm": None}
    try:
        write_json(file, changed)
        test = open_page(made.workspace, "segmentation", prediction=made.nowhere)
        (shown,) = [m.value for m in test.markdown if "/image.png" in m.value]
        address = re.fullmatch(r"!\[Image\]\((/rsfm/predictions/[\w/.-]+\?[\w=&%.+-]+)\)", shown)[1]
        grey = picture(client.get(address))
    finally:
        write_json(file, before)
    assert grey.shape[:2] == (120, 160) and np.array_equal(grey[..., 0], grey[..., 1])
    plain = picture(client.get(f"/rsfm/predictions/{made.nowhere}/image.png?bands=band:red"))
    assert np.array_equal(grey, plain)


def asked(test: AppTest) -> dict[str, str]:
    """What the page's map is asked for."""
    return dict(parse_qsl(urlsplit(test.get("iframe")[0].proto.src).query))


def test_a_map_takes_the_address_once_and_the_next_map_again(open_page: Open, made: Predicted) -> None:
    test = open_page(made.workspace, "segmentation", prediction=made.segmentation, at="15.001,45.152,16")
    assert asked(test)["at"] == "15.001,45.152,16" and "map" not in asked(test)
    # What the map wrote while it was used.
    test.query_params["at"], test.query_params["map"] = "15.002,45.153,17", "a:errors,1,0.5"
    assert asked(test.run())["at"] == "15.001,45.152,16", "or it would begin anew at every click on the page"
    test.selectbox(key="url.beside").select(made.coarser).run()
    assert (asked(test)["at"], asked(test)["map"]) == ("15.002,45.153,17", "a:errors,1,0.5")
    test.query_params["at"], test.query_params["map"] = "15.001,45.153,15", "b:classes,1,0.5;a:errors,1,0.25"
    test.selectbox(key="url.beside").select("none").run()
    assert (asked(test)["at"], asked(test)["map"]) == ("15.001,45.153,15", "a:errors,1,0.25")
    # Its layers went with the other one: that is no news.
    assert "".join(test.query_params["map"]) == "a:errors,1,0.25" and not test.warning
    test.query_params["at"] = "15.002,45.152,14"
    test.toggle(key="url.osm").set_value(True).run()
    assert asked(test)["at"] == "15.002,45.152,14"
    # Without a map in between, the same one begins anew too.
    test.selectbox(key="url.prediction").select(made.nowhere).run()
    test.query_params["at"] = "15.001,45.152,15"
    test.selectbox(key="url.prediction").select(made.segmentation).run()
    assert asked(test)["at"] == "15.001,45.152,15" and not test.exception


@pytest.mark.parametrize(
    ("name", "text", "stands", "told"),
    [
        ("at", "</script>", "", "</script>"), ("at", "16.5,45.152,16", "", "16.5,45.152,16"),
        ("map", "![i](http://example.com/x.png)", "", "![i](http://example.com/x.png)"),
        ("map", "a:image,1,2;a:changes,1,0.5;swipe,a:image,a:gone,0.5", "a:changes,1,0.5",
            "a:image,1,2, swipe,a:image,a:gone,0.5"),
        ("map", "b:classes,1,0.5", "", "b:classes,1,0.5"),
    ],
)  # fmt: skip
def test_what_the_address_asks_of_a_map_in_vain_is_said_once(
    open_page: Open, made: Predicted, name: str, text: str, stands: str, told: str
) -> None:
    test = open_page(made.workspace, "change", **{name: text})
    assert not test.exception and asked(test).get(name, "") == stands
    (notice,) = test.warning
    assert not MARKUP.search(notice.value)
    shown = notice.value.replace("\\", "").replace("\u2060", "")
    assert shown == f"Map: the address asks for {told}, which cannot be shown on this map."
    assert "".join(test.query_params.get(name, [])) == stands and len(test.run().warning) == 1
    test.segmented_control(key="url.tab").set_value("Files").run()
    test.query_params[name] = {"at": "15.001,45.152,16", "map": "a:changes,1,0.6"}[name]
    assert not test.run().warning, "who goes on has read it"


LOOKS = {"a:image": ["natural", "band:x,y;z%"], "a:classes": [], "a:outlines": None}


def test_choices_on_a_map_are_read() -> None:
    text = "a:image,0,0.05,band:x%2Cy%3Bz%25,soft;a:classes,1,1;a:outlines,1,0;swipe,a:classes,a:image,0.48"
    found = read_choices(text, LOOKS, ("normal", "soft"))
    assert found.layers == {
        "a:image": {"shown": False, "opacity": 0.05, "look": "band:x,y;z%", "stretch": "soft"},
        "a:classes": {"shown": True, "opacity": 1.0}, "a:outlines": {"shown": True, "opacity": 0.0},
    }  # fmt: skip
    assert found.swipe == {"left": "a:classes", "right": "a:image", "share": 0.48}
    assert found.stands == text and found.ignored == []


@pytest.mark.parametrize(
    "entry",
    [
        "", ";", "a:errors,1,1", "a:classes", "a:classes,1", "a:classes,2,1", "a:classes,1,1.5", "a:classes,1,nan",
        "a:classes,1,0.123", "a:classes,1,-1", "a:classes,1,1\n", "a:classes,1,٠", "a:classes,1,1,natural,soft",
        "a:image,1,1", "a:image,1,1,odd,soft", "a:image,1,1,natural,odd", "swipe", "swipe,a:image,a:classes",
        "swipe,a:image,a:outlines,0.5", "swipe,a:image,a:gone,0.5", "swipe,a:image,a:classes,2", "a:classes,0,0.5",
        "constructor,1,1", "__proto__,1,1",
    ],
)  # fmt: skip
def test_choices_that_make_no_sense_are_left_out(entry: str) -> None:
    found = read_choices(f"a:classes,1,0.5;{entry}", LOOKS, ("normal", "soft"))
    assert found.layers == {"a:classes": {"shown": True, "opacity": 0.5}} and found.swipe is None
    assert found.stands == "a:classes,1,0.5" and len(found.ignored) == entry.count(";") + 1


def test_the_map_is_handed_what_was_chosen(client: TestClient, made: Predicted) -> None:
    chosen = "a:image,1,1,band:red,soft;b:classes,0,0.75;swipe,a:image,b:classes,0.2;b:gone,1,1"
    url = prediction_map_url(made.segmentation, theme="light", beside=made.coarser, chosen=chosen)
    options = json.loads(re.search(r'id="data">(.*?)</script>', client.get(url).text, re.S)[1])["options"]
    assert set(options["chosen"]) == {"a:image", "b:classes"} and options["chosen"]["a:image"]["look"] == "band:red"
    assert options["swipe"] == {"left": "a:image", "right": "b:classes", "share": 0.2}


def test_launch_describes_the_network_and_queues_the_scene(open_page: Open, made: Predicted, no_jobs: list) -> None:
    change = open_prediction(made.workspace, made.change).model.evaluation
    test = open_page(made.workspace, "launch", job="predict", evaluation=change)
    assert not test.exception and "Name the file of a scene" in said(test)
    assert test.button(key="launch.predict.queue").disabled
    key = f"launch.predict.{change}"
    test.text_input(key=f"{key}.scene").set_value("/data/after it.tif")
    test.text_input(key=f"{key}.scene_before").set_value("/data/before.tif").run()
    assert not test.exception
    command = test.code[0].value
    assert f"rsfm predict --evaluation {change} --scene '/data/after it.tif' --before /data/before.tif" in command
    test.button(key="launch.predict.queue").click().run()
    (spec,) = [spec for verb, spec in no_jobs if verb == "submit"]
    assert spec == PredictSpec(evaluation=change, scene="/data/after it.tif", scene_before="/data/before.tif")
    alone = open_prediction(made.workspace, made.segmentation).model.evaluation
    test = open_page(made.workspace, "launch", job="predict", evaluation=alone)
    assert not [t for t in test.text_input if t.key == f"launch.predict.{alone}.scene_before"], "one date only"


def test_runs_of_predictions_are_named_by_their_scene(open_page: Open, made: Predicted) -> None:
    test = open_page(made.workspace, "run", run=made.change)
    assert not test.exception and "Map of after.tif" in "".join(t.value for t in test.title).replace("\\", "")
    assert "Open the map" in [link.proto.label for link in test.get("page_link")]
    assert "Map of after" in list(open_page(made.workspace, "runs").dataframe[0].value["what"])
