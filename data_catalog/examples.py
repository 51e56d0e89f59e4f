"""Which files of a folder people look at first: a few of each class, spread over the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

#: Samples that are shown, and how many may be opened for that: some are broken.
SHOWN = 8
TRIED = 3 * SHOWN

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One sample by its files.

    Attributes:
        files: (layer, path relative to the source), in the order of the layers.
    """

    name: str
    label: str | None
    files: tuple[tuple[str, str], ...]


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly spread, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)] if count > 1 else [items[0]]


def choose(labels: Sequence[str | None]) -> list[int]:
    """At most `TRIED` positions. The first `SHOWN` are of all classes (of as many as fit), spread over each of them;
    the others stand in for those that turn out to be broken.
    """
    of_class: dict[str | None, list[int]] = {}
    for position, label in enumerate(labels):
        of_class.setdefault(label, []).append(position)
    if not of_class:
        return []
    classes = spread(sorted(of_class, key=lambda label: (label is None, label or "")), SHOWN)
    each = -(-SHOWN // len(classes))
    columns = []
    for label in classes:
        several = spread(of_class[label], 3 * each)
        columns.append([*several[0::3], *several[1::3], *several[2::3]])
    rounds = max(len(column) for column in columns)
    return [column[i] for i in range(rounds) for column in columns if i < len(column)][:TRIED]
