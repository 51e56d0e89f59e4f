"""What the routes share: caching, reading the query, and answers that tell nothing about this machine."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

PREFIX = "/rsfm"
#: For what never changes under its address (content hash or version in the query). Kept by browsers only: a cache
#: between would hand it to people who have not shown that they may see it.
IMMUTABLE = "private, max-age=31536000, immutable"

Handler = Callable[[Request, Workspace], Response]


def public_message(error: Exception, workspace: Workspace) -> str:
    """The error's sentence without the place of the workspace on disk."""
    return str(error).replace(str(workspace.root), "the workspace")


def bind(target: str, workspace: Workspace) -> Callable[[Request], Response]:
    """A route's function from "module:function".

    Plain `def`: Starlette runs it in a worker thread, so that reading never blocks pages.
    """

    def endpoint(request: Request) -> Response:
        module, _, name = target.partition(":")
        handler: Handler = getattr(importlib.import_module(module), name)
        try:
            return handler(request, workspace)
        except RsfmError as error:
            return JSONResponse({"error": public_message(error, workspace)}, 404)
        except HTTPException as error:
            return JSONResponse({"error": error.detail}, error.status_code)

    return endpoint


def health(request: Request, workspace: Workspace) -> Response:
    """`/rsfm/health`: answers as soon as the server does; opens no file."""
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


def query_int(request: Request, name: str, default: int, low: int, high: int) -> int:
    """An integer from the query, refused outside its bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        raise HTTPException(400, f"{name} must be an integer.") from None
    if not low <= value <= high:
        raise HTTPException(400, f"{name} must be from {low} to {high}.")
    return value


def query_choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices` from the query, the first one by default, anything else refused."""
    value = request.query_params.get(name, choices[0])
    if value not in choices:
        raise HTTPException(400, f"{name} must be one of {', '.join(choices)}.")
    return value
