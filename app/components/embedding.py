"""Scatter of an embedding map: one WebGL trace, coloured by a column, with integer customdata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sequential

from app.components.palette import COLORS, FLOOR
from app.text import plotly_text

#: More categories than this share the palette's grey.
MOST_COLORS = 24
#: One colour for each of them: the models' palette first, then the same hues darker and lighter.
_CATEGORIES = (
    *COLORS, "#003F66", "#7F3900", "#005C43", "#8A3F69", "#6B4900", "#16547A", "#5E340B", "#44315E",
    "#66B3E0", "#F2A36B", "#66C9AD", "#E4B3CD", "#E6BF66", "#8FC4EA", "#CFA178", "#B5A1D1",
)  # fmt: skip
_UNKNOWN = "#B8C0C4"
_SCALE = sequential.Viridis
#: How far below the scale unknown numbers lie, as a share of it.
_STUB = 0.04


@dataclass(frozen=True)
class Coloring:
    """What the colours say.

    Attributes:
        title: of the column.
        codes: (N,) category of each point, −1 where it has none; or None for numbers.
        names: of the categories.
        values: (N,) numbers, NaN where there is none; or None for categories.
        limits: of the colour scale.
    """

    title: str
    codes: np.ndarray | None = None
    names: tuple[str, ...] = ()
    values: np.ndarray | None = None
    limits: tuple[float, float] = (0.0, 1.0)


def by_category(title: str, column: pd.Series, order: Sequence[str] = ()) -> Coloring:
    """Categories in the given order, others behind by how many there are; all beyond `MOST_COLORS` are one."""
    texts = column.astype("string")
    counts = texts.value_counts()
    names = [n for n in order if n in counts.index] + [n for n in counts.index if n not in set(order)]
    if len(names) > MOST_COLORS:
        kept, rest = names[: MOST_COLORS - 1], f"{len(names) - MOST_COLORS + 1} others"
        names = [*kept, rest]
        texts = texts.where(texts.isin(kept) | texts.isna(), rest)
    codes = pd.Categorical(texts, categories=names).codes.astype(np.int16)
    return Coloring(title, codes=codes, names=tuple(map(str, names)))


def by_number(title: str, column: pd.Series, limits: tuple[float, float] | None = None) -> Coloring:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float32)
    known = values[np.isfinite(values)]
    low, high = limits or ((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0))
    return Coloring(title, values=values, limits=(low, high if high > low else low + 1))


def embedding_figure(
    x: np.ndarray,
    y: np.ndarray,
    coloring: Coloring,
    texts: np.ndarray,
    *,
    selected: np.ndarray,
    axes: tuple[str, str],
    revision: str,
    height: int = 560,
) -> go.Figure:
    """A scatter of N points.

    Args:
        x, y: (N,) float32.
        texts: (N,) str, what the pointer shows.
        selected: positions that stand out; none: all do.
        axes: titles.
        revision: the same on redraws that keep the reader's zoom.
    """
    count = len(x)
    marker: dict[str, object] = {"size": 6 if count < 2_000 else 4 if count < 20_000 else 3, "opacity": 0.8}
    if coloring.codes is not None:
        steps = len(coloring.names) + 1
        colors = [_UNKNOWN, *(_color(i, coloring.names[i]) for i in range(len(coloring.names)))]
        marker |= {
            "color": (coloring.codes + 1).astype(np.uint8), "cmin": -0.5, "cmax": steps - 0.5,
            "colorscale": [
                [edge, color] for i, color in enumerate(colors) for edge in (i / steps, (i + 1) / steps)
            ],
        }  # fmt: skip
    else:
        # What is not known lies below the scale, in a colour of its own: else it would look like the lowest number.
        low, high = coloring.limits
        below = low - _STUB * (high - low)
        edge = _STUB / (1 + _STUB) / 2
        steps_ = [[edge + (1 - edge) * i / (len(_SCALE) - 1), color] for i, color in enumerate(_SCALE)]
        marker |= {
            "color": np.where(np.isfinite(coloring.values), coloring.values, below).astype(np.float32),
            "cmin": below, "cmax": high, "colorscale": [[0, _UNKNOWN], [edge, _UNKNOWN], *steps_],
            "colorbar": {"title": {"text": plotly_text(coloring.title)}, "thickness": 12, "outlinewidth": 0},
        }  # fmt: skip
    trace: dict[str, object] = {
        "type": "scattergl", "x": x, "y": y, "mode": "markers", "marker": marker, "showlegend": False,
        "customdata": np.arange(count, dtype=np.int32), "text": texts, "hovertemplate": "%{text}<extra></extra>",
        "selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 0.12}},
    }  # fmt: skip
    if len(selected):
        trace["selectedpoints"] = selected.tolist()  # Plotly reads no typed array here
    data: list[dict[str, object]] = [trace]
    for i, name in enumerate(coloring.names):  # the legend's own: a category is no trace here
        data.append(
            {"type": "scattergl", "x": [None], "y": [None], "mode": "markers", "name": plotly_text(name),
             "marker": {"size": 9, "color": _color(i, name)}, "hoverinfo": "skip"}
        )  # fmt: skip
    unknown = coloring.codes < 0 if coloring.codes is not None else ~np.isfinite(coloring.values)
    if unknown.any():
        data.append(
            {"type": "scattergl", "x": [None], "y": [None], "mode": "markers", "name": "unknown",
             "marker": {"size": 9, "color": _UNKNOWN}, "hoverinfo": "skip"}
        )  # fmt: skip
    bare = {"showgrid": False, "zeroline": False, "showticklabels": False}
    layout = {
        "height": height, "margin": {"l": 8, "r": 8, "t": 8, "b": 8}, "dragmode": "lasso", "uirevision": revision,
        "legend": {"itemsizing": "constant", "itemclick": False, "itemdoubleclick": False, **(
            {"title": {"text": plotly_text(coloring.title)}} if coloring.codes is not None
            else {"orientation": "h", "yanchor": "top", "y": -0.08, "x": 0}  # the scale stands on the right
        )},
        "xaxis": {**bare, "title": {"text": axes[0]}},
        # One unit is as long on both axes: distances are all that such a map has.
        "yaxis": {**bare, "title": {"text": axes[1]}, "scaleanchor": "x"},
        "hovermode": "closest",
    }  # fmt: skip
    return go.Figure(data=data, layout=layout)


def _color(number: int, name: str) -> str:
    if name.endswith(" others"):
        return FLOOR
    return _CATEGORIES[number % len(_CATEGORIES)]
