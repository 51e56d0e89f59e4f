"""Which models of a leaderboard cannot be told apart. Reads predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rsfm import stats
from rsfm.comparison.board import TEST, Column, Row
from rsfm.comparison.counts import seeds_of
from rsfm.comparison.models import narrowed
from rsfm.comparison.paired import Measurement, difference, measurements
from rsfm.store.view import Store

#: Why a model with a number has no interval and no tier.
UNEVEN = "fewer than two of its model seeds were measured on all of these packs, so their spread is not known"
#: Model group, training-time degradation, bands, test, severity.
_Key = tuple[str, str, str, tuple[Any, ...], float]


def with_tiers(
    store: Store, rows: Sequence[Row], tests: Sequence[Column], *, normalised: bool = True, alpha: float = 0.05
) -> tuple[list[Row], list[str]]:
    """The same rows with the tiers (`rsfm.stats.tiers`) of those that have a number.

    Two models are compared on the same samples of each test, with samples and seeds as sources of chance
    (`rsfm.stats.mean_difference`); their difference is the mean over the tests: samples of packs are independent, model
    seeds are the same on all. Single runs on one test are compared as in `rsfm.comparison.paired`.

    Returns:
        And a line on each model with a number but without a tier: the test needs predictions of every run that the
        number is the mean of. Lines on these runs follow.
    """
    ranked = [row for row in rows if row.score is not None and not row.published]
    unread: list[str] = []
    found, wanted = _measurements(store, tests, {row.entrant[0] for row in ranked}, unread)
    able: list[tuple[Row, list[stats.Measured]]] = []
    left_out = []
    for row in ranked:
        measured = _of_model(row, tests, found, wanted)
        if isinstance(measured, str):
            left_out.append(f"{row.first['model_title']}: {measured}.")
        else:
            able.append((row, measured))
    weights = [1 / (1 - t.floor) / len(tests) if normalised else 1 / len(tests) for t in tests]
    p = np.ones((len(able), len(able)))
    for i, (_, one) in enumerate(able):
        for j, (_, other) in enumerate(able[:i]):
            result = difference(one[0], other[0]) if len(tests) == 1 else stats.mean_difference(one, other, weights)
            p[i, j] = p[j, i] = result.p_value
    means = [row.score.mean for row, _ in able if row.score is not None]
    tiers = stats.tiers(means, p, alpha=alpha) if able else []
    of = {row.entrant: tier for (row, _), tier in zip(able, tiers, strict=True)}
    kept = [row if row.published else replace(row, tier=of.get(row.entrant)) for row in rows]
    return kept, [*left_out, *unread]


def _of_model(
    row: Row, tests: Sequence[Column], found: dict[_Key, Measurement], wanted: dict[_Key, frozenset[tuple[int, int]]]
) -> list[stats.Measured] | str:
    """What a model measured on each test: the mean over its severities, seed by seed and sample by sample; or why there
    is no test of its number."""
    folded = []
    for test in tests:
        keys = [(*row.entrant[:2], row.bands[test.place], test.place, s) for s in test.severities]
        asked = {seeds for k in keys for seeds in wanted[k]}
        read = {
            seeds for seeds in asked if all(k in found and seeds in found[k].runs | (asked - wanted[k]) for k in keys)
        }
        if read != asked:
            return f"no usable predictions of {len(asked - read)} of its {len(asked)} seed(s) on {test['dataset']}"
        parts = [found[k].measured for k in keys]
        if len({(m.seeds, m.seed_kind) for m in parts}) > 1:
            return f"it was measured with other seeds at one severity than at another on {test['dataset']}"
        scores, values = (np.mean([getattr(m, name) for m in parts], axis=0) for name in ("scores", "values"))
        folded.append(stats.Measured(scores, values, parts[0].seeds, parts[0].seed_kind))
    return UNEVEN if stats.uneven(folded) else folded


def _measurements(
    store: Store, tests: Sequence[Column], groups: set[str], left_out: list[str]
) -> tuple[dict[_Key, Measurement], dict[_Key, frozenset[tuple[int, int]]]]:
    """What predictions say, and which runs (model seed, evaluation seed) the scores are of."""
    everything = narrowed(store.scores(newest_content=True), {"model_group": groups})
    found: dict[_Key, Measurement] = {}
    wanted: dict[_Key, set[tuple[int, int]]] = defaultdict(set)
    for test in tests:
        where = {name: [test[name]] for name in TEST if name != "metric"} | {"severity": list(test.severities)}
        mine = narrowed(everything, where)
        for row in mine[mine["metric"] == test["metric"]].to_dict("records"):
            wanted[_key(row, test)].add(seeds_of(row))
        for cell in measurements(store, mine, left_out, metric=test["metric"]).values():
            found |= {_key(one.row, test): one for one in cell}
    return found, {key: frozenset(runs) for key, runs in wanted.items()}


def _key(row: Any, test: Column) -> _Key:
    group, training, bands = (str(row[name]) for name in ("model_group", "train_degrade", "bands"))
    return group, training, bands, test.place, float(row["severity"])
