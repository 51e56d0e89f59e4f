"""The table below the curves, and which findings are about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from app.components.curves_view import View
from app.components.degradation import (
    curve_keys,
    curves_of,
    is_published,
    seeds_text,
    variant_text,
    variants,
)
from app.components.measures import (
    adaptation_title,
    metric_title,
    ordered_adaptations,
    ordered_tasks,
    scale_of,
    training_text,
)
from app.text import missing, visible
from rsfm.comparison import curve_summary, ladder_text
from rsfm.store.lint import PLACE

#: What tells the rows of one cell of `rsfm.comparison.tiers_of` apart, beside the severity.
TIER_KEYS = (
    "dataset", "pack_hash", "split", "task", "adaptation", "operator", "degrade_target", "train_degrade", "metric",
    "model_group", "bands",
)  # fmt: skip


def levels_of(frame: pd.DataFrame) -> dict[str, float]:
    """Column title, e.g. "4×" -> severity, mildest first."""
    scale = scale_of(frame["operator"].iloc[0]) if len(frame) else None
    return {scale.level(s): float(s) for s in sorted(frame["severity"].unique())} if scale else {}


def _summary(curve: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a curve amounts to, and its severities."""
    operator, severities = str(curve[0]["operator"]), [float(p["severity"]) for p in curve]
    scores = [math.nan if missing(p["mean"]) else float(p["mean"]) for p in curve]
    return {
        **asdict(curve_summary(operator, severities, scores)),
        "ladder": ladder_text(operator, severities),
    }


def comparison_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per curve: the scores at each severity and what they amount to.

    Args:
        frame: rows of `Store.compare`, of one operator.

    Returns:
        The curve's keys, a column like "4×" per severity (`levels_of`), `auc` (area under the score over 1/factor,
        0..100, and its share `auc_norm` of a perfect model's; resolution operators only), `mean` over the severities,
        `retention` (score at the strongest severity over that on images as they are), `ladder` (its severities),
        `over` (which seeds), `n`, `published`. By task and adaptation; best first, published numbers last.
    """
    keys, levels = curve_keys(frame), levels_of(frame)
    title = {severity: name for name, severity in levels.items()}
    rows = []
    for key, curve in curves_of(frame).items():
        points = {title[p["severity"]]: p["mean"] for p in curve}
        published = is_published(curve[0]["model_group"])
        rows.append(
            {**dict(zip(keys, key, strict=True)), **points, **_summary(curve), "n": curve[0]["n"] or None,
             "over": "" if published else seeds_text(curve[0]), "published": published}
        )  # fmt: skip
    columns = [*keys, *levels, "auc", "auc_norm", "mean", "retention", "ladder", "over", "n", "published"]
    table = pd.DataFrame(rows, columns=columns)
    tasks, adaptations = ordered_tasks(table["task"]), ordered_adaptations(table["adaptation"])
    best = table["auc_norm"].fillna(table["mean"]).fillna(-1).astype(float)
    order = pd.DataFrame(
        {"task": table["task"].map(tasks.index), "adaptation": table["adaptation"].map(adaptations.index),
         "published": table["published"], "best": -best}
    )  # fmt: skip
    return table.loc[order.sort_values(list(order.columns), kind="stable").index].reset_index(drop=True)


def presented(
    view: View, found: Sequence[Mapping[str, Any]], tiers: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """`comparison_table` in words that people read, and the columns that tell something.

    Args:
        found: findings about these rows, see `findings_about`.
        tiers: see `tier_letters`.

    Returns:
        Its columns and `tier`, `findings` (their number), `variant`, `training`, `source`; text is visible, not
        Markdown.
    """
    scale, levels = scale_of(view.frame["operator"].iloc[0]), levels_of(view.frame)
    rows = comparison_table(view.frame)
    if tiers is not None:
        rows["tier"] = tier_letters(rows, tiers)
    about = Counter(map(place_of, found))
    records = rows.to_dict("records")
    rows["findings"] = [about[place_of(row)] or None for row in records]
    differing = [k for k in variants(view.rows) if k not in ("train_degrade", "task")]
    rows["variant"] = [" · ".join(variant_text(k, r) for k in differing) for r in records]
    rows["training"] = [training_text(r["train_degrade"], r["operator"]) or "as they are" for r in records]
    rows["source"] = [["authors"] if r["published"] else [] for r in records]
    rows["model_title"] = rows["model_title"].map(visible)
    rows["dataset"] = [f"{visible(r['dataset'])}{' (synthetic)' if r['synthetic'] else ''}" for r in records]
    rows["adaptation"], rows["metric"] = rows["adaptation"].map(adaptation_title), rows["metric"].map(metric_title)
    # The caption names the pack where there is one only; likewise whatever is the same in all rows.
    several = {c for c in ("dataset", "adaptation", "training", "metric", "ladder") if rows[c].nunique() > 1}
    shown = {
        "model_title": True, "source": rows["published"].any(), "variant": bool(differing),
        "dataset": "dataset" in several, "adaptation": "adaptation" in several, "training": "training" in several,
        "metric": "metric" in several, "tier": "tier" in rows, **dict.fromkeys(levels, True), "auc": scale.coarser,
        "auc_norm": scale.coarser and "ladder" in several, "mean": True, "retention": scale.identity is not None,
        "findings": True, "ladder": "ladder" in several, "over": True, "n": True,
    }  # fmt: skip
    return rows, [name for name, wanted in shown.items() if wanted]


def tier_letters(table: pd.DataFrame, tiers: pd.DataFrame) -> list[str]:
    """The tier of each row as a letter, A the best; "" where none was found.

    Args:
        table: from `comparison_table`.
        tiers: from `rsfm.comparison.tiers_of`, at one severity.
    """
    keys = [k for k in TIER_KEYS if k in table.columns]
    found = {tuple(map(str, row)): int(t) for *row, t in tiers[[*keys, "tier"]].itertuples(index=False)}
    numbers = [found.get(tuple(map(str, row))) for row in table[keys].itertuples(index=False)]
    return ["" if n is None else chr(64 + n) if n <= 26 else str(n) for n in numbers]


def place_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The curve of a finding or of a row of `comparison_table`."""
    return tuple("" if missing(row[name]) else str(row[name]) for name in PLACE)


def findings_about(found: pd.DataFrame, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Which findings of the store are about the rows that are shown: about their curves, or about their packs.

    Args:
        found: `Store.lint`.
        frame: rows of `Store.compare`.
    """
    places = set(map(place_of, frame[list(PLACE)].drop_duplicates().to_dict("records")))
    datasets = set(frame["dataset"])
    return [
        row for row in found.to_dict("records")
        if place_of(row) in places or (missing(row["model_group"]) and row["dataset"] in datasets)
    ]  # fmt: skip
