"""Degradation curves: scores against effective ground sampling distance or severity, models overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.components.measures import (
    metric_title,
    operator_title,
    scale_of,
    size_text,
    target_title,
    task_title,
    training_text,
)
from app.components.palette import FLOOR, Look, other_dash, translucent
from app.text import missing, plotly_text, visible
from rsfm import stats
from rsfm.comparison import curve_id
from rsfm.stats import CURVE_KEYS

AXES = {"gsd": "Effective GSD", "factor": "Factor"}
VALUES = {"absolute": "Score", "retention": "Retention", "difference": "Difference"}
#: What tells two curves of one model apart, where it is not the same for all: key -> how it is named.
VARIANTS = {
    "task": "", "split": "split", "operator": "", "degrade_target": "degraded:", "bands": "bands", "train_degrade": "",
    "pack_hash": "content",
}  # fmt: skip
#: Where two curves can be compared point by point.
PLACE = ("dataset", "pack_hash", "split", "task", "adaptation", "operator", "degrade_target", "metric")
FALLBACK = Look(FLOOR, "circle", "solid")
#: Characters of a model's name in a legend.
_LONGEST = 44
#: Size of the marker of a point that was chosen.
_CHOSEN = 17
_MEASURED = ["mean", "std", "ci_low", "ci_high"]


def is_published(group: Any) -> bool:
    """Whether a model group stands for somebody's published numbers (`rsfm.protocols.reference_frame`)."""
    return str(group).startswith("reference:")


def curve_keys(frame: pd.DataFrame) -> list[str]:
    """Columns that make one curve: everything that was measured alike but for the severity."""
    return [k for k in CURVE_KEYS if k in frame.columns]


