"""Curves over severities in a few numbers, wherever they are shown: pages, the command line, reports, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from rsfm.degrade import OPERATORS, severity_text
from rsfm.stats import CURVE_KEYS, CurveSummary, summarise

#: Columns that `with_summaries` adds to the points of a curve.
SUMMARY_COLUMNS = ("curve_auc", "curve_auc_norm", "curve_mean", "curve_retention", "curve_ladder")


def curve_summary(operator: str, severities: Sequence[float], scores: Sequence[float]) -> CurveSummary:
    """`rsfm.stats.summarise` by what is known of an operator."""
    entry = OPERATORS.get(operator)
    return summarise(
        severities, scores, identity=entry and entry.identity, factors=entry is not None and entry.changes_gsd
    )


def ladder_text(operator: str, severities: Sequence[float]) -> str:
    """The severities of a curve, mildest first: areas and means over different ones must not be compared."""
    return ", ".join(severity_text(operator, s) for s in sorted(severities))


def with_summaries(frame: pd.DataFrame, *, keys: Sequence[str] = CURVE_KEYS, score: str = "mean") -> pd.DataFrame:
    """Points of curves, each with what its whole curve amounts to.

    Args:
        frame: with `operator` and `severity`, e.g. rows of `Store.compare`.
        keys: columns that make one curve, as far as they are there; score: the column with the scores.

    Returns:
        The same rows with `SUMMARY_COLUMNS`.
    """
    added = pd.DataFrame(index=range(len(frame)), columns=list(SUMMARY_COLUMNS), dtype=object)
    present = [k for k in keys if k in frame.columns]
    for places in frame.groupby(present, sort=False, dropna=False).indices.values() if len(frame) else ():
        curve = frame.iloc[places]
        operator, severities = str(curve["operator"].iloc[0]), curve["severity"].tolist()
        summary = curve_summary(operator, severities, curve[score].astype(float).tolist())
        added.loc[places] = [*asdict(summary).values(), ladder_text(operator, severities)]
    added = added.astype({name: float for name in SUMMARY_COLUMNS[:-1]}).set_index(frame.index)
    return pd.concat([frame, added], axis=1)
