"""Which samples of a pack are looked at: one filter for the grid, the map and whatever else shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from starlette.exceptions import HTTPException

from rsfm.packs import Pack

MAX_TEXT = 200
MAX_CLASSES = 50


def _has_any(labels: Any, wanted: set[str]) -> bool:
    return labels is not None and not isinstance(labels, str | float) and not wanted.isdisjoint(map(str, labels))


@dataclass(frozen=True)
class SampleFilter:
    """A choice of samples.

    Attributes:
        split: its name; None: all splits.
        classes: any of these labels; empty: whatever the label.
        find: text that stands in the id, the path or the scene, whatever the case; empty: any.
    """

    split: str | None = None
    classes: tuple[str, ...] = ()
    find: str = ""

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.split or self.classes or self.find)

    def apply(self, pack: Pack) -> pd.DataFrame:
        """The rows of samples.parquet that fit, split by split in the order of the arrays."""
        order = {split: i for i, split in enumerate(pack.info.splits)}
        rows = pack.samples
        if self.split:
            rows = rows[rows["split"] == self.split]
        if self.classes:
            wanted = set(self.classes)
            rows = rows[rows["label"].isin(wanted) | rows["labels"].map(lambda labels: _has_any(labels, wanted))]
        if self.find:
            columns = [rows[c].astype("string").fillna("") for c in ("id", "path", "scene")]
            fits = [c.str.contains(self.find, case=False, regex=False) for c in columns]
            rows = rows[fits[0] | fits[1] | fits[2]]
        return rows.sort_values(["split", "row"], key=lambda c: c.map(order) if c.name == "split" else c, kind="stable")

    def query(self) -> list[tuple[str, str]]:
        """For an address."""
        pairs = [("split", self.split or ""), *(("class", c) for c in self.classes), ("find", self.find)]
        return [(name, value) for name, value in pairs if value]

    @classmethod
    def read(cls, query: Mapping[str, list[str]]) -> SampleFilter:
        """From an address: name -> values. Texts that are too long are cut.

        Raises:
            HTTPException: 400, more classes than a filter may have.
        """
        if len(query.get("class", [])) > MAX_CLASSES:
            raise HTTPException(400, f"class: at most {MAX_CLASSES} of them.")
        one = {name: (query.get(name) or [""])[-1][:MAX_TEXT] for name in ("split", "find")}
        classes = tuple(c[:MAX_TEXT] for c in query.get("class", []))
        return cls(one["split"] or None, classes, one["find"])
