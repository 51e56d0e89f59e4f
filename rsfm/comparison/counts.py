"""What evaluations left for each test sample, by run: the counts from which scores are computed.

An evaluation's table of predictions has a row per sample and setting. Tables of older evaluations hold scene classes
only and not all of the setting; what is missing is then what the scores of that run say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rsfm.errors import RsfmError
from rsfm.metrics import METRICS
from rsfm.packs import Pack, scene_numbers
from rsfm.stats.bootstrap import Statistic, per_scene
from rsfm.store.view import Store

#: What must be equal for two scores to be compared: one *cell*.
PROTOCOL = (
    "dataset", "pack_hash", "split", "task", "adaptation", "operator", "severity", "degrade_target", "train_degrade",
    "metric",
)  # fmt: skip
#: What tells the rows of one sample apart within a run.
SETTING = ("adaptation", "operator", "severity", "degrade_target", "train_degrade", "eval_seed")
Cell = tuple[object, ...]
#: Test set (the first three of `PROTOCOL`) -> its samples in order, their scenes (see `scene_numbers`), and the model
#: that was tested on them first.
Samples = dict[tuple[object, ...], tuple[np.ndarray, np.ndarray, str]]
_WANTED = ("sample_id", "scene", "label_index", "predicted_index", "correct", "counts", "metric", *SETTING)


@dataclass(frozen=True)
class Unit:
    """One model with one seed in one cell.

    Attributes:
        cell: values of `PROTOCOL`.
        row: its row of `Store.scores`.
        counts: (n, k) of each sample; labels, predicted: (n,) class indices, true and found, where there are any.
        scenes: (n,) the scene that each is a part of (`rsfm.packs.scene_numbers`).
        primary: the metric that the counts were left for; statistic: pooled counts (..., k) to scores (...).
    """

    cell: Cell
    row: pd.Series
    counts: np.ndarray
    labels: np.ndarray | None
    predicted: np.ndarray | None
    scenes: np.ndarray
    primary: str
    statistic: Statistic

    @property
    def of_scenes(self) -> np.ndarray:
        """(scenes, k) the counts of what is independent of each other."""
        return per_scene(self.counts, self.scenes)

    @property
    def seeds(self) -> tuple[int, int]:
        return seeds_of(self.row)


class Unusable(Exception):
    """The predictions of a run cannot be used; says why."""


def units(
    store: Store,
    scores: pd.DataFrame,
    left_out: list[str],
    *,
    metric: str | None = None,
    samples: Samples | None = None,
) -> Iterator[list[Unit]]:
    """The units of each run that stands in some rows of `Store.scores`, one list for each run.

    Args:
        left_out: gets a line for each run whose predictions cannot be used.
        metric: the score that counts; where it is left out, the primary one of each run.
        samples: the order of the samples of each test set; the first run on a test set sets it, all others follow.

    Raises:
        RsfmError: a run was tested on other samples than those before it.
    """
    samples = {} if samples is None else samples
    for run_id, rows in scores.groupby("run_id", sort=True):
        try:
            yield _of_run(store, str(run_id), rows, metric, samples)
        except Unusable as reason:
            where = ", ".join(sorted(rows["dataset"].unique()))
            left_out.append(f"{where}: evaluation {run_id} of {rows['model_title'].iloc[0]} {reason}.")


def _of_run(store: Store, run_id: str, rows: pd.DataFrame, metric: str | None, samples: Samples) -> list[Unit]:
    table = _read(store, run_id)
    primary = _only(table["metric"], "metric") if "metric" in table.column_names else "accuracy"
    if primary not in METRICS or METRICS[primary].layout is None:
        raise Unusable(f"left counts of {primary!r}, which is not known here")
    wanted = metric or primary
    statistic = partial(METRICS[wanted].of, layout=METRICS[primary].layout)
    counts, ids = _counts(table), table["sample_id"].to_numpy(zero_copy_only=False)
    try:
        statistic(np.ones(counts.shape[1]))
    except ValueError as error:
        raise Unusable(f"does not determine {wanted}: {error}") from None
    labels, predicted = (
        table[name].to_numpy() if name in table.column_names else None for name in ("label_index", "predicted_index")
    )
    at = {_setting(row): row for _, row in rows[rows["metric"] == wanted].iterrows()}
    found: list[Unit] = []
    for setting, place in _settings(table, rows).items():
        row = at.get(setting)
        if row is None:
            continue  # measured again by a newer run, which then has it, or not asked for
        cell = tuple(row[name] for name in PROTOCOL)
        mine, title = ids[place], str(row["model_title"])
        if len(pd.unique(mine)) < len(mine):
            raise Unusable("left predictions that hold a sample twice")
        if cell[:3] not in samples:
            samples[cell[:3]] = mine, _scenes(store, table, row, mine, place), title
        order, scenes, whose = samples[cell[:3]]
        if not np.array_equal(order, mine):
            place = place[matching(order, mine, f"{whose} and {title} on {cell[0]} ({cell[2]})")]
        score = float(statistic(counts[place].sum(axis=0)))
        if not abs(score - row["value"]) < 1e-4:
            raise Unusable(f"left predictions that give {score:.4f} where its score is {row['value']:.4f}")
        classes = (None if known is None else known[place] for known in (labels, predicted))
        found.append(Unit(cell, row, counts[place], *classes, scenes, primary, statistic))
    return found


def _scenes(store: Store, table: pa.Table, row: pd.Series, ids: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The scene of each sample. Older predictions do not say it: then the pack does, if it still is the one that was
    measured; else each sample is taken to be its own."""
    if "scene" in table.column_names:
        scenes = pd.Series(table["scene"].to_numpy(zero_copy_only=False)[place], dtype=object)
        return scene_numbers(pd.DataFrame({"id": ids, "scene": scenes}))
    with contextlib.suppress(RsfmError):  # results outlive the pack they were measured on
        pack = Pack.named(store.workspace, str(row["dataset"]))
        if pack.info.content_hash == row["pack_hash"]:
            known = pack.split_samples(str(row["split"])).set_index("id")
            if set(ids) <= set(known.index):
                return scene_numbers(known.loc[ids].reset_index())
    return np.arange(len(ids))


