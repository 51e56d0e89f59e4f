"""Writing ONNX for the dashboard: a process of its own, files that are few, nothing left where it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import exports
from jobs.exports import export_onnx, onnx_file
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models.export import save_model
from rsfm.models.vit import build_encoder
from rsfm.specs import EncoderParams
from rsfm.workspace import Workspace

NAME = "20260101-000000-mae-tiles-0000"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "w")
    encoder = build_encoder(EncoderParams(patch_size=8, width=16, depth=1, heads=2), 1, 16, seed=1)
    info = ModelInfo(
        name=NAME, title="M", architecture="vit", encoder=encoder.config(), image_size=16, feature_dim=16,
        bands=[ModelBand(name="B1", wavelength_nm=500.0, gsd_m=30, unit="uint8", mean=90.0, std=20.0)], group="g",
        weights_hash="", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    save_model(made.models / NAME, encoder, info)
    return made


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Another program in the place of `rsfm export`; `output` is the file that it was asked for."""
    real = subprocess.Popen

    def start(command: list[str], **options: object) -> subprocess.Popen:
        output = next(c.removeprefix("--output=") for c in command if c.startswith("--output="))
        begin = f"import os, pathlib, signal, sys, time; output = pathlib.Path({output!r}); "
        return real([sys.executable, "-c", begin + code], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", start)


def left(workspace: Workspace) -> list[str]:
    return sorted(p.name for p in workspace.exports.iterdir())


def test_a_model_is_written_and_compared(workspace: Workspace) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert not onnx_file(workspace, NAME).exists()
    assert "differs from the model by at most" in export_onnx(workspace, NAME)
    file = onnx_file(workspace, NAME)
    onnx.checker.check_model(onnx.load(file))
    assert left(workspace) == [file.name] and file.name.startswith(NAME)


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("time.sleep(60)", "longer than 3 seconds"),
        ("os.kill(os.getpid(), signal.SIGKILL)", f"signal {signal.SIGKILL:d}"),
        ("sys.exit('error: ONNX needs onnx, which is not installed.')", "^ONNX needs onnx, which is not installed.$"),
        ("sys.exit(3)", "failed with code 3"),
    ],
    ids=["timeout", "killed", "refused", "silent"],
)
def test_what_fails_is_said_and_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, end: str, says: str
) -> None:
    instead(monkeypatch, f"output.write_text('half'); {end}")
    with pytest.raises(RsfmError, match=says):
        export_onnx(workspace, NAME, timeout_s=3 if "sleep" in end else 60)
    assert left(workspace) == []


def test_few_files_are_kept(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.exports.mkdir()
    for i in range(exports.MOST_FILES + 2):
        (workspace.exports / f"{i:02d}.onnx").write_text("x")
        os.utime(workspace.exports / f"{i:02d}.onnx", (1000 + i,) * 2)
    (workspace.exports / ".making-old").mkdir()
    os.utime(workspace.exports / ".making-old", (time.time() - 7200,) * 2)
    (workspace.exports / ".making-new").mkdir()
    instead(monkeypatch, "output.write_text('whole'); print('compared', file=sys.stderr)")
    assert export_onnx(workspace, NAME) == "compared"
    wanted = [f"{i:02d}.onnx" for i in range(3, exports.MOST_FILES + 2)]
    assert left(workspace) == [".making-new", *wanted, onnx_file(workspace, NAME).name]
    monkeypatch.setattr(Workspace, "free_bytes", lambda self: 100_000_000)
    with pytest.raises(RsfmError, match="no room"):
        export_onnx(workspace, NAME)


def test_a_hash_from_elsewhere_is_no_path(workspace: Workspace) -> None:
    file = workspace.models / NAME / "model.json"
    file.write_text(ModelInfo.read(file.parent).model_copy(update={"weights_hash": "../../x"}).model_dump_json())
    assert onnx_file(workspace, NAME).parent == workspace.exports and "x.onnx" not in str(onnx_file(workspace, NAME))
