"""The dashboard as one ASGI application: Streamlit's pages and our own routes on one port.

`create_app` is a factory, so that importing this module starts nothing; `app.server.serve` runs what it makes.
"""

from __future__ import annotations

import gc
import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from app.access import Access
from app.loading import load_ahead
from app.routes import build_routes
from app.security import Guard
from rsfm.workspace import Workspace

SCRIPT = Path(__file__).with_name("streamlit_app.py")
#: Imported while the first visitor's browser still loads the page, lightest first: the first page needs them, the
#: first map needs the last (seconds). In a thread, and never at module level.
WARM_UP = ("app.state", "app.page", "app.components.curves", "app.routes.api", "data_catalog", "jobs.client")
#: Maps come last, and only when pages have had their turn.
MAP_DELAY_S = 4.0


def warm_up(stop: threading.Event) -> None:
    """Import what the first visitor would wait for."""
    for name in WARM_UP:
        importlib.import_module(name)
    settle()
    if not stop.wait(MAP_DELAY_S):
        load_ahead()
        settle()


def settle() -> None:
    """Have the garbage collector look no more at what stays until the end.

    A full collection among all that was imported, hundreds of thousands of objects, takes 0.4 s, in which no other
    thread does anything; among what comes and goes, a hundredth of it.
    """
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Warm up in the background while the server already answers."""
    stop = threading.Event()
    threading.Thread(target=warm_up, args=(stop,), name="warm-up", daemon=True).start()
    try:
        yield {}
    finally:
        stop.set()


def create_app(workspace: Workspace, access: Access) -> st.App:
    """The whole dashboard of one workspace, for whoever `access` lets in."""
    return st.App(
        SCRIPT,
        lifespan=lifespan,
        routes=build_routes(workspace),
        middleware=[Middleware(Guard, access=access)],
    )
