"""Resolution-degradation curves: scores against effective ground sampling distance, models overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.components.palette import FLOOR, Look, translucent
from app.text import missing, plotly_text, visible
from rsfm.stats import CURVE_KEYS

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
#: What tells two curves of one model apart, where it is not the same for all: key -> how it is named.
VARIANTS = {
    "task": "task", "split": "split", "operator": "degradation", "degrade_target": "degraded", "bands": "bands",
    "train_degrade": "trained with degradation", "pack_hash": "content",
}  # fmt: skip
FALLBACK = Look(FLOOR, "circle", "solid")


def metric_title(name: str) -> str:
    return METRIC_TITLES.get(name, name.replace("_", " ").capitalize())


def adaptation_title(name: str) -> str:
    return ADAPTATION_TITLES.get(name, name)


def curve_keys(frame: pd.DataFrame) -> list[str]:
    """Columns that make one curve: everything that was measured alike but for the severity."""
    return [k for k in CURVE_KEYS if k in frame.columns]


def _key(row: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(None if missing(row[k]) else row[k] for k in keys)


def curves_of(frame: pd.DataFrame, along: str = "severity") -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """The points of each curve in order, by the values of its keys, as plain records: a chart has few of them, and a
    frame for each curve would cost more than all the drawing."""
    keys = curve_keys(frame)
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in frame.to_dict("records"):
        found.setdefault(_key(row, keys), []).append(row)
    return {key: sorted(points, key=lambda p: p[along]) for key, points in found.items()}


def as_retention(frame: pd.DataFrame) -> pd.DataFrame:
    """Every curve as a share of its own value at factor 1. Curves without that point are dropped.

    The interval is divided by the same number: it shows the uncertainty of the point, not of the ratio.
    """
    parts = []
    for _, curve in frame.groupby(curve_keys(frame), dropna=False, sort=False):
        native = curve.loc[curve["severity"] == 1, "mean"]
        if native.empty or not native.iloc[0] > 0:
            continue
        scaled = curve.copy()
        scaled[["mean", "std", "ci_low", "ci_high"]] = curve[["mean", "std", "ci_low", "ci_high"]] / native.iloc[0]
        parts.append(scaled)
    return pd.concat(parts, ignore_index=True) if parts else frame.iloc[:0].copy()


def variants(frame: pd.DataFrame) -> list[str]:
    """Keys of `VARIANTS` that differ between curves of one model on one pack."""
    known = [k for k in VARIANTS if k in frame.columns]
    if frame.empty or not known:
        return []
    counts = frame.groupby(["model_group", "dataset"], dropna=False)[known].nunique(dropna=False).max()
    return [k for k in known if counts[k] > 1]


def variant_text(key: str, value: Any) -> str:
    """One property of a curve in a few characters, e.g. "3 bands (B4 B3 B2)"."""
    text = "none" if missing(value) or value == "" else visible(value)
    if key == "bands" and text != "none":
        names = text.split(",")
        shown = " ".join(names) if len(names) <= 4 else f"{names[0]} … {names[-1]}"
        return f"{len(names)} bands ({shown})" if len(names) > 1 else f"band {text}"
    return f"{VARIANTS[key]} {text[:8] if key == 'pack_hash' else text}"


def curve_label(first: Mapping[str, Any], *, with_dataset: bool, differing: Sequence[str] = ()) -> str:
    """Legend text: the model, the pack where several are drawn, "synthetic" where it is, and what else differs.

    Args:
        first: a point of the curve.
    """
    label = plotly_text(first["model_title"])
    if with_dataset:
        label += f" · {plotly_text(first['dataset'])}" + (" (synthetic)" if first["synthetic"] else "")
    return "".join([label, *(f" · {plotly_text(variant_text(k, first[k]))}" for k in differing)])


def seeds_text(row: Mapping[str, Any]) -> str:
    """What the spread is over, e.g. "3 evaluation seeds"."""
    count, kind = int(row["seeds"]), str(row["seed_kind"])
    return f"{count} {kind if count != 1 else kind.removesuffix('s')}"


def interval(point: Mapping[str, Any]) -> tuple[float, float]:
    """The interval of one point: the bootstrap's; where it is missing, mean ± std."""
    half = 0.0 if missing(point["std"]) else float(point["std"])
    low = point["mean"] - half if missing(point["ci_low"]) else point["ci_low"]
    high = point["mean"] + half if missing(point["ci_high"]) else point["ci_high"]
    return float(low), float(high)


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
    differing = variants(rows)
    traces: list[dict[str, Any]] = []
    curves = sorted(curves_of(rows, column).values(), key=lambda c: -sum(p["mean"] for p in c) / len(c))
    # With several packs, or several curves of one model, the dash tells them apart; otherwise it is the model's own.
    kinds: dict[tuple[Any, ...], str] = {}
    for first in rows.drop_duplicates(["dataset", *differing]).to_dict("records"):
        kind = _key(first, ("dataset", *differing))
        kinds.setdefault(kind, ("solid", "dash", "dot", "dashdot")[len(kinds) % 4])
    for number, curve in enumerate(curves):  # the legend reads like the chart: best on top
        first = curve[0]
        group, dataset = first["model_group"], first["dataset"]
        look = looks.get(str(group), FALLBACK)
        label = curve_label(first, with_dataset=several, differing=differing)
        dash = kinds[_key(first, ("dataset", *differing))] if len(kinds) > 1 else look.dash
        x, y = np.array([p[column] for p in curve], float), np.array([p["mean"] for p in curve], float)
        low, high = (np.array(ends) for ends in zip(*map(interval, curve), strict=True))
        key = f"{group}|{dataset}|{number}" if differing else f"{group}|{dataset}"
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
                _hover(label, *point) for point in zip(curve, low, high, strict=True)
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
    named = [plotly_text(d) for d in dict.fromkeys(rows.loc[rows["synthetic"].astype(bool), "dataset"])]
    if named:  # in the figure itself: it may be saved and shown without the page around it
        title += f"<br><span style='font-size:11px'>synthetic data: {', '.join(named)}</span>"
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

    Returns:
        The curve's keys, a column like "4×" per severity, `over` (which seeds), `n`, and what the summary says.
    """
    keys = curve_keys(frame)
    levels = [f"{s:g}×" for s in sorted(frame["severity"].unique())]
    curves = curves_of(frame)
    rows = []
    for row in summary.to_dict("records"):
        curve = curves[_key(row, keys)]
        points = {f"{p['severity']:g}×": p["mean"] for p in curve}
        rows.append({**row, **points, "over": seeds_text(curve[0]), "n": curve[0]["n"]})
    table = pd.DataFrame(rows, columns=[*keys, *levels, *(c for c in summary.columns if c not in keys), "over", "n"])
    table = table.sort_values(["adaptation", "auc_norm"], ascending=[True, False], kind="stable")
    return table.reset_index(drop=True)


def findings_about(found: pd.DataFrame, frame: pd.DataFrame, group_of_run: Mapping[str, str]) -> list[dict[str, Any]]:
    """Which findings of the store are about the rows that are shown.

    Args:
        found: `Store.lint`: a finding's subject is a model group, a run or a pack.
        frame: rows of `Store.compare`.
        group_of_run: run id -> group of the model that it evaluated.

    Returns:
        {"severity", "message", "model_group" (None: of the pack), "dataset", "adaptation" (None: of all)}.
    """
    groups = set(frame["model_group"].astype(str))
    places = frame[["dataset", "adaptation"]].drop_duplicates().itertuples(index=False)
    # As the store words it: "… on <pack> (<adaptation>, …".
    marks = [(f" on {place.dataset} ({place.adaptation}, ", place) for place in places]
    about: list[dict[str, Any]] = []
    for row in found.to_dict("records"):
        subject, message = str(row["subject"]), str(row["message"])
        shared = {"severity": row["severity"], "message": message}
        if subject in set(frame["dataset"]):
            about.append({**shared, "model_group": None, "dataset": subject, "adaptation": None})
            continue
        group = subject if subject in groups else group_of_run.get(subject)
        place = next((place for mark, place in marks if mark in message), None)
        if group in groups and place is not None:
            about.append({**shared, "model_group": group, "dataset": place.dataset, "adaptation": place.adaptation})
    return about
