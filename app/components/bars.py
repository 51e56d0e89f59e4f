"""Small bar charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from app.components.palette import COLORS
from app.text import plotly_text

SPLIT_COLORS = {"train": "#0072B2", "val": "#E69F00", "test": "#D55E00"}


def class_counts(samples: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Split -> class -> number of samples.

    Args:
        samples: rows of samples.parquet; single labels in `label`, several in `labels`.
    """
    labels = samples[["split", "label"]]
    if labels["label"].isna().all() and "labels" in samples and samples["labels"].notna().any():
        labels = samples[["split", "labels"]].explode("labels").rename(columns={"labels": "label"})
    counts: dict[str, dict[str, int]] = {str(split): {} for split in samples["split"].unique()}
    for (split, label), number in labels.dropna().groupby(["split", "label"], sort=False).size().items():
        counts[str(split)][str(label)] = int(number)
    return counts


def largest_classes(counts: Mapping[str, Mapping[str, int]], most: int) -> tuple[list[str], str]:
    """The classes with the most samples, the largest first, and in words what is left out ("" where nothing is)."""
    total: Counter[str] = Counter()
    for of_split in counts.values():
        total.update(of_split)
    ordered = sorted(total, key=lambda c: (-total[c], c))
    if len(ordered) <= most:
        return ordered, ""
    rest = [total[c] for c in ordered[most:]]
    each = f"{min(rest):,}" if min(rest) == max(rest) else f"{min(rest):,} to {max(rest):,}"
    said = f"more {'class' if len(rest) == 1 else 'classes'} with {each} {'image' if max(rest) == 1 else 'images'}"
    return ordered[:most], f"and {len(rest):,} {said}{' each' if len(rest) > 1 else ''}"


def class_counts_figure(counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> go.Figure:
    """Samples per class, one colour per split.

    Args:
        counts: split -> class -> number of samples.
        classes: their order on the axis.
    """
    figure = go.Figure()
    splits = list(counts)
    for i, split in enumerate(sorted(splits, key=lambda s: ["train", "val", "test", *splits].index(s))):
        figure.add_bar(
            y=[plotly_text(c) for c in classes],
            x=[counts[split].get(c, 0) for c in classes],
            name=plotly_text(split),
            orientation="h",
            marker_color=SPLIT_COLORS.get(split, COLORS[(i + 3) % len(COLORS)]),
            hovertemplate="%{x:,} samples<extra>%{y}</extra>",
        )
    figure.update_layout(
        barmode="stack",
        height=max(180, 26 * len(classes) + 70),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0, "traceorder": "normal"},
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title_text="Samples")
    return figure


def class_pixels_figure(shares: Sequence[tuple[str, int, str]], total: int) -> go.Figure:
    """Shares of the pixels, one bar for each.

    Args:
        shares: name, number of pixels, colour.
        total: number of all pixels.
    """
    names, counts, colors = zip(*shares, strict=True)
    figure = go.Figure(
        go.Bar(
            y=[plotly_text(n) for n in names], x=[c / total for c in counts], orientation="h",
            marker={"color": colors, "line": {"color": "#8A959B", "width": 1}},  # one colour may be that of the ground
            text=[share_text(c, total) for c in counts], textposition="outside", cliponaxis=False,
            customdata=counts, hovertemplate="%{customdata:,} pixels<extra>%{y}</extra>",
        )
    )  # fmt: skip
    figure.update_layout(height=26 * len(shares) + 40, margin={"l": 8, "r": 56, "t": 8, "b": 8}, showlegend=False)
    # Names that look alike, or like numbers, are rows of their own all the same.
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    figure.update_xaxes(visible=False, range=[0, max(counts) / total])
    return figure


def share_text(count: int, total: int) -> str:
    """`12.3 %`; what is there is never called nothing, nor what is not all everything."""
    if count in (0, total):
        return "none" if count == 0 else "all"
    percent = 100 * count / total
    return "< 0.1 %" if percent < 0.1 else "> 99.9 %" if percent > 99.9 else f"{percent:.1f} %"
