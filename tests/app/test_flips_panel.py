"""Which samples flip: the panel below the curves, and pictures as a model saw them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from comparison_world import evaluated, right
from flipped import WRONG, make_flipped
from lab import HOSTILE, embed
from PIL import Image
from shown import MARKUP, decoded, in_url, texts, traces
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest
from test_routes import client_of

from app.kept_selections import selection_of
from app.routes.thumbnails import thumbnail_url
from app.state import store_of
from rsfm.comparison import curve_id
from rsfm.degrade import OPERATORS
from rsfm.packs import Pack
from rsfm.thumbs import Degraded
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7")


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_flipped(tmp_path_factory.mktemp("flipped") / "w")


def curve_of(workspace: Workspace, **wanted: str) -> str:
    rows = store_of(workspace).compare()
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return curve_id(rows.iloc[0])


def pictures(test: AppTest) -> list[str]:
    """Addresses of the thumbnails of the page, in order."""
    parts = [m.value for m in test.markdown if "/rsfm/thumbs/" in m.value]
    return [piece.partition(")")[0] for part in parts for piece in part.split("](")[1:]]


# -- the panel ----------------------------------------------------------------------------------------------------
def test_a_point_opens_the_samples_that_flip(open_page: Open, flipped: Workspace) -> None:
    test = open_page(flipped, "degradation", packs="scenes")
    assert not test.exception and not pictures(test) and in_url(test, "curve") == []
    curve = curve_of(flipped, dataset="scenes", model_group="mae")
    line = traces(test)["MAE vit-nano"]
    assert line["customdata"] == [[curve, s] for s in (1, 2, 4, 8)] and "selectedpoints" not in line

    test = open_page(flipped, "degradation", packs="scenes", curve=curve, at="4", seed="0/0")
    assert not test.exception and in_url(test, "against") == ["1"], "what it is compared with stands in the link"
    lost = WRONG[4.0] - WRONG[1.0]
    assert f"lost {lost}** (right → wrong), **won 0" in texts(test) and "of 20 test images" in texts(test)
    assert "Accuracy 0.900 → 0.550 (-0.350)" in texts(test)
    assert traces(test)["MAE vit-nano"]["selectedpoints"] == [2]
    shown = pictures(test)
    assert len(shown) == 2 * lost
    levels = [parse_qs(urlsplit(url).query)["severity"] for url in shown]
    assert levels == [["1.0"], ["4.0"]] * lost
    assert texts(test).count("Forest → Water") >= 1
    won = open_page(flipped, "degradation", packs="scenes", curve=curve, at="1", against="4", seed="0/0")
    assert f"won {lost}** (wrong → right)" in texts(won)


def test_seeds_are_counted_one_by_one_and_together(open_page: Open, flipped: Workspace) -> None:
    curve = curve_of(flipped, dataset="scenes", model_group="mae")
    test = open_page(flipped, "degradation", packs="scenes", curve=curve, at="8")
    box = test.selectbox(key="url.seed")
    assert box.options[0] == "All 6 seeds" and len(box.options) == 7 and in_url(test, "seed") == ["all"]
    assert "model seed 1, evaluation seed 2" in box.options
    assert "Model seeds 0, 1; evaluation seeds 0, 1, 2." in texts(test) and "of 6 seeds" in texts(test)
    pages = -(-14 // 12)
    assert len(pictures(test)) == 24 and pages == 2
    rest = open_page(flipped, "degradation", packs="scenes", curve=curve, at="8", page="2")
    assert 0 < len(pictures(rest)) <= 24 and not set(pictures(rest)) & set(pictures(test))
    rest.selectbox(key="url.seed").set_value("1/0").run()
    assert in_url(rest, "page") == [], "another seed has other samples"
    box.set_value("1/2").run()
    assert "of 6 seeds" not in texts(test) and in_url(test, "seed") == ["1/2"]


def test_the_panel_says_what_the_chart_shows(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model seed 1 has one evaluation seed, model seed 0 three, and a fourth at one severity only."""
    workspace, hits = Workspace(tmp_path / "w"), np.arange(20)
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    for model_seed, seeds, good in ((0, 3, {1.0: 19, 4.0: 18}), (1, 1, {1.0: 11, 4.0: 5})):
        counts = {("knn", s, e): right(hits < share) for s, share in good.items() for e in range(seeds)}
        evaluated(workspace, "mae", counts, model_seed=model_seed, title="MAE")
    evaluated(workspace, "mae", {("knn", 1.0, 7): right(hits < 15)}, model_seed=0, title="MAE")
    monkeypatch.setattr("app.panels.flips_view.LINKS", 1)
    test = open_page(workspace, "degradation", curve=curve_of(workspace), at="4")
    assert "and 1 more" in texts(test), "of two evaluations one is linked"
    assert not test.exception and "Left out, for their predictions are of 1× alone" in texts(test)
    assert "model seed 0, evaluation seed 7" in texts(test)
    assert "Accuracy 0.750 → 0.575 (-0.175)" in texts(test), "(0.95 + 0.55) / 2, (0.9 + 0.25) / 2"
    assert "lost 3.5 on average (1 to 6)" in texts(test)
    assert decoded(traces(test)["MAE"]["y"])[1] == pytest.approx(0.575)


