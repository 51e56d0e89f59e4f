"""The registry of models as a table: what they are, what they were trained on, how good they were found to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.components.measures import adaptation_title, metric_title, primary_metric, scale_of
from app.text import as_time, method_label, missing, model_name, number, visible
from rsfm.model_card import sensor_title

COLUMNS = {
    "title": st.column_config.TextColumn("Model", width=290, pinned=True),
    "problem": st.column_config.TextColumn("Problem", width=260),
    "scores": st.column_config.ListColumn(
        "Best scores", width=280,
        help="Per pack: the task's first metric on the images at their best, of the adaptation that did best; "
        "mean over the seeds of the model's group",
    ),
    "method": st.column_config.TextColumn("Method", width=110),
    "architecture": st.column_config.TextColumn("Architecture", width=100),
    "parameters": st.column_config.NumberColumn("Parameters", format="compact", width=100),
    "bands": st.column_config.ListColumn("Bands", width=200),
    "sensor": st.column_config.TextColumn("Sensor", width=140),
    "gsd_m": st.column_config.NumberColumn("GSD (m)", format="%.4g", width=80),
    "trained_on": st.column_config.TextColumn("Trained on", width=160),
    "samples": st.column_config.NumberColumn("Samples seen", format="localized", width=110),
    "seed": st.column_config.NumberColumn("Seed", format="%d", width=60),
    "imported": st.column_config.DatetimeColumn(
        "Imported (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130, help="Brought from another lab"
    ),
    "created": st.column_config.DatetimeColumn("Created (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130),
    "name": st.column_config.TextColumn("Name", width=320),
}  # fmt: skip
SPARSE = ("problem", "scores", "imported")


def best_scores(compared: pd.DataFrame) -> dict[str, list[str]]:
    """Model group -> its best score on each pack, in words.

    Args:
        compared: rows of `Store.compare`.
    """
    found: dict[str, list[str]] = {}
    for (group, dataset, task), rows in compared.groupby(["model_group", "dataset", "task"], sort=True):
        words = _best(rows, str(task))
        if words:
            found.setdefault(str(group), []).append(f"{visible(dataset)}: {words}")
    return found


def headlines(scores: pd.DataFrame) -> dict[str, str]:
    """Run -> the best score that it found, in words; mean over its evaluation seeds.

    Args:
        scores: rows of `Store.scores`.
    """
    point = ["run_id", "task", "split", "adaptation", "bands", "train_degrade", "degrade_target", "metric"]
    folded = scores.groupby([*point, "operator", "severity"], dropna=False)["value"].mean().rename("mean").reset_index()
    return {str(run): _best(rows, str(task)) for (run, task), rows in folded.groupby(["run_id", "task"])}


def _best(rows: pd.DataFrame, task: str) -> str:
    """The task's first metric on the images at their best, of the adaptation that did best; "" where there is none."""
    metric = primary_metric(rows["metric"], task)
    rows = rows[(rows["metric"] == metric) & rows["mean"].notna()]
    if rows.empty:
        return ""
    # How far images are from what they were; of an operator that is not known here, its severity as it stands. Images
    # as they are count alike, whichever operator left them so; else each operator's mildest severity.
    distance = (rows["severity"] - rows["operator"].map(lambda o: scale_of(o).identity or 0.0)).abs()
    least = distance.groupby(rows["operator"]).transform("min")
    rows = rows[distance == (least if least.min() > 0 else 0.0)]
    best = rows.loc[rows["mean"].idxmax()]
    return f"{number(best['mean'], 3)} {metric_title(metric)}, {adaptation_title(str(best['adaptation']))}"


def model_title(model: Mapping[str, Any]) -> str:
    """What a row of `Store.models` is called."""
    return model_name(model["name"]) if missing(model["title"]) or not model["title"] else visible(model["title"])


def model_rows(frame: pd.DataFrame, scores: Mapping[str, list[str]]) -> pd.DataFrame:
    """One row per model of `Store.models`."""
    rows = []
    for r in frame.to_dict("records"):
        rows.append(
            {
                "title": model_title(r),
                "problem": "" if missing(r["problem"]) else visible(r["problem"]),
                "scores": scores.get(str(r["group_id"]), []),
                "method": "" if missing(r["method"]) else method_label(r["method"]),
                "architecture": "" if missing(r["architecture"]) else visible(r["architecture"]),
                "parameters": r["parameters"],
                "bands": [] if missing(r["bands"]) else [visible(b) for b in str(r["bands"]).split(",") if b],
                "sensor": "" if missing(r["sensor"]) else visible(sensor_title(r["sensor"])),
                "gsd_m": r["gsd_m"],
                "trained_on": "" if missing(r["trained_on"]) else visible(r["trained_on"]),
                "samples": r["samples"],
                "seed": None if missing(r["seed"]) else int(r["seed"]),
                "imported": as_time(r["imported"]),
                "created": as_time(r["created"]),
                "name": visible(r["name"]),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))
