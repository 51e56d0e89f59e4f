"""The command line's contract: verbs, exit codes, one clear line on bad input, JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rsfm.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
VERBS = [
    ("methods",), ("data", "list"), ("data", "show"), ("data", "prepare"), ("data", "add"), ("pretrain",),
    ("evaluate",), ("compare",), ("runs",), ("stop",), ("resume",), ("jobs",), ("index", "rebuild"), ("app",), ("demo",),
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
        (("evaluate", "--model", "band-stats", "--dataset", "x", "--factors", "1,two"), "--factors"),
        (("evaluate", "--model", "band-stats", "--dataset", "../x"), "not a pack's name"),
        (("evaluate", "--model", "band-stats", "--dataset", "x", "--adaptation", "magic"), "knn"),
        (("stop", "20260101-000000-no-such"), "no run"),
        (("resume", "../../etc"), "no run"),
        (("data", "show", "eurosta-ms"), "eurosat-ms"),
        (("data", "prepare", "millionaid", "--source", "/no/such/folder"), "/no/such/folder"),
        (("data", "add", "/no/such/folder", "--name", "mine"), "/no/such/folder"),
        (("app", "--port", "99999999"), "--port"),
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


def test_methods_json(workspace: Workspace) -> None:
    rows = json.loads(rsfm(workspace, "methods", "--json").stdout)
    mae = next(r for r in rows if r["name"] == "mae")
    assert {"name", "family", "paper", "inputs", "presets"} <= set(mae)
    assert "2111.06377" in mae["paper"]


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
