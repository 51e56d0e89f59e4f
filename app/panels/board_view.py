"""What the page Leaderboard shows: tasks, tests, severities, packs; all of it stands in the URL."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from app.components.measures import (
    adaptation_title,
    ordered_adaptations,
    ordered_tasks,
    task_title,
)
from app.panels.degradation_view import choose_metric, choose_operator, choose_target, published_for
from app.panels.model_tests import newest
from app.state import store_of, workspace
from app.text import plain, visible
from app.view_state import choose, choose_many, choose_one_of, choose_whether, put, say_unknown
from rsfm.comparison.board import Band, Column, Row, board, columns_of
from rsfm.comparison.board_tiers import with_tiers
from rsfm.comparison.floors import floor_of
from rsfm.workspace import Workspace

BANDS: dict[Band, str] = {"native": "Images as they are", "mean": "All severities", "strongest": "Strongest"}
SCALES = {"normalised": "Normalised", "scores": "Scores"}


@dataclass(frozen=True)
class Board:
    """What a reader has chosen to see.

    Attributes:
        rows: of `Store.compare`, of the chosen columns and their severities; published: of `published_for`.
        columns: the tests that count; others: those that could.
        metric: None for the primary one of each task.
    """

    rows: pd.DataFrame
    published: pd.DataFrame
    columns: tuple[Column, ...]
    others: tuple[Column, ...]
    metric: str | None
    band: Band
    normalised: bool


# -- floors --------------------------------------------------------------------------------------------------------
#: A floor that is not known is asked for again after so long: an evaluation to come may leave what is missing.
_ASK_AGAIN_S = 30.0


@st.cache_resource(show_spinner=False)
def _known_floors(root: str) -> dict[tuple[Any, ...], tuple[float, float]]:
    """And when each was asked for. They belong to test sets, whose content never changes under its name."""
    return {}


def _with_floor(column: Column) -> Column:
    known, key = _known_floors(str(workspace().root)), (*column.place[:4], column["metric"])
    floor, asked = known.get(key, (math.nan, -math.inf))
    if floor != floor and time.monotonic() - asked > _ASK_AGAIN_S:
        floor = floor_of(store_of(workspace()), column)
        known[key] = floor, time.monotonic()
    return replace(column, floor=floor)


# -- tiers ---------------------------------------------------------------------------------------------------------
@st.cache_data(max_entries=16, show_spinner=False)
def _tiers(
    root: str, since: tuple[int, str], rows: list[Row], columns: tuple[Column, ...], normalised: bool
) -> tuple[list[Row], list[str]]:
    return with_tiers(store_of(Workspace.resolve(root)), rows, columns, normalised=normalised)


def tiers_for(rows: list[Row], chosen: Board) -> tuple[list[Row], list[str]]:
    """The same rows with their tiers; kept until there are new results.

    Raises:
        RsfmError: models were tested on other samples.
    """
    with st.spinner("Reading predictions …"):
        return _tiers(str(workspace().root), newest(), rows, chosen.columns, chosen.normalised)


# -- rows ----------------------------------------------------------------------------------------------------------
def rows_of(chosen: Board) -> list[Row]:
    """The models on the board, best first."""
    # Single measurements are many: they are read only where an interval needs them.
    several = bool((chosen.rows["seed_kind"] == "model seeds").any())
    scores = store_of(workspace()).scores(newest_content=True) if several else None
    return board(
        chosen.rows, chosen.columns, normalised=chosen.normalised, published=chosen.published, scores=scores
    )  # fmt: skip


# -- choices -------------------------------------------------------------------------------------------------------
def _adaptations(rows: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """One adaptation per task: where several are there, the one by which most models were measured comes first."""
    kept = []
    for task in tasks:
        part = rows[rows["task"] == task]
        known = ordered_adaptations(part["adaptation"])
        counts = part.groupby("adaptation")["model_group"].nunique()
        default = max(known, key=lambda a: counts[a])
        label = "Adaptation" if len(tasks) == 1 else f"Adaptation: {plain(task_title(task))}"
        if len(known) > 1:
            default = choose(
                label, known, f"adaptation_{task}", default, format_func=adaptation_title, width=220
            )  # fmt: skip
        else:  # nothing to choose yet: the link must mean the same when there is
            say_unknown(label, known, f"adaptation_{task}", adaptation_title)
            put(f"adaptation_{task}", default)
        kept.append(part[part["adaptation"] == default])
    return pd.concat(kept) if kept else rows


def shared_packs(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    """The packs to begin with: of those that most models took, as many as keep the most numbers on the board."""
    packs = list(dict.fromkeys(c["dataset"] for c in columns))
    best, kept = 0, 1
    for count in range(1, len(packs) + 1):
        places = [c.place for c in columns if c["dataset"] in packs[:count]]
        complete = sum(all(p in row.values for p in places) for row in rows)
        if complete > 1 and complete * count >= best:
            best, kept = complete * count, count
    return packs[:kept]


def controls(everything: pd.DataFrame) -> Board:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        tasks = ordered_tasks(everything["task"])
        if len(tasks) > 1:
            wanted = choose_many(
                "Tasks", tasks, "task", format_func=lambda t: plain(task_title(t)), width=260, placeholder="All tasks"
            )
            tasks = [t for t in tasks if t in wanted] or tasks
        rows = everything[everything["task"].isin(tasks)]
        rows, _, metric = choose_metric(rows, rows.iloc[:0])
        rows, _, _ = choose_operator(rows, rows.iloc[:0])
        rows, _ = choose_target(rows, rows.iloc[:0])
        rows = _adaptations(rows, ordered_tasks(rows["task"]))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        band: Band = choose_one_of("Severities", list(BANDS), "band", "mean", format_func=lambda b: BANDS[b])  # type: ignore[assignment]
        scale = choose_one_of(
            "Mean of", list(SCALES), "scale", format_func=lambda s: SCALES[s],
            help="Normalised: on each pack the best constant prediction is 0 and a perfect one 1, so that packs of "
            "other difficulty, or with other metrics, weigh the same.",
        )  # fmt: skip
        columns = columns_of(rows, band)
        if not columns:
            return Board(rows.iloc[:0], rows.iloc[:0], (), (), metric, band, scale == "normalised")
        first = board(rows, columns, normalised=False)
        known = sorted({c["dataset"] for c in columns})
        packs = choose_many(
            "Packs that count", known, "packs", shared_packs(columns, first), width=420, format_func=visible,
            help="A model has a number only where it was measured on all of these.",
        )  # fmt: skip
        published = published_for(sorted({c["dataset"] for c in columns}))
        if len(published) and not choose_whether("Authors' numbers", "authors", help="Published with the benchmark."):
            published = published.iloc[:0]
    chosen = tuple(_with_floor(c) for c in columns if c["dataset"] in packs)
    others = tuple(c for c in columns if c["dataset"] not in packs)
    return Board(rows, published, chosen, others, metric, band, scale == "normalised")
