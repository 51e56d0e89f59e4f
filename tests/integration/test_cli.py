"""The command line's contract: verbs, exit codes, one clear line on bad input, JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rsfm.packs import Pack
from rsfm.registry import METHODS
from rsfm.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    ("methods",), ("data", "list"), ("data", "show"), ("data", "prepare"), ("data", "add"), ("pretrain",),
    ("evaluate",), ("embed",), ("predict",), ("compare",), ("protocol", "list"), ("protocol", "show"),
    ("protocol", "run"), ("protocol", "report"), ("report",), ("export",), ("import",), ("runs",), ("tag",), ("stop",),
    ("resume",), ("jobs",),
    ("index", "rebuild"), ("app",), ("demo",),
]  # fmt: skip


def rsfm(workspace: Workspace, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "RSFM_WORKSPACE": str(workspace.root)}
    return subprocess.run(
        [sys.executable, "-m", "rsfm.cli", *args], capture_output=True, text=True, env=env, check=False, timeout=120
    )


def known_verbs() -> set[tuple[str, ...]]:
    """All verbs that the command line really has."""
    from rsfm.cli import app

    found = {(c.name or c.callback.__name__,) for c in app.registered_commands}
    for group in app.registered_groups:
        for c in group.typer_instance.registered_commands:
            found.add((group.name, c.name or c.callback.__name__))
    return found


def test_verbs_are_the_contract() -> None:
    assert known_verbs() == set(VERBS)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help(workspace: Workspace, verb: tuple[str, ...]) -> None:
    done = rsfm(workspace, *verb, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert not workspace.root.exists(), "asking for help writes nothing"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("nonsense",), "nonsense"),
        (("pretrain", "--method", "mea", "--dataset", "x"), "mae"),
        (("pretrain", "--method", "mae", "--dataset", "nothing"), "rsfm data prepare nothing"),
        (("pretrain", "--method", "mae", "--dataset", "x", "--preset", "huge"), "vit-b"),
        (("pretrain", "--method", "mae", "--dataset", "x", "--set", "mask_ratio=2"), "mask_ratio"),
        (("pretrain", "--method", "mae", "--dataset", "x", "--set", "colour=1"), "colour"),
        (("pretrain", "--method", "mae", "--dataset", "x", "--set", "oops"), "key=value"),
        (("evaluate", "--model", "band-stats", "--dataset", "x", "--severities", "1,two"), "--severities"),
        (("evaluate", "--model", "band-stats", "--dataset", "../x"), "not a pack's name"),
        (("evaluate", "--model", "band-stats", "--dataset", "x", "--adaptation", "magic"), "knn"),
        (("stop", "20260101-000000-no-such"), "no run"),
        (("resume", "../../etc"), "no run"),
        (("data", "show", "eurosta-ms"), "eurosat-ms"),
        (("data", "prepare", "millionaid", "--source", "/no/such/folder"), "/no/such/folder"),
        (("data", "add", "/no/such/folder", "--name", "mine"), "/no/such/folder"),
        (("app", "--port", "99999999"), "--port"),
        (("compare", "--dataset", "nothing"), "rsfm data prepare nothing"),
        (("demo", "--json"), "--headless"),
        (("demo", "--headless", "--port", "9000"), "--port"),
        (("data", "prepare", "oscd", "--download", "--source", "/tmp"), "give one of them"),
        (("runs", "--workspace", "/etc/passwd"), "not a folder"),
        (("evaluate", "--model", "band-stats", "--dataset", "x", "--seeds", "-1"), "eval_seeds"),
        (("data", "add", "/tmp", "--name", "mine", "--tile-size", "4"), "tile_size"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(workspace: Workspace, args: tuple[str, ...], says: str) -> None:
    done = rsfm(workspace, *args)
    assert done.returncode == 2, done
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert "Traceback" not in done.stderr


def test_adding_keeps_what_is_there_and_nothing_that_fails(workspace: Workspace, tmp_path: Path) -> None:
    for name, colour in (("a", (200, 10, 10)), ("b", (10, 200, 10))):
        for label in ("one", "two"):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for i in range(4):
                image = Image.new("RGB", (16, 16), colour)
                image.paste((i, 2 * i, 90), (2, 2, 9, 9))
                image.save(folder / f"{i}.png")
    assert rsfm(workspace, "data", "add", str(tmp_path / "a"), "--name", "mine").returncode == 0
    before = Pack.named(workspace, "mine").info
    taken = rsfm(workspace, "data", "add", str(tmp_path / "b"), "--name", "mine")
    assert taken.returncode == 2
    assert "--replace" in taken.stderr
    failed = rsfm(workspace, "data", "add", str(tmp_path / "b"), "--name", "other", "--scale", "0")
    assert failed.returncode == 2
    assert not (workspace.datasets / "other.json").exists()
    assert Pack.named(workspace, "mine").info == before
    stolen = rsfm(workspace, "data", "prepare", "landsat7-sample", "--limit", "3", "--name", "mine")
    assert stolen.returncode == 2
    assert "'mine'" in stolen.stderr
    assert rsfm(workspace, "data", "add", str(tmp_path / "b"), "--name", "mine", "--replace").returncode == 0
    assert Pack.named(workspace, "mine").info.content_hash != before.content_hash
    (workspace.datasets / "broken.json").write_text("{")
    assert "broken" in rsfm(workspace, "data", "list", "--json").stderr


def test_bare_command_shows_help(workspace: Workspace) -> None:
    done = rsfm(workspace)
    assert done.returncode == 0
    assert "pretrain" in done.stdout


def test_methods_json(workspace: Workspace) -> None:
    rows = json.loads(rsfm(workspace, "methods", "--json").stdout)
    assert [row["name"] for row in rows] == list(METHODS)
    papers = {}
    for row in rows:
        entry = METHODS[row["name"]]
        assert {"name", "family", "paper", "inputs", "presets"} <= set(row)
        assert row["family"] and row["inputs"] == entry.inputs
        assert {"smoke", "cpu"} <= {preset["name"] for preset in row["presets"]} == set(entry.presets)
        papers[row["name"]] = row["paper"]
    known = {
        "mae": "2111.06377", "dino": "2104.14294", "ibot": "2111.07832", "simclr": "2002.05709",
        "moco_v2": "2003.04297", "moco_v3": "2104.02057", "beit_vq": "2106.08254", "mae_contrastive": "2210.16870",
    }  # fmt: skip
    assert all(number in papers[name] for name, number in known.items())


def test_lists_are_json_on_an_empty_workspace(workspace: Workspace) -> None:
    assert json.loads(rsfm(workspace, "runs", "--json").stdout) == []
    assert json.loads(rsfm(workspace, "compare", "--json").stdout) == []
    assert json.loads(rsfm(workspace, "jobs", "--json").stdout) == {"supervisor": None, "queued": []}
    names = {row["name"] for row in json.loads(rsfm(workspace, "data", "list", "--json").stdout)}
    assert {"eurosat-ms", "eurosat-100", "millionaid", "landsat7-sample", "synthetic-landsat7"} <= names


def test_readme_covers_every_verb() -> None:
    text = (ROOT / "README.md").read_text()
    for verb in known_verbs():
        assert re.search(rf"`?rsfm {' '.join(verb)}\b", text), f"README does not mention rsfm {' '.join(verb)}"


def test_readme_names_every_method() -> None:
    text = (ROOT / "README.md").read_text()
    for name in METHODS:
        assert f"`{name}`" in text, f"README does not mention the method {name}"
