"""Model A against model B, cell by cell, and what that amounts to."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from rsfm import stats
from rsfm.comparison.counts import PROTOCOL, Cell, Samples, units
from rsfm.comparison.models import Places, Where, at_places, label, narrowed, rows_of
from rsfm.degrade import severity_text
from rsfm.errors import RsfmError
from rsfm.metrics import METRICS
from rsfm.stats import FEW_SCENES, few_scenes
from rsfm.store.view import Store

COLUMNS = (
    *PROTOCOL, "bands_a", "bands_b", "synthetic", "gsd_m", "n", "scenes", "seeds_a", "seeds_b", "seed_kind_a",
    "seed_kind_b", "mean_a", "mean_b", "difference", "ci_low", "ci_high", "p_value", "p_adjusted", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """One model on one band set in one cell, folded over its seeds; `row` is one of its rows of `Store.scores`, `runs`
    are (model seed, evaluation seed) of all, `n` test samples. What was measured is by scene."""

    row: pd.Series
    measured: stats.Measured
    runs: frozenset[tuple[int, int]]
    n: int


def measurements(
    store: Store,
    scores: pd.DataFrame,
    left_out: list[str],
    *,
    metric: str | None = None,
    samples: Samples | None = None,
) -> dict[Cell, list[Measurement]]:
    """What some rows of `Store.scores` measured, by cell; the arguments are those of `units`."""
    found: dict[tuple[Cell, str, str], dict[tuple[int, int], tuple[float, np.ndarray]]] = defaultdict(dict)
    rows: dict[tuple[Cell, str, str], tuple[pd.Series, int]] = {}
    for run in units(store, scores, left_out, metric=metric, samples=samples):
        for unit in run:
            key = (unit.cell, str(unit.row["model_group"]), str(unit.row["bands"]))
            found[key][unit.seeds] = stats.jackknife(unit.of_scenes, unit.statistic)
            rows[key] = unit.row, len(unit.counts)
    cells: dict[Cell, list[Measurement]] = defaultdict(list)
    for key, parts in sorted(found.items(), key=lambda item: item[0][1:]):  # by model and bands, not by run
        row, n = rows[key]
        cells[key[0]].append(Measurement(row, stats.fold(parts), frozenset(parts), n))
    return dict(cells)


def difference(a: stats.Measured, b: stats.Measured) -> stats.GroupDifference:
    """`rsfm.stats.group_difference`; of two single runs that are right or wrong on each sample, the p-value is that of
    the exact McNemar test."""
    result = stats.group_difference(a, b)
    if len(a.seeds) == len(b.seeds) == 1:
        right = np.stack([a.values[0], b.values[0]])
        if np.allclose(right, right > 0.5, atol=1e-6):
            exact = stats.mcnemar_exact(right[0] > 0.5, right[1] > 0.5)
            return dataclasses.replace(result, p_value=exact.p_value)
    return result


def paired(
    store: Store,
    model_a: str,
    model_b: str,
    dataset: str | None = None,
    *,
    adaptation: str | None = None,
    metric: str | None = None,
    alpha: float = 0.05,
    where: Where | None = None,
    places: Places | None = None,
    trained: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Compare two models wherever both were measured by the same protocol, on the newest content that both saw.

    Args:
        model_a, model_b: see `rows_of`: a group (all its seeds), a run (that seed alone), a title.
        dataset, adaptation: only these.
        metric: the score that counts; where it is left out, the primary one of each task. It must follow from the
            counts that the evaluations left.
        where: further columns of the scores -> the values that count.
        places: of `rsfm.comparison.models.PLACE`; only these count.
        trained: `train_degrade` of either, "none" or an operator, where that is what should differ: of one model, then,
            what was fitted on degraded images against what was not. `train_degrade` of the result names both.

    Returns:
        A row per cell (`PROTOCOL`) with `COLUMNS`. `difference` is mean_a - mean_b, with its 95 % interval and
        p-value (`rsfm.stats.groups`; exact McNemar for one scene classifier against another); `p_adjusted` is Holm's
        over all rows; `verdict` is "a" or "b", whichever is better with p_adjusted < alpha, else "no difference". The
        `n` test samples are parts of `scenes`, which are what varies.
        Intervals are not corrected. Means are over seeds, of the score of each seed's pooled counts. The models may
        see different bands (`bands_a`, `bands_b`); of a model with several band sets, those are taken that the other
        was measured on too, or all where there is none. `attrs` hold `a` and `b` (labels), `alpha`, and `left_out`
        (lines on what could not be compared, and why).

    Raises:
        RsfmError: no such model, the same model twice, other samples, or nothing to compare.
    """
    scores = store.scores(dataset=dataset)
    sides = [rows_of(scores, name) for name in (model_a, model_b)]
    names = [label(rows, scores) for rows in sides]
    if trained is not None:
        sides, names, trained = _trained(sides, names, trained)
    if sides[0].index.intersection(sides[1].index).size:
        raise RsfmError(f"{model_a!r} and {model_b!r} share results: they are the same model, or one is a part of it.")
    left_out: list[str] = []
    sides = [narrowed(rows, where, adaptation=adaptation) for rows in sides]
    if places is not None:
        sides = [at_places(rows, places) for rows in sides]
    sides = _same_content(sides, names, left_out)
    samples: Samples = {}
    a, b = (measurements(store, rows, left_out, metric=metric, samples=samples) for rows in sides)
    if trained is not None:
        a, b = (_named(cells, "train_degrade", " / ".join(trained)) for cells in (a, b))
    _note_unpaired(a, b, names, left_out)
    rows = [
        _row(cell, one, other)
        for cell in sorted(a.keys() & b.keys(), key=lambda cell: tuple(map(_sortable, cell)))
        for one, other in _band_pairs(a[cell], b[cell])
    ]
    if not rows:
        why = " ".join(left_out[:5]) or f"There is no common result{f' for {adaptation}' if adaptation else ''}."
        raise RsfmError(f"{names[0]} and {names[1]} cannot be compared. {why}")
    frame = judged(pd.DataFrame(rows), alpha=alpha)[list(COLUMNS)]
    frame.attrs = {"a": names[0], "b": names[1], "alpha": alpha, "left_out": left_out}
    return frame


