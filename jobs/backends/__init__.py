"""Where attempts run: on this machine (`local`) or on a Slurm cluster (`slurm`), behind the same six verbs."""

from __future__ import annotations

import os

from jobs.backends.base import Backend
from rsfm.errors import RsfmError


def make_backend(name: str | None = None) -> Backend:
    """The backend named `name`, else `$RSFM_BACKEND`, else `local`.

    Raises:
        RsfmError: unknown name, or what it needs is not installed.
    """
    name = name or os.environ.get("RSFM_BACKEND") or "local"
    if name == "local":
        from jobs.backends.local import LocalBackend

        return LocalBackend()
    if name == "slurm":
        from jobs.backends.slurm import SlurmBackend

        return SlurmBackend()
    raise RsfmError(f"Unknown backend {name!r} in RSFM_BACKEND; known: local, slurm.")
