"""Serve the dashboard of one workspace on one port."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import webbrowser

from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

DEFAULT_PORT = 8501
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    return host in LOOPBACK or host.startswith("127.")


def reachable(host: str) -> str:
    """The host under which this machine reaches a server bound to `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def display_url(host: str, port: int) -> str:
    """The address to open in a browser on this machine."""
    shown = reachable(host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def require_free(host: str, port: int) -> None:
    """Say so early, in one line, where the port is taken or the address is not this machine's.

    Raises:
        RsfmError: the server could not bind.
    """
    if not 0 < port < 65536:
        raise RsfmError(f"Port {port} is not a port: choose one from 1 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RsfmError(
                f"Cannot serve on {host}:{port} ({error.strerror}). Choose another port with --port."
            ) from error


def _open_when_up(host: str, port: int, patience_s: float = 30.0) -> None:
    """Open the system's browser as soon as the server takes connections."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((reachable(host), port), timeout=1):
            webbrowser.open(display_url(host, port))
            return
        time.sleep(0.1)


def serve(
    workspace: Workspace, port: int = DEFAULT_PORT, host: str = "127.0.0.1", *, open_browser: bool = False
) -> None:
    """Serve the dashboard until interrupted. Prints its address at once.

    Args:
        workspace: the lab to show; pages find it through `RSFM_WORKSPACE`.
        port, host: where to listen. Any host but a loopback one makes the dashboard reachable by others.
        open_browser: open the system's browser on it.

    Raises:
        RsfmError: the port is taken.
    """
    require_free(host, port)
    os.environ["RSFM_WORKSPACE"] = str(workspace.root)
    print(f"RSFM Lab: {display_url(host, port)}  (workspace {workspace.root}; stop with Ctrl+C)", flush=True)
    if not is_loopback(host):
        print(f"Warning: {host} is not a loopback address; anyone who can reach it can start jobs.", flush=True)

    from app.asgi import create_app
    from app.theme import server_options, theme_options

    allowed = list(LOOPBACK) if is_loopback(host) else []
    options = {**theme_options(), **server_options(host, port, allowed_hosts=allowed)}
    if open_browser:
        threading.Thread(target=_open_when_up, args=(host, port), daemon=True).start()
    create_app(workspace, allowed_hosts=allowed).run(config=options)
