"""A selection of samples as a word in the address: short, or kept in the workspace; bounded and checked."""

from __future__ import annotations

import base64
import json
import os
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

import app.kept_selections as kept
from app.kept_selections import Selection, selection_of, word_of
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


def back(workspace: Workspace, positions: list[int] | np.ndarray, content: str = "abc") -> str:
    word = word_of(workspace, Selection(content, np.asarray(positions)))
    found = selection_of(workspace, word)
    assert found.content == content and found.positions.tolist() == sorted(set(map(int, positions)))
    return word


def test_a_selection_comes_back(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    assert len(back(workspace, [0])) < 30 and len(back(workspace, np.arange(40_000, 90_000))) < 400
    for positions in ([7, 3, 3], [0, 4_000_000_000], np.flatnonzero(rng.random(2000) < 0.2)):
        word = back(workspace, positions)
        assert word.startswith("abc.") and len(word) < 1100
    assert not workspace.root.exists(), "short ones write nothing"


def test_a_long_one_is_kept_under_what_it_holds(workspace: Workspace) -> None:
    positions = np.flatnonzero(np.random.default_rng(0).random(100_000) < 0.3)
    word = back(workspace, positions)
    assert word.startswith("kept-") and len(word) == 25
    assert back(workspace, positions) == word != back(workspace, positions, "of another pack")
    assert len(list(workspace.selections.iterdir())) == 2
    assert all(f.stat().st_size < 100_000 for f in workspace.selections.iterdir())


def test_the_folder_is_bounded_and_keeps_what_is_opened(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LONGEST_WORD", 0)
    monkeypatch.setattr(kept, "MOST_FILES", 3)
    words = []
    for i in range(3):
        words.append(back(workspace, [i]))
        file = workspace.selections / f"{words[i].removeprefix('kept-')}.json"
        os.utime(file, (time.time() - 9000 + i,) * 2)
    selection_of(workspace, words[0])  # opened: it is no longer the oldest
    left = workspace.selections / ".x.json.0123"  # by a writer that was killed
    left.write_text("{")
    os.utime(left, (0, 0))
    back(workspace, [9])
    assert not left.exists()
    selection_of(workspace, words[0])
    with pytest.raises(RsfmError, match=r"not in this workspace \(any more\)"):
        selection_of(workspace, words[1])
    monkeypatch.setattr(kept, "MOST_BYTES", 0)
    back(workspace, [10])
    assert len(list(workspace.selections.iterdir())) == 1, "the newest one stays whatever its size"


def bytes_as_word(data: bytes) -> str:
    return "abc." + base64.urlsafe_b64encode(data).decode()


def test_what_is_no_selection_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    word = back(workspace, [3, 5])
    monkeypatch.setattr(kept, "_MOST_SAMPLES", 1000)
    bomb = bytes_as_word(zlib.compress(bytes([1]) * 100_000, 9))
    doubles = bytes_as_word(zlib.compress(bytes([1, 0, 0, 0, 0, 0, 0, 0])))
    empty, odd = bytes_as_word(zlib.compress(b"")), bytes_as_word(zlib.compress(b"abc"))
    texts = ("", "abc", "abc.", word[:-2], word + "!", "abc." + "A" * 5000, "kept-../../etc/passwd", "kept-" + "0" * 20)
    for wrong in (*texts, bomb, doubles, empty, odd):
        with pytest.raises(RsfmError):
            selection_of(workspace, wrong)
    assert not workspace.root.exists()


def test_a_kept_one_that_was_changed_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LONGEST_WORD", 0)
    word, other = back(workspace, [3, 5]), back(workspace, [4])
    file = workspace.selections / f"{word.removeprefix('kept-')}.json"
    whole = json.loads(file.read_text())
    strange = json.loads((workspace.selections / f"{other.removeprefix('kept-')}.json").read_text())
    for content in (
        "{",
        "[]",
        json.dumps(whole | {"pack": "other"}),
        json.dumps(whole | {"rows": 3}),
        json.dumps(strange),
    ):
        file.write_text(content)
        with pytest.raises(RsfmError, match="damaged"):
            selection_of(workspace, word)
    assert back(workspace, [3, 5]) == word, "choosing it again mends it"


def test_a_disk_that_takes_no_more_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LONGEST_WORD", 0)
    workspace.root.mkdir()
    workspace.selections.write_text("no folder")
    with pytest.raises(RsfmError, match="cannot be written"):
        word_of(workspace, Selection("abc", np.array([1])))
