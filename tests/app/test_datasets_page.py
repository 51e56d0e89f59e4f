"""The page Datasets: packs, their tabs, and the catalog."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_packs import make_multilabel, make_pairs
from shown import Open, texts

from rsfm.workspace import Workspace


def test_datasets_shows_samples_by_address(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "datasets", pack="synthetic-landsat7", split="test")
    images = [m.value for m in test.markdown if m.value.startswith("![")]
    assert len(images) == 20 and all("/rsfm/thumbs/synthetic-landsat7/test/" in i for i in images)
    one = open_page(lab, "datasets", pack="synthetic-landsat7", split="test", classes=["Water"])
    assert 0 < len([m for m in one.markdown if m.value.startswith("![")]) < 20


@pytest.mark.parametrize("tab", ["Map", "Bands", "Classes"])
def test_datasets_tabs(open_page: Open, lab: Workspace, tab: str) -> None:
    test = open_page(lab, "datasets", pack="synthetic-landsat7", tab=tab)
    assert not test.exception
    if tab == "Map":
        assert test.get("iframe")[0].proto.src.startswith("/rsfm/maps/packs/synthetic-landsat7?")
    if tab == "Bands":
        assert list(test.dataframe[0].value["Band"]) == ["B1", "B2", "B3", "B4", "B5", "B6", "B7"]
    if tab == "Classes":
        assert len(test.get("plotly_chart")) == 1


@pytest.mark.parametrize("layer", [None, "image_post", "mask"])
def test_datasets_shows_pairs_and_their_masks(open_page: Open, tmp_path: Path, layer: str | None) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    make_pairs(workspace)
    test = open_page(workspace, "datasets", pack="pairs", **({"layer": layer} if layer else {}))
    assert not test.exception and not test.error
    images = [m.value for m in test.markdown if m.value.startswith("![")]
    assert len(images) == 6 and all(f"layer={layer or 'image_pre'}" in i for i in images)
    assert ("unchanged" in texts(test)) == (layer == "mask"), "a mask has a legend"
    assert {m.label: m.value for m in test.metric}["Bands"] == "3"


@pytest.mark.parametrize("tab", ["Map", "Bands", "Classes"])
def test_datasets_tabs_of_pairs(open_page: Open, tmp_path: Path, tab: str) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    make_pairs(workspace)
    test = open_page(workspace, "datasets", pack="pairs", tab=tab)
    assert not test.exception and not test.error
    if tab == "Bands":
        assert len(test.dataframe) == 2, "one table per date"
    if tab == "Classes":
        assert "One class per pixel" in texts(test) and len(test.get("plotly_chart")) == 1


def test_samples_with_several_labels_are_found_by_any_of_them(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    make_multilabel(workspace)

    def shown(*classes: str) -> list[str]:
        test = open_page(workspace, "datasets", pack="several", classes=list(classes))
        assert not test.exception
        return [m.value.partition("]")[0] for m in test.markdown if m.value.startswith("![")]

    assert shown("Forest") == ["![Forest", "![Forest, Water"]
    assert shown("Water", "Crop") == ["![Forest, Water", "![Crop"]
    assert len(shown()) == 3


def test_catalog_marks_entries_without_a_reader(open_page: Open, lab: Workspace) -> None:
    import data_catalog

    entries = data_catalog.entries(lab)
    test = open_page(lab, "datasets", view="Catalog")
    shown = texts(test)
    assert all(e.title in shown for e in entries.values())
    if any(not e.reader for e in entries.values()):
        assert "without a reader yet" in shown
