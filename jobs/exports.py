"""Writing a model as ONNX from the dashboard, as `rsfm export` does it. The file lies in the workspace:

    <workspace>/exports/<model>-<which weights>.onnx

A few of them are kept for those who download them; each can be made again.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from jobs.waited import run_waited
from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, model_folder
from rsfm.model_package import WEIGHTS
from rsfm.store.tidy import keep_newest, sweep_stale
from rsfm.workspace import Workspace

#: Files that are kept; the one made longest ago goes first.
MOST_FILES = 8
#: What must stay free on the disk.
SPARE_BYTES = 100_000_000
#: A folder in which nothing was written for so long belongs to a process that is gone.
_STALE_S = 3600.0


def onnx_file(workspace: Workspace, name: str) -> Path:
    """Where the ONNX file of a model lies once it is made.

    Raises:
        RsfmError: no such model.
    """
    info = ModelInfo.read(model_folder(workspace, name))
    # Hashed again: what a description says may have been written anywhere, and this becomes a path.
    weights = hashlib.sha256(info.weights_hash.encode()).hexdigest()[:12]
    return workspace.exports / f"{name}-{weights}.onnx"


def export_onnx(workspace: Workspace, name: str, timeout_s: float = 600) -> str:
    """Write a model as ONNX into the workspace and compare the file with the model.

    Returns:
        What came of the comparison, for people.

    Raises:
        RsfmError: no such model, it cannot be written as ONNX, or the disk has no room.
    """
    file = onnx_file(workspace, name)
    weights = model_folder(workspace, name) / WEIGHTS
    needed = weights.stat().st_size if weights.is_file() else 0
    if needed + SPARE_BYTES > workspace.free_bytes():
        raise RsfmError(f"The disk has no room for model {name} as ONNX: it needs {needed:,} bytes.")
    try:
        workspace.exports.mkdir(parents=True, exist_ok=True)
        sweep_stale(workspace.exports, ".making-*", after_s=_STALE_S)
        keep_newest(workspace.exports, "*.onnx", most=MOST_FILES - 1)
        with tempfile.TemporaryDirectory(dir=workspace.exports, prefix=".making-") as folder:
            made = Path(folder) / f"{name}.onnx"
            _, remark = run_waited(
                ["export", name, "--format=onnx", f"--output={made}", f"--workspace={workspace.root}"],
                doing=f"Writing {name} as ONNX", timeout_s=timeout_s, tidy=lambda _: None,
                instead=f"Write it from a terminal: rsfm export {name} --format onnx --output {name}.onnx",
            )  # fmt: skip
            made.replace(file)
    except OSError as error:
        raise RsfmError(f"{name}.onnx cannot be written: {error.strerror or error}.") from error
    return remark
