"""A leaderboard: models over packs and tasks, one number for each, and which of them cannot be told apart.

A *test* is one task on one pack by one protocol: a column of the board. A model's number is the mean over the tests
that were chosen, and only where it was measured on all of them: means over different tests are never compared.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from rsfm import stats
from rsfm.comparison.models import narrowed
from rsfm.comparison.paired import measurements
from rsfm.degrade import OPERATORS
from rsfm.store.view import Store

#: What makes a test; values of these columns of `Store.compare`.
TEST = ("dataset", "pack_hash", "split", "task", "adaptation", "operator", "degrade_target", "metric")
Band = Literal["native", "mean", "strongest"]
#: Why a model with a number has no interval and no tier.
UNEVEN = "fewer than two of its model seeds were measured on all of these packs, so their spread is not known"
#: Model group, training-time degradation, bands; these are "" but where a model was tested on several band sets.
Entrant = tuple[str, str, str]


@dataclass(frozen=True)
class Column:
    """A column of the board.

    Attributes:
        place: values of `TEST`.
        severities: where a model must have been measured to have a value here; their mean is its value.
        models: how many have one.
        floor: the score of the best constant prediction; NaN where it is not known.
    """

    place: tuple[Any, ...]
    severities: tuple[float, ...]
    models: int
    floor: float = math.nan

    def __getitem__(self, name: str) -> Any:
        return self.place[TEST.index(name)]

    def rescaled(self, value: float) -> float:
        """0: no better than a constant; 1: perfect."""
        return (value - self.floor) / (1 - self.floor) if self.floor < 1 else math.nan


@dataclass(frozen=True)
class Value:
    """A score with the ends of its 95 % interval (NaN where it is not known)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One model on the board.

    Attributes:
        first: a row of `Store.compare` of it.
        values: test (its place) -> its value there.
        lacks: places of the tests that it was not measured on.
        score: over all tests; None where it lacks one, or a floor is not known.
        tier: 1 is the best; None where it was not asked for, or has no number.
    """

    entrant: Entrant
    first: Mapping[str, Any]
    values: Mapping[tuple[Any, ...], Value]
    lacks: tuple[tuple[Any, ...], ...]
    score: Value | None
    published: bool
    tier: int | None = None


def _ladder(curves: Sequence[frozenset[float]]) -> tuple[float, ...]:
    """The severities at which most models were measured, neither more nor fewer; of two ladders as common the longer
    one. A single point is no curve: it counts only where there is nothing else."""
    counts = Counter([curve for curve in curves if len(curve) > 1] or curves)
    best = max(counts, key=lambda ladder: (counts[ladder], len(ladder), -sum(ladder)))
    return tuple(sorted(best))


def columns_of(rows: pd.DataFrame, band: Band) -> list[Column]:
    """The tests that some rows of `Store.compare` hold, by pack; those that most models took come first.

    For "mean" and "strongest" the severities are those of most models' curves: who was measured at fewer, such as on
    images as they are only, lacks the test. For "native" it is the one that leaves images as they are. Tests that have
    none of these are left out.
    """
    defined = rows.dropna(subset=["mean"])
    curves: dict[tuple[Any, ...], dict[tuple[Any, ...], set[float]]] = defaultdict(lambda: defaultdict(set))
    models = zip(*(defined[name] for name in ("model_group", "train_degrade", "bands", "severity")), strict=True)
    for place, (*model, severity) in zip(_places(defined), models, strict=True):
        curves[place][tuple(model)].add(float(severity))
    found = []
    for place in sorted(curves, key=str):
        ladders = [frozenset(ladder) for ladder in curves[place].values()]
        if band == "native":
            entry = OPERATORS.get(str(place[TEST.index("operator")]))
            severities = () if entry is None else (float(entry.identity),)
        else:
            ladder = _ladder(ladders)
            severities = ladder if band == "mean" else ladder[-1:]
        taken = sum(set(severities) <= ladder for ladder in ladders)
        if severities and taken:
            found.append(Column(place, severities, taken))
    return sorted(found, key=lambda column: -column.models)


def _absent(value: Any) -> bool:
    return not isinstance(value, str) and bool(pd.isna(value))


def _places(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    columns = [[None if _absent(v) else v for v in rows[name].tolist()] for name in TEST]
    return list(zip(*columns, strict=True))


def _entrants(rows: pd.DataFrame, places: Sequence[tuple[Any, ...]]) -> list[Entrant]:
    """Of each row its model. Bands differ from pack to pack by nature; they count where one test has several."""
    names = list(zip(rows["model_group"].astype(str), rows["train_degrade"].astype(str), strict=True))
    bands = rows["bands"].astype(str).tolist()
    sets: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for name, place, own in zip(names, places, bands, strict=True):
        sets[name, place].add(own)
    several = {name for (name, _), found in sets.items() if len(found) > 1}
    return [(*name, own if name in several else "") for name, own in zip(names, bands, strict=True)]


def board(
    rows: pd.DataFrame, tests: Sequence[Column], *, normalised: bool = True, published: pd.DataFrame | None = None
) -> list[Row]:
    """The models of some rows of `Store.compare` on these tests.

    The interval of a mean over packs joins those of the packs in quadrature, each side by itself, for packs are
    independent; that of a mean over severities is as wide as theirs on average, for they share their test samples.

    Args:
        normalised: scores are rescaled before they are averaged (`Column.rescaled`); the values of the tests are not.
        published: rows of the same form; they come last, whatever their numbers are.

    Returns:
        Those with a number first, best first; then those that lack a test, by how many they have.
    """
    found = _rows(rows, tests, normalised, published=False)
    if published is not None and len(published):
        found += _rows(published, tests, normalised, published=True)
    return sorted(found, key=_order)


def _order(row: Row) -> tuple[bool, bool, float, str]:
    best = -row.score.mean if row.score else -float(len(row.values))
    return row.published, row.score is None, best, str(row.first["model_title"])


def _rows(rows: pd.DataFrame, tests: Sequence[Column], normalised: bool, *, published: bool) -> list[Row]:
    by_place = {_loose(t.place) if published else t.place: t for t in tests}
    places = _places(rows)
    wanted = [_loose(p) if published else p for p in places]
    points: dict[Entrant, dict[tuple[Any, ...], dict[float, Value]]] = {}
    first: dict[Entrant, int] = {}
    columns = (rows[name].astype(float).tolist() for name in ("severity", "mean", "ci_low", "ci_high"))
    entrants = _entrants(rows, places)
    for i, (entrant, place, severity, *value) in enumerate(zip(entrants, wanted, *columns, strict=True)):
        if place in by_place:
            first.setdefault(entrant, i)
            points.setdefault(entrant, {}).setdefault(by_place[place].place, {})[severity] = Value(*value)
    found = []
    for entrant, of_tests in points.items():
        values = {t.place: v for t in tests if (v := _value(of_tests.get(t.place, {}), t.severities)) is not None}
        if values:
            lacks = tuple(t.place for t in tests if t.place not in values)
            score = None if lacks else _overall([(t, values[t.place]) for t in tests], normalised)
            found.append(Row(entrant, rows.iloc[first[entrant]].to_dict(), values, lacks, score, published))
    return found


def _loose(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Published numbers are of the dataset, whatever the content of our pack of it is."""
    return tuple(v for name, v in zip(TEST, place, strict=True) if name != "pack_hash")


