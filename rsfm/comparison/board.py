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

import pandas as pd

from rsfm import stats
from rsfm.degrade import OPERATORS
from rsfm.stats.student import standard_errors

#: What makes a test; values of these columns of `Store.compare`.
TEST = ("dataset", "pack_hash", "split", "task", "adaptation", "operator", "degrade_target", "metric")
Band = Literal["native", "mean", "strongest"]
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
        values: test (its place) -> its value there; bands: test -> what it saw there.
        lacks: places of the tests that it was not measured on.
        score: over all tests; None where it lacks one, or a floor is not known.
        uneven: whether its score has no interval because its model seeds differ between tests.
        tier: 1 is the best; None where it was not asked for, or has no number.
    """

    entrant: Entrant
    first: Mapping[str, Any]
    values: Mapping[tuple[Any, ...], Value]
    bands: Mapping[tuple[Any, ...], str]
    lacks: tuple[tuple[Any, ...], ...]
    score: Value | None
    published: bool
    uneven: bool = False
    tier: int | None = None


@dataclass(frozen=True)
class _Point:
    """A model on one test at one severity.

    Attributes:
        below, above: what the interval has on each side from samples, and from seeds of evaluations.
        seeds: model seed -> score, where there are several, as far as they are known; whether there are: `several`.
    """

    value: Value
    below: float
    above: float
    several: bool
    seeds: Mapping[int, float]


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


def _entrants(
    names: Sequence[tuple[str, str]], places: Sequence[tuple[Any, ...]], bands: Sequence[str]
) -> list[list[Entrant]]:
    """Of each row the models that it is of. Bands differ from pack to pack by nature: they tell models apart only
    where one test has several sets. What was measured with one set on another test is then a part of each model, unless
    that set is one of those that tell them apart."""
    sets: dict[tuple[str, str], dict[tuple[Any, ...], set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, place, own in zip(names, places, bands, strict=True):
        sets[name][place].add(own)
    told = {n: sorted({own for s in by.values() if len(s) > 1 for own in s}) for n, by in sets.items()}
    return [
        [(*name, b) for b in ([own] if own in told[name] else told[name] or [""])]
        for name, own in zip(names, bands, strict=True)
    ]


def board(
    rows: pd.DataFrame,
    tests: Sequence[Column],
    *,
    normalised: bool = True,
    published: pd.DataFrame | None = None,
    scores: pd.DataFrame | None = None,
) -> list[Row]:
    """The models of some rows of `Store.compare` on these tests.

    The interval of a mean over packs joins those of the packs in quadrature, each side by itself, for packs are
    independent; that of a mean over severities is as wide as theirs on average, for they share their test samples.
    What comes from model seeds is the standard error of their own means over packs and severities, times Student's t:
    the same models are tested everywhere.

    Args:
        normalised: scores are rescaled before they are averaged (`Column.rescaled`); the values of the tests are not.
        published: rows of the same form; they come last, whatever their numbers are.
        scores: `Store.scores(newest_content=True)`; without it, means of models with several model seeds have no
            interval.

    Returns:
        Those with a number first, best first; then those that lack a test, by how many they have.
    """
    found = _rows(rows, tests, normalised, scores, published=False)
    if published is not None and len(published):
        found += _rows(published, tests, normalised, None, published=True)
    return sorted(found, key=_order)


def _order(row: Row) -> tuple[bool, bool, float, str]:
    best = -row.score.mean if row.score else -float(len(row.values))
    return row.published, row.score is None, best, str(row.first["model_title"])


def _rows(
    rows: pd.DataFrame, tests: Sequence[Column], normalised: bool, scores: pd.DataFrame | None, *, published: bool
) -> list[Row]:
    by_place = {_loose(t.place) if published else t.place: t for t in tests}
    places = [by_place.get(_loose(p) if published else p) for p in _places(rows)]
    counted = [t is not None and s in t.severities for t, s in zip(places, rows["severity"].tolist(), strict=True)]
    rows, chosen = rows[counted], [t.place for t, keep in zip(places, counted, strict=True) if keep and t is not None]
    names = list(zip(rows["model_group"].astype(str), rows["train_degrade"].astype(str), strict=True))
    bands = rows["bands"].astype(str).tolist()
    points: dict[Entrant, dict[tuple[Any, ...], dict[float, _Point]]] = {}
    seen: dict[Entrant, dict[tuple[Any, ...], str]] = defaultdict(dict)
    first: dict[Entrant, int] = {}
    entrants = _entrants(names, chosen, bands)
    made = _points(rows, [(*name, own, place) for name, own, place in zip(names, bands, chosen, strict=True)], scores)
    for i, (mine, place, severity) in enumerate(zip(entrants, chosen, rows["severity"].tolist(), strict=True)):
        for entrant in mine:
            first.setdefault(entrant, i)
            seen[entrant][place] = bands[i]
            points.setdefault(entrant, {}).setdefault(place, {})[severity] = made[i]
    found = []
    for entrant, of_tests in points.items():
        parts = {t.place: p for t in tests if (p := _measured_at(of_tests.get(t.place, {}), t.severities)) is not None}
        if parts:
            values = {place: _joined([p], [1.0]) for place, p in parts.items()}
            lacks = tuple(t.place for t in tests if t.place not in parts)
            score = None if lacks else _overall([(t, parts[t.place]) for t in tests], normalised)
            uneven = score is not None and _uneven(list(parts.values()))
            about = rows.iloc[first[entrant]].to_dict()
            found.append(Row(entrant, about, values, seen[entrant], lacks, score, published, uneven))
    return found


def _points(rows: pd.DataFrame, keys: Sequence[tuple[Any, ...]], scores: pd.DataFrame | None) -> list[_Point]:
    """Of each row its point; `keys` are group, training, bands and place of each."""
    several = ((rows["seed_kind"] == "model seeds") & (rows["seeds"] > 1)).tolist()
    seeds: dict[tuple[Any, ...], dict[int, float]] = defaultdict(dict)
    if scores is not None and any(several):
        groups = {key[0] for key, wanted in zip(keys, several, strict=True) if wanted}
        mine = scores[scores["model_group"].isin(groups) & scores["dataset"].isin(rows["dataset"].unique())]
        by = ["model_group", "train_degrade", "bands", *TEST, "severity", "model_seed"]
        means = mine.groupby(by, sort=False, dropna=False)["value"].mean().reset_index()
        columns = (means[name].tolist() for name in ("model_group", "train_degrade", "bands"))
        numbers = (means[name].tolist() for name in ("severity", "model_seed", "value"))
        for *who, place, severity, seed, mean in zip(*columns, _places(means), *numbers, strict=True):
            seeds[(*who, place, severity)][-1 if _absent(seed) else int(seed)] = mean
    found = []
    numbers = (rows[name].astype(float).tolist() for name in ("severity", "mean", "ci_low", "ci_high", "std", "seeds"))
    for key, more, (severity, mean, low, high, std, count) in zip(
        keys, several, zip(*numbers, strict=True), strict=True
    ):
        below, above = mean - low, high - mean
        if more:  # the rest of what was joined in quadrature
            spread = (standard_errors(int(count)) * std) ** 2 / count
            # An end that was cut off at 0 or 1 does not tell what was joined: the other one stands in for it.
            # Where the mean itself lies there, nothing was.
            cut_low, cut_high = low == 0 < mean and high < 1, high == 1 > mean and low > 0
            below, above = above if cut_low else below, below if cut_high else above
            below, above = (math.sqrt(max(0.0, side**2 - spread)) for side in (below, above))
        found.append(_Point(Value(mean, low, high), below, above, more, seeds.get((*key, severity), {})))
    return found


def _loose(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """Published numbers are of the dataset, whatever the content of our pack of it is."""
    return tuple(v for name, v in zip(TEST, place, strict=True) if name != "pack_hash")


def _measured_at(points: Mapping[float, _Point], severities: Sequence[float]) -> list[_Point] | None:
    """The points at some severities; None where one is missing."""
    chosen = [points[s] for s in severities if s in points and not math.isnan(points[s].value.mean)]
    return chosen if len(chosen) == len(severities) else None


def _overall(values: Sequence[tuple[Column, list[_Point]]], normalised: bool) -> Value | None:
    floors = [t.floor if normalised else 0.0 for t, _ in values]
    if not values or not all(floor < 1 for floor in floors):
        return None
    weights = [1 / (1 - floor) / len(values) for floor in floors]
    found = _joined([points for _, points in values], weights)
    zero = sum(w * floor for w, floor in zip(weights, floors, strict=True))
    return Value(found.mean - zero, found.low - zero, found.high - zero)


def _joined(parts: Sequence[Sequence[_Point]], weights: Sequence[float]) -> Value:
    """The weighted sum over tests of the mean over the severities of each, with its interval."""
    if len(parts) == len(parts[0]) == 1 and weights[0] == 1:
        return parts[0][0].value
    mean = sum(w * _mean([p.value.mean for p in points]) for w, points in zip(weights, parts, strict=True))
    of_seeds = 0.0
    if any(p.several for points in parts for p in points):
        each = [(w / len(points), p.seeds) for w, points in zip(weights, parts, strict=True) for p in points]
        error, common = stats.folded_error([seeds for _, seeds in each], [w for w, _ in each])
        of_seeds = standard_errors(common) * error if common > 1 else math.nan
    below, above = (
        math.hypot(
            of_seeds,
            *(w * _mean([getattr(p, side) for p in points]) for w, points in zip(weights, parts, strict=True)),
        )
        for side in ("below", "above")
    )
    return Value(mean, mean - below, mean + above)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _uneven(parts: Sequence[Sequence[_Point]]) -> bool:
    points = [p for part in parts for p in part]
    known = all(p.seeds for p in points if p.several)
    return any(p.several for p in points) and known and len(set.intersection(*(set(p.seeds) for p in points))) < 2
