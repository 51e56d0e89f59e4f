"""Resolution-degradation curves: scores against effective ground sampling distance, models overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.components.palette import FLOOR, Look, translucent
from app.text import missing, plotly_text

AXES = {"gsd": "Effective GSD", "factor": "Factor"}
VALUES = {"absolute": "Score", "retention": "Retention"}
METRIC_TITLES = {
    "accuracy": "Accuracy",
    "micro_f1": "Micro F1",
    "macro_f1": "Macro F1",
    "mean_ap": "Mean average precision",
    "mean_iou": "Mean IoU",
}
ADAPTATION_TITLES = {"knn": "kNN", "linear": "Linear probe", "fine-tune": "Fine-tuning"}
#: A curve is one model on one pack; the mean and its interval are columns.
CURVE = ["model_group", "dataset"]
FALLBACK = Look(FLOOR, "circle", "solid")


def metric_title(name: str) -> str:
    return METRIC_TITLES.get(name, name.replace("_", " ").capitalize())


def adaptation_title(name: str) -> str:
    return ADAPTATION_TITLES.get(name, name)


def as_retention(frame: pd.DataFrame) -> pd.DataFrame:
    """Every curve as a share of its own value at factor 1. Curves without that point are dropped.

    The interval is divided by the same number: it shows the uncertainty of the point, not of the ratio.
    """
    parts = []
    for _, curve in frame.groupby([*CURVE, "adaptation", "metric", "operator", "model"], dropna=False, sort=False):
        native = curve.loc[curve["severity"] == 1, "mean"]
        if native.empty or not native.iloc[0] > 0:
            continue
        scaled = curve.copy()
        scaled[["mean", "std", "ci_low", "ci_high"]] = curve[["mean", "std", "ci_low", "ci_high"]] / native.iloc[0]
        parts.append(scaled)
    return pd.concat(parts, ignore_index=True) if parts else frame.iloc[:0].copy()


def curve_label(curve: pd.DataFrame, *, with_dataset: bool) -> str:
    """Legend text: the model, the pack where several are drawn, and "synthetic" where it is."""
    first = curve.iloc[0]
    label = plotly_text(first["model_title"])
    if with_dataset:
        label += f" · {plotly_text(first['dataset'])}" + (" (synthetic)" if first["synthetic"] else "")
    return label


def seeds_text(row: Mapping[str, Any]) -> str:
    """What the spread is over, e.g. "3 evaluation seeds"."""
    count, kind = int(row["seeds"]), str(row["seed_kind"])
    return f"{count} {kind if count != 1 else kind.removesuffix('s')}"


def _spread(curve: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The interval to draw: the bootstrap's; where it is missing, mean ± std."""
    low = curve["ci_low"].fillna(curve["mean"] - curve["std"].fillna(0))
    high = curve["ci_high"].fillna(curve["mean"] + curve["std"].fillna(0))
    return low, high


def degradation_figure(
    frame: pd.DataFrame,
    looks: Mapping[str, Look],
    *,
    axis: str = "gsd",
    value: str = "absolute",
    bands: bool = True,
    chance: float | None = None,
    height: int = 460,
) -> go.Figure:
    """Curves of several models for one adaptation and one metric.

    Args:
        frame: rows of `Store.compare`, one adaptation and metric; as `as_retention` gives them for retention.
        looks: model group -> look, from `app.components.palette.model_looks`.
        axis: "gsd" (metres, log2) or "factor" (log2). Rows without a GSD cannot be drawn against it.
        bands: intervals as translucent bands; otherwise as error bars.
        chance: score of guessing, drawn as a line (absolute only).
    """
    column = "gsd_m" if axis == "gsd" else "severity"
    rows = frame.dropna(subset=[column, "mean"])
    several = rows["dataset"].nunique() > 1
    datasets = list(dict.fromkeys(rows["dataset"]))
    traces: list[dict[str, Any]] = []
    curves = sorted(rows.groupby(CURVE, dropna=False, sort=False), key=lambda c: -c[1]["mean"].mean())
    for (group, dataset), curve in curves:  # the legend reads like the chart: best on top
        curve = curve.sort_values(column)
        look = looks.get(str(group), FALLBACK)
        label = curve_label(curve, with_dataset=several)
        # With several packs the dash tells the pack; otherwise it is the model's own.
        dash = ("solid", "dash", "dot", "dashdot")[datasets.index(dataset) % 4] if several else look.dash
        x, y = curve[column].to_numpy(float), curve["mean"].to_numpy(float)
        low, high = (part.to_numpy(float) for part in _spread(curve))
        key = f"{group}|{dataset}"
        if bands and len(curve) > 1:
            traces.append(
                {"type": "scatter", "x": np.concatenate([x, x[::-1]]), "y": np.concatenate([high, low[::-1]]),
                 "fill": "toself", "fillcolor": translucent(look.color, 0.2), "line": {"width": 0}, "mode": "lines",
                 "hoverinfo": "skip", "showlegend": False, "legendgroup": key}
            )  # fmt: skip
        trace = {
            "type": "scatter", "x": x, "y": y, "name": label, "legendgroup": key, "mode": "lines+markers",
            "line": {"color": look.color, "width": 2.5, "dash": dash},
            "marker": {"symbol": look.marker, "size": 9, "color": look.color,
                       "line": {"width": 1, "color": look.color}},
            "hovertext": [
                _hover(label, *point) for point in zip(curve.to_dict("records"), low, high, strict=True)
            ],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }  # fmt: skip
        if not bands:
            trace["error_y"] = {"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low,
                                "thickness": 1.3, "width": 4}  # fmt: skip
        traces.append(trace)
    layout = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "traceorder": "normal"},
        "hovermode": "closest",
        **_axes(rows, column, axis, value),
    }
    if chance is not None and value == "absolute":
        whole = {"xref": "paper", "x0": 0, "x1": 1, "y0": chance, "y1": chance}
        layout["shapes"] = [{"type": "line", **whole, "line": {"dash": "dot", "width": 1, "color": FLOOR}}]
        layout["annotations"] = [
            {"text": "chance", "xref": "paper", "x": 0, "y": chance, "xanchor": "left", "yanchor": "top",
             "showarrow": False, "font": {"size": 11, "color": FLOOR}}
        ]  # fmt: skip
    named = [plotly_text(d) for d in dict.fromkeys(rows.loc[rows["synthetic"].astype(bool), "dataset"])]
    if named:  # in the figure itself: it may be saved and shown without the page around it
        layout.setdefault("annotations", []).append(
            {"text": f"synthetic data: {', '.join(named)}", "xref": "paper", "yref": "paper", "x": 1, "y": 0,
             "xanchor": "right", "yanchor": "bottom", "showarrow": False, "font": {"size": 11, "color": FLOOR}}
        )  # fmt: skip
    # In one piece: every later change of a figure is checked anew, which costs more than all the rest.
    return go.Figure(data=traces, layout=layout)


