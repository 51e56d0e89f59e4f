"""`rsfm data` with images that have masks: what is understood, corrected, prepared and listed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rasters import save
from typer.testing import CliRunner

from rsfm.cli import app
from rsfm.packs import Pack
from rsfm.workspace import Workspace

RUN = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images with masks of 0, 1 and 255."""
    rng = np.random.default_rng(0)
    for i in range(10):
        save(tmp_path / f"set/images/{i}.png", rng.integers(0, 255, (32, 32, 3), np.uint8))
        save(tmp_path / f"set/masks/{i}.png", rng.choice([0, 1, 255], (32, 32)).astype(np.uint8))
    return tmp_path / "set"


def data(workspace: Workspace, *args: str) -> str:
    done = RUN.invoke(app, ["data", *args, "--workspace", str(workspace.root)])
    assert done.exit_code == 0, done.output
    return done.output


def test_add_shows_what_it_understood_and_prepares_tiles(folder, workspace):
    shown = data(workspace, "add", str(folder), "--name", "mine", "--dry-run")
    assert "10 images with masks in images/, masks/" in shown and "255 means not labelled" in shown
    assert not workspace.datasets.exists() or not list(workspace.datasets.iterdir())
    done = data(workspace, "add", str(folder), "--name", "mine", "--tile-size", "16", "--set", "test_share=0.5")
    assert "Pack mine: 20 train, 20 test" in done
    pack = Pack.named(workspace, "mine")
    assert pack.layer("mask").ignore_value == 255 and pack.layer("mask").shape == (1, 16, 16)


def test_list_and_show_say_what_can_be_prepared(folder, workspace):
    data(workspace, "add", str(folder), "--name", "mine")
    listed = {row["name"]: row for row in json.loads(data(workspace, "list", "--json"))}
    assert listed["mine"]["packs"] == ["mine"] and listed["oscd"]["reader"] and not listed["fmow-rgb"]["reader"]
    text = data(workspace, "list")
    assert "can be prepared" in text and "no reader yet" in text
    for name, said in (
        ("oscd", "rsfm data prepare oscd --source DIR, or rsfm data prepare oscd --download"),
        ("levir-cd", "Prepare: rsfm data prepare levir-cd --source DIR\n"),
        ("segmentation-folder", "--source PATH --name NAME"),
        ("mine", "Prepare: rsfm data prepare mine\n"),
        ("fmow-rgb", "it has no reader"),
    ):
        assert said in data(workspace, "show", name)
