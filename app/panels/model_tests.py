"""Tests on demand: is one model better than another, and which models cannot be told apart? They read predictions, so
they run only when a reader asks, and are kept until there are new results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app.components.measures import (
    adaptation_title,
    metric_title,
    samples_word,
    scale_of,
    target_title,
    training_text,
)
from app.components.score_table import levels_of
from app.state import store, store_of, workspace
from app.text import missing, plain, visible
from app.view_state import choose_many, choose_pill
from rsfm import comparison
from rsfm.comparison.models import Places, places_of
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

#: Column of the scores -> its values on the page, as something that a cache can compare.
Where = tuple[tuple[str, tuple[Any, ...]], ...]


def _where(frame: pd.DataFrame) -> Where:
    names = ("dataset", "split", "adaptation", "operator", "degrade_target", "model_group", "severity")
    return tuple((name, tuple(sorted(frame[name].dropna().unique()))) for name in names)


def newest() -> tuple[int, str]:
    """Changes whenever a score is added."""
    scores = store().scores()
    return len(scores), str(scores["time"].max())


@st.cache_data(max_entries=32, show_spinner=False)
def _paired(root: str, newest: tuple[int, str], a: str, b: str, places: Places, metric: str | None) -> pd.DataFrame:
    return comparison.paired(store_of(Workspace.resolve(root)), a, b, places=places, metric=metric)


@st.cache_data(max_entries=32, show_spinner=False)
def _tiers(root: str, newest: tuple[int, str], where: Where, metric: str | None) -> pd.DataFrame:
    return comparison.tiers_of(store_of(Workspace.resolve(root)), metric=metric, where=dict(where))


# -- tiers ---------------------------------------------------------------------------------------------------------
def tier_level(frame: pd.DataFrame) -> float | None:
    """The severity at which a reader asks for tiers of the models on the page.

    Args:
        frame: the rows on the page, without published ones.
    """
    if frame["model_group"].nunique() < 2:
        return None
    levels = {f"{severity:g}": (name, severity) for name, severity in levels_of(frame).items()}
    chosen = choose_pill(
        "Tiers at", list(levels), "tiers", format_func=lambda s: levels[s][0] if s in levels else s,
        help="Which models cannot be told apart at this severity. Reads predictions; takes a moment.",
    )  # fmt: skip
    return levels[chosen][1] if chosen else None


def tiers_at(frame: pd.DataFrame, metric: str | None, severity: float) -> pd.DataFrame | None:
    """Tiers of the models on the page; None where there are none, after saying why.

    Args:
        metric: the score that counts; None for the primary one of each task.
    """
    try:
        with st.spinner("Reading predictions …"):
            found = found_tiers(frame, metric, severity)
    except RsfmError as error:
        st.error(plain(error), icon=":material/error:")
        return None
    return found if _said(found, "No tier could be found") else None


def found_tiers(frame: pd.DataFrame, metric: str | None, severity: float) -> pd.DataFrame:
    """Rows of `rsfm.comparison.tiers_of` of the models on the page at one severity, kept until there are new results.

    Raises:
        RsfmError: models were tested on other samples.
    """
    shown = _where(frame[frame["severity"] == severity])
    return _tiers(str(workspace().root), newest(), shown, metric)


def tier_note(level: str) -> str:
    return (
        f"Tiers at {level}: a model could not be told from the best of its tier, and could be told from the best of "
        "every tier above (p < 0.05, corrected for the number of models). Each pack, adaptation and kind of training "
        "has its own."
    )


def _said(found: pd.DataFrame, nothing: str) -> bool:
    """Whether there is anything, after saying what could not be used."""
    left_out = found.attrs.get("left_out", [])
    if found.empty:
        st.warning(plain(" ".join([f"{nothing}.", *left_out[:5]])), icon=":material/help:")
    elif left_out:
        with st.expander(f"Left out ({len(left_out)})", icon=":material/info:"):
            st.markdown("\n".join(f"- {plain(line)}" for line in left_out[:40]))
            if len(left_out) > 40:
                st.caption(f"and {len(left_out) - 40} more")
    return not found.empty


# -- two models ----------------------------------------------------------------------------------------------------
def pair_panel(frame: pd.DataFrame, metric: str | None) -> None:
    """Choose two models, see in which cells one is better: of those on the page, and of no others.

    Args:
        frame: the rows on the page, without published ones.
        metric: the score that counts; None for the primary one of each task.
    """
    titles = {str(g): visible(t) for g, t in zip(frame["model_group"], frame["model_title"], strict=True)}
    if len(titles) < 2:
        return
    st.subheader("Is one model better than another?", anchor=False)
    pair = choose_many(
        "Two models", list(titles), "pair", most=2, format_func=lambda g: titles.get(g, g), width=640,
        placeholder="Choose two of the models above",
        help="Both are compared wherever they were measured alike, on the same test samples. Reads predictions; takes "
        "a moment.",
    )  # fmt: skip
    if len(pair) < 2:
        return
    try:
        with st.spinner("Reading predictions …"):
            found = _paired(str(workspace().root), newest(), *pair, places_of(frame), metric)
    except RsfmError as error:
        st.error(plain(error), icon=":material/error:")
        return
    answer = comparison.verdict(found)
    names = {"a": found.attrs["a"], "b": found.attrs["b"]}
    with st.container(border=True):
        st.markdown(f":material/balance: **{plain(answer.text)}**")
        remarks = [*answer.remarks, "p-values are corrected for the number of rows (Holm); intervals are not."]
        st.caption(f"A: {plain(names['a'])}. B: {plain(names['b'])}. {plain(' '.join(remarks))}")
        pair_table(found, names)
        _said(found, "Nothing was compared")


def p_text(p: Any) -> str:
    if missing(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def pair_rows(found: pd.DataFrame) -> pd.DataFrame:
    """What the table of a paired comparison shows, a row per cell."""
    rows = []
    for row in found.to_dict("records"):
        scale = scale_of(row["operator"])
        rows.append(
            {
                "pack": visible(row["dataset"]), "adaptation": adaptation_title(row["adaptation"]),
                "metric": metric_title(row["metric"]),
                "training": training_text(row["train_degrade"], row["operator"]) or "as they are",
                "target": target_title(row["degrade_target"]),
                "bands": f"{visible(row['bands_a'])} | {visible(row['bands_b'])}",
                "level": scale.level(row["severity"]), "a": row["mean_a"], "b": row["mean_b"],
                "difference": row["difference"],
                "interval": "–" if missing(row["ci_low"]) else f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
                "p": p_text(row["p_adjusted"]), "n": row["n"],
                "verdict": {"a": "A is better", "b": "B is better"}.get(row["verdict"], "no difference"),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def pair_table(found: pd.DataFrame, names: Mapping[str, str]) -> None:
    rows = pair_rows(found)
    # What is the same everywhere stands above the table already.
    telling = [c for c in ("pack", "adaptation", "metric", "training", "target", "bands") if rows[c].nunique() > 1]
    scale = scale_of(found["operator"].iloc[0])
    score = {
        side: st.column_config.NumberColumn(side.upper(), format="%.3f", width=70, help=plain(name))
        for side, name in names.items()
    }
    words = sorted({samples_word(t) for t in found["task"]})
    st.dataframe(
        rows, hide_index=True, alt="The two models at each severity, with the difference and its test",
        column_order=[*telling, "level", "a", "b", "difference", "interval", "p", "verdict", "n"], placeholder="–",
        column_config={
            "pack": "Pack", "adaptation": "Adaptation", "metric": "Metric", "training": "Training images",
            "target": "Degraded", "bands": "Bands (A | B)",
            "level": st.column_config.TextColumn("At", width=70, help=plain(f"{scale.title}: {scale.axis}")),
            **score,
            "difference": st.column_config.NumberColumn("A − B", format="%+.3f", width=80),
            "interval": st.column_config.TextColumn("95 % interval", width=130),
            "p": st.column_config.TextColumn("p (Holm)", width=80, alignment="right"),
            "verdict": st.column_config.TextColumn("Verdict", width=110),
            "n": st.column_config.NumberColumn("n", format="localized", width=60, help=" or ".join(words).capitalize()),
        },
    )  # fmt: skip
