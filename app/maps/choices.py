"""What a reader chose on a prediction's map, as text for an address: `a:errors,1,0.5;swipe,a:image,a:classes,0.3`.

Entries stand between `;`, their parts between `,`. Of each layer that is not as at first: its id, 1 or 0 (shown or
not), its opacity, and of an image its look and its stretch too. Of the swipe, while it is on: the layers on its left
and right, and where the line stands. `map.js` writes it; here it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

#: 0 to 1 with at most two decimals.
_SHARE = re.compile(r"0|1|0\.\d{1,2}", re.ASCII)
SWIPE = "swipe"


@dataclass
class Choices:
    """What an address says of a map.

    Attributes:
        layers: id -> shown, opacity, and of an image look and stretch.
        swipe: left, right, share; None while it is off.
        stands: the entries that count, as text.
        ignored: the entries that do not.
    """

    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    swipe: dict[str, Any] | None = None
    stands: str = ""
    ignored: list[str] = field(default_factory=list)


def read_choices(text: str, looks: Mapping[str, Sequence[str] | None], stretches: Sequence[str]) -> Choices:
    """The entries that make sense on a map, and those that do not.

    Args:
        looks: of each layer of the map, by its id: keys of the ways to look at it, none of a map; None of outlines,
            which cannot be swiped.
    """
    found, stands = Choices(), []
    for entry in text.split(";") if text else []:
        parts = entry.split(",")
        if parts[0] == SWIPE and found.swipe is None and (swipe := _swipe(parts, looks)):
            found.swipe = swipe
        elif parts[0] not in found.layers and (layer := _layer(parts, looks, stretches)):
            found.layers[parts[0]] = layer
        else:
            found.ignored.append(entry)
            continue
        stands.append(entry)
    found.stands = ";".join(stands)
    return found


def _swipe(parts: Sequence[str], looks: Mapping[str, Sequence[str] | None]) -> dict[str, Any] | None:
    if len(parts) != 4 or any(looks.get(p) is None for p in parts[1:3]) or not _SHARE.fullmatch(parts[3]):
        return None
    return {"left": parts[1], "right": parts[2], "share": float(parts[3])}


def _layer(
    parts: Sequence[str], looks: Mapping[str, Sequence[str] | None], stretches: Sequence[str]
) -> dict[str, Any] | None:
    known = looks.get(parts[0])
    if parts[0] not in looks or len(parts) != (5 if known else 3) or parts[1] not in ("0", "1"):
        return None
    if not _SHARE.fullmatch(parts[2]):
        return None
    found: dict[str, Any] = {"shown": parts[1] == "1", "opacity": float(parts[2])}
    if known:
        look, stretch = unquote(parts[3]), parts[4]
        if look not in known or stretch not in stretches:
            return None
        found |= {"look": look, "stretch": stretch}
    return found
