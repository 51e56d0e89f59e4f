"""Large packages that requests need: imported once, by whichever thread comes first, while the others wait.

Two threads that import packages which import each other's parts may meet one that is half there.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType

_lock = threading.Lock()
#: What maps and tiles need; imported in the background as soon as the server stands.
AHEAD = ("leafmap.maplibregl", "rio_tiler.io")


def load(name: str) -> ModuleType:
    """A module, imported under the one lock."""
    with _lock:
        return importlib.import_module(name)


def load_ahead() -> None:
    for name in AHEAD:
        load(name)
