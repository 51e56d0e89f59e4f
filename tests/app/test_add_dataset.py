"""Add your own: what is understood, kept, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab_packs import make_pack
from shown import Open, texts
from streamlit.testing.v1 import AppTest

from rsfm.errors import RsfmError
from rsfm.workspace import Workspace


def test_adding_a_folder_shows_what_was_understood_then_keeps_it(
    open_page: Open, tmp_path: Path, no_jobs: list
) -> None:
    from PIL import Image

    workspace = Workspace(tmp_path / "w")
    for i in range(6):
        folder = tmp_path / "tiles" / ("a", "b")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * i, 90, 120)).save(folder / f"{i}.png")
    test = open_page(workspace, "datasets", view="Add your own")
    test.text_input[0].set_value(str(tmp_path / "nothing-here"))
    test.button[0].click().run()
    assert "There is nothing at" in test.error[0].value.replace("\\", "")
    test.text_input[0].set_value(str(tmp_path / "tiles"))
    test.text_input[1].set_value("my-tiles")
    test.button[0].click().run()
    assert not test.exception and not test.error
    assert "6 images in one folder per class, 2 classes" in texts(test)
    assert no_jobs == [] and not workspace.root.exists(), "nothing is kept or started before the reader says so"
    keep = next(b for b in test.button if b.label == "Keep and prepare")
    keep.click().run()
    assert not test.exception and not test.error
    assert [(verb, spec.dataset) for verb, spec in no_jobs] == [("submit", "my-tiles")]
    assert (workspace.datasets / "my-tiles.json").is_file()
    catalog = open_page(workspace, "datasets", view="Catalog", find="my-tiles")
    assert "my-tiles" in texts(catalog)


@pytest.fixture
def own_tiles(tmp_path: Path) -> Path:
    """A folder of four images."""
    from PIL import Image

    (tmp_path / "tiles").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (40 * i, 90, 120)).save(tmp_path / "tiles" / f"{i}.png")
    return tmp_path / "tiles"


def look(test: AppTest, path: Path | str, name: str) -> AppTest:
    test.text_input[0].set_value(str(path))
    test.text_input[1].set_value(name)
    return test.button[0].click().run()


def press(test: AppTest, label: str) -> AppTest:
    return next(b for b in test.button if b.label == label).click().run()


def test_adding_refuses_the_name_of_a_built_in_dataset(
    open_page: Open, tmp_path: Path, no_jobs: list, own_tiles: Path
) -> None:
    test = open_page(Workspace(tmp_path / "w"), "datasets", view="Add your own")
    press(look(test, own_tiles, "eurosat-ms"), "Keep and prepare")
    assert "built-in dataset" in texts(test) and no_jobs == []


def test_adding_refuses_a_taken_name_until_told_to_replace_it(
    open_page: Open, tmp_path: Path, no_jobs: list, own_tiles: Path
) -> None:
    workspace = Workspace(tmp_path / "w")
    press(look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "mine"), "Keep and prepare")
    before = (workspace.datasets / "mine.json").read_bytes()
    no_jobs.clear()
    test = look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "mine")
    assert "already" in test.warning[0].value
    press(test, "Keep and prepare")
    assert "choose another name" in texts(test) and "--replace" not in texts(test)
    assert no_jobs == [] and (workspace.datasets / "mine.json").read_bytes() == before
    test.toggle(key="add.replace.mine").set_value(True).run()
    press(test, "Keep and prepare")
    assert [(verb, spec.dataset) for verb, spec in no_jobs] == [("submit", "mine")]
    # The name of a pack is taken as well.
    make_pack(workspace, "packed")
    press(look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "packed"), "Keep and prepare")
    assert not (workspace.datasets / "packed.json").exists()


def test_what_cannot_be_queued_is_not_kept(
    open_page: Open, tmp_path: Path, own_tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.client

    def refuse(*_: object) -> str:
        raise RsfmError("No room.")

    workspace = Workspace(tmp_path / "w")
    test = look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "mine")
    monkeypatch.setattr(jobs.client, "submit", refuse)
    press(test, "Keep and prepare")
    assert "No room." in texts(test) and not (workspace.datasets / "mine.json").exists()


def test_adding_passes_the_size_on(open_page: Open, tmp_path: Path, no_jobs: list, own_tiles: Path) -> None:
    test = look(open_page(Workspace(tmp_path / "w"), "datasets", view="Add your own"), own_tiles, "mine")
    test.number_input(key="add.size").set_value(32).run()
    press(test, "Keep and prepare")
    assert no_jobs[-1][1].image_size == 32 and no_jobs[-1][1].tile_size is None
    assert "queued for preparation" in texts(test)


@pytest.mark.parametrize("path", ["", "   ", "~no-such-user-here/x", "a" * 5000, "tiles\x00.tif"])
def test_adding_what_is_no_path_is_one_sentence(open_page: Open, tmp_path: Path, path: str) -> None:
    test = look(open_page(Workspace(tmp_path / "w"), "datasets", view="Add your own"), path, "mine")
    assert not test.exception and len(test.error) == 1
