"""What a form needs to know of a pydantic model: its fields, their defaults, and what is wrong where."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

Path = tuple[str, ...]


@dataclass(frozen=True)
class FieldView:
    """What a widget needs to know of one field."""

    path: Path
    title: str
    help: str | None
    kind: Literal["bool", "int", "float", "text", "choice", "choices", "numbers", "names", "json", "group"]
    optional: bool = False
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    local: bool = False  # does not change what is learned
    blank: str | None = None  # what an empty list means
    model: type[BaseModel] | None = None  # of a group; None where another field decides it


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """The type without Annotated and None, and whether None is allowed."""
    if get_origin(annotation) is Annotated:
        return _unwrap(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None)]
        optional = len(inner) < len(get_args(annotation))
        return (_unwrap(inner[0])[0], optional) if len(inner) == 1 else (Union[tuple(inner)], optional)  # noqa: UP007
    return annotation, False


def _bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    low = high = None
    for rule in info.metadata:
        low = next((v for v in (getattr(rule, "ge", None), getattr(rule, "gt", None)) if v is not None), low)
        high = next((v for v in (getattr(rule, "le", None), getattr(rule, "lt", None)) if v is not None), high)
    return low, high


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(kind: Any, optional: bool = False) -> tuple[str, tuple[Any, ...]]:
    # Of a union of models another field decides which one it is: the page names it.
    if _is_model(kind) or (get_origin(kind) is Union and all(map(_is_model, get_args(kind)))):
        return "group", ()
    if get_origin(kind) is Literal:
        return "choice", get_args(kind)
    if get_origin(kind) is list:
        inner, _ = _unwrap(get_args(kind)[0])
        if get_origin(inner) is Literal:
            return "choices", get_args(inner)
        return ("numbers" if inner in (int, float) else "names"), ()
    if kind is bool and optional:  # a switch has no third position
        return "choice", (True, False)
    if kind in (bool, int, float, str):
        return {bool: "bool", int: "int", float: "float", str: "text"}[kind], ()
    return "json", ()


def field_views(model: type[BaseModel], prefix: Path = ()) -> list[FieldView]:
    """All fields of a model, in their order. Constants (a Literal with one value) are left out."""
    hints = typing.get_type_hints(model, include_extras=True)
    found = []
    for name, info in model.model_fields.items():
        inner, optional = _unwrap(hints[name])
        kind, choices = _kind(inner, optional)
        if kind == "choice" and len(choices) == 1:
            continue
        low, high = _bounds(info)
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        found.append(
            FieldView(
                path=(*prefix, name), title=info.title or name.replace("_", " ").capitalize(), help=info.description,
                kind=kind, optional=optional, choices=choices, low=low, high=high,  # type: ignore[arg-type]
                local=extra.get("group") is False, blank=extra.get("blank"),  # type: ignore[arg-type]
                model=inner if _is_model(inner) else None,
            )
        )  # fmt: skip
    return found


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    """The model's default values as plain data; required fields are left out."""
    values: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True)
        if default is not PydanticUndefined:
            values[name] = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    return values


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid onto `base`, group by group."""
    result = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


def errors_by_path(error: ValidationError) -> dict[Path, str]:
    """Where each of the model's complaints belongs."""
    found: dict[Path, str] = {}
    for item in error.errors():
        # An item of a list or the branch of a union is shown at its field.
        place = tuple(p for p in item["loc"] if isinstance(p, str))
        found[place] = item["msg"].removeprefix("Value error, ")
    return found


def check(
    model: type[BaseModel], values: Mapping[str, Any], groups: Mapping[str, type[BaseModel]] | None = None
) -> tuple[BaseModel | None, dict[Path, str]]:
    """The valid spec, or what is wrong where.

    Groups of `groups` are checked on their own first: their model alone knows which field is wrong.
    """
    errors: dict[Path, str] = {}
    data = dict(values)
    for name, inner in (groups or {}).items():
        try:
            inner.model_validate(data.get(name) or {})
        except ValidationError as error:
            errors.update({(name, *place): text for place, text in errors_by_path(error).items()})
            data[name] = {}
    try:
        spec = model.model_validate(data)
    except ValidationError as error:
        return None, {**errors, **errors_by_path(error)}
    return (None if errors else spec), errors