def prediction_files(store: Store, run_id: str) -> list[Path]:
    """The tables of predictions that a run has registered and that can be read."""
    registered = store.artifacts(run_id, "predictions")
    good = registered.loc[registered["ok"], "path"]
    return [store.workspace.runs / run_id / path for path in good if path.endswith(".parquet")]


def _read(store: Store, run_id: str) -> pa.Table:
    files = prediction_files(store, run_id)
    if not files:
        raise Unusable("left no predictions: evaluate again")
    parts = []
    for file in files:
        try:
            names = [name for name in pq.read_schema(file).names if name in _WANTED]
            text = [name for name in names if name in ("adaptation", "operator", "degrade_target", "train_degrade")]
            parts.append(pq.read_table(file, columns=names, read_dictionary=text))
        except (OSError, pa.ArrowException) as error:
            raise Unusable(f"left predictions that cannot be read ({error})") from None
    table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    missing = {"sample_id", "adaptation", "severity", "eval_seed"} - set(table.column_names)
    if missing or not {"counts", "correct"} & set(table.column_names):
        raise Unusable(f"left predictions without {', '.join(sorted(missing)) or 'counts'}")
    return table


def _counts(table: pa.Table) -> np.ndarray:
    """(rows, k) float64."""
    if "counts" not in table.column_names:
        correct = table["correct"].to_numpy(zero_copy_only=False).astype(np.float64)
        return np.stack([correct, np.ones(len(correct))], axis=1)
    column = table["counts"]
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise Unusable("left counts of different lengths")
    values = pc.list_flatten(column).to_numpy().astype(np.float64, copy=False)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise Unusable("left counts that are no counts")
    return values.reshape(-1, lengths[0])


def _only(column: pa.ChunkedArray, name: str) -> str:
    values = pc.unique(column).to_pylist()
    if len(values) != 1:
        raise Unusable(f"left predictions of more than one {name}")
    return str(values[0])


def _settings(table: pa.Table, rows: pd.DataFrame) -> dict[tuple[object, ...], np.ndarray]:
    """Positions of the rows of each setting."""
    known = [name for name in SETTING if name in table.column_names]
    fixed: dict[str, object] = {}
    for name in SETTING:
        if name not in known:
            values = rows[name].unique()
            if len(values) != 1:
                raise Unusable(f"does not say which {name} its predictions belong to: evaluate again")
            fixed[name] = values[0]
    groups = table.select(known).to_pandas().groupby(known, sort=False, observed=True).indices
    # Older predictions name the adaptation without its settings.
    names = {str(text).partition(" (")[0]: text for text in rows["adaptation"].unique()}
    exact = set(rows["adaptation"])
    found = {}
    for key, place in groups.items():
        values = fixed | dict(zip(known, key, strict=True))
        if values["adaptation"] not in exact:
            values["adaptation"] = names.get(values["adaptation"], values["adaptation"])
        found[_setting(values)] = place
    return found


def _seed(value: object) -> int:
    """A seed as a number; -1 where a score has none."""
    return -1 if pd.isna(value) else int(value)


def seeds_of(row: Mapping[str, Any] | pd.Series) -> tuple[int, int]:
    """Model seed and evaluation seed of a row of `Store.scores`."""
    return _seed(row["model_seed"]), _seed(row["eval_seed"])


def _setting(values: pd.Series | dict[str, object]) -> tuple[object, ...]:
    """The values of `SETTING`, of one type wherever they come from."""
    convert = {"severity": float, "eval_seed": _seed}
    return tuple(convert.get(name, str)(values[name]) for name in SETTING)


def matching(ids: np.ndarray, other: np.ndarray, where: str) -> np.ndarray:
    """Positions in `other` (each sample once) of the samples `ids`, in their order.

    Raises:
        RsfmError: they are not the same samples.
    """
    order = pd.Index(other).get_indexer(ids)
    if len(ids) != len(other) or (order < 0).any():
        only, more = len(set(ids) - set(other)), len(set(other) - set(ids))
        raise RsfmError(
            f"{where} were not tested on the same samples: {only} of {len(ids)} are only in the first, "
            f"{more} of {len(other)} only in the second. Evaluate both again on the pack as it is."
        )
    return order
