"""A map of embedded points: coloured by a column, chosen from by hand."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from plotly.colors import sample_colorscale, sequential

from app.components.palette import COLORS, FLOOR
from app.text import number, visible

#: More categories than this share the palette's grey.
MOST_COLORS = 24
#: One colour for each of them: the models' palette first, then the same hues darker and lighter.
_CATEGORIES = (
    *COLORS, "#003F66", "#7F3900", "#005C43", "#8A3F69", "#6B4900", "#16547A", "#5E340B", "#44315E",
    "#66B3E0", "#F2A36B", "#66C9AD", "#E4B3CD", "#E6BF66", "#8FC4EA", "#CFA178", "#B5A1D1",
)  # fmt: skip
_UNKNOWN = "#B8C0C4"
_SCALE = tuple(
    "#{:02x}{:02x}{:02x}".format(*(round(c * 255) for c in color))
    for color in sample_colorscale(sequential.Viridis, 255, colortype="tuple")
)
_HERE = Path(__file__).parent
_plot = st.components.v2.component(
    "rsfm.points",
    css=(_HERE / "points.css").read_text(encoding="utf-8"),
    js=(_HERE / "points.js").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Coloring:
    """What the colours say.

    Attributes:
        title: of the column.
        codes: (N,) uint8, each point's place in `palette`; 0 where nothing is known.
        palette: colours as #rrggbb.
        names: of the categories 1, 2, …; empty for numbers.
        limits: of the colour scale, for numbers.
        ends: what stands at its two ends; empty: the limits.
    """

    title: str
    codes: np.ndarray
    palette: tuple[str, ...]
    names: tuple[str, ...] = ()
    limits: tuple[float, float] = (0.0, 1.0)
    ends: tuple[str, str] | tuple[()] = ()


def by_category(title: str, column: pd.Series, order: Sequence[str] = ()) -> Coloring:
    """Categories in the given order, others behind by how many there are; all beyond `MOST_COLORS` are one."""
    found = pd.Categorical(column.astype("string"))
    counts = pd.Series(np.bincount(found.codes[found.codes >= 0], minlength=len(found.categories)), found.categories)
    counts = counts.sort_values(ascending=False, kind="stable")
    names = [n for n in order if n in counts.index] + [n for n in counts.index if n not in set(order)]
    colors = [_CATEGORIES[i % len(_CATEGORIES)] for i in range(len(names))]
    place = {name: i + 1 for i, name in enumerate(names)}
    if len(names) > MOST_COLORS:
        rest = f"{len(names) - MOST_COLORS + 1} others"
        names, colors = [*names[: MOST_COLORS - 1], rest], [*colors[: MOST_COLORS - 1], FLOOR]
    codes = [0, *(min(place[n], MOST_COLORS) for n in found.categories)]  # category −1 is none
    return Coloring(
        title, np.array(codes, np.uint8)[found.codes + 1], (_UNKNOWN, *colors), names=tuple(map(str, names))
    )


def by_number(title: str, column: pd.Series, limits: tuple[float, float] | None = None) -> Coloring:
    """Numbers on a scale from the lowest to the highest, or between the given limits."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    known = np.isfinite(values)
    low, high = limits or ((values[known].min(), values[known].max()) if known.any() else (0.0, 1.0))
    high = high if high > low else low + 1
    shares = np.clip((np.where(known, values, low) - low) / (high - low), 0, 1)
    codes = np.where(known, 1 + np.rint(shares * (len(_SCALE) - 1)), 0).astype(np.uint8)
    return Coloring(title, codes, (_UNKNOWN, *_SCALE), limits=(float(low), float(high)))


def by_date(title: str, column: pd.Series) -> Coloring:
    """Times (UTC) on a scale from the first to the last one, which stand at its ends as days."""
    first, last = column.min(), column.max()
    days = (column - first) / pd.Timedelta(days=1)
    ends = () if pd.isna(first) else (f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}")
    return replace(by_number(title, days), ends=ends)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def chosen_points(key: str, count: int) -> np.ndarray:
    """(k,) the points that were just chosen on the map with that key, in its `on_choose`."""
    bits = np.frombuffer(base64.b64decode(st.session_state[key].chosen), np.uint8)
    chosen = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
    return chosen[chosen < count]


def points_map(
    key: str,
    coloring: Coloring,
    *,
    points_url: str,
    thumbnail_url: str,
    selected: np.ndarray,
    axes: tuple[str, str],
    title: str,
    on_choose: Callable[[], None],
) -> None:
    """The map of N points, which readers draw around.

    Args:
        points_url: leads to the points, see `app.routes.embeddings`; another address, another map.
        thumbnail_url: of a sample, with SAMPLE in the place of split and row.
        selected: positions that stand out; none: all do.
        axes: titles.
        title: what the map shows, in words.
        on_choose: called after points were chosen; see `chosen_points`.
    """
    mask = np.zeros(len(coloring.codes), bool)
    mask[selected] = True
    data = {
        "points": points_url, "thumbnail": thumbnail_url, "count": len(coloring.codes), "title": visible(title),
        "axes": list(axes), "codes": _text(coloring.codes.tobytes()), "palette": list(coloring.palette),
        "selected": _text(np.packbits(mask, bitorder="little").tobytes()) if mask.any() else "",
        "legend": {
            "title": visible(coloring.title), "names": [visible(n) for n in coloring.names] or None,
            "limits": list(coloring.ends) or [number(v) for v in coloring.limits],
        },
    }  # fmt: skip
    _plot(key=key, data=data, on_chosen_change=on_choose)
