"""What every spec shares: unknown keys are refused, settings are `key=value`, hashes are stable."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from rsfm.errors import RsfmError

#: Marks a field that does not change what is learned.
LOCAL = {"group": False}


class Params(BaseModel):
    """Base of everything inside a spec: unknown keys are refused, never ignored."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _rest_by_default(cls, value: Any, info: ValidationInfo) -> Any:
        """Of settings that are themselves several, those left out are this field's default, not their own class's."""
        default = cls.model_fields[str(info.field_name)].default
        partly = isinstance(default, BaseModel) and isinstance(value, dict)
        return {**default.model_dump(), **value} if partly else value


def one_line(error: ValidationError) -> str:
    """A pydantic error as one readable line."""
    parts = []
    for item in error.errors():
        place = ".".join(str(p) for p in item["loc"])
        parts.append(
            f"{place}: {item['msg'].removeprefix('Value error, ')}"
            if place
            else item["msg"].removeprefix("Value error, ")
        )
    return "; ".join(parts)


def _local_fields(model: type[BaseModel]) -> set[str]:
    return {
        name
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("group") is False
    }


def for_group(value: Any) -> Any:
    if isinstance(value, BaseModel):
        skip = _local_fields(type(value))
        return {n: for_group(getattr(value, n)) for n in type(value).model_fields if n not in skip}
    return value


def spec_hash(data: Any) -> str:
    """A short, stable hash of anything that is JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def apply_settings(data: dict[str, Any], settings: list[str], known: dict[str, Any]) -> dict[str, Any]:
    """Apply `key=value` settings to a nested spec.

    A key is a dotted path (`optim.base_lr`) or, where it is unambiguous, its last part (`base_lr`). Values are
    read as JSON, else as text.

    Args:
        data: the spec so far; not changed.
        settings: strings `key=value`.
        known: a complete spec of the same kind, to find what a key may be.

    Raises:
        RsfmError: no `=`, an unknown key, or one that fits two places.
    """
    paths: list[tuple[str, ...]] = []

    def walk(node: dict[str, Any], prefix: tuple[str, ...]) -> None:
        for key, value in node.items():
            paths.append((*prefix, key))
            if isinstance(value, dict):
                walk(value, (*prefix, key))

    walk(known, ())
    result = json.loads(json.dumps(data))
    for setting in settings:
        key, sep, text = setting.partition("=")
        if not sep:
            raise RsfmError(f"--set takes key=value, got {setting!r}.")
        wanted = tuple(key.strip().split("."))
        hits = [p for p in paths if p == wanted] or [p for p in paths if p[-len(wanted) :] == wanted]
        if not hits:
            raise RsfmError(
                f"Unknown setting {key!r}; known: {', '.join('.'.join(p) for p in paths if p[0] != 'kind')}."
            )
        if len(hits) > 1:
            raise RsfmError(f"Setting {key!r} fits {', '.join('.'.join(p) for p in hits)}: write the whole path.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        node = result
        for part in hits[0][:-1]:
            node = node.setdefault(part, {})
        node[hits[0][-1]] = value
    return result