def judged(cells: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Comparisons (metric, difference, p_value) with `p_adjusted` and `verdict`, see `paired`."""
    adjusted = stats.holm(cells["p_value"].to_numpy())
    better = [METRICS[name].higher_is_better for name in cells["metric"]]
    first = np.where(better, cells["difference"] > 0, cells["difference"] < 0)
    verdicts = np.where(adjusted < alpha, np.where(first, "a", "b"), "no difference")
    return cells.assign(p_adjusted=adjusted, verdict=verdicts)


def _trained(
    sides: list[pd.DataFrame], names: list[str], trained: tuple[str, str]
) -> tuple[list[pd.DataFrame], list[str], tuple[str, str]]:
    """The rows of each side that were fitted in its way, names that say so, and the ways in full."""
    found, ways = [], []
    for rows, name, how in zip(sides, names, trained, strict=True):
        known = sorted(rows["train_degrade"].unique())
        # Severities that are not the operator's own stand behind it: bilinear (1, 16).
        fitting = [k for k in known if k == how] or [k for k in known if k.startswith(f"{how} (")]
        if len(fitting) > 1:
            raise RsfmError(f"{name} was trained with {how!r} in several ways; name one: {'; '.join(fitting)}.")
        if not fitting:
            raise RsfmError(f"No results of {name} trained with {how!r}. There are: {'; '.join(known)}.")
        found.append(rows[rows["train_degrade"] == fitting[0]])
        ways += fitting
    said = [f"{name}, trained with {how}" for name, how in zip(names, ways, strict=True)]
    return found, said, (ways[0], ways[1])


def _named(cells: dict[Cell, list[Measurement]], key: str, value: str) -> dict[Cell, list[Measurement]]:
    """The same, of one value of `PROTOCOL` in all cells."""
    at = PROTOCOL.index(key)
    return {(*cell[:at], value, *cell[at + 1 :]): found for cell, found in cells.items()}


def _sortable(value: object) -> tuple[bool, object]:
    return (isinstance(value, str), value)


def _same_content(sides: list[pd.DataFrame], names: list[str], left_out: list[str]) -> list[pd.DataFrame]:
    """Of each pack the newest content that both were measured on."""
    both = pd.concat(sides).sort_values("time", na_position="first")
    chosen: dict[str, str] = {}
    for pack, rows in both.groupby("dataset", sort=True):
        have = [set(side.loc[side["dataset"] == pack, "pack_hash"]) for side in sides]
        common = have[0] & have[1]
        if common:
            chosen[str(pack)] = rows.loc[rows["pack_hash"].isin(common), "pack_hash"].iloc[-1]
        elif all(have):
            left_out.append(f"{pack}: the two were measured on different contents of this pack.")
        else:
            left_out.append(f"{pack}: only {names[0] if have[0] else names[1]} was measured.")
    return [side[side["pack_hash"].eq(side["dataset"].map(chosen))] for side in sides]


def _note_unpaired(a: dict[Cell, list], b: dict[Cell, list], names: list[str], left_out: list[str]) -> None:
    """A line for each curve that has points of one model only."""
    lines: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for cell in a.keys() ^ b.keys():
        at = dict(zip(PROTOCOL, cell, strict=True))
        differing = [at[k] for k in ("operator", "degrade_target", "train_degrade", "metric")]
        place = f"{at['dataset']} ({at['adaptation']}, {', '.join(map(str, differing))}"
        lines[place, str(at["operator"]), names[0] if cell in a else names[1]].append(float(str(at["severity"])))
    for (place, operator, name), severities in sorted(lines.items()):
        levels = ", ".join(severity_text(operator, s) for s in sorted(severities))
        left_out.append(f"{place}, {levels}): only {name} was measured.")


def _band_pairs(a: list[Measurement], b: list[Measurement]) -> list[tuple[Measurement, Measurement]]:
    pairs = [(one, other) for one in a for other in b]
    same = [(one, other) for one, other in pairs if one.row["bands"] == other.row["bands"]]
    return same or pairs


def _row(cell: Cell, a: Measurement, b: Measurement) -> dict[str, object]:
    result = difference(a.measured, b.measured)
    return {
        **dict(zip(PROTOCOL, cell, strict=True)), "bands_a": a.row["bands"], "bands_b": b.row["bands"],
        "synthetic": bool(a.row["synthetic"]), "gsd_m": a.row["gsd_m"], "n": a.n, "scenes": result.n,
        "seeds_a": len(a.measured.seeds), "seeds_b": len(b.measured.seeds),
        "seed_kind_a": a.measured.seed_kind, "seed_kind_b": b.measured.seed_kind,
        "mean_a": result.mean_a, "mean_b": result.mean_b, "difference": result.difference,
        "ci_low": result.ci_low, "ci_high": result.ci_high, "p_value": result.p_value,
    }  # fmt: skip


Name = Literal[
    "consistent improvement", "sometimes better", "mixed", "no difference", "sometimes worse", "consistently worse"
]


@dataclass(frozen=True)
class Verdict:
    """What a paired comparison amounts to.

    Attributes:
        name: "consistent improvement": A is better beyond noise in every cell; "sometimes better": in some, and worse
            in none; "mixed": better in some, worse in others; the rest likewise.
        text: a sentence; remarks: what must be known besides.
        better, worse, equal: numbers of cells.
        exceptions: rows that keep it from being consistent: those without a difference, or, where it is mixed, those
            in which A is worse.
    """

    name: Name
    text: str
    remarks: tuple[str, ...]
    better: int
    worse: int
    equal: int
    exceptions: pd.DataFrame


def verdict(frame: pd.DataFrame) -> Verdict:
    """The verdict on A over all rows of `paired`."""
    if frame.empty:
        raise ValueError("a verdict needs at least one row of a comparison")
    a, b = frame.attrs.get("a", "A"), frame.attrs.get("b", "B")
    counts = frame["verdict"].value_counts()
    better, worse, equal = (int(counts.get(name, 0)) for name in ("a", "b", "no difference"))
    total = len(frame)
    cells = "the only cell" if total == 1 else f"all {total} cells"
    name: Name
    if better and worse:
        name, text = "mixed", f"Mixed: {a} is better than {b} in {better} of {total} cells and worse in {worse}."
    elif better == total:
        name, text = "consistent improvement", f"Consistent improvement: {a} is better than {b} in {cells}."
    elif worse == total:
        name, text = "consistently worse", f"Consistently worse: {a} is worse than {b} in {cells}."
    elif better:
        name = "sometimes better"
        text = f"{a} is never worse than {b}, and better in {better} of {total} cells."
    elif worse:
        name = "sometimes worse"
        text = f"{a} is never better than {b}, and worse in {worse} of {total} cells."
    else:
        half = float(((frame["ci_high"] - frame["ci_low"]) / 2).median())
        sure = f" (95 % intervals are about ± {half:.3f})" if half == half else ""
        name, text = "no difference", f"No difference between {a} and {b} beyond noise in {cells}{sure}."
    exceptions = {"mixed": "b", "sometimes better": "no difference", "sometimes worse": "no difference"}.get(name)
    return Verdict(
        name, text, _remarks(frame), better, worse, equal, frame[frame["verdict"] == exceptions]
    )  # fmt: skip


def _remarks(frame: pd.DataFrame) -> tuple[str, ...]:
    remarks = []
    single = (frame["seeds_a"] == 1) & (frame["seeds_b"] == 1)
    if single.any():
        where = "" if single.all() else f" in {int(single.sum())} of {len(frame)} cells"
        remarks.append(f"One run of each{where}: this is about these runs, not about the recipes behind them.")
    elif (frame[["seeds_a", "seeds_b"]].min(axis=1) < 3).any():
        remarks.append("With fewer than three seeds of each, only large differences can be told from noise.")
    few = frame[frame["scenes"] < FEW_SCENES]
    if len(few):
        least = few.loc[few["scenes"].idxmin()]
        remarks.append(f"On {least['dataset']}, {few_scenes(int(least['n']), int(least['scenes']))}")
    if (frame["bands_a"] != frame["bands_b"]).any():
        remarks.append("The two see different bands.")
    if frame["synthetic"].any():
        packs = ", ".join(sorted(frame.loc[frame["synthetic"], "dataset"].unique()))
        remarks.append(f"Synthetic data: {packs}.")
    if frame["p_value"].isna().any():
        remarks.append(f"No test was possible in {int(frame['p_value'].isna().sum())} of {len(frame)} cells.")
    return tuple(remarks)