def _value(points: Mapping[float, Value], severities: Sequence[float]) -> Value | None:
    """The mean over severities; None where one is missing."""
    chosen = [points[s] for s in severities if s in points and not math.isnan(points[s].mean)]
    if len(chosen) < len(severities):
        return None
    return Value(*(sum(getattr(v, name) for v in chosen) / len(chosen) for name in ("mean", "low", "high")))


def _overall(values: Sequence[tuple[Column, Value]], normalised: bool) -> Value | None:
    spans = [1 - t.floor if normalised else 1.0 for t, _ in values]
    means = [t.rescaled(v.mean) if normalised else v.mean for t, v in values]
    if not values or not all(math.isfinite(m) for m in means):
        return None
    mean = float(np.mean(means))
    below, above = (
        math.hypot(*((getattr(v, end) - v.mean) / span for (_, v), span in zip(values, spans, strict=True)))
        for end in ("low", "high")
    )
    return Value(mean, mean - below / len(values), mean + above / len(values))


# -- tiers ---------------------------------------------------------------------------------------------------------
def with_tiers(
    store: Store, rows: Sequence[Row], tests: Sequence[Column], *, normalised: bool = True, alpha: float = 0.05
) -> tuple[list[Row], list[str]]:
    """The same rows with the tiers (`rsfm.stats.tiers`) of those that have a number. Reads predictions.

    Two models are compared on the same samples of each test, with samples and seeds as sources of chance
    (`rsfm.stats.mean_difference`); their difference is the mean over the tests: samples of packs are independent, model
    seeds are the same on all.

    Returns:
        And lines on evaluations that could not be used: a model that lacks predictions has no tier.
    """
    ranked = [row for row in rows if row.score is not None and not row.published]
    left_out: list[str] = []
    measured = _measured(store, tests, {r.entrant for r in ranked}, left_out)
    able = []
    for row in ranked:
        parts = [measured[row.entrant, t.place] for t in tests if (row.entrant, t.place) in measured]
        if len(parts) == len(tests) and stats.uneven(parts):
            left_out.append(f"{row.first['model_title']}: {UNEVEN}.")
        elif len(parts) == len(tests):
            able.append(row)
    p = np.ones((len(able), len(able)))
    weights = [1 / (1 - t.floor) if normalised else 1.0 for t in tests]
    for i, one in enumerate(able):
        for j, other in enumerate(able[:i]):
            sides = [[measured[row.entrant, t.place] for t in tests] for row in (one, other)]
            p[i, j] = p[j, i] = stats.mean_difference(*sides, weights).p_value
    means = [row.score.mean for row in able if row.score is not None]
    found = dict(zip((r.entrant for r in able), stats.tiers(means, p, alpha=alpha) if able else [], strict=True))
    kept = [
        Row(r.entrant, r.first, r.values, r.lacks, r.score, r.published, None if r.published else found.get(r.entrant))
        for r in rows
    ]
    return kept, left_out


