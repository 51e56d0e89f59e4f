"""The Embeddings page: maps, colours, one selection for all, and the samples behind it."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from lab import HOSTILE, embed, history, make_lab, score, stamp
from lab_packs import make_pack
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app.components.embedding import MOST_COLORS, by_category, by_number, chosen_points
from app.kept_selections import Selection, word_of
from app.routes import build_routes
from rsfm.comparison.outcomes import outcomes
from rsfm.embedding_info import PATH, Embedding, read_embedding, write_embedding
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import EmbedSpec, EvaluateSpec
from rsfm.store.files import append_jsonl
from rsfm.store.runs import create_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_lab(tmp_path_factory.mktemp("embeddings") / "workspace")
    pack = Pack.named(workspace, "synthetic-landsat7").info
    embed(workspace, pack, model="band-stats", title="Band statistics", severities=(1.0,))
    embed(workspace, pack, model="random:vit-nano", title="Random ViT-nano", seed=1)
    predicted(workspace, "random:vit-nano", pack.name)
    return workspace


def predicted(workspace: Workspace, model: str, dataset: str) -> None:
    """An evaluation that left what it predicted: right in even rows, and class 0 everywhere."""
    run = create_run(workspace, EvaluateSpec(model=model, dataset=dataset))
    history(run, "succeeded", 15, 1, "Done.")
    test = Pack.named(workspace, dataset).split_samples("test")
    parts = [
        test.assign(
            sample_id=test["id"], adaptation="knn", severity=severity, eval_seed=seed, predicted_index=0,
            correct=np.arange(len(test)) % 2 == 0,
        )
        for severity in (1.0, 4.0)
        for seed in (0, 1)
    ]  # fmt: skip
    columns = ["sample_id", "adaptation", "severity", "eval_seed", "label_index", "predicted_index", "correct"]
    score(run, Pack.named(workspace, dataset).info, "Random ViT-nano", model, {"knn": [0.5, 0.5, 0.5, 0.5]})
    path = run.path / "artifacts" / "predictions.parquet"
    path.parent.mkdir(exist_ok=True)
    pd.concat(parts)[columns].to_parquet(path)
    append_jsonl(
        run.path / "artifacts.jsonl",
        {"attempt": 1, "time": stamp(14), "path": "artifacts/predictions.parquet", "kind": "predictions", "title": "P"},
    )


def drawn(test: AppTest) -> list[dict]:
    """What each map on the page was given to draw."""
    return [json.loads(element.proto.json) for element in test.get("bidi_component")]


def marked(data: dict) -> list[int]:
    """The points that stand out on a map."""
    bits = np.frombuffer(base64.b64decode(data["selected"]), np.uint8)
    return np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist() if data["selected"] else []


def select(test: AppTest, points: list[int]) -> AppTest:
    """As a lasso in the browser does, which AppTest cannot draw."""
    place = Workspace.resolve()
    content = Pack.named(place, "synthetic-landsat7").info.content_hash
    test.query_params["pick"] = word_of(place, Selection(content, np.array(points)))
    return test.run()


def said(test: AppTest) -> str:
    return "\n".join(str(e.value) for kind in ("markdown", "caption", "subheader", "warning") for e in test.get(kind))


def test_the_newest_map_is_shown_with_figures_of_trust(open_page: Open, world: Workspace) -> None:
    test = open_page(world, "embeddings")
    assert not test.exception
    (data,) = drawn(test)
    assert data["count"] == 60 and len(data["legend"]["names"]) == 4 and not data["selected"]
    text = said(test)
    assert "preserved 0.62" in text and "trustworthiness 0.97" in text and "0.31" in text and "0.42" in text
    assert "Random ViT" in text and "60 samples" in text
    assert test.query_params["map"].endswith("@1"), "what is shown stands in the address"


def test_two_maps_show_one_selection(open_page: Open, world: Workspace) -> None:
    first = open_page(world, "embeddings")
    run = first.query_params["map"].partition("@")[0]
    test = open_page(world, "embeddings", map=f"{run}@1", beside=f"{run}@4")
    assert len(drawn(test)) == 2 and "neighbours kept 0.5" in said(test)
    points = [data["points"] for data in drawn(test)]
    test = select(test, [3, 8, 40])
    assert not test.exception
    assert [marked(data) for data in drawn(test)] == [[3, 8, 40]] * 2
    assert [data["points"] for data in drawn(test)] == points, "the same points: nothing is fetched or laid out again"
    assert "3 selected" in [s.value for s in test.subheader]
    test.button(key="embeddings.clear").click().run()
    assert not any(data["selected"] for data in drawn(test)) and not test.subheader


@pytest.mark.parametrize("longest", [1000, 0], ids=["in the address", "in the workspace"])
def test_a_link_restores_the_selection_in_another_browser(
    open_page: Open, world: Workspace, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr("app.kept_selections.LONGEST_WORD", longest)
    test = select(open_page(world, "embeddings", show="Neighbours"), [0, 3, 57])
    sample = list(Pack.named(world, "synthetic-landsat7").samples["id"])[3]
    box = test.selectbox(key="url.of")
    box.select(next(o for o in box.options if sample in o)).run()
    query = {name: test.query_params[name] for name in ("map", "pick", "show", "of")}
    assert query["of"].endswith(sample) and query["pick"].startswith("kept-") == (not longest)
    other = open_page(world, "embeddings", **query)
    assert not other.exception and marked(drawn(other)[0]) == [0, 3, 57]
    assert other.selectbox(key="url.of").value == query["of"] and "3 selected" in [s.value for s in other.subheader]
    other.button(key="embeddings.clear").click().run()
    assert not other.exception and not {"pick", "of"} & set(other.query_params)


def test_what_the_address_selects_in_vain_is_said(open_page: Open, world: Workspace) -> None:
    content = Pack.named(world, "synthetic-landsat7").info.content_hash
    for word, why in (
        (word_of(world, Selection("otherpack", np.array([1]))), "of another pack"),
        (word_of(world, Selection(content, np.array([60]))), "of another pack"),
        ("kept-" + "0" * 20, "not in this workspace"), ("x", "stands for no selection"),
    ):  # fmt: skip
        test = open_page(world, "embeddings", pick=word)
        assert not test.exception and why in said(test).replace("\\", "") and not marked(drawn(test)[0]), word


def test_what_is_left_out_is_said(open_page: Open, world: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "app.panels.selection_view"
    test = select(open_page(world, "embeddings", show="Neighbours"), [0, 1, 2])
    assert "Offered" not in said(test) and "embeddings of this pack" not in said(test)
    for name, most in (("MOST_OFFERED", 2), ("MOST_MODELS", 1), ("MOST_LABELS", 0)):
        monkeypatch.setattr(f"{page}.{name}", most)
    text = said(test.run())
    assert "the first 2 of 3 selected samples" in text and "By 1 of 2 embeddings" in text and "1 further labels" in text
    assert text.count("itself") == 1 and len(test.selectbox(key="url.of").options) == 2


def test_the_table_is_written_only_when_it_is_asked_for(
    open_page: Open, world: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(world, "embeddings", show="Table")
    monkeypatch.setattr(pd.DataFrame, "to_csv", lambda *_, **__: pytest.fail("written in vain"))
    test = select(test, [0, 1])
    assert not test.exception and len(test.dataframe[0].value) == 2 and len(test.get("download_button")) == 1


def test_what_the_browser_sends_is_one_bit_per_point(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, wanted in ((5, []), (5, [4]), (16, [0, 8, 15]), (100_000, [0, 9, 99_999])):
        mask = np.zeros(count, bool)
        mask[wanted] = True
        sent = base64.b64encode(np.packbits(mask, bitorder="little").tobytes()).decode()
        monkeypatch.setattr(st, "session_state", {"map": SimpleNamespace(chosen=sent)})
        assert chosen_points("map", count).tolist() == wanted
        assert chosen_points("map", 4).tolist() == [w for w in wanted if w < 4], "of a map that has become another"


def test_the_points_of_a_map(open_page: Open, world: Workspace) -> None:
    (data,) = drawn(open_page(world, "embeddings", layout="PCA"))
    run = data["points"].split("/")[3]
    pack, points = Pack.named(world, "synthetic-landsat7"), read_embedding(world.runs / run / PATH).at(1.0)
    with TestClient(Starlette(routes=build_routes(world))) as client:
        answer = client.get(data["points"])
        assert "immutable" in answer.headers["cache-control"]
        places = np.frombuffer(answer.content[: 8 * 60], "<f4")
        np.testing.assert_allclose(places, [*points["pc1"], *points["pc2"]], rtol=1e-6)
        lines = answer.content[8 * 60 :].decode().split("\n")
        for line, point in zip(lines, points.itertuples(), strict=True):
            label = pack.samples.query("split == @point.split and row == @point.row")["label"].item()
            assert line.split("\t") == [point.id, label, f"{point.split}/{point.row}"]
        address = data["points"].partition("?")[0]
        assert client.get(f"{address}?severity=1").headers["cache-control"] == "no-cache"
        assert client.get(f"{address}?severity=x").status_code == 400
        assert client.get(f"{address}?severity=1&layout=x").status_code == 400
        for missing in (f"{address}?severity=3", "/rsfm/embeddings/nothing/points?severity=1"):
            assert client.get(missing).status_code == 404


@pytest.mark.parametrize("tab", ["Samples", "Table", "Map", "Neighbours"])
def test_what_was_selected_is_shown(open_page: Open, world: Workspace, tab: str) -> None:
    test = select(open_page(world, "embeddings", show=tab), [0, 1, 2, 57])
    assert not test.exception
    pack = Pack.named(world, "synthetic-landsat7")
    rows = pack.samples.iloc[[0, 1, 2, 57]]
    text = said(test)
    if tab == "Samples":
        for row in rows.itertuples():
            assert f"/{row.split}/{row.row}.png" in text
    elif tab == "Table":
        assert list(test.dataframe[0].value["id"]) == list(rows["id"])
    elif tab == "Map":
        address = test.get("iframe")[0].proto.src
        for split, part in rows.groupby("split"):
            assert f"{split}%3A{'%2C'.join(map(str, part['row']))}" in address
    else:
        assert "itself" in text and text.count("itself") == 2, "once for each model that was embedded"
        assert "Band statistics" in text and "Random ViT" in text


def test_colours(open_page: Open, world: Workspace) -> None:
    run = open_page(world, "embeddings").query_params["map"].partition("@")[0]
    test = open_page(world, "embeddings", map=f"{run}@4")
    options = test.selectbox(key="url.color").options
    assert options[:2] == ["Label", "Split"] and "Neighbours kept" in options
    scores = [o for o in options if o.startswith("Score: kNN")]
    predicted = [o for o in options if o.startswith("Predicted: ")]
    assert scores and predicted, "an evaluation of the same model on the same pack is there"
    for title in ("Split", "Neighbours kept", scores[0], predicted[0]):
        test.selectbox(key="url.color").select(title).run()
        assert not test.exception and "no colours" not in said(test)
        numbers = drawn(test)[0]["legend"]["names"] is None
        assert numbers == (title in ("Neighbours kept", scores[0])), title


def test_every_column_that_tells_samples_apart_is_a_colour(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    pack = make_pack(workspace, "p")
    file = workspace.packs / "p" / "samples.parquet"
    days = pd.date_range("2020-01-01", periods=60).strftime("%Y-%m-%d")
    samples = pd.read_parquet(file).assign(
        date=[None, *days[1:]], cloud=np.linspace(0, 60, 60), night=[True, False] * 30, same=1,
        taken=pd.to_datetime(days), each=[[i] for i in range(60)], **{HOSTILE: ["a", "b", None] * 20},
    )  # fmt: skip
    samples.to_parquet(file)
    embed(workspace, pack, model="band-stats", title="B")
    test = open_page(workspace, "embeddings")
    titles = test.selectbox(key="url.color").options
    assert titles[:2] == ["Label", "Split"] and len(titles) == len(set(titles))
    assert {"Date", "Longitude (west)", "Latitude (north)", "cloud", "night", "taken"} <= set(titles)
    assert not {"Sensor", "GSD (m)", "Grid", "same", "each", "id", "row", "transform"} & set(titles)
    legends = {}
    for key in ("date", "column@cloud", "column@night", "column@taken", f"column@{HOSTILE}", "column@west"):
        test = open_page(workspace, "embeddings", color=key)
        assert not test.exception and test.query_params["color"] == key
        legends[key] = drawn(test)[0]["legend"]
    assert legends["date"]["names"] is None and legends["date"]["limits"] == ["2020-01-02", "2020-02-29"]
    assert legends["column@taken"]["limits"] == ["2020-01-01", "2020-02-29"]
    assert legends["column@cloud"]["limits"] == ["0", "60"] and sorted(legends["column@night"]["names"]) == [
        "False",
        "True",
    ]
    assert legends[f"column@{HOSTILE}"]["names"] == ["a", "b"] and "\u202e" not in legends[f"column@{HOSTILE}"]["title"]
    assert float(legends["column@west"]["limits"][0]) == 10


def test_scores_of_other_settings_colour_nothing(open_page: Open, world: Workspace) -> None:
    """Other seeds, operators, bands or contents of the pack are other measurements."""
    pack = Pack.named(world, "synthetic-landsat7").info
    for change in ({"model_seed": 3}, {"operator": "blur"}, {"bands": ["B7"]}, {"pack_hash": "old"}):
        run = embed(world, pack, model="random:vit-nano", title="Other", severities=(4.0, 2.0))
        path = run.path / PATH
        found = read_embedding(path)
        write_embedding(path, Embedding(about=found.about | change, points=found.points))
        test = open_page(world, "embeddings", map=f"{run.id}@4")
        if "pack_hash" not in change:
            options = test.selectbox(key="url.color").options
            assert not [o for o in options if o.startswith("Score")], change
        assert not test.exception
        shutil.rmtree(run.path)


def test_a_pack_that_was_prepared_again_has_other_samples(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    embed(workspace, make_pack(workspace, "p"), model="band-stats", title="B")
    shutil.rmtree(workspace.packs / "p")
    make_pack(workspace, "p", count=30)
    test = open_page(workspace, "embeddings")
    assert not test.exception and not drawn(test) and "embed again" in said(test)


def test_a_damaged_map_is_named_and_the_others_are_shown(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    pack = make_pack(workspace, "p")
    embed(workspace, pack, model="band-stats", title="B")
    broken = embed(workspace, pack, model="random:vit-nano", title="R")
    (broken.path / "artifacts/embedding.parquet").write_bytes(b"PAR1 no")
    test = open_page(workspace, "embeddings")
    assert not test.exception and len(drawn(test)) == 1
    assert f"…{broken.id[-4:]}" in said(test) and "cannot be read" in said(test)


def test_hostile_names_stay_text(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w", hostile=True)
    pack = Pack.named(workspace, "synthetic-landsat7").info
    embed(workspace, pack, model="band-stats", title=HOSTILE)
    test = select(open_page(workspace, "embeddings"), [1, 2])
    assert not test.exception
    for element in test.get("markdown"):
        assert not element.proto.allow_html
        body = str(element.value).replace("![Forest", "").replace("![Water", "")
        assert "<img" not in body.replace("\\<", "") and "\u202e" not in body
    (data,) = drawn(test)
    assert "\u202e" not in json.dumps(data, ensure_ascii=False)
    with TestClient(Starlette(routes=build_routes(workspace))) as client:
        assert "\u202e" not in client.get(data["points"]).content[8 * data["count"] :].decode()


def test_launch_queues_an_embedding_for_each_model(open_page: Open, world: Workspace, no_jobs: list) -> None:
    test = open_page(world, "launch", job="embed", pack="synthetic-landsat7", model=["band-stats", "random:vit-nano"])
    assert not test.exception
    command = test.code[0].value
    assert command.count("rsfm embed") == 2 and "--dataset synthetic-landsat7" in command
    test.button(key="launch.embed.queue").click().run()
    submitted = [spec for verb, spec in no_jobs if verb == "submit"]
    assert submitted == [EmbedSpec(model=m, dataset="synthetic-landsat7") for m in ("band-stats", "random:vit-nano")]


# -- parts ---------------------------------------------------------------------------------------------------------
def test_categories_beyond_the_palette_are_one() -> None:
    names = pd.Series([f"c{i:02d}" for i in range(40) for _ in range(40 - i)] + [None])
    coloring = by_category("Scene", names)
    assert len(coloring.names) == MOST_COLORS and coloring.names[0] == "c00"
    assert coloring.names[-1] == f"{40 - MOST_COLORS + 1} others" and len(coloring.palette) == MOST_COLORS + 1
    assert (coloring.codes == MOST_COLORS).sum() == sum(40 - i for i in range(MOST_COLORS - 1, 40))
    assert coloring.codes[-1] == 0 and len(set(coloring.palette)) == len(coloring.palette)
    few = by_category("Label", pd.Series(["b", "a", None, "b"]), ["a", "b", "never"])
    assert few.names == ("a", "b") and few.codes.tolist() == [2, 1, 0, 2]
    many = by_category("Sample", pd.Series([f"s{i}" for i in range(1000)]))
    assert many.codes.max() == MOST_COLORS and many.codes.dtype == np.uint8
    assert by_category("None", pd.Series([None, None], dtype=object)).codes.tolist() == [0, 0]


def test_numbers_have_a_scale() -> None:
    coloring = by_number("GSD", pd.Series([10.0, None, 30.0, 20.0]))
    assert coloring.limits == (10.0, 30.0) and not coloring.names
    assert coloring.codes.tolist() == [1, 0, 255, 128], "the lowest known number is no unknown"
    assert len(coloring.palette) == 256 and coloring.palette[1] != coloring.palette[0]
    assert all(re.fullmatch("#[0-9a-f]{6}", c.lower()) for c in coloring.palette)
    assert by_number("none", pd.Series([None, None])).limits == (0.0, 1.0)
    assert by_number("one", pd.Series([2.0, 2.0])).limits == (2.0, 3.0)
    assert by_number("score", pd.Series([0.0, 0.5]), (0, 1)).codes.tolist() == [1, 128]


def test_outcomes_of_single_samples(world: Workspace) -> None:
    store = Store(world)
    store.refresh_if_stale(0)
    run_id = store.runs(kind="evaluate")["run_id"].iloc[0]
    found = outcomes(store, run_id, "knn", 4.0)
    assert found["score"].tolist() == [1.0, 0.0] * 10 and set(found["predicted_index"]) == {0}
    with pytest.raises(RsfmError, match="no predictions of linear"):
        outcomes(store, run_id, "linear", 4.0)


def test_the_run_leads_to_its_map(open_page: Open, world: Workspace) -> None:
    run_id = open_page(world, "embeddings").query_params["map"].partition("@")[0]
    test = open_page(world, "run", run=run_id)
    assert not test.exception
    (link,) = [link for link in test.get("page_link") if link.proto.label == "Open the map"]
    assert f"map={run_id}%401" in link.proto.query_string
