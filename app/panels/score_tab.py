"""The tabs of an evaluation on the page Run: its scores, and how its models were trained on the task."""

from __future__ import annotations

import re

import pandas as pd
import streamlit as st

from app.components.curves import curve_figure, metric_title
from app.components.degradation import curves_of, degradation_figure, seeds_text, variant_text, variants
from app.components.measures import (
    adaptation_title,
    ordered_adaptations,
    ordered_metrics,
    scale_of,
    size_text,
    training_text,
)
from app.components.measures import metric_title as score_title
from app.page import CHART, DEGRADATION, guarded, looks_of_models
from app.state import store
from app.text import number, plain, visible

#: What is logged of training on a task: "finetune-0/loss", by adaptation and evaluation seed.
_SERIES = re.compile(r"(?P<adaptation>[a-z]+)-(?P<seed>\d+)/(?P<name>.+)", re.DOTALL)
_TITLES = {"loss": "Training loss", "val_score": "Score on the validation split", "lr": "Learning rate"}


# -- scores --------------------------------------------------------------------------------------------------------
@guarded
def scores(run_id: str) -> None:
    rows = store().scores(run_id=run_id)
    if rows.empty:
        st.caption("No score has been measured yet.")
        return
    folded, looks = store().compare(run_id=run_id), looks_of_models()
    task = str(rows["task"].iloc[0])
    with st.grid(2, min_column_width=380):
        for adaptation in ordered_adaptations(rows["adaptation"]):
            mine = rows[rows["adaptation"] == adaptation]
            for metric in ordered_metrics(mine["metric"], task):
                for operator, part in mine[mine["metric"] == metric].groupby("operator", sort=True):
                    curve = folded[
                        (folded["adaptation"] == adaptation) & (folded["metric"] == metric)
                        & (folded["operator"] == operator)
                    ]  # fmt: skip
                    with st.container(border=True):
                        score_card(part, curve, looks, f"run.score.{adaptation}.{metric}.{operator}")
    first = rows.iloc[0]
    st.page_link(
        DEGRADATION, label=f"Compare with other models on {plain(first['dataset'])}", icon=":material/blur_on:",
        query_params={
            "packs": str(first["dataset"]), "operator": str(first["operator"]),
            **({} if first["degrade_target"] == "single" else {"target": str(first["degrade_target"])}),
        },
    )  # fmt: skip


def score_card(part: pd.DataFrame, curve: pd.DataFrame, looks: dict, key: str) -> None:
    """One metric after one adaptation: the curve, and the score of each seed below it."""
    first = part.iloc[0]
    adaptation, metric = adaptation_title(first["adaptation"]), score_title(first["metric"])
    training = training_text(first["train_degrade"], first["operator"])
    with st.container(horizontal=True, vertical_alignment="center"):
        said = f"**{plain(adaptation)}** · {plain(metric)}{f' · {plain(training)}' if training else ''}"
        st.markdown(said, width="content")
        if part["synthetic"].astype(bool).any():
            st.badge("synthetic data", icon=":material/science:", color="violet")
    scale = scale_of(first["operator"])
    axis = "gsd" if scale.coarser and curve["gsd_m"].notna().any() else "factor"
    if curve["mean"].notna().any():
        figure = degradation_figure(curve, looks, axis=axis, height=260)
        figure.update_layout(showlegend=len(curves_of(curve)) > 1, margin={"t": 8})
        st.plotly_chart(figure, config=CHART, key=key, alt=f"{adaptation}: {metric} against {scale.what}")
        seeds = seeds_text(curve.iloc[0])
        st.caption(f"This run alone: {seeds}, {size_text(curve.iloc[0])}.")
    else:
        st.caption("This score is not defined at any severity.")
    values = score_table(part)
    digits = {c: st.column_config.NumberColumn(c, format="%.4f") for c in values.columns[1:]}
    st.dataframe(
        values, hide_index=True, placeholder="–", alt=f"{metric} by evaluation seed and {scale.what}, {adaptation}",
        column_config={"Evaluation seed": st.column_config.TextColumn(width=130), **digits},
    )  # fmt: skip


def score_table(part: pd.DataFrame) -> pd.DataFrame:
    """Seeds in rows, severities in columns as the operator names them; further rows where the run measured several
    ways."""
    scale, differing = scale_of(part["operator"].iloc[0]), variants(part)
    seeds = [
        " · ".join(str(t) for t in (int(row["eval_seed"]), *(variant_text(k, row) for k in differing)) if t != "")
        for row in part.to_dict("records")
    ]
    cells = part.assign(seed=seeds).drop_duplicates(["seed", "severity"], keep="last")
    wide = cells.pivot(index="seed", columns="severity", values="value").sort_index(axis="columns")
    wide.columns = [scale.level(c) for c in wide.columns]
    if len(wide) > 1 and not differing:
        wide.loc["mean"] = wide.mean(skipna=False)
    return wide.rename_axis("Evaluation seed").reset_index()


# -- training on the task ------------------------------------------------------------------------------------------
def has_curves(run_id: str) -> bool:
    """Whether anything has been logged of a training on the task."""
    return not store().metric_names(run_id).empty


def by_epoch(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `Store.metrics` with the series ("finetune-0") as `run_id`, the metric alone as `name`, and as `step`
    the epoch of that series: an evaluation counts the epochs of all its trainings through."""
    parts = rows["name"].str.extract(_SERIES)
    known = parts["name"].notna()
    rows = rows.assign(
        run_id=(parts["adaptation"] + "-" + parts["seed"]).where(known, ""),
        name=parts["name"].where(known, rows["name"]),
    )
    return rows.assign(step=rows["step"] - rows.groupby(["run_id", "name"])["step"].transform("min") + 1)


def series_title(series: str) -> str:
    """ "finetune-0" as "Fine-tuning, seed 0"."""
    adaptation, _, seed = series.rpartition("-")
    return f"{adaptation_title(adaptation)}, seed {seed}" if adaptation else "This run"


@guarded
def training_curves(run_id: str) -> None:
    rows = by_epoch(store().metrics([run_id]))
    if rows.empty:
        st.caption("No metric has been logged yet. kNN and linear probes on frozen features log none.")
        return
    labels = {s: series_title(s) for s in sorted(rows["run_id"].unique(), key=lambda s: (s[: s.rfind("-")], len(s), s))}
    known = [n for n in (*_TITLES, *sorted(set(rows["name"]) - set(_TITLES))) if n in set(rows["name"])]
    if len(labels) == 1:  # then no legend says it
        st.caption(plain(next(iter(labels.values()))))
    ticks = {"dtick": 1} if rows["step"].max() <= 10 else {}  # there is no half epoch
    with st.grid(2, min_column_width=340):
        for name in known:
            title = _TITLES.get(name) or metric_title(visible(name))
            with st.container(border=True, gap="xxsmall"):
                with st.container(horizontal=True, horizontal_alignment="distribute"):
                    st.markdown(f"**{plain(title)}**", width="content")
                    line = rows[rows["name"] == name].sort_values("time")
                    st.caption(number(line["value"].iloc[-1]), width="content")
                figure = curve_figure(rows, name, x="step", labels=labels)
                figure.update_xaxes(title_text="Epoch", **ticks)
                st.plotly_chart(figure, config=CHART, key=f"run.training.{name}", alt=f"{title} by epoch")
