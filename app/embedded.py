"""The points of an embedding beside the samples of its pack: found once, kept between requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from app.panels.sample_grid import labels_of
from app.state import embedding_file, open_embedding, opened, pack_stamp
from app.text import visible
from rsfm.packs import Pack
from rsfm.workspace import Workspace


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
