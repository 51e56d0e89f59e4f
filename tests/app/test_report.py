"""Reports in one file, and pictures of charts: what they hold, and that no name becomes code."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparison_world import evaluated, right
from flipped import make_flipped
from lab import HOSTILE, make_benchmark
from shown import in_url, texts
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from app.components.palette import looks_of_store
from app.report import Report, report_html, view_of
from rsfm.cli import app
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.store.view import Store
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


class Elements(HTMLParser):
    """Elements of a page with their attributes, and the texts between them but for scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._inside[-1] if self._inside else ""
        (self.scripts if inside == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_flipped(tmp_path_factory.mktemp("flipped") / "w")


def store_of(workspace: Workspace) -> Store:
    store = Store(workspace)
    store.refresh_if_stale(0)
    return store


def written(workspace: Workspace, folder: Path, *args: str) -> Elements:
    file = folder / "report.html"
    done = CliRunner().invoke(app, ["report", "--workspace", str(workspace.root), "--output", str(file), *args])
    if isinstance(done.exception, RsfmError):
        raise done.exception
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(file)
    return Elements(file.read_text())


def test_a_report_tells_what_was_measured_and_how(flipped: Workspace, tmp_path: Path) -> None:
    page = written(flipped, tmp_path, "--dataset", "scenes", "--title", "Our <first> report")
    info = Pack.named(flipped, "scenes").info
    for said in (
        "Our <first> report",
        info.content_hash,
        "synthetic data",
        "Coarser by bilinear resampling",
        "1×, 2×, 4×, 8×",
        "kNN",
        "2 model seeds, 3 evaluation seeds",
        "20 test images",
        "MAE vit-nano",
        "Random ViT-nano",
        "Clopper and Pearson",
        "Holm",
        "rsfm",
    ):
        assert said.casefold() in page.text.casefold(), said
    # The score with its interval and its tier.
    row = store_of(flipped).compare(dataset="scenes").query("model_group == 'mae' and severity == 4").iloc[0]
    assert f"{row['mean']:.3f} A {row['ci_low']:.3f}–{row['ci_high']:.3f}" in page.text
    link = next(a for tag, a in page.elements if tag == "a")
    csv = pd.read_csv(io.BytesIO(base64.b64decode(str(link["href"]).partition("base64,")[2])))
    assert csv["mean"].tolist() == pytest.approx(store_of(flipped).compare(dataset="scenes")["mean"].tolist())
    bare = written(flipped, tmp_path, "--dataset", "scenes", "--no-tiers").text
    assert f"{row['mean']:.3f} {row['ci_low']:.3f}" in bare and "Tiers" not in bare


def test_a_report_needs_nothing_else(flipped: Workspace, tmp_path: Path) -> None:
    page = written(flipped, tmp_path, "--dataset", "scenes", "--no-tiers")
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "img", "object", "base"), tag
        assert not attributes.get("src") and str(attributes.get("href", "data:")).startswith("data:"), (tag, attributes)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv"))
    assert "default-src 'none'" in str(policy)
    assert sum(len(s) > 1_000_000 for s in page.scripts) == 1, "plotly.js, once"


def test_no_name_becomes_code_in_a_report(tmp_path: Path) -> None:
    classes = [f"{i} {HOSTILE}" for i in range(4)]
    workspace = make_flipped(tmp_path / "w", classes=classes, title=f"Model {HOSTILE}")
    plain = written(workspace, tmp_path, "--no-tiers")
    kinds = {tag for tag, _ in plain.elements}
    assert not kinds & {"img", "iframe", "object", "svg"}
    charts = len([a for _, a in plain.elements if str(a.get("id", "")).startswith("chart-")])
    assert sum(tag == "script" for tag, _ in plain.elements) == 1 + charts == 3
    assert all("onerror" not in a for _, a in plain.elements)
    assert "</script><img src=x onerror=alert(1)>" in plain.text and "\u202e" not in plain.text


