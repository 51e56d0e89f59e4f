"""The artifact of an embedding job: one parquet file, whose metadata say what it shows. No torch."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rsfm.errors import RsfmError

#: Where it lies in a run's folder.
PATH = "artifacts/embedding.parquet"
KIND = "embedding"
_ABOUT = b"rsfm.embedding"
FORMAT = 1
COLUMNS = ("severity", "split", "row", "id", "x", "y", "pc1", "pc2", "neighbours", "kept")


@dataclass(frozen=True)
class EmbeddingInfo:
    """What an embedding shows.

    Attributes:
        about: model, model_title, model_group, model_seed, dataset, pack_hash, layer, synthetic, bands, operator,
            metric, splits, count and total (samples shown and there), seed, feature_dim, explained (share of the
            variance along pc1 and pc2), neighbors, min_dist, and `maps`: for each severity its figures, see
            `rsfm.embed.quality.figures`.
    """

    about: dict[str, Any]

    @property
    def severities(self) -> list[float]:
        return [float(m["severity"]) for m in self.about["maps"]]

    def figures(self, severity: float) -> dict[str, Any]:
        return next(m for m in self.about["maps"] if float(m["severity"]) == severity)


@dataclass(frozen=True)
class Embedding(EmbeddingInfo):
    """A map at each severity.

    Attributes:
        points: severity, split, row and id of the sample; x, y (UMAP); pc1, pc2; neighbours (positions, within the
            same severity, of the nearest samples by their features, nearest first); kept (share of the neighbours at
            the first severity that are still among them). The samples stand in the same order at every severity.
    """

    points: pd.DataFrame

    def at(self, severity: float) -> pd.DataFrame:
        """The points of one severity, numbered from 0.

        Raises:
            RsfmError: it was not embedded at that severity.
        """
        if severity not in self.severities:
            raise RsfmError(f"This embedding has no severity {severity:g}; it has {self.severities}.")
        return self.points[self.points["severity"] == severity].reset_index(drop=True)


def write_embedding(path: Path, embedding: Embedding) -> None:
    """Written in one step."""
    columns = embedding.points[list(COLUMNS)]
    table = pa.Table.from_pandas(columns, preserve_index=False)
    at = table.schema.get_field_index("neighbours")
    table = table.set_column(at, "neighbours", table.column(at).cast(pa.list_(pa.int32())))
    about = json.dumps({"format": FORMAT, **embedding.about}).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _ABOUT: about})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def read_embedding_info(path: Path) -> EmbeddingInfo:
    """What an embedding shows, without its points.

    Raises:
        RsfmError: no such file, a damaged one, or one of another version.
    """
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise RsfmError(f"The embedding {path} cannot be read: {error}") from None
    about = (schema.metadata or {}).get(_ABOUT)
    if about is None or not set(COLUMNS) <= set(schema.names):
        raise RsfmError(f"{path} is not an embedding of this lab.")
    facts = json.loads(about)
    if facts.pop("format", None) != FORMAT:
        raise RsfmError(f"The embedding {path} is of another version: embed again.")
    return EmbeddingInfo(facts)


def read_embedding(path: Path) -> Embedding:
    """Read what `write_embedding` wrote.

    Raises:
        RsfmError: see `read_embedding_info`.
    """
    info = read_embedding_info(path)
    try:
        return Embedding(about=info.about, points=pq.read_table(path).to_pandas())
    except (OSError, pa.ArrowException) as error:
        raise RsfmError(f"The embedding {path} cannot be read: {error}") from None
