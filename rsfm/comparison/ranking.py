"""Many models at once: tiers in one cell, and one number over several packs."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd

from rsfm import stats
from rsfm.comparison.counts import PROTOCOL, Samples, units
from rsfm.comparison.models import Where, narrowed
from rsfm.comparison.paired import Measurement, difference, measurements
from rsfm.metrics import METRICS, constant_floor
from rsfm.store.view import Store

TIER_COLUMNS = (
    *PROTOCOL, "tier", "model_group", "model_title", "bands", "mean", "seeds", "seed_kind", "n", "scenes", "p_best",
    "synthetic", "gsd_m",
)  # fmt: skip
NORMALISED_COLUMNS = (
    "model_group", "model_title", "adaptation", "operator", "train_degrade", "severity", "mean", "ci_low", "ci_high",
    "datasets", "parts", "synthetic",
)  # fmt: skip


def _tiers(models: list[Measurement], alpha: float) -> pd.DataFrame:
    """The rows of one cell, best tier first."""
    sign = 1 if METRICS[models[0].row["metric"]].higher_is_better else -1
    p = np.ones((len(models), len(models)))
    for i, one in enumerate(models):
        for j, other in enumerate(models[:i]):
            p[i, j] = p[j, i] = difference(one.measured, other.measured).p_value
    means = np.array([m.measured.mean for m in models])
    found = np.array(stats.tiers(sign * means, p, alpha=alpha))
    best = int(np.argmax(sign * means))
    rows = [
        {
            **{name: m.row[name] for name in (*PROTOCOL, "model_group", "model_title", "bands", "synthetic", "gsd_m")},
            "tier": tier, "mean": m.measured.mean, "seeds": len(m.measured.seeds), "seed_kind": m.measured.seed_kind,
            "n": m.n, "scenes": m.measured.values.shape[1], "p_best": p[i, best],
        }
        for i, (m, tier) in enumerate(zip(models, found.tolist(), strict=True))
    ]  # fmt: skip
    frame = pd.DataFrame(rows)[list(TIER_COLUMNS)]
    order = np.lexsort((-sign * frame["mean"], frame["tier"]))
    return frame.iloc[order]


def tiers_of(
    store: Store,
    dataset: str | None = None,
    *,
    adaptation: str | None = None,
    metric: str | None = None,
    alpha: float = 0.05,
    where: Where | None = None,
) -> pd.DataFrame:
    """Tiers (`rsfm.stats.tiers`) of all models in every cell, on the newest measured content of each pack.

    Args:
        where: further columns of the scores -> the values that count, e.g. {"severity": [4]}. Predictions of other
            evaluations are not read.

    Returns:
        `TIER_COLUMNS`, a row per model, band set and cell; `p_best` is the uncorrected p-value of no difference from
        the best of all (1 for itself). `attrs["left_out"]`: lines on evaluations that could not be used.
    """
    scores = narrowed(store.scores(dataset=dataset, newest_content=True), where, adaptation=adaptation)
    left_out: list[str] = []
    cells = measurements(store, scores, left_out, metric=metric)
    parts = [_tiers(models, alpha) for models in cells.values()]
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=list(TIER_COLUMNS))
    frame = frame.sort_values([*PROTOCOL], kind="stable").reset_index(drop=True)
    frame.attrs = {"left_out": left_out, "alpha": alpha}
    return frame


def normalised(store: Store, dataset: str | None = None, *, adaptation: str | None = None) -> pd.DataFrame:
    """One number for each model and setting over all packs it was measured on (`rsfm.stats.normalised_mean`).

    Each pack counts with its primary score, rescaled so that the best constant prediction is 0 and a perfect one 1.
    A model that was measured on several band sets, or with several images degraded, has a part for each. Only rows of
    equal `parts` are comparable. Another model's results never change a row, but for those on a newer content of a
    pack: the older content then counts no more, as everywhere.

    Returns:
        `NORMALISED_COLUMNS`, a row per model, adaptation, operator, training-time degradation and severity;
        `datasets` is their number, `parts` a text that names them, by comma. Most packs first, then best first.
        `attrs["left_out"]` as for `tiers_of`.
    """
    scores = narrowed(store.scores(dataset=dataset, newest_content=True), None, adaptation=adaptation)
    left_out: list[str] = []
    samples: Samples = {}
    floors: dict[tuple[object, ...], float] = {}
    # (model, setting) -> (cell, bands) -> seeds -> score, and how far its interval reaches below and above it
    found: dict[tuple, dict[tuple, dict[tuple[int, int], tuple[float, np.ndarray]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    rows: dict[tuple, pd.Series] = {}
    synthetic: dict[tuple, bool] = defaultdict(bool)
    for run in units(store, scores, left_out, samples=samples):
        if not run:
            continue
        first = run[0]
        floor_key = (*first.cell[:4], first.primary)
        if floor_key not in floors:
            floors[floor_key] = _floor(first.primary, first.counts, first.labels)
        if not floors[floor_key] < 1:
            left_out.append(f"{first.cell[0]}: the score of a constant prediction is not known, or perfect.")
            continue
        ends = stats.score_interval(first.primary, np.stack([unit.of_scenes for unit in run], axis=1))
        for unit, low, high in zip(run, *ends, strict=True):
            row = unit.row
            key = tuple(row[name] for name in ("model_group", "adaptation", "operator", "train_degrade", "severity"))
            score = float(unit.statistic(unit.counts.sum(axis=0)))
            found[key][unit.cell, str(row["bands"])][unit.seeds] = score, np.array([score - low, high - score])
            rows[key] = row
            synthetic[key] |= bool(row["synthetic"])
    table = []
    for key, parts in found.items():
        folded = {place: stats.fold(seeds) for place, seeds in sorted(parts.items(), key=lambda item: str(item[0]))}
        mean = stats.normalised_mean(
            [m.scores for m in folded.values()],
            [floors[*cell[:4], cell[-1]] for cell, _ in folded],
            [tuple(m.values.mean(axis=0).tolist()) for m in folded.values()],
            model_seeds=[m.seeds if m.seed_kind == "model seeds" else () for m in folded.values()],
            test_sets=[cell[:3] for cell, _ in folded],
        )
        if stats.uneven(list(folded.values())):
            left_out.append(
                f"{', '.join(dict.fromkeys(str(cell[0]) for cell, _ in folded))}: {rows[key]['model_title']} has no "
                "interval, for fewer than two of its model seeds were measured on all of these."
            )
        table.append(
            {
                **{name: rows[key][name] for name in NORMALISED_COLUMNS[:6]}, "mean": mean.mean,
                "ci_low": mean.ci_low, "ci_high": mean.ci_high, "datasets": len({cell[0] for cell, _ in folded}),
                "parts": ", ".join(_part_names(list(folded))), "synthetic": synthetic[key],
            }
        )  # fmt: skip
    frame = pd.DataFrame(table, columns=list(NORMALISED_COLUMNS))
    frame = frame.sort_values(
        ["adaptation", "operator", "train_degrade", "severity", "datasets", "mean"],
        ascending=[True, True, True, True, False, False],
    ).reset_index(drop=True)
    frame.attrs = {"left_out": sorted(set(left_out))}
    return frame


def _floor(metric: str, counts: np.ndarray, labels: np.ndarray | None) -> float:
    if METRICS[metric].layout == "right" and labels is None:
        return float("nan")
    return constant_floor(metric, counts, labels)


def _part_names(places: list[tuple]) -> list[str]:
    """The pack of each part, with whatever tells it from other parts of that pack."""
    names = []
    for cell, bands in places:
        others = [(c, b) for c, b in places if c[0] == cell[0] and (c, b) != (cell, bands)]
        # The rest of a cell that may differ within one row: split, task, degraded image, metric; and the bands.
        mine = (cell[2], cell[3], cell[7], cell[9], bands)
        theirs = [(c[2], c[3], c[7], c[9], b) for c, b in others]
        telling = [str(v) for i, v in enumerate(mine) if any(other[i] != v for other in theirs)]
        names.append(f"{cell[0]} [{' '.join(telling)}]" if telling else str(cell[0]))
    return names
