"""Small bar charts."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from app.components.palette import COLORS
from app.text import plotly_text

SPLIT_COLORS = {"train": "#0072B2", "val": "#E69F00", "test": "#D55E00"}


def class_counts_figure(samples: pd.DataFrame, classes: list[str]) -> go.Figure:
    """Samples per class, one colour per split.

    Args:
        samples: rows of samples.parquet; single labels in `label`, several in `labels`.
        classes: their order on the axis.
    """
    labels = samples[["split", "label"]]
    if labels["label"].isna().all() and "labels" in samples and samples["labels"].notna().any():
        labels = samples[["split", "labels"]].explode("labels").rename(columns={"labels": "label"})
    counts = labels.dropna().groupby(["split", "label"], sort=False).size()
    figure = go.Figure()
    splits = list(dict.fromkeys(samples["split"]))
    for i, split in enumerate(sorted(splits, key=lambda s: ["train", "val", "test", *splits].index(s))):
        figure.add_bar(
            y=[plotly_text(c) for c in classes],
            x=[int(counts.get((split, c), 0)) for c in classes],
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
