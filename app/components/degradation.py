"""Resolution-degradation curves: scores against effective ground sampling distance, models overlaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.components.palette import FLOOR, Look, translucent
from app.text import plotly_text

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


def seeds_text(row: Mapping[str, object]) -> str:
    """What the spread is over, e.g. "3 evaluation seeds"."""
    count, kind = int(row["seeds"]), str(row["seed_kind"])  # type: ignore[call-overload]
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
    figure = go.Figure()
    for (group, dataset), curve in rows.groupby(CURVE, dropna=False, sort=False):
        curve = curve.sort_values(column)
        look = looks.get(str(group), FALLBACK)
        label = curve_label(curve, with_dataset=several)
        # With several packs the dash tells the pack; otherwise it is the model's own.
        dash = ("solid", "dash", "dot", "dashdot")[datasets.index(dataset) % 4] if several else look.dash
        low, high = _spread(curve)
        key = f"{group}|{dataset}"
        if bands and len(curve) > 1:
            figure.add_scatter(
                x=pd.concat([curve[column], curve[column][::-1]]), y=pd.concat([high, low[::-1]]), fill="toself",
                fillcolor=translucent(look.color, 0.2), line={"width": 0}, mode="lines", hoverinfo="skip",
                showlegend=False, legendgroup=key,
            )  # fmt: skip
        figure.add_scatter(
            x=curve[column], y=curve["mean"], name=label, legendgroup=key, mode="lines+markers",
            line={"color": look.color, "width": 2.5, "dash": dash},
            marker={"symbol": look.marker, "size": 9, "color": look.color, "line": {"width": 1, "color": look.color}},
            error_y=None if bands else {
                "type": "data", "symmetric": False, "array": high - curve["mean"],
                "arrayminus": curve["mean"] - low, "thickness": 1.3, "width": 4,
            },
            customdata=np.stack(
                [
                    curve["severity"], curve["gsd_m"].astype(float), low, high, curve["std"].astype(float),
                    curve["n"].astype(float), [seeds_text(r) for r in curve.to_dict("records")],
                ],
                axis=-1,
            ),
            hovertemplate=(
                f"<b>{label}</b><br>%{{y:.3f}}  [%{{customdata[2]:.3f}}, %{{customdata[3]:.3f}}]<br>"
                "%{customdata[0]}× coarser, %{customdata[1]:.4g} m<br>"
                "std %{customdata[4]:.3f} over %{customdata[6]}, n = %{customdata[5]}<extra></extra>"
            ),
        )  # fmt: skip
    if chance is not None and value == "absolute":
        figure.add_hline(
            y=chance, line={"dash": "dot", "width": 1, "color": FLOOR}, annotation_text="chance",
            annotation_position="bottom left", annotation_font={"size": 11, "color": FLOOR},
        )  # fmt: skip
    _axes(figure, rows, column, axis, value)
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "traceorder": "normal"},
        hovermode="closest",
    )
    return figure


def _axes(figure: go.Figure, rows: pd.DataFrame, column: str, axis: str, value: str) -> None:
    ticks = axis_ticks(rows[column].tolist())
    suffix = " m" if axis == "gsd" else "×"
    title = "Effective GSD (m, log₂ scale): coarser to the right" if axis == "gsd" else "Times coarser (log₂ scale)"
    figure.update_xaxes(
        type="log", dtick=np.log10(2), tickmode="array", tickvals=ticks,
        ticktext=[f"{t:.4g}{suffix}" for t in ticks], title_text=title,
    )  # fmt: skip
    metric = metric_title(str(rows["metric"].iloc[0])) if len(rows) else "Score"
    if value == "retention":
        figure.update_yaxes(title_text=f"{metric} retained (1 = at native resolution)", rangemode="tozero")
    else:
        figure.update_yaxes(title_text=metric)


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
    return table[[*columns, "auc", "auc_norm", "mean", "retention", "coarsest", "over", "n", "model", "metric"]]