def key_of(row: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(None if missing(row[k]) else row[k] for k in keys)


def curves_of(frame: pd.DataFrame, along: str = "severity") -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """The points of each curve in order, by the values of its keys, as plain records: a chart has few of them, and a
    frame for each curve would cost more than all the drawing."""
    keys = curve_keys(frame)
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in frame.to_dict("records"):
        found.setdefault(key_of(row, keys), []).append(row)
    return {key: sorted(points, key=lambda p: p[along]) for key, points in found.items()}


def point_at(curve: Sequence[Mapping[str, Any]], severity: float | None) -> float | None:
    """The score of a curve at one severity, where it has one."""
    return next((p["mean"] for p in curve if p["severity"] == severity and not missing(p["mean"])), None)


# -- what is drawn -------------------------------------------------------------------------------------------------
def as_retention(frame: pd.DataFrame) -> pd.DataFrame:
    """Every curve as a share of its own score on images as they are. Curves without that point are dropped.

    The interval is divided by the same number: it shows the uncertainty of the point, not of the ratio.
    """
    kept = []
    for curve in curves_of(frame).values():
        native = point_at(curve, scale_of(curve[0].get("operator")).identity)
        if native and native > 0:
            kept += [{**p, **{name: p[name] / native for name in _MEASURED}} for p in _numbers(curve)]
    return pd.DataFrame(kept, columns=frame.columns)


def baselines(frame: pd.DataFrame) -> dict[str, str]:
    """What a difference can be taken to: "model group|training-time degradation" -> its name."""
    rows = frame.drop_duplicates(["model_group", "train_degrade"]).to_dict("records")
    own = [(training_text(r["train_degrade"], r["operator"]), r) for r in rows if not is_published(r["model_group"])]
    own.sort(key=lambda pair: bool(pair[0]))  # those that were trained on images as they are first
    return {baseline_key(row): _joined(row["model_title"], training) for training, row in own}


def baseline_key(row: Mapping[str, Any]) -> str:
    return f"{row['model_group']}|{row['train_degrade']}"


def as_difference(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Every curve minus the baseline's on the same pack by the same protocol, at each severity that both have.

    The baseline has one curve there, or one on the same bands; other curves are dropped, and published ones too. The
    interval is shifted: it shows the uncertainty of the point, not of the difference.

    Args:
        baseline: a key of `baselines`.
    """
    base: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in frame.to_dict("records"):
        if baseline_key(row) == baseline and not missing(row["mean"]):
            base.setdefault((*key_of(row, PLACE), row["severity"]), {})[str(row["bands"])] = row["mean"]
    kept = []
    for row in frame.to_dict("records"):
        by_bands = base.get((*key_of(row, PLACE), row["severity"]), {})
        there = next(iter(by_bands.values())) if len(by_bands) == 1 else by_bands.get(str(row["bands"]))
        if there is not None and not is_published(row["model_group"]):
            kept += [{**p, **{name: p[name] - (0 if name == "std" else there) for name in _MEASURED}}
                     for p in _numbers([row])]  # fmt: skip
    return pd.DataFrame(kept, columns=frame.columns)


def _numbers(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With NaN where a number is missing."""
    return [{**p, **{name: np.nan if missing(p[name]) else p[name] for name in _MEASURED}} for p in points]


# -- names ---------------------------------------------------------------------------------------------------------
def variants(frame: pd.DataFrame) -> list[str]:
    """Keys of `VARIANTS` that differ between curves of one model on one pack."""
    known = [k for k in VARIANTS if k in frame.columns]
    places = list(zip(frame["model_group"], frame["dataset"], strict=True))
    # Two values somewhere: more pairs of place and value than places. A group-by takes ten times as long.
    return [k for k in known if len(set(zip(places, map(str, frame[k]), strict=True))) > len(set(places))]


def variant_text(key: str, row: Mapping[str, Any]) -> str:
    """One property of a curve in a few characters, e.g. "3 bands (B4 B3 B2)"; "" for what needs no words."""
    value = row[key]
    text = "none" if missing(value) or value == "" else visible(value)
    match key:
        case "train_degrade":
            return training_text(value, row.get("operator"))
        case "task":
            return task_title(text)
        case "operator":
            return operator_title(text)
        case "degrade_target":
            text = target_title(text).lower()
        case "pack_hash":
            text = text[:8]
        case "bands" if text != "none":
            names = text.split(",")
            shown = " ".join(names) if len(names) <= 4 else f"{names[0]} … {names[-1]}"
            return f"{len(names)} bands ({shown})" if len(names) > 1 else f"band {text}"
    return f"{VARIANTS[key]} {text}"


def _joined(*parts: Any) -> str:
    return ", ".join(visible(p) for p in parts if p)


def curve_label(first: Mapping[str, Any], *, with_dataset: bool, differing: Sequence[str] = ()) -> str:
    """Legend text: the model, the pack where several are drawn, "synthetic" where it is, and what else differs.

    Args:
        first: a point of the curve.
    """
    title = visible(first["model_title"])
    # The end of a name tells as much as its beginning.
    parts = [title if len(title) <= _LONGEST else f"{title[: _LONGEST - 16]}…{title[-15:]}"]
    if with_dataset:
        parts.append(f"{first['dataset']}{' (synthetic)' if first['synthetic'] else ''}")
    # A model that was fitted on degraded images says so, whatever else is drawn.
    parts += [variant_text(k, first) for k in dict.fromkeys([*differing, "train_degrade"]) if k in first]
    return " · ".join(plotly_text(p) for p in parts if p)


def seeds_text(row: Mapping[str, Any]) -> str:
    """What the spread is over, e.g. "3 evaluation seeds"."""
    return stats.seeds_text(str(row["seed_kind"]), int(row["seeds"]))


# -- the figure ----------------------------------------------------------------------------------------------------
class _Strokes:
    """Dash and marker of each curve: the model's own, unless they have more to tell apart."""

    def __init__(self, rows: pd.DataFrame, differing: Sequence[str]) -> None:
        own = rows[[not is_published(g) for g in rows["model_group"]]]
        self._keys = ["dataset", *(k for k in differing if k != "train_degrade")]
        self._trainings = [t for t in dict.fromkeys(rows["train_degrade"]) if training_text(t, None)]
        self._dashes: dict[tuple[Any, ...], str] = {}
        if len(own.drop_duplicates(self._keys)) > 1:  # packs, or several curves of one model
            kinds = [self._kind(r) for r in own.drop_duplicates([*self._keys, "train_degrade"]).to_dict("records")]
            kinds.sort(key=lambda kind: kind[-1] in self._trainings)
            dashes = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
            self._dashes = {kind: dashes[i % len(dashes)] for i, kind in enumerate(kinds)}

    def _kind(self, first: Mapping[str, Any]) -> tuple[Any, ...]:
        return key_of(first, (*self._keys, "train_degrade"))

    def of(self, first: Mapping[str, Any], look: Look) -> tuple[str, str]:
        trained, published = first["train_degrade"] in self._trainings, is_published(first["model_group"])
        dash = look.dash
        if self._dashes and published:
            dash = next((d for kind, d in self._dashes.items() if kind[0] == first["dataset"]), dash)
        elif self._dashes:
            dash = self._dashes[self._kind(first)]
        if not trained:
            return dash, look.marker
        if not self._dashes or published:
            dash = other_dash(dash, self._trainings.index(first["train_degrade"]))
        return dash, f"{look.marker}-dot" if published else f"{look.marker.removesuffix('-open')}-open"


def degradation_figure(
    frame: pd.DataFrame,
    looks: Mapping[str, Look],
    *,
    axis: str = "gsd",
    value: str = "absolute",
    bands: bool = True,
    chance: float | None = None,
    height: int = 460,
    chosen: tuple[str, float] | None = None,
    revision: str | None = None,
) -> go.Figure:
    """Curves of several models for one adaptation, one metric and one operator.

    A model that was fitted on degraded images has the colour of the same model without, another dash and open markers.

    Args:
        frame: rows of `Store.compare`, one adaptation, metric and operator; as `as_retention` or `as_difference` give
            them for those values.
        looks: model group -> look, from `app.components.palette`.
        axis: "gsd" (metres, log2) or "factor" (the operator's severity). Rows without a GSD cannot be drawn in metres.
        bands: intervals as translucent bands; otherwise as error bars.
        chance: score of guessing, drawn as a line (absolute only).
        chosen: `rsfm.comparison.curve_id` and severity of the point to mark. `customdata` of our own points holds both.
        revision: while it is the same, a chart that is drawn anew keeps its zoom.
    """
    column = "gsd_m" if axis == "gsd" else "severity"
    rows = frame.dropna(subset=[column, "mean"])
    several = rows["dataset"].nunique() > 1
    differing = variants(rows)
    strokes = _Strokes(rows, differing)
    traces: list[dict[str, Any]] = []
    curves = sorted(curves_of(rows, column).values(), key=lambda c: -sum(p["mean"] for p in c) / len(c))
    curves.sort(key=lambda c: is_published(c[0]["model_group"]))
    for number, curve in enumerate(curves):  # the legend reads like the chart: best on top, published ones last
        first = curve[0]
        group = str(first["model_group"])
        look = looks.get(group, FALLBACK)
        label = curve_label(first, with_dataset=several, differing=differing)
        dash, marker = strokes.of(first, look)
        x, y = np.array([p[column] for p in curve], float), np.array([p["mean"] for p in curve], float)
        low, high = (np.array([p[end] for p in curve], float) for end in ("ci_low", "ci_high"))
        key = f"{group}|{first['dataset']}|{number}"
        known = high > low
        sure = bool(known.any())
        if bands and sure and len(curve) > 1:
            forth, back = x[known], x[known][::-1]
            traces.append(
                {"type": "scatter", "x": np.concatenate([forth, back]),
                 "y": np.concatenate([high[known], low[known][::-1]]),
                 "fill": "toself", "fillcolor": translucent(look.color, 0.2), "line": {"width": 0}, "mode": "lines",
                 "hoverinfo": "skip", "showlegend": False, "legendgroup": key}
            )  # fmt: skip
        trace = {
            "type": "scatter", "x": x, "y": y, "name": label, "legendgroup": key, "mode": "lines+markers",
            "line": {"color": look.color, "width": look.width, "dash": dash},
            "marker": {"symbol": marker, "size": 9 if look.width > 2 else 7, "color": look.color,
                       "line": {"width": 1.5 if marker != look.marker else 1, "color": look.color}},
            "hovertext": [_hover(label, *point) for point in zip(curve, low, high, strict=True)],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }  # fmt: skip
        if not is_published(group):
            points = [(curve_id(first), float(p["severity"])) for p in curve]
            # Lists: a tuple would come back from the browser as one anyway.
            trace |= {"customdata": [list(p) for p in points], "selected": {"marker": {"size": _CHOSEN}},
                      "unselected": {"marker": {"opacity": 1}}}  # fmt: skip
            if chosen in points:
                trace["selectedpoints"] = [points.index(chosen)]
        if sure and not (bands and len(curve) > 1):
            trace["error_y"] = {"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low,
                                "thickness": 1.3, "width": 4}  # fmt: skip
        traces.append(trace)
    layout = {
        "height": height + 14 * max(0, len(curves) - 6),  # the legend takes its room from the chart
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "traceorder": "normal"},
        "hovermode": "closest",
        "uirevision": revision,
        **_axes(rows, column, value),
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
    scale = scale_of(row["operator"])
    where = (
        f"{scale.level(row['severity'])} coarser" if scale.coarser else f"{scale.what} {scale.level(row['severity'])}"
    )
    gsd = f", {row['gsd_m']:.4g} m" if scale.coarser and not missing(row["gsd_m"]) else ""
    std = "" if missing(row["std"]) else f"std {row['std']:.3f} over "
    ends = f"  [{low:.3f}, {high:.3f}]" if high > low else ""
    size = f", {size_text(row)}" if row["n"] else ""
    seeds = "published" if is_published(row["model_group"]) else f"{std}{seeds_text(row)}"
    return f"<b>{label}</b><br>{row['mean']:.3f}{ends}<br>{plotly_text(where)}{gsd}<br>{seeds}{size}"


def _axes(rows: pd.DataFrame, column: str, value: str) -> dict[str, Any]:
    scale = scale_of(rows["operator"].iloc[0] if len(rows) else "")
    ticks = axis_ticks(rows[column].tolist(), log=scale.coarser)
    if not scale.coarser:
        title = f"{scale.title}: {scale.axis[:1].lower()}{scale.axis[1:]}"
    elif column == "gsd_m":
        title = "Effective GSD (m, log₂ scale): coarser to the right"
    else:
        title = "Times coarser (log₂ scale)"
    title = plotly_text(title)
    named = [plotly_text(d) for d in dict.fromkeys(rows.loc[rows["synthetic"].astype(bool), "dataset"])]
    if named:  # in the figure itself: it may be saved and shown without the page around it
        title += f"<br><span style='font-size:11px'>synthetic data: {', '.join(named)}</span>"
    metric = plotly_text(metric_title(str(rows["metric"].iloc[0]))) if len(rows) else "Score"
    if value == "retention":
        metric += " retained (1 = on images as they are)"
    if value == "difference":
        metric += ", difference to baseline"
    texts = [f"{t:.4g} m" if column == "gsd_m" else scale.level(t) for t in ticks]
    return {
        "xaxis": {"type": "log" if scale.coarser else "linear", "tickmode": "array", "tickvals": ticks,
                  "title": {"text": title}, "ticktext": texts},
        "yaxis": {"title": {"text": metric}},
    }  # fmt: skip


def axis_ticks(values: Sequence[float], most: int = 10, *, log: bool = True) -> list[float]:
    """Positions for ticks: the measured ones, as far as their labels have room; where they are many on a logarithmic
    axis, powers of two that cover them."""
    distinct = sorted({float(f"{v:.6g}") for v in values if v > 0 or not log})
    if not log:
        apart = distinct[:1]
        for v in distinct[1:]:
            if v - apart[-1] >= (distinct[-1] - distinct[0]) / 14:
                apart.append(v)
        return apart
    if len(distinct) <= most:
        return distinct
    low, high = np.floor(np.log2(distinct[0])), np.ceil(np.log2(distinct[-1]))
    return [float(2**e) for e in np.arange(low, high + 1)]