def test_pairs_show_those_that_lost_the_most(open_page: Open, flipped: Workspace) -> None:
    curve = curve_of(flipped, dataset="villages")
    test = open_page(flipped, "degradation", packs="villages", curve=curve, at="4", metric="recall")
    assert not test.exception and "(a lower score)" in texts(test) and "Recall 0." in texts(test)
    shown = pictures(test)
    layers = [parse_qs(urlsplit(url).query).get("layer", ["image"])[0] for url in shown[:4]]
    assert layers == ["image_post", "image_post", "image_pre", "mask"]
    gains = [float(t.rsplit("(", 1)[1][:-1]) for t in (str(c.value).replace("\\", "") for c in test.caption)
             if t.startswith("Recall")]  # fmt: skip
    assert len(gains) == 12 and gains == sorted(gains) and gains[0] < 0


def test_a_link_to_what_is_not_there_is_said(open_page: Open, flipped: Workspace) -> None:
    curve = curve_of(flipped, dataset="scenes", model_group="mae")
    some = open_page(flipped, "degradation", packs=["scenes", "gone"], models="mae", adaptation="gone")
    assert not some.exception and [w.value.replace("\\", "") for w in some.warning] == [
        "Packs: the address asks for gone, which cannot be chosen here.",
        "Adaptation: the address asks for gone, which cannot be chosen here; showing all instead.",
    ]
    assert list(traces(some)) == ["MAE vit-nano"], "what is there counts"
    gone = open_page(flipped, "degradation", packs="villages", curve=curve, at="4")
    assert not gone.exception and f"Curve: the address asks for {curve}, which" in texts(gone) and not pictures(gone)
    for odd, said in (
        ({"at": "x"}, ["At: the address asks for x,"]), ({"at": "3"}, ["At: the address asks for 3,"]),
        ({"at": "4", "against": "16", "seed": "9/9"}, ["asks for 16, which", "Seeds: the address asks for 9/9,"]),
        ({"at": "4", "against": "4", "seed": "all"}, []),
    ):  # fmt: skip
        test = open_page(flipped, "degradation", packs="scenes", curve=curve, **odd)
        assert not test.exception and not test.error and in_url(test, "at") in (["4"], ["8"]), odd
        assert len(test.warning) == len(said) and all(s in texts(test) for s in said), odd


def test_an_evaluation_without_predictions_is_one_sentence(open_page: Open, lab: Workspace) -> None:
    curve = curve_of(lab, model_group="band-stats", adaptation="knn")
    test = open_page(lab, "degradation", curve=curve, at="4")
    assert not test.exception and "left no predictions: evaluate again" in texts(test)


def test_without_its_pack_the_samples_are_listed(open_page: Open, tmp_path: Path) -> None:
    workspace = make_flipped(tmp_path / "w")
    description = workspace.packs / "scenes" / "pack.json"
    info = json.loads(description.read_text())
    description.write_text(json.dumps({**info, "content_hash": "another"}))
    curve = curve_of(workspace, dataset="scenes", model_group="mae")
    test = open_page(workspace, "degradation", packs="scenes", curve=curve, at="4", seed="0/0")
    assert not test.exception and "prepared again" in texts(test) and not pictures(test)
    listed = next(d.value for d in test.dataframe if "What became of it" in d.value)
    assert len(listed) == WRONG[4.0] - WRONG[1.0]


def test_the_samples_can_be_shown_on_the_page_embeddings(open_page: Open, tmp_path: Path) -> None:
    workspace = make_flipped(tmp_path / "w")
    pack = Pack.named(workspace, "scenes")
    curve = curve_of(workspace, dataset="scenes", model_group="mae")
    query = {"packs": "scenes", "curve": curve, "at": "4", "seed": "0/0"}
    assert "flips.embeddings" not in [b.key for b in open_page(workspace, "degradation", **query).button]
    embed(workspace, pack.info, model="band-stats", title="Band statistics")
    test = open_page(workspace, "degradation", **query)
    test.button(key="flips.embeddings").click().run()
    assert not test.exception
    found = selection_of(workspace, test.query_params["pick"])
    chosen = pack.samples.iloc[found.positions]
    assert found.content == pack.info.content_hash and set(chosen["split"]) == {"test"}
    assert len(chosen) == WRONG[4.0] - WRONG[1.0]