def _hover(label: str, row: Mapping[str, Any], low: float, high: float) -> str:
    gsd = "" if missing(row["gsd_m"]) else f", {row['gsd_m']:.4g} m"
    std = "" if missing(row["std"]) else f"std {row['std']:.3f} over "
    return (
        f"<b>{label}</b><br>{row['mean']:.3f}  [{low:.3f}, {high:.3f}]<br>{row['severity']:g}× coarser{gsd}<br>"
        f"{std}{seeds_text(row)}, n = {int(row['n']):,}"
    )


def _axes(rows: pd.DataFrame, column: str, axis: str, value: str) -> dict[str, Any]:
    ticks = axis_ticks(rows[column].tolist())
    suffix = " m" if axis == "gsd" else "×"
    title = "Effective GSD (m, log₂ scale): coarser to the right" if axis == "gsd" else "Times coarser (log₂ scale)"
    metric = metric_title(str(rows["metric"].iloc[0])) if len(rows) else "Score"
    if value == "retention":
        metric += " retained (1 = at native resolution)"
    return {
        "xaxis": {"type": "log", "tickmode": "array", "tickvals": ticks, "title": {"text": title},
                  "ticktext": [f"{t:.4g}{suffix}" for t in ticks]},
        "yaxis": {"title": {"text": metric}},
    }  # fmt: skip


def axis_ticks(values: Sequence[float], most: int = 10) -> list[float]:
    """Positions for ticks: the measured ones where they are few, else powers of two that cover them."""
    distinct = sorted({float(f"{v:.6g}") for v in values if v > 0})
    if len(distinct) <= most:
        return distinct
    low, high = np.floor(np.log2(distinct[0])), np.ceil(np.log2(distinct[-1]))
    return [float(2**e) for e in np.arange(low, high + 1)]


def comparison_table(summary: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The table below the chart: one row per curve, a column per severity, best first.

    Args:
        summary: from `rsfm.stats.curve_summary`.
        frame: the same rows of `Store.compare`.
    """
    keys = ["model", "model_group", "dataset", "adaptation", "metric", "operator"]
    wide = frame.pivot_table(index=keys, columns="severity", values="mean", aggfunc="first", dropna=True)
    wide.columns = [f"{c:g}×" for c in wide.columns]
    seeds = frame.sort_values("severity").drop_duplicates(keys).set_index(keys)[["seeds", "seed_kind", "n"]]
    extra = wide.join(seeds).reset_index()
    table = summary.merge(extra, on=[k for k in keys if k in summary], how="left")
    table["over"] = [seeds_text(r) for r in table.to_dict("records")]
    columns = ["model_title", "dataset", "synthetic", "adaptation", *wide.columns]
    table = table.sort_values(["adaptation", "auc_norm"], ascending=[True, False], kind="stable")
    rest = ["auc", "auc_norm", "mean", "retention", "coarsest", "over", "n", "model", "model_group", "metric"]
    return table[[*columns, *rest]]
