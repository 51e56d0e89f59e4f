"""Leaderboard: models over packs and tasks, tiers instead of ranks."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.components.board import (
    board_csv,
    board_figure,
    board_table,
    column_text,
    column_titles,
    row_title,
    words_for_samples,
)
from app.components.curves_view import source_note
from app.components.measures import interval_text, metric_title, scale_of
from app.components.naming import distinct_titles, specs_of
from app.components.palette import published_looks
from app.components.score_table import findings_about, place_of
from app.page import CHART, DEGRADATION, LAUNCH, empty_state, heading, looks_of_models
from app.panels.board_view import BANDS, Board, controls, rows_of, tiers_for
from app.panels.findings import show_findings
from app.panels.model_tests import pair_panel
from app.state import store
from app.text import missing, plain, visible
from app.view_state import choose_whether
from rsfm.comparison.board import TEST, Column, Row
from rsfm.comparison.board_tiers import UNEVEN
from rsfm.comparison.floors import why_not_rescaled
from rsfm.errors import RsfmError
from rsfm.store.lint import PLACE

#: Models on the chart.
MOST = 30


# -- what is said --------------------------------------------------------------------------------------------------
def about(chosen: Board) -> str:
    """How a number came about, in a few sentences."""
    count, distinct = len(chosen.columns), len({c["dataset"] for c in chosen.columns})
    packs = f"{distinct} packs" if distinct > 1 else "one pack"
    packs = packs if count == distinct else f"{count} tests on {packs}"
    scale = scale_of(chosen.columns[0]["operator"])
    ladders = {c.severities for c in chosen.columns}
    levels = ", ".join(scale.level(s) for s in chosen.columns[0].severities) if len(ladders) == 1 else "see the columns"
    how = "rescaled so that the best constant prediction is 0 and a perfect one 1" if chosen.normalised else "as it is"
    text = (
        f"Mean over {packs} ({BANDS[chosen.band].lower()}: {levels}), each score {how}. Columns show scores as they "
        f"are. Intervals (95 %): {interval_text([c['metric'] for c in chosen.columns])} over "
        f"{words_for_samples(chosen.columns)} and the spread over seeds, joined over packs; models of several seeds "
        "are the same on every pack, so their spread is that of each seed's mean. A model that lacks one of the packs "
        "has no number: means over different packs are not compared."
    )
    if chosen.others:
        titles = column_titles([*chosen.columns, *chosen.others])[count:]
        left = ", ".join(f"{title} ({c.models})" for title, c in zip(titles, chosen.others, strict=True))
        text += f" Not counted, with the number of their models: {left}."
    return f"{text} Synthetic data: {', '.join(named)}." if (named := synthetic_packs(chosen)) else text


def synthetic_packs(chosen: Board) -> list[str]:
    mine = chosen.rows[chosen.rows["dataset"].isin([c["dataset"] for c in chosen.columns])]
    return sorted({visible(d) for d in mine.loc[mine["synthetic"].astype(bool), "dataset"]})


def say_what_is_missing(rows: list[Row], chosen: Board) -> None:
    if uneven := [row_title(row) for row in rows if row.uneven]:
        st.info(f"Without an interval: {plain(', '.join(uneven))}: {UNEVEN}.", icon=":material/info:")
    reasons = {c: why for c in chosen.columns if chosen.normalised and (why := why_not_rescaled(c))}
    if reasons:
        for why in dict.fromkeys(reasons.values()):
            names = ", ".join(
                visible(f"{c['dataset']} ({metric_title(c['metric'])})") for c in reasons if reasons[c] == why
            )
            st.info(
                f"There are no normalised means. {plain(names)}: {why}. Leave it out, choose another metric, or show "
                "scores.",
                icon=":material/info:",
            )
    elif not any(r.score for r in rows if not r.published):
        st.info(
            "No model was measured on all of these packs, so none has a number. Choose fewer packs.",
            icon=":material/info:",
        )


# -- the table -----------------------------------------------------------------------------------------------------
def findings_of(rows: list[Row], shown: pd.DataFrame, found: list[dict[str, Any]]) -> list[int]:
    """How many findings are about what the board shows of each model; none are about published numbers."""
    about_places = Counter(map(place_of, found))
    places = shown[list(dict.fromkeys([*TEST, *PLACE, "train_degrade"]))].drop_duplicates().to_dict("records")
    counts: Counter[tuple[Any, ...]] = Counter()
    for record in places:
        key = (record[name] for name in ("model_group", "train_degrade", "bands", *TEST))
        counts[tuple(None if missing(v) else v for v in key)] += about_places[place_of(record)]
    return [
        0 if row.published else sum(counts[(*row.entrant[:2], row.bands[p], *p)] for p in row.values) for row in rows
    ]


def table(rows: list[Row], chosen: Board, found: list[dict[str, Any]]) -> None:
    counts = findings_of(rows, _rows_of(chosen), found)
    frame = board_table(rows, chosen.columns, counts)
    titles = column_titles(chosen.columns)
    order = {
        "tier": any(r.tier for r in rows), "model": True, "source": any(r.published for r in rows), "mean": True,
        "interval": frame["interval"].astype(bool).any(), "coverage": True,
        **{str(i): True for i in range(len(titles))}, "lacks": any(r.lacks for r in rows), "findings": any(counts),
    }  # fmt: skip
    event = st.dataframe(
        frame, hide_index=True, key="leaderboard.table", on_select="rerun", selection_mode="single-cell",
        alt="Models over packs, best first", placeholder="–", column_order=[n for n, wanted in order.items() if wanted],
        column_config={
            "tier": st.column_config.TextColumn("Tier", width=50, help="A is the best; see above."),
            "model": st.column_config.TextColumn("Model", width=260),
            "source": st.column_config.MultiselectColumn(
                "Source", options=["authors"], color="gray", width=80,
                help="Published by the authors of the benchmark; not measured here.",
            ),
            "mean": st.column_config.NumberColumn("Mean", format="%.3f", width=75),
            "interval": st.column_config.TextColumn("95 % interval", width=130),
            "coverage": st.column_config.TextColumn(
                "Packs" if len({c["dataset"] for c in chosen.columns}) == len(chosen.columns) else "Tests", width=70,
                help="On how many of those that count.",
            ),
            "lacks": st.column_config.TextColumn("Lacks", width=180, help="Packs on which it was not measured alike."),
            "findings": st.column_config.NumberColumn("Findings", width=80, help="Listed below the table."),
            **{
                str(i): st.column_config.NumberColumn(
                    title, format="%.3f", width=130, help=plain(column_text(column))
                )
                for i, (title, column) in enumerate(zip(titles, chosen.columns, strict=True))
            },
        },
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download CSV", board_csv(rows, chosen.columns, normalised=chosen.normalised), "leaderboard.csv",
            "text/csv", icon=":material/download:", on_click="ignore", key="leaderboard.csv",
        )  # fmt: skip
        links(event.selection.cells, rows, chosen)


def links(cells: list[tuple[int, str]], rows: list[Row], chosen: Board) -> None:
    """From a score that was clicked to its curve."""
    picked = [(rows[i], chosen.columns[int(name)]) for i, name in cells if i < len(rows) and name.isdigit()]
    if not picked:
        st.caption("Click a score to open its curve.")
        return
    row, column = picked[0]
    query = degradation_query(column)
    if not row.published:
        st.page_link(
            DEGRADATION, label=f"Curve of {plain(row_title(row))}", icon=":material/blur_on:",
            query_params={**query, "models": row.entrant[0]},
        )  # fmt: skip
    st.page_link(
        DEGRADATION, label=f"All models on {plain(column['dataset'])}", icon=":material/blur_on:",
        query_params={**query, **({"authors": "True"} if row.published else {})},
    )  # fmt: skip


def degradation_query(column: Column) -> dict[str, str]:
    """The view of the page Degradation that a column is a part of."""
    query = {name: str(column[key]) for name, key in (
        ("packs", "dataset"), ("metric", "metric"), ("operator", "operator"), ("adaptation", "adaptation"),
    )}  # fmt: skip
    return query if column["degrade_target"] == "single" else {**query, "target": str(column["degrade_target"])}


def _rows_of(chosen: Board) -> pd.DataFrame:
    """The rows that the board's own numbers come from."""
    kept = [
        chosen.rows[
            (chosen.rows["dataset"] == c["dataset"]) & (chosen.rows["split"] == c["split"])
            & (chosen.rows["task"] == c["task"]) & chosen.rows["severity"].isin(c.severities)
        ]
        for c in chosen.columns
    ]  # fmt: skip
    return pd.concat(kept) if kept else chosen.rows.iloc[:0]