def test_a_report_follows_what_is_chosen(tmp_path: Path) -> None:
    workspace = make_benchmark(tmp_path / "w")
    page = written(workspace, tmp_path, "--metric", "iou", "--models", "random ViT-nano", "--authors", "--no-tiers")
    assert "IoU" in page.text and "EfficientNet" not in page.text.partition("Figures")[0].partition("Marked")[0]
    assert "no result lint" not in page.text
    blurred = written(workspace, tmp_path, "--operator", "blur", "--no-tiers")
    assert "0 px, 0.5 px, 1 px, 2 px" in blurred.text and "AUC" not in blurred.text
    authors = written(workspace, tmp_path, "--authors", "--no-tiers").text
    assert "GFM (authors)" in authors and "They take no part in order, tiers or tests" in authors


def test_a_report_of_differences_names_its_baseline(tmp_path: Path) -> None:
    workspace = make_benchmark(tmp_path / "w")
    args = ("--show", "difference", "--baseline", "efficientnet-lite0", "--no-tiers")
    page, encoder = written(workspace, tmp_path, *args), "EfficientNet-Lite0 (ImageNet)"
    assert f"Baseline {encoder} Degradation" in page.text and "degraded in training" in page.text
    assert f"Difference to {encoder}" in page.text and f"charts show: Difference to {encoder}." in page.text
    assert any("difference to baseline" in s and len(s) < 1_000_000 for s in page.scripts), "in the chart"
    assert "Baseline" not in written(workspace, tmp_path, "--no-tiers").text
    # It need not be among the models that were asked for.
    one = written(workspace, tmp_path, *args, "--models", "random:vit-nano").text
    assert f"Baseline {encoder} Degradation" in one and "Random ViT-nano" in one and "Not drawn" not in one


def gaps(root: Path, models: int = 1) -> Workspace:
    """Results on a pack with GSD and on one without, and a model that was never measured on images as they are."""
    workspace, hits = Workspace(root), np.arange(20)
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    for i in range(models):
        for pack, gsd in (("far", 30.0), ("near", None)):
            counts = {("knn", s, 0): right(hits < 19 - i - s) for s in (1.0, 4.0)}
            evaluated(workspace, f"m{i}", counts, dataset=pack, gsd_m=gsd)
    evaluated(workspace, "late", {("knn", 4.0, 0): right(hits < 5)}, dataset="far", gsd_m=30.0)
    return workspace


def test_what_the_charts_leave_out_is_said_in_reports_and_on_the_page(open_page: Open, tmp_path: Path) -> None:
    workspace = gaps(tmp_path / "w")
    report = written(workspace, tmp_path, "--no-tiers").text
    page = texts(open_page(workspace, "degradation", packs=["far", "near"]))
    for text in (report, page):
        assert "Not drawn in metres, for their GSD is not known: near." in text and "Not drawn, for" not in text
    report = written(workspace, tmp_path, "--no-tiers", "--show", "retention", "--axis", "factor").text
    page = texts(open_page(workspace, "degradation", packs=["far", "near"], value="retention", axis="factor"))
    for text in (report, page):
        assert "Not drawn, for lack of a result on images as they are: LATE (kNN, far)." in text
        assert "in metres" not in text
    report = written(workspace, tmp_path, "--no-tiers", "--dataset", "near").text
    page = texts(open_page(workspace, "degradation", packs=["near"]))
    for text in (report, page):
        assert "No GSD is known, so the curves are drawn against the factor." in text


