"""The leaderboard as a table, a chart and a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.components.degradation import FALLBACK
from app.components.measures import (
    adaptation_title,
    metric_title,
    samples_word,
    scale_of,
    target_title,
    task_title,
    training_text,
)
from app.components.palette import Look
from app.text import plotly_text, visible
from rsfm.comparison.board import TEST, Column, Row

#: Characters of a model's name beside the chart.
_LONGEST = 40


def column_titles(columns: Sequence[Column]) -> list[str]:
    """The pack of each column, with whatever tells it from other columns of that pack."""
    titles = []
    for column in columns:
        same = [c for c in columns if c["dataset"] == column["dataset"] and c is not column]
        telling = [n for n in ("task", "adaptation", "metric", "split") if any(c[n] != column[n] for c in same)]
        words = {"task": task_title, "adaptation": adaptation_title, "metric": metric_title, "split": visible}
        titles.append(" · ".join([visible(column["dataset"]), *(words[n](column[n]) for n in telling)]))
    return titles


def column_text(column: Column) -> str:
    """What a column holds, in one line."""
    scale = scale_of(column["operator"])
    levels = ", ".join(scale.level(s) for s in column.severities)
    target = "" if column["degrade_target"] == "single" else f"{target_title(column['degrade_target'])} degraded. "
    floor = "not known" if column.floor != column.floor else f"{column.floor:.3f}"
    return (
        f"{task_title(column['task'])}, {adaptation_title(column['adaptation'])}, {metric_title(column['metric'])} at "
        f"{levels}. {target}Best constant prediction: {floor}. {column.models} model(s) were measured there."
    )


def row_title(row: Row) -> str:
    """The model, and what tells it from itself: other training images, other bands."""
    training = training_text(row.first["train_degrade"], row.first["operator"])
    bands = f"bands {row.entrant[2]}" if row.entrant[2] else ""
    return " · ".join(visible(p) for p in (row.first["model_title"], training, bands) if p)


def tier_letter(tier: int | None) -> str:
    if tier is None:
        return ""
    return chr(64 + tier) if tier <= 26 else str(tier)


def board_table(rows: Sequence[Row], columns: Sequence[Column], findings: Sequence[int]) -> pd.DataFrame:
    """A row per model: `model`, `source`, `tier`, `mean`, `interval`, `coverage`, `lacks`, a number per column (named
    by its position, "0", "1", …), `findings`."""
    titles = dict(zip((c.place for c in columns), column_titles(columns), strict=True))
    table = []
    for row, found in zip(rows, findings, strict=True):
        score = row.score
        known = score is not None and score.low == score.low and score.high == score.high
        table.append(
            {
                "model": row_title(row), "source": ["authors"] if row.published else [], "tier": tier_letter(row.tier),
                "mean": None if score is None else score.mean,
                "interval": f"{score.low:.3f} to {score.high:.3f}" if known and score is not None else "",
                "coverage": f"{len(row.values)} of {len(columns)}", "lacks": ", ".join(titles[p] for p in row.lacks),
                **{str(i): row.values[c.place].mean if c.place in row.values else None for i, c in enumerate(columns)},
                "findings": found or None,
            }
        )  # fmt: skip
    return pd.DataFrame(table)


def board_csv(rows: Sequence[Row], columns: Sequence[Column], *, normalised: bool) -> str:
    """A line per model and column, with the model's own number in each."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        fixed = {
            "model_title": row.first["model_title"], "model_group": row.entrant[0], "train_degrade": row.entrant[1],
            "bands": row.entrant[2], "published": row.published, "normalised": normalised,
            "score": row.score.mean if row.score else None, "score_ci_low": row.score.low if row.score else None,
            "score_ci_high": row.score.high if row.score else None, "tier": tier_letter(row.tier),
            "columns": len(columns), "measured": len(row.values),
        }  # fmt: skip
        for column in columns:
            value = row.values.get(column.place)
            lines.append(
                fixed | dict(zip(TEST, column.place, strict=True)) | {
                    "severities": " ".join(f"{s:g}" for s in column.severities), "floor": column.floor,
                    "value": value.mean if value else None, "ci_low": value.low if value else None,
                    "ci_high": value.high if value else None,
                }
            )  # fmt: skip
    return pd.DataFrame(lines).to_csv(index=False)


def board_figure(rows: Sequence[Row], looks: Mapping[str, Look], title: str) -> go.Figure:
    """The models that have a number, best on top, each with its interval."""
    ranked = [row for row in rows if row.score is not None]
    names = []
    for row in ranked:
        name = row_title(row)
        names.append(plotly_text(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 14]}…{name[-13:]}"))
    marks = [looks.get(row.entrant[0], FALLBACK) for row in ranked]
    scores = [row.score for row in ranked if row.score is not None]
    # Positions and not names: two models may be called the same.
    figure = go.Figure(
        {
            "type": "scatter", "mode": "markers", "x": [s.mean for s in scores], "y": list(range(len(ranked))),
            "error_x": {
                "type": "data", "symmetric": False, "array": [max(0.0, s.high - s.mean) for s in scores],
                "arrayminus": [max(0.0, s.mean - s.low) for s in scores], "thickness": 1.5, "width": 4,
                "color": "#7F8C93",
            },
            "marker": {"size": 10, "color": [m.color for m in marks], "symbol": [m.marker for m in marks]},
            "hovertext": [
                f"<b>{name}</b><br>{s.mean:.3f}  [{s.low:.3f}, {s.high:.3f}]"
                for name, s in zip(names, scores, strict=True)
            ],
            "hovertemplate": "%{hovertext}<extra></extra>", "showlegend": False,
        },
        {
            "height": 90 + 26 * len(ranked), "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "xaxis": {"title": {"text": plotly_text(title)}},
            "yaxis": {
                "tickmode": "array", "tickvals": list(range(len(ranked))), "ticktext": names,
                "range": [len(ranked) - 0.5, -0.5], "automargin": True, "showgrid": False,
                "zeroline": False,
            },
        },
    )  # fmt: skip
    return figure


def words_for_samples(columns: Sequence[Column]) -> str:
    return " and ".join(dict.fromkeys(samples_word(c["task"]) for c in columns))
