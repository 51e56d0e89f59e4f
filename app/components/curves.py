"""Curves over training: one figure per metric, several runs or attempts on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app.components.palette import COLORS, DASHES
from app.text import plotly_text
from rsfm.alarms import ALARMS, PREFIX

#: What the horizontal axis may show: column of `Store.metrics` -> axis title.
X_AXES = {
    "samples": "Samples seen", "step": "Optimiser steps", "time": "Time (UTC)", "hours": "Hours since the start",
}  # fmt: skip

#: Names of metrics as people call them. A name that is not here is shown as it was logged.
METRIC_TITLES = {
    "loss": "Training loss",
    "lr": "Learning rate",
    "weight_decay": "Weight decay",
    "grad_norm": "Gradient norm",
    "grad_norm_first": "Gradient norm of the first block",
    "grad_norm_last": "Gradient norm of the last block",
    "skipped_steps": "Skipped steps (not finite)",
    "throughput": "Throughput (images/s)",
    "data_wait_share": "Share of time waiting for data",
    "std_l2": "Feature spread (std of normalised features)",
    "rankme": "RankMe",
    "rankme_centered": "RankMe (centred)",
    "top1_eigen_share": "Share of the first eigenvalue",
    "knn": "Online kNN accuracy",
    "knn_standardised": "Online kNN accuracy, features standardised",
    "teacher_entropy_share": "Teacher entropy (share of ln K)",
    "prototype_use": "Prototypes in use (share)",
    "patch_entropy_share": "Teacher entropy of patches (share of ln K)",
    "patch_prototype_use": "Prototypes in use by patches (share)",
    "codebook_use": "Codes in use (perplexity over size)",
    "token_gain": "Gain over token frequencies (nats)",
    "flat_patch_share": "Share of flat patches",
}
#: Metrics that span orders of magnitude.
LOG_METRICS = frozenset({"lr"})
#: Order in which curves are worth reading.
METRIC_ORDER = list(METRIC_TITLES)


def metric_title(name: str) -> str:
    if name.startswith("loss/"):
        return f"Loss: {name.removeprefix('loss/')}"
    if name.startswith(PREFIX):
        alarm = ALARMS.get(name.removeprefix(PREFIX))
        return f"Alarm: {alarm.title if alarm else name.removeprefix(PREFIX)} (1: stands)"
    return METRIC_TITLES.get(name, name)


def ordered_metrics(names: list[str]) -> list[str]:
    """Names in reading order: loss, its parts, `METRIC_ORDER`, unknown ones by name, alarms."""

    def key(name: str) -> tuple[int, str]:
        if name.startswith("loss/"):
            return 0, name
        if name.startswith(PREFIX):
            return len(METRIC_ORDER) + 1, name
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
    log: bool = False,
    height: int = 260,
) -> go.Figure:
    """One metric of one or several runs.

    Args:
        frame: rows of `Store.metrics`; only those called `name` are drawn.
        x: column for the horizontal axis, a key of `X_AXES`; `hours` counts from each run's first point.
        labels: run id -> what the legend says. Without it there is no legend.
        smoothing: span of a moving average; the raw points stay visible below it.
        log: a logarithmic vertical axis, also for metrics that need none.
    """
    rows = frame[frame["name"] == name]
    traces: list[dict[str, Any]] = []
    for i, run_id in enumerate(labels or dict.fromkeys(rows["run_id"])):
        line = rows[rows["run_id"] == run_id]
        if line.empty:
            continue
        if x == "hours":
            line = line.assign(hours=(line["time"] - line["time"].min()).dt.total_seconds() / 3600)
        line = line.sort_values(["attempt", x] if x in ("time", "hours") else [x, "attempt"])
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
        "uirevision": f"{name}|{x}|{log}",
        "xaxis": {"title": {"text": X_AXES[x]}},
        "yaxis": {"nticks": 6, "type": "log" if log or name in LOG_METRICS else "linear", "exponentformat": "power"},
    }
    # In one piece: every later change of a figure is checked anew, which costs more than all the rest.
    return go.Figure(data=traces, layout=layout)
