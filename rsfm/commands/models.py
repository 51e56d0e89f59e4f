"""`rsfm export | import`: models that are handed on."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rsfm.commands.common import JsonOption, WorkspaceOption, print_json
from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, model_folder
from rsfm.workspace import Workspace


class Form(StrEnum):
    """What a model is written as."""

    safetensors = "safetensors"
    onnx = "onnx"


def export(
    model: Annotated[str, typer.Argument(help="A model's name: the id of the run that trained it.")],
    output: Annotated[Path, typer.Option("--output", help="The file to write; nothing that exists is overwritten.")],
    form: Annotated[
        Form, typer.Option("--format", help="safetensors: a zip with weights, description and card. onnx: the encoder.")
    ] = Form.safetensors,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write a model to one file: a zip that another lab can import, or ONNX for other programs."""
    place = Workspace.resolve(workspace)
    folder = model_folder(place, model)
    info = ModelInfo.read(folder)
    if output.exists():
        raise RsfmError(f"{output} exists: choose another name for --output.")
    if not output.absolute().parent.is_dir():
        raise RsfmError(f"{output.absolute().parent} is not a folder: make it first, or choose another --output.")
    said: dict[str, object] = {"model": info.name, "file": str(output), "format": form.value}
    if form is Form.onnx:
        from rsfm.models.onnx_export import export_onnx

        said["largest_difference"] = difference = export_onnx(folder, output)
        checked = "not compared with the model: onnxruntime is not installed"
        remark = checked if difference is None else f"differs from the model by at most {difference:.1e}"
    else:
        from rsfm.model_package import write_package

        write_package(folder, _card(place, info, folder), output)
        remark = "with its card README.md"
    said["bytes"] = output.stat().st_size
    if as_json:
        print_json(said)
        return
    print(f"{output.stat().st_size:,} bytes, {remark}", file=sys.stderr)
    print(output)


def _card(place: Workspace, info: ModelInfo, folder: Path) -> str:
    import data_catalog
    from rsfm.model_card import gather, model_card
    from rsfm.store.view import Store

    store = Store(place)
    store.refresh_if_stale(0)
    return model_card(info, gather(store, info, folder, data_catalog.entries(place)))


def import_(
    path: Annotated[Path, typer.Argument(help="A zip that `rsfm export` wrote, or a model's folder.")],
    called: Annotated[str, typer.Option("--called", help="The file's name to remember, where PATH is a copy.")] = "",
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Bring a model from another lab here. Everything is checked first; only safetensors weights are read."""
    from rsfm.models.importing import import_model

    info = import_model(path.expanduser(), Workspace.resolve(workspace), called=called)
    if as_json:
        print_json({"model": info.name, "title": info.title, "bands": [b.name for b in info.bands]})
        return
    # The title was written elsewhere: no control characters reach the terminal.
    title = "".join(c for c in info.title if c.isprintable())
    print(f"{title or info.name}: evaluate it with rsfm evaluate --model {info.name}", file=sys.stderr)
    print(info.name)
