"""`rsfm app`: the dashboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfm.commands.common import WorkspaceOption
from rsfm.workspace import Workspace


def app(
    port: Annotated[int, typer.Option(help="Port of the dashboard and everything it serves.", min=1, max=65535)] = 8501,
    host: Annotated[str, typer.Option(help="Address to bind; the default is this machine only.")] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that opens the dashboard; else RSFM_TOKEN.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name under which people come, as through a proxy; can be repeated.")
    ] = None,
    allow_user: Annotated[
        list[str] | None, typer.Option(help="Address or @domain that may log in ([auth] secrets); can be repeated.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the dashboard until Ctrl-C. Jobs go on without it.

    On this machine only, nothing is asked for. Bound to another address, a token or a login is.
    """
    from app.server import serve

    serve(
        Workspace.resolve(workspace),
        port=port,
        host=host,
        token_file=token_file,
        allow_hosts=allow_host or (),
        allow_users=allow_user or (),
    )