def _measured(
    store: Store, tests: Sequence[Column], entrants: set[Entrant], left_out: list[str]
) -> dict[tuple[Entrant, tuple[Any, ...]], stats.Measured]:
    """What each model measured on each test: the mean over its severities, seed by seed and sample by sample."""
    everything = store.scores(newest_content=True)
    everything = narrowed(everything, {"model_group": {group for group, _, _ in entrants}})
    found: dict[tuple[Entrant, tuple[Any, ...]], dict[float, stats.Measured]] = defaultdict(dict)
    for test in tests:
        where = {name: [test[name]] for name in TEST if name != "metric"} | {"severity": list(test.severities)}
        cells = measurements(store, narrowed(everything, where), left_out, metric=test["metric"])
        for cell in cells.values():
            for one in cell:
                name = (str(one.row["model_group"]), str(one.row["train_degrade"]))
                for bands in ("", str(one.row["bands"])):
                    if (*name, bands) in entrants:
                        found[(*name, bands), test.place][float(one.row["severity"])] = one.measured
    wanted = {t.place: t.severities for t in tests}
    folded = {}
    for key, by_severity in found.items():
        parts = [by_severity[s] for s in wanted[key[1]] if s in by_severity]
        if len(parts) == len(wanted[key[1]]) and len({m.seeds for m in parts}) == 1:
            scores, values = (np.mean([getattr(m, name) for m in parts], axis=0) for name in ("scores", "values"))
            folded[key] = stats.Measured(scores, values, parts[0].seeds, parts[0].seed_kind)
    return folded