# -- the chart -----------------------------------------------------------------------------------------------------
def chart(rows: list[Row], chosen: Board) -> None:
    """The models that have a number, as far as a chart can show them."""
    ranked = [row for row in rows if row.score is not None]
    if not ranked:
        return
    looks = {**looks_of_models(), **published_looks(row.entrant[0] for row in ranked if row.published)}
    unit = "Mean of normalised scores" if chosen.normalised else "Mean of scores"
    with st.container(border=True):
        if synthetic := synthetic_packs(chosen):
            packs = plain(", ".join(synthetic))
            st.badge("synthetic data", icon=":material/science:", color="violet", help=packs)
        st.plotly_chart(
            board_figure(ranked[:MOST], looks, unit), config=CHART, key="leaderboard.chart",
            alt=f"{unit} of each model with its interval, best on top",
        )  # fmt: skip
        if len(ranked) > MOST:
            st.caption(f"The first {MOST} of {len(ranked)} models of the table.")


# -- the page ------------------------------------------------------------------------------------------------------
heading("Leaderboard", "Models over packs and tasks: one number with its interval, and who cannot be told apart.")
everything = store().compare()
if everything.empty:
    empty_state(
        ":material/leaderboard:", "No results yet",
        "Evaluate models on labelled packs; what they reach on all of them together appears here.",
        [(LAUNCH, "Evaluate a model")],
    )  # fmt: skip
    st.stop()
chosen = controls(distinct_titles(everything, partial(specs_of, store())))
if not chosen.columns:
    empty_state(
        ":material/filter_alt_off:", "Nothing to compare",
        "Nothing was measured like that; choose at least one pack, or other severities, above.",
    )  # fmt: skip
    st.stop()
rows = rows_of(chosen)
say_what_is_missing(rows, chosen)
if sum(r.score is not None and not r.published for r in rows) > 1 and choose_whether(
    "Tiers", "tiers", help="Which models cannot be told apart. Reads predictions; takes a moment."
):
    try:
        rows, left_out = tiers_for(rows, chosen)
    except RsfmError as error:
        st.error(plain(error), icon=":material/error:")
    else:
        st.caption(
            "Tiers: a model could not be told from the best of its tier, and could be told from the best of every tier "
            "above (p < 0.05, corrected for the number of models), on average over these packs."
        )
        if left_out:
            with st.expander(f"Without a tier ({len(left_out)})", icon=":material/info:"):
                st.markdown("\n".join(f"- {plain(line)}" for line in left_out[:40]))
st.caption(plain(about(chosen)))
if len(chosen.published):
    st.caption(plain(source_note(chosen.published, "absolute")))
found = findings_about(store().lint(), _rows_of(chosen))
table(rows, chosen, found)
show_findings(found)
chart(rows, chosen)
pair_panel(_rows_of(chosen), chosen.metric)