def test_a_report_from_the_page_says_that_it_holds_the_best_models_only(open_page: Open, tmp_path: Path) -> None:
    test = open_page(gaps(tmp_path / "w", models=12), "degradation", packs=["near", "far"])
    test.button(key="degradation.make_report").click().run()
    assert not test.exception and "The 12 best of 13 models are shown. Choose others above." in texts(test)
    text = Elements(test.session_state["degradation.made_report"][1].decode()).text
    assert "The 12 best of 13 models are shown. Model Group" in text and "LATE" not in text
    assert "GSD is not known: near." in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--dataset", "nosuch"), r"No result of pack nosuch; there are: scenes, villages\."),
        (("--operator", "blur"), "No result of degradation blur; there are: bilinear"),
        (("--dataset", "scenes", "--metric", "f1"), "No result of metric f1; there are: accuracy"),
        (
            ("--models", "nosuch"),
            "No result of model nosuch fits what else was chosen; there are: MAE vit-nano, Random ViT-nano",
        ),
        (("--adaptation", "finetune"), "No result of adaptation finetune"),
        (("--target", "both", "--dataset", "villages"), "No result of degraded image both; there are: post"),
        (("--show", "difference"), "taken to a baseline"),
        (("--baseline", "mae"), "taken to a baseline"),
    ],
)
def test_what_cannot_be_reported_is_said(
    flipped: Workspace, tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RsfmError, match=message):
        written(flipped, tmp_path, *args)
    assert not (tmp_path / "report.html").exists()


def test_an_empty_workspace_has_nothing_to_report(workspace: Workspace, tmp_path: Path) -> None:
    workspace.root.mkdir()
    with pytest.raises(RsfmError, match="There are no results yet"):
        written(workspace, tmp_path)
    with pytest.raises(RsfmError, match="There is no folder"):
        written(workspace, tmp_path / "nosuch")


def test_the_same_results_make_the_same_report(flipped: Workspace) -> None:
    store = store_of(flipped)
    view = view_of(store.compare(), store.datasets(), packs=["scenes"])
    when = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    made = [
        report_html(Report(view, looks_of_store(store), lambda name: Pack.named(flipped, name), made=when))
        for _ in range(2)
    ]
    assert made[0] == made[1] and "2026-11-21 12:00 UTC" in made[0]


# -- on the page --------------------------------------------------------------------------------------------------
def test_the_page_makes_a_report_of_what_it_shows(open_page: Open, flipped: Workspace) -> None:
    test = open_page(flipped, "degradation", packs="scenes", value="retention")
    assert [b.proto.label for b in test.get("download_button")] == ["Download CSV"]
    test.button(key="degradation.make_report").click().run()
    assert not test.exception
    assert any(b.proto.label.startswith("Download report (4.") for b in test.get("download_button"))
    _, content = test.session_state["degradation.made_report"]
    page = Elements(content.decode())
    assert "Retention" in page.text and "Tiers:" in page.text and "villages" not in page.text
    test.segmented_control(key="url.value").set_value("absolute").run()
    assert not any("report" in b.proto.label for b in test.get("download_button")), "of another view"


def test_a_report_is_of_the_results_that_there_are(open_page: Open, tmp_path: Path) -> None:
    workspace = gaps(tmp_path / "w")
    test = open_page(workspace, "degradation", packs="far")
    test.button(key="degradation.make_report").click().run()
    test.run()
    offered = [b.proto.label for b in test.get("download_button")]
    assert any("Download report" in label for label in offered), "while there is nothing new"
    evaluated(workspace, "new", {("knn", 1.0, 0): right(np.arange(20) < 9)}, dataset="far", gsd_m=30.0)
    test.run()
    assert "NEW" in str(test.dataframe[0].value["model_title"].tolist())
    assert not any("Download report" in b.proto.label for b in test.get("download_button"))


def test_charts_are_saved_in_the_chosen_format(open_page: Open, flipped: Workspace) -> None:
    test = open_page(flipped, "degradation", packs="scenes")
    saved = json.loads(test.get("plotly_chart")[0].proto.config)["toImageButtonOptions"]
    assert saved == {
        "format": "svg", "filename": "degradation-scenes-knn-accuracy-bilinear", "width": 1000, "height": 620,
        "scale": 1,
    }  # fmt: skip
    test.segmented_control(key="url.picture").set_value("png").run()
    assert in_url(test, "picture") == ["png"]
    saved = json.loads(test.get("plotly_chart")[0].proto.config)["toImageButtonOptions"]
    assert (saved["format"], saved["scale"]) == ("png", 3)
    odd = open_page(flipped, "degradation", packs="scenes", picture="../x")
    assert not odd.exception and re.search('"format": ?"svg"', odd.get("plotly_chart")[0].proto.config)
