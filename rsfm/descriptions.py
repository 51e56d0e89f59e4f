"""Descriptions that lie beside what they describe: one JSON file each, of a format that has a number."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rsfm.errors import RsfmError
from rsfm.specs import one_line

_Described = TypeVar("_Described", bound=BaseModel)


def read_description(of: type[_Described], file: Path, *, version: int, what: str, remedy: str) -> _Described:
    """Read and check a description whose field `format` must be `version`.

    Args:
        what: it is called in errors; remedy: a sentence that says what to do about a bad one.

    Raises:
        RsfmError: unreadable, or another format.
    """
    try:
        info = of.model_validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        said = one_line(error) if isinstance(error, ValidationError) else str(error)
        reason = shorten(said, 300, placeholder=" …")
        raise RsfmError(f"{file} is not a readable {what}: {reason}. {remedy}") from error
    found = info.format  # type: ignore[attr-defined]
    if found != version:
        raise RsfmError(f"{file} has format {found}, this version reads {version}. {remedy}")
    return info
