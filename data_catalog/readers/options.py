"""Options of one preparation: what a reader does not know is refused, never ignored."""

from __future__ import annotations

from typing import Any

from rsfm.errors import RsfmError
from rsfm.specs import PrepareSpec


def read_options(spec: PrepareSpec, defaults: dict[str, Any], *, tiles: bool = False) -> dict[str, Any]:
    """The spec's options over the reader's defaults.

    Args:
        defaults: every option that the reader understands; a value's type is what the option must have.
        tiles: whether the reader cuts tiles, that is understands `tile_size` and `stride`.

    Raises:
        RsfmError: an unknown option, a value of another type, or tiles asked of a reader that cuts none.
    """
    if unknown := sorted(set(spec.options) - set(defaults)):
        known = f"it knows {', '.join(sorted(defaults))}" if defaults else "it has none"
        raise RsfmError(f"Dataset {spec.dataset!r} has no option {', '.join(unknown)}; {known}.")
    for name, value in spec.options.items():
        wanted = type(defaults[name])
        if not isinstance(value, (int, float) if wanted is float else wanted) or (
            isinstance(value, bool) and wanted is not bool
        ):
            raise RsfmError(f"Option {name} of dataset {spec.dataset!r} must be a {wanted.__name__}, got {value!r}.")
    if not tiles and (spec.tile_size is not None or spec.stride is not None):
        raise RsfmError(f"Dataset {spec.dataset!r} holds ready-made images: tile size and stride do not apply to it.")
    return {**defaults, **spec.options}
