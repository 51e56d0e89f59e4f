"""The page Models: the registry, one model's view, download and upload."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pandas as pd
import pytest
from lab import HOSTILE, embed, history, make_lab
from lab_packs import make_pack
from shown import texts
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app.components.model_table import best_scores
from app.routes import build_routes
from app.text import plain
from rsfm.model_info import ModelInfo
from rsfm.specs import EvaluateSpec, pretrain_spec
from rsfm.store.files import append_jsonl, write_json
from rsfm.store.runs import create_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


def model_of(workspace: Workspace) -> str:
    return next(workspace.models.iterdir()).name


def links(test: AppTest) -> dict[str, tuple[str, dict[str, list[str]]]]:
    """Label -> page and query."""
    found = {}
    for element in test.get("page_link"):
        link = element.proto
        found[link.label.replace("\\", "")] = (link.page, parse_qs(link.query_string))
    return found


def test_the_registry_lists_what_models_are(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "models")
    name = model_of(lab)
    row = test.dataframe[0].value.iloc[0]
    assert (row["name"], row["architecture"], row["trained_on"]) == (name, "vit", "landsat7-sample")
    assert row["parameters"] == 128 and row["sensor"] == "Landsat 7 ETM+"
    assert list(row["bands"])[:2] == ["B1", "B2"]
    assert row["scores"][0].startswith("synthetic-landsat7: 0.9") and "Linear probe" in row["scores"][0]
    assert test.query_params["model"] == name, "a default that depends on data stands in the address"
    assert "No model fits" in texts(open_page(lab, "models", q="zzz"))
    assert "There is no model" in texts(open_page(lab, "models", model="../x"))


def test_best_scores_are_of_the_first_metric_at_the_best_images(lab: Workspace) -> None:
    store = Store(lab)
    store.refresh_if_stale(0)
    frame = store.compare()
    row = frame[(frame["metric"] == "accuracy") & (frame["severity"] == 1)].iloc[0].to_dict()
    first = {"model_group": "g", "metric": "accuracy", "adaptation": "knn", "dataset": "p"}

    def best(*rows: tuple[str, float, float]) -> list[str]:
        told = [row | first | {"operator": o, "severity": s, "mean": m} for o, s, m in rows]
        return best_scores(pd.DataFrame(told, columns=frame.columns)).get("g", [])

    assert best(("bilinear", 1, 0.5), ("bilinear", 2, 0.9)) == ["p: 0.500 Accuracy, kNN"]
    # Severities of different operators are different scales, and images as they are beat each of them.
    assert best(("bilinear", 1, 0.95), ("noise", 0.5, 0.2)) == ["p: 0.950 Accuracy, kNN"]
    assert best(("bilinear", 4, 0.6), ("bilinear", 8, 0.99), ("noise", 0.5, 0.7)) == ["p: 0.700 Accuracy, kNN"]
    assert best(("noise", 0, 0.4), ("bilinear", 1, 0.3), ("noise", 1, 0.9)) == ["p: 0.400 Accuracy, kNN"]
    assert best() == [] and best(("bilinear", 1, float("nan"))) == []


def test_rows_of_scores_can_be_told_apart(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    name = model_of(workspace)
    file = next(workspace.runs.glob("*-eval-run-*")) / "scores.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    append_jsonl(file, *(r | {"split": "val"} for r in rows), *(r | {"train_degrade": r["operator"]} for r in rows))
    append_jsonl(file, *(r | {"pack_hash": "before"} for r in rows), *(r | {"bands": "B1"} for r in rows))
    shown = open_page(workspace, "models", model=name, tab="Scores").dataframe[1].value
    apart = ["pack", "split", "bands", "train_degrade", "pack_hash", "adaptation", "degradation", "metric"]
    assert len(shown) == 5 * 8 and not shown.duplicated(apart).any()
    assert "degrade_target" not in shown, "the same in all rows"
    card = open_page(workspace, "models", model=name, tab="Card").code[0].value
    lines = [line for line in card.splitlines() if "synthetic-landsat7" in line and "Linear probe" in line]
    assert len(lines) == len(set(lines)) == 20 and "| Pack | Split | Bands |" in card
    # Beside what was made of the model stands what it found.
    assert re.search(
        r"0\.\d+ Accuracy, Linear probe", texts(open_page(workspace, "models", model=name)).replace("\\", "")
    )


def test_all_uses_are_listed(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    name = model_of(workspace)
    made = [create_run(workspace, EvaluateSpec(model=name, dataset="other", eval_seeds=[i])).id for i in range(8)]
    queries = [parse_qs(e.proto.query_string) for e in open_page(workspace, "models", model=name).get("page_link")]
    assert {q["run"][0] for q in queries if "run" in q} >= set(made)


def test_lineage_leads_from_the_data_to_what_was_made_of_the_model(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    name = model_of(workspace)
    pack = make_pack(workspace, "other")
    drawn = embed(workspace, pack, model=name, title="M")
    going = create_run(workspace, EvaluateSpec(model=name, dataset="other"))
    warm = create_run(workspace, pretrain_spec("mae", "other", "smoke", [f"init.weights={name}"]))
    history(warm, "failed", 3, 1)
    found = links(open_page(workspace, "models", model=name))
    assert found["landsat7-sample"][1] == {"pack": ["landsat7-sample"]}
    assert found["MAE on landsat7-sample"][1] == {"run": [name]}
    assert found["MAE on other"][1] == {"run": [warm.id]}
    queries = [parse_qs(e.proto.query_string) for e in open_page(workspace, "models").get("page_link")]
    assert {"run": [going.id]} in queries and any(q.get("map", [""])[0].startswith(drawn.id) for q in queries)
    # The other way: what a model began with.
    run = workspace.runs / name / "spec.json"
    data = json.loads(run.read_text())
    other = "20260101-000000-mae-older-0000"
    data["spec"]["init"]["weights"] = other
    write_json(run, data)
    shown = texts(open_page(workspace, "models", model=name))
    assert "run …0000" in shown and "Starting weights" in shown


@pytest.mark.parametrize("tab", ["Lineage", "Bands", "Scores", "Card", "Export"])
def test_views_of_a_model(open_page: Open, lab: Workspace, tab: str) -> None:
    test = open_page(lab, "models", tab=tab)
    assert not test.exception and not test.error
    if tab == "Bands":
        assert test.dataframe[1].value["mean"].tolist() == [100.0] * 7
    if tab == "Scores":
        assert len(test.dataframe[1].value) == 8
    if tab == "Card":
        assert "## Limits" in test.code[0].value
    if tab == "Export":
        assert test.code[0].value.startswith(f"rsfm export {model_of(lab)} --format onnx")
        assert f"/rsfm/models/{model_of(lab)}/package.zip" in str(test.get("link_button")[0].proto)


def test_a_broken_model_says_what_is_wrong(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    name = model_of(workspace)
    (workspace.models / name / "model.safetensors").write_bytes(b"x" * 20)
    test = open_page(workspace, "models")
    assert not test.exception and "not a whole safetensors" in texts(test)
    assert "problem" in test.dataframe[0].proto.column_order


def test_the_download_is_a_whole_package(lab: Workspace) -> None:
    from starlette.applications import Starlette

    client = TestClient(Starlette(routes=build_routes(lab)))
    name = model_of(lab)
    answer = client.get(f"/rsfm/models/{name}/package.zip")
    assert answer.status_code == 200 and f'filename="{name}.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.read("model.json") == (lab.models / name / "model.json").read_bytes()
    assert [p.name for p in lab.models.iterdir()] == [name], "nothing stays behind"
    for bad in ("nothing", "%2e%2e", ".hidden"):
        assert client.get(f"/rsfm/models/{bad}/package.zip").status_code == 404


def test_a_model_is_written_as_onnx_from_the_page(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.applications import Starlette

    from app.panels import model_view
    from jobs.exports import onnx_file
    from rsfm.errors import RsfmError

    workspace = make_lab(tmp_path / "w")
    name = model_of(workspace)
    client = TestClient(Starlette(routes=build_routes(workspace)))
    asked: list[str] = []

    def write(place: Workspace, model: str) -> str:
        asked.append(model)
        if len(asked) == 1:
            raise RsfmError("It has *no* form in ONNX.")
        onnx_file(place, model).parent.mkdir()
        onnx_file(place, model).write_bytes(b"onnx")
        return "differs by 1e-7"

    monkeypatch.setattr(model_view, "export_onnx", write)
    test = open_page(workspace, "models", tab="Export")
    assert len(test.get("link_button")) == 1 and client.get(f"/rsfm/models/{name}/encoder.onnx").status_code == 404
    test.button(key="models.onnx").click().run()
    assert not test.exception and [e.value for e in test.error] == ["It has \\*no\\* form in ONNX\\."]
    test.button(key="models.onnx").click().run()
    assert not test.exception and not test.error and asked == [name, name]
    assert "models.onnx" not in [b.key for b in test.button]
    link = test.get("link_button")[1].proto
    answer = client.get(link.url)
    assert answer.content == b"onnx" and answer.headers["content-disposition"].endswith(f'filename="{name}.onnx"')
    assert client.get("/rsfm/models/nothing/encoder.onnx").status_code == 404


def test_an_upload_is_checked_and_appears(open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.panels import model_import
    from rsfm.errors import RsfmError

    workspace = make_lab(tmp_path / "w")
    name = model_of(workspace)
    asked: list[tuple[bytes, str]] = []

    def take(place: Workspace, file: Path, called: str) -> str:
        asked.append((file.read_bytes(), called))
        if len(asked) == 1:
            raise RsfmError("It holds *pickled* weights.")
        return name

    monkeypatch.setattr(model_import, "import_model", take)
    test = open_page(workspace, "models")
    test.file_uploader[0].set_value(("a <b>.zip", b"zip", "application/zip")).run()
    test.button(key="models.import").click().run()
    assert not test.exception and "It holds *pickled* weights." in texts(test)
    test.button(key="models.import").click().run()
    assert not test.exception and not test.error
    assert [body for body, _ in asked] == [b"zip", b"zip"] and asked[0][1] == "a <b>.zip"
    assert [p.name for p in workspace.models.iterdir()] == [name], "the upload itself is gone"


def test_titles_of_models_are_text(open_page: Open, tmp_path: Path) -> None:
    hostile_lab = make_lab(tmp_path / "w", hostile=True)
    folder = hostile_lab.models / model_of(hostile_lab)
    info = ModelInfo.read(folder)
    assert HOSTILE in info.title
    (folder / "model.json").write_text(info.model_copy(update={"architecture": HOSTILE}).model_dump_json())
    for tab in ("Lineage", "Card"):
        test = open_page(hostile_lab, "models", tab=tab)
        assert not test.exception
        for kind in ("markdown", "caption", "subheader"):
            for element in test.get(kind):
                assert "<img" not in element.value.replace("\\<", "") and "\u202e" not in element.value
        assert next(m.value for m in test.metric if m.label == "Architecture") == plain(HOSTILE)
