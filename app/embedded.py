"""An embedding's map beside the samples of its pack: what is shown, its points, and what can colour them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

from app.components.embedding import MOST_COLORS
from app.components.measures import scale_of
from app.panels.sample_grid import labels_of
from app.state import embedding_file, open_embedding, opened, pack_stamp
from app.text import metres, visible
from rsfm.embedding_info import EmbeddingInfo
from rsfm.packs import Pack
from rsfm.workspace import Workspace


@dataclass(frozen=True)
class Shown:
    """One map on the page: an embedding at one severity."""

    key: str
    run_id: str
    embedding: EmbeddingInfo
    severity: float

    @property
    def layer(self) -> str:
        return str(self.embedding.about["layer"])

    @property
    def title(self) -> str:
        return f"{visible(self.embedding.about['model_title'])} · {severity_text(self.embedding, self.severity)}"


def severity_text(embedding: EmbeddingInfo, severity: float) -> str:
    """`as they are`, or how they were degraded."""
    scale = scale_of(embedding.about["operator"])
    if severity == scale.identity:
        return "as they are"
    gsd = embedding.figures(severity)["gsd_m"]
    coarser = f" ({metres(gsd)})" if gsd and scale.coarser else ""
    return f"{scale.title.lower()} {severity:g}{scale.unit}{coarser}"


@dataclass(frozen=True)
class Points:
    """The points of one map.

    Attributes:
        frame: as `rsfm.embedding_info.Embedding.at` gives them.
        positions: (N,) the row in pack.samples of each; −1 where the pack has no such sample.
        version: another one where the map or the pack was written anew.
    """

    frame: pd.DataFrame
    positions: np.ndarray
    version: str


@lru_cache(maxsize=8)
def _points(workspace: Workspace, run_id: str, severity: float, folder: Path, stamp: int, pack_at: int) -> Points:
    frame = open_embedding(workspace, run_id).at(severity)
    index = pd.MultiIndex.from_frame(opened(folder, pack_at).samples[["split", "row"]])
    positions = index.get_indexer(pd.MultiIndex.from_frame(frame[["split", "row"]]))
    return Points(frame, positions, f"{stamp:x}-{pack_at:x}")


def points_of(workspace: Workspace, run_id: str, severity: float, pack: Pack) -> Points:
    """The points of an embedding at one severity.

    Raises:
        RsfmError: no such run, no map that can be read, or none of that severity.
    """
    stamp = embedding_file(workspace, run_id)[1]
    return _points(workspace, run_id, severity, pack.path, stamp, pack_stamp(pack.path))


@lru_cache(maxsize=4)
def _words(folder: Path, stamp: int) -> np.ndarray:
    samples = opened(folder, stamp).samples
    return np.array(
        [
            "\t".join(" ".join(visible(part).split()) for part in (s.id, ", ".join(labels_of(s))))
            for s in samples[["id", "label", "labels"]].itertuples()
        ],
        object,
    )


def words_of(pack: Pack) -> np.ndarray:
    """(N,) `id<tab>labels` of each sample: what the pointer shows."""
    return _words(pack.path, pack_stamp(pack.path))


#: Titles of columns of the samples; others, which a pack may have too, go by their names.
_TITLES = {
    "label": "Label", "split": "Split", "sensor": "Sensor", "gsd_m": "GSD (m)", "date": "Date", "scene": "Scene",
    "crs": "Grid", "path": "File", "west": "Longitude (west)", "south": "Latitude (south)",
    "east": "Longitude (east)", "north": "Latitude (north)",
}  # fmt: skip
#: What colours nothing: it names a single sample, or says what another column says better.
_NO_COLORS = frozenset({"id", "row", "label_index", "labels", "transform"})
#: Text of more different values is left out: hardly any of them would have a colour of its own.
MOST_VALUES = 500


@dataclass(frozen=True)
class Column:
    """A column of a pack's samples that points can be coloured by.

    Attributes:
        name: in the samples.
        kind: how its values are read.
    """

    name: str
    title: str
    kind: Literal["category", "number", "date"]


def dates_of(column: pd.Series) -> pd.Series:
    """Times in UTC; NaT where there is none that can be read."""
    return pd.to_datetime(
        column, errors="coerce", utc=True, format=None if is_datetime64_any_dtype(column) else "ISO8601"
    )


def _kind(column: pd.Series) -> Literal["category", "number", "date"] | None:
    known = column.dropna()
    if is_datetime64_any_dtype(column):
        return "date" if known.nunique() > 1 else None
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return "number" if known.nunique() > 1 else None
    try:
        values = known.nunique()
    except TypeError:  # lists and the like
        return None
    if column.name == "date" and values > MOST_COLORS and dates_of(known).notna().all():
        return "date"
    return "category" if 1 < values <= MOST_VALUES else None


@lru_cache(maxsize=4)
def _columns(folder: Path, stamp: int) -> tuple[Column, ...]:
    samples = opened(folder, stamp).samples
    order = [*(c for c in _TITLES if c in samples), *(c for c in samples if c not in _TITLES and c not in _NO_COLORS)]
    kinds = {name: _kind(samples[name]) for name in order}
    if len(samples) and samples["label"].notna().any():
        kinds["label"] = "category"  # whatever there is of it
    kinds["split"] = "category"
    return tuple(Column(n, _TITLES.get(n, visible(n)[:60]), kind) for n, kind in kinds.items() if kind)


def columns_of(pack: Pack) -> tuple[Column, ...]:
    """What of a pack's samples can colour points; those that are the same in all samples do not."""
    return _columns(pack.path, pack_stamp(pack.path))