def test_hostile_names_stay_text(open_page: Open, tmp_path: Path) -> None:
    workspace = make_flipped(tmp_path / "w", classes=[f"{i} {HOSTILE}" for i in range(4)], title=f"Model {HOSTILE}")
    for dataset in ("scenes", "villages"):
        curve = curve_of(workspace, dataset=dataset, model_group="mae")
        test = open_page(workspace, "degradation", packs=dataset, curve=curve, at="4")
        assert not test.exception and pictures(test)
        for kind in ("markdown", "caption", "subheader"):
            for element in test.get(kind):
                body = str(element.value)
                assert not MARKUP.search(body) and "\u202e" not in body, body


# -- pictures as a model saw them ---------------------------------------------------------------------------------
@pytest.fixture
def client(flipped: Workspace) -> Iterator[TestClient]:
    store_of(flipped).refresh_if_stale(0)
    with client_of(flipped) as made:
        yield made


def pixels(client: TestClient, url: str) -> np.ndarray:
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_a_thumbnail_shows_what_the_model_saw(client: TestClient, flipped: Workspace) -> None:
    pack = Pack.named(flipped, "scenes")
    layer, version = pack.layer(), pack.info.content_hash
    shared = {"version": version, "view": "band:B4", "size": 32}
    plainly = pixels(client, thumbnail_url("scenes", "test", 1, **shared))
    same = pixels(client, thumbnail_url("scenes", "test", 1, **shared, degraded=Degraded("bilinear", 1.0, BANDS)))
    assert np.array_equal(plainly, same), "as they are"
    coarse = pixels(client, thumbnail_url("scenes", "test", 1, **shared, degraded=Degraded("bilinear", 8.0, BANDS)))
    stored = np.asarray(pack.array("test")[1:2])
    expected = OPERATORS["bilinear"].apply(stored, 8.0, layer.bands, ["any"])[0, 3]
    s = layer.bands[3].statistics
    assert np.abs(coarse[..., 0] - np.clip((expected - s.p2) / (s.p98 - s.p2), 0, 1) * 255).max() <= 1
    assert np.abs(coarse.astype(int) - plainly).mean() > 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"operator": "nosuch"}, 400), ({"severity": "x"}, 400), ({"severity": "nan"}, 404), ({"severity": "3"}, 404),
        ({"severity": "1e300"}, 404), ({"operator": "blur"}, 404), ({"bands": "B1"}, 404), ({"bands": ""}, 404),
        ({"severity": ""}, 400), ({"layer": "mask"}, 404), ({"view": "band:B9"}, 404),
    ],
)  # fmt: skip
def test_only_what_was_measured_is_computed(client: TestClient, change: dict[str, str], status: int) -> None:
    query = {"operator": "bilinear", "severity": "4.0", "bands": ",".join(BANDS)}
    assert client.get("/rsfm/thumbs/scenes/test/0.png", params=query).status_code == 200
    answer = client.get("/rsfm/thumbs/scenes/test/0.png", params=query | change)
    assert answer.status_code == status, answer.text
    assert client.get("/rsfm/thumbs/scenes/test/999.png", params=query).status_code == 404


def test_only_the_image_that_was_degraded_is_shown_degraded(client: TestClient) -> None:
    query = {"operator": "bilinear", "severity": "4.0", "bands": "red,green,blue"}
    found = {
        layer: client.get("/rsfm/thumbs/villages/test/0.png", params={**query, "layer": layer}).status_code
        for layer in ("image_post", "image_pre", "mask")
    }
    assert found == {"image_post": 200, "image_pre": 404, "mask": 404}


def test_the_table_of_all_samples(flipped: Workspace) -> None:
    from app.components.flips_text import as_csv
    from rsfm.comparison import flips

    rows = store_of(flipped).compare(dataset="scenes")
    row = rows[rows["model_group"] == "mae"].iloc[0]
    found = flips(store_of(flipped), row, 4.0, 1.0)
    frame = pd.read_csv(io.StringIO(as_csv(found, row, 1.0, 4.0, ["a", "b", "c", "d"])))
    assert len(frame) == 20 and {"sample_id", "label", "lost", "won", "predicted_after"} <= set(frame)
    assert frame["lost"].sum() == (found.gain < 0).sum() and set(frame["seeds"]) == {6}
