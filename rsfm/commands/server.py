"""`rsfm app`: the dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from rsfm.commands.common import WorkspaceOption
from rsfm.workspace import Workspace


def app(
    port: Annotated[int, typer.Option(help="Port of the dashboard and everything it serves.", min=1, max=65535)] = 8501,
    host: Annotated[str, typer.Option(help="Address to bind; the default is this machine only.")] = "127.0.0.1",
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the dashboard until Ctrl-C. Jobs go on without it."""
    from app.server import serve

    serve(Workspace.resolve(workspace), port=port, host=host)
