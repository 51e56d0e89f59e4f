"""Serve the dashboard of one workspace on one port."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from app.access import access_for, given_token, is_loopback, known_hosts
from app.identity import configured_login
from app.theme import server_options, theme_options
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

DEFAULT_PORT = 8501


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
    workspace: Workspace,
    port: int = DEFAULT_PORT,
    host: str = "127.0.0.1",
    *,
    open_browser: bool = False,
    token_file: Path | None = None,
    allow_hosts: Sequence[str] = (),
    allow_users: Sequence[str] = (),
) -> None:
    """Serve the dashboard until interrupted. Prints its address at once.

    Args:
        workspace: the lab to show; pages find it through `RSFM_WORKSPACE`.
        port, host: where to listen. Any host but a loopback one makes the dashboard reachable by others, who need a
            token (`RSFM_TOKEN`, `token_file`, else one that is made and printed here) or a login.
        open_browser: open the system's browser on it.
        token_file: holds the token.
        allow_hosts: more names under which people come, as through a proxy.
        allow_users: e-mail addresses and `@domain`s that may log in; empty: everybody whom the provider knows.

    Raises:
        RsfmError: the port is taken, or the token, the login or a name makes no sense.
    """
    token = given_token(token_file)
    require_free(host, port)
    # Streamlit looks at the host names of a loopback address once more; it cannot say "and every IP address".
    names = sorted(known_hosts(host, allow_hosts)) if is_loopback(host) else []
    options = {**theme_options(), **server_options(host, port, allowed_hosts=names)}
    login = configured_login(allow_users, options)
    access, made = access_for(host, token=token, login=login, allow_hosts=allow_hosts)
    os.environ["RSFM_WORKSPACE"] = str(workspace.root)
    ending = f"/?token={access.token}" if made else ""
    print(f"RSFM Lab: {display_url(host, port)}{ending}  (workspace {workspace.root}; stop with Ctrl+C)", flush=True)
    if not is_loopback(host):
        name = socket.gethostname() if reachable(host) != host else host
        print(f"From other machines: {display_url(name, port)}{ending}", flush=True)
        print("What is sent is not encrypted: across networks that you do not trust, put a proxy with https before it.")

    if login is not None and not login.users:
        print("Everybody with an account at the login's provider may come in: --allow-user says who.", flush=True)

    from app.asgi import create_app

    if open_browser:
        threading.Thread(target=_open_when_up, args=(host, port), daemon=True).start()
    create_app(workspace, access).run(config=options)
