"""Curves over training: one figure per metric, several runs or attempts on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.components.palette import COLORS, DASHES
from app.text import plotly_text

#: What the horizontal axis may show: column of `Store.metrics` -> axis title.
X_AXES = {"samples": "Samples seen", "step": "Optimiser steps", "time": "Time (UTC)"}

#: Names of metrics as people call them. A name that is not here is shown as it was logged.
METRIC_TITLES = {
    "loss": "Training loss",
    "lr": "Learning rate",
    "weight_decay": "Weight decay",
    "grad_norm": "Gradient norm",
    "throughput": "Throughput (images/s)",
    "data_wait_share": "Share of time waiting for data",
    "std_l2": "Feature spread (std of normalised features)",
    "rankme": "RankMe",
    "rankme_centered": "RankMe (centred)",
    "top1_eigen_share": "Share of the first eigenvalue",
    "knn": "Online kNN accuracy",
    "flat_patch_share": "Share of flat patches",
}
#: Metrics that span orders of magnitude.
LOG_METRICS = frozenset({"lr"})
#: Order in which curves are worth reading.
METRIC_ORDER = list(METRIC_TITLES)


def metric_title(name: str) -> str:
    if name.startswith("loss/"):
        return f"Loss: {name.removeprefix('loss/')}"
    return METRIC_TITLES.get(name, name)


def ordered_metrics(names: list[str]) -> list[str]:
    """Names in reading order: loss, its parts, then the rest as `METRIC_ORDER`, then unknown ones by name."""

    def key(name: str) -> tuple[int, str]:
        if name.startswith("loss/"):
            return 0, name
        return (METRIC_ORDER.index(name) if name in METRIC_ORDER else len(METRIC_ORDER)), name

    return sorted(names, key=key)


def smooth(values: pd.Series, span: int) -> pd.Series:
    """Exponential moving average over about `span` points; 1 changes nothing."""
    return values if span <= 1 else values.ewm(span=span).mean()


def curve_figure(
    frame: pd.DataFrame,
    name: str,
    *,
    x: str = "samples",
    labels: Mapping[str, str] | None = None,
    smoothing: int = 1,
    height: int = 260,
) -> go.Figure:
    """One metric of one or several runs.

    Args:
        frame: rows of `Store.metrics`; only those called `name` are drawn.
        x: column for the horizontal axis, a key of `X_AXES`.
        labels: run id -> what the legend says. Without it there is no legend.
        smoothing: span of a moving average; the raw points stay visible below it.
    """
    rows = frame[frame["name"] == name]
    traces: list[dict[str, Any]] = []
    for i, run_id in enumerate(labels or dict.fromkeys(rows["run_id"])):
        line = rows[rows["run_id"] == run_id].sort_values(["attempt", x] if x == "time" else [x, "attempt"])
        if line.empty:
            continue
        color, dash = COLORS[i % len(COLORS)], DASHES[i // len(COLORS) % len(DASHES)]
        title = plotly_text(labels[run_id]) if labels else metric_title(name)
        along = line[x].to_numpy()
        shared = {"type": "scatter", "x": along, "legendgroup": str(run_id)}
        if smoothing > 1:
            traces.append(
                {**shared, "y": line["value"].to_numpy(), "mode": "lines", "line": {"color": color, "width": 1},
                 "opacity": 0.25, "hoverinfo": "skip", "showlegend": False}
            )  # fmt: skip
        traces.append(
            {**shared, "y": smooth(line["value"], smoothing).to_numpy(), "name": title,
             "mode": "lines+markers" if len(line) <= 40 else "lines", "marker": {"size": 5},
             "line": {"color": color, "width": 2, "dash": dash},
             "hovertemplate": "%{y:.5g}<extra>" + (title if labels else "") + "</extra>"}
        )  # fmt: skip
    layout = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "showlegend": bool(labels) and len(labels or ()) > 1,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        "hovermode": "x unified",
        # The same value on every redraw keeps a reader's zoom while new points arrive.
        "uirevision": f"{name}|{x}",
        "xaxis": {"title": {"text": X_AXES[x]}},
        "yaxis": {"nticks": 6, "type": "log" if name in LOG_METRICS else "linear", "exponentformat": "power"},
    }
    # In one piece: every later change of a figure is checked anew, which costs more than all the rest.
    return go.Figure(data=traces, layout=layout)
