"""Histograms of bands, and shares of classes in masks: small multiples, one colour per split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.components.bars import SPLIT_COLORS
from app.components.palette import COLORS
from app.text import plotly_text
from rsfm.histograms import BandHistogram

COLUMNS = 3


def _color(split: str, number: int) -> str:
    return SPLIT_COLORS.get(split, COLORS[(number + 3) % len(COLORS)])


def band_histograms_figure(histograms: Sequence[BandHistogram]) -> go.Figure:
    """One small chart per band, in the band's unit; the outermost bins hold what lies beyond them."""
    columns = min(COLUMNS, max(1, len(histograms)))
    rows = -(-len(histograms) // columns)
    titles = [f"{plotly_text(h.band)} ({h.unit})" for h in histograms]
    gap = {"vertical_spacing": min(0.12, 0.45 / rows), "horizontal_spacing": 0.06}
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=titles, **gap)
    for i, histogram in enumerate(histograms):
        middles = (histogram.edges[:-1] + histogram.edges[1:]) / 2
        for number, (split, shares) in enumerate(histogram.shares.items()):
            figure.add_scatter(
                x=middles, y=shares, name=plotly_text(split), legendgroup=split, showlegend=i == 0, mode="lines",
                line={"shape": "hvh", "width": 1.5, "color": _color(split, number)}, row=i // columns + 1,
                col=i % columns + 1, hovertemplate="%{x:.4g}: %{y:.2%}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    figure.update_yaxes(showticklabels=False, rangemode="tozero")
    figure.update_annotations(font_size=13)
    figure.update_layout(
        height=190 * rows + 60,
        margin={"l": 8, "r": 8, "t": 56, "b": 8},
        legend={"orientation": "h", "yref": "container", "yanchor": "top", "y": 1.0, "x": 0},
    )
    return figure


def class_shares_figure(shares: dict[str, np.ndarray], classes: Sequence[str]) -> go.Figure:
    """Share of the pixels per class of a mask."""
    figure = go.Figure()
    for number, (split, values) in enumerate(shares.items()):
        figure.add_bar(
            y=[plotly_text(c) for c in classes], x=values, name=plotly_text(split), orientation="h",
            marker_color=_color(split, number), hovertemplate="%{x:.2%}<extra>%{y}</extra>",
        )  # fmt: skip
    figure.update_layout(
        barmode="group", height=max(180, 18 * len(classes) * max(1, len(shares)) + 80),
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title_text="Share of the labelled pixels", tickformat=".0%")
    return figure
