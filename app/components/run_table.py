"""Runs and groups of runs as tables: what the store gives, in words and numbers that people read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.components.measures import adaptation_title, metric_title
from app.components.naming import telling_settings
from app.text import (
    STATE_LOOK,
    as_time,
    method_label,
    missing,
    model_name,
    number,
    run_details,
    run_title,
    share,
    visible,
)
from rsfm.alarms import ALARMS, Alarm
from rsfm.stats import seeds_text
from rsfm.store.runs import STATES

#: How the whole list can be ordered: key of `rsfm.store.queries.SORTS` -> what people call it.
SORT_TITLES = {
    "newest": "Newest first", "oldest": "Oldest first", "score": "Best score", "knn": "Best kNN",
    "loss": "Lowest loss", "longest": "Longest", "method": "Method", "pack": "Pack", "state": "State",
}  # fmt: skip
#: States in which a run can be overdue with its sign of life.
GOING = ("starting", "running", "stopping")
#: Columns that people can choose -> title; those of `USUAL` are shown where nobody chose.
OPTIONAL = {
    "state": "State", "alarms": "Alarms", "progress": "Progress", "details": "Settings", "loss": "Loss",
    "knn": "Best kNN", "score": "Score", "measured": "What the score is", "duration": "Minutes", "created": "Created",
    "tags": "Tags", "note": "Note", "run": "Run id", "kind": "Kind", "method": "Method", "pack": "Pack",
    "model": "Model", "preset": "Preset", "seed": "Seed", "rate": "Rate", "attempt": "Attempt", "started": "Started",
    "finished": "Ended", "message": "Message", "group": "Group",
}  # fmt: skip
USUAL = (
    "state", "alarms", "progress", "details", "loss", "knn", "score", "duration", "created", "tags", "note", "run"
)  # fmt: skip
#: Of the usual ones, those that are left out where no run has anything to say in them.
SPARSE = ("alarms", "details", "loss", "knn", "score", "tags", "note")


def _time(title: str) -> Any:
    return st.column_config.DatetimeColumn(f"{title} (UTC)", format="YYYY-MM-DD HH:mm", timezone="UTC", width=130)


COLUMNS = {
    "open": st.column_config.LinkColumn(
        "", display_text=":material/open_in_new:", width=45, help="Open the run in a tab of its own"
    ),
    "what": st.column_config.TextColumn("Run", width=290),
    "state": st.column_config.MultiselectColumn(
        "State", width=110, options=[*STATES, *(f"{s} (stalled)" for s in GOING)],
        color=[*(STATE_LOOK[s][0] for s in STATES), *("orange" for _ in GOING)],
    ),
    "alarms": st.column_config.MultiselectColumn(
        "Alarms", width=150, options=[a.title for a in ALARMS.values()], color=["red"] * len(ALARMS),
        help="Failures of training by name; the run's page says what helps.",
    ),
    "progress": st.column_config.ProgressColumn("Progress", min_value=0, max_value=1, format="percent", width=110),
    "details": st.column_config.TextColumn("Settings", width=135),
    "loss": st.column_config.NumberColumn("Loss", format="%.4f", help="Last training loss", width=80),
    "knn": st.column_config.NumberColumn("Best kNN", format="%.3f", help="Best online kNN accuracy", width=85),
    "score": st.column_config.NumberColumn(
        "Score", format="%.3f", width=75,
        help="Of an evaluation: the task's first metric on the images at their best, of the adaptation that did best",
    ),
    "measured": st.column_config.TextColumn("What the score is", width=170),
    "duration": st.column_config.NumberColumn(
        "Minutes", format="%.1f", width=80, help="Time at work, over all attempts"
    ),
    "created": _time("Created"),
    "tags": st.column_config.ListColumn("Tags", width=130),
    "note": st.column_config.TextColumn("Note", width=180),
    "run": st.column_config.TextColumn("Run id", width=330),
    "kind": st.column_config.TextColumn("Kind", width=85),
    "method": st.column_config.TextColumn("Method", width=110),
    "pack": st.column_config.TextColumn("Pack", width=150),
    "model": st.column_config.TextColumn("Model", width=220),
    "preset": st.column_config.TextColumn("Preset", width=90),
    "seed": st.column_config.NumberColumn("Seed", format="%d", width=65),
    "rate": st.column_config.NumberColumn("Rate (1/s)", format="%.1f", width=85, help="Units of progress per second"),
    "attempt": st.column_config.NumberColumn("Attempt", format="%d", width=80),
    "started": _time("Started"),
    "finished": _time("Ended"),
    "message": st.column_config.TextColumn("Message", width=280),
    "group": st.column_config.TextColumn("Group", width=150, help="Equal for runs that differ only in their seed"),
}  # fmt: skip

GROUP_COLUMNS = {
    "what": st.column_config.TextColumn("Group", width=420),
    "runs": st.column_config.NumberColumn("Runs", format="%d", width=65),
    "seeds": st.column_config.TextColumn(
        "Seeds", width=145,
        help="What mean and spread are over. Runs that have succeeded count; of several of one seed the newest",
    ),
    "unfinished": st.column_config.TextColumn("Others", width=130, help="Runs that do not count, by what they are"),
    "loss": st.column_config.TextColumn("Loss", width=130, help="Last training loss: mean ± standard deviation"),
    "knn": st.column_config.TextColumn("Best kNN", width=130, help="Mean ± standard deviation over seeds"),
    "score": st.column_config.TextColumn(
        "Score", width=130,
        help="Mean ± standard deviation of the task's first metric on the images at their best, of the adaptation "
        "whose mean is best",
    ),
    "measured": st.column_config.TextColumn("What the score is", width=170),
    "duration": st.column_config.NumberColumn("Minutes", format="%.1f", width=80, help="Of all runs together"),
    "created": _time("Newest"),
    "group": st.column_config.TextColumn("Group id", width=150),
}  # fmt: skip
#: Columns of groups that people can choose -> title.
GROUP_OPTIONAL = {name: str(column["label"]) for name, column in GROUP_COLUMNS.items() if name != "what"}
GROUP_SPARSE = ("unfinished", "loss", "knn", "score", "measured")


def _text(value: Any) -> str:
    return "" if missing(value) else visible(value)


def _line(value: Any) -> str:
    """The first line, for a cell."""
    return _text(value).strip().partition("\n")[0][:200]


def tag_list(tags: Any) -> list[str]:
    """The tags of a row of `Store.runs`."""
    return [visible(t) for t in str(tags).split(", ") if t] if not missing(tags) else []


def run_rows(frame: pd.DataFrame, titles: Mapping[str, str], alarms: Mapping[str, Sequence[Alarm]]) -> pd.DataFrame:
    """One row per run of `Store.runs`, with every column that people can choose."""
    rows = []
    for r in frame.to_dict("records"):
        progress = share(r["done"], r["total"])
        rows.append(
            {
                "open": f"run?run={r['run_id']}",
                "what": run_title(r, titles),
                "state": [f"{r['state']}{' (stalled)' if r['stalled'] is True else ''}"],
                "alarms": [a.title for a in alarms.get(r["run_id"], [])],
                "progress": 1.0 if progress is None and r["state"] == "succeeded" else progress,
                "details": run_details(r),
                "loss": r["loss"],
                "knn": r["knn"],
                "score": r["score"],
                "measured": score_about(r),
                "duration": None if missing(r["duration_s"]) else r["duration_s"] / 60,
                "created": as_time(r["created"]),
                "tags": tag_list(r["tags"]),
                "note": _line(r["note"]),
                "run": str(r["run_id"]),
                "kind": _text(r["kind"]),
                "method": "" if missing(r["method"]) else method_label(r["method"]),
                "pack": _text(r["dataset"]),
                "model": "" if missing(r["model"]) else model_name(r["model"], titles),
                "preset": _text(r["preset"]),
                "seed": None if missing(r["seed"]) else int(r["seed"]),
                "rate": r["rate"],
                "attempt": None if missing(r["attempt"]) else int(r["attempt"]),
                "started": as_time(r["started"]),
                "finished": as_time(r["finished"]),
                "message": _line(r["message"]),
                "group": _text(r["group_id"]),
            }
        )
    return pd.DataFrame(rows, columns=["open", "what", *OPTIONAL])


def mean_and_spread(mean: Any, std: Any) -> str:
    """`0.5120 ± 0.0132`; one seed has no spread."""
    if missing(mean):
        return ""
    return number(mean) if missing(std) else f"{number(mean)} ± {number(std)}"


def _loss(group: Mapping[str, Any]) -> str:
    """A mean without the seeds that diverged would hide them."""
    broken, counted = int(group["not_finite"]), int(group["counted"])
    if broken:
        return f"not finite: {broken} of {counted}"
    return mean_and_spread(group["loss"], group["loss_std"])


def _knn(group: Mapping[str, Any]) -> str:
    text, of, counted = mean_and_spread(group["knn"], group["knn_std"]), int(group["knn_seeds"]), int(group["counted"])
    return f"{text} ({of} of {counted})" if text and of < counted else text


def group_rows(frame: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """One row per group of `Store.run_groups`."""
    rows = []
    records = frame.to_dict("records")
    settings = _apart([(str(r["group_id"]), run_title(r, titles), r["spec"]) for r in records])
    for r in records:
        going = int(r["n"] - r["succeeded"] - r["failed"] - r["cancelled"])
        again = int(r["succeeded"] - r["counted"])
        others = {"failed": int(r["failed"]), "cancelled": int(r["cancelled"]), "going": going, "repeated": again}
        name = (run_title(r, titles), _text(r["preset"]), settings.get(str(r["group_id"]), ""))
        rows.append(
            {
                "what": "  ·  ".join(filter(None, name)),
                "runs": int(r["n"]),
                "seeds": str(int(r["seeds"]))
                if missing(r["seed_kind"])
                else seeds_text(r["seed_kind"], int(r["seeds"])),
                "unfinished": ", ".join(f"{n} {word}" for word, n in others.items() if n),
                "loss": _loss(r),
                "knn": _knn(r),
                "score": mean_and_spread(r["score"], r["score_std"]),
                "measured": score_about(r),
                "duration": None if missing(r["duration_s"]) else r["duration_s"] / 60,
                "created": as_time(r["created"]),
                "group": _text(r["group_id"]),
            }
        )
    return pd.DataFrame(rows, columns=list(GROUP_COLUMNS))


def _apart(groups: Sequence[tuple[str, str, Any]]) -> dict[str, str]:
    """What tells groups of one title apart: group -> "mask_ratio=0.5".

    Args:
        groups: (group, title, spec as JSON).
    """
    alike: dict[str, dict[str, Any]] = {}
    for group, title, spec in groups:
        alike.setdefault(title, {})[group] = json.loads(spec or "{}")
    found: dict[str, str] = {}
    for specs in alike.values():
        if len(specs) > 1:
            found |= telling_settings(specs)
    return {group: visible(text) for group, text in found.items()}


def worth_showing(rows: pd.DataFrame, sparse: Iterable[str]) -> list[str]:
    """The columns of a table but those of `sparse` in which no row says anything."""

    def says_nothing(name: str) -> bool:
        return all(missing(v) or v in ("", []) for v in rows[name])

    return [c for c in rows.columns if c not in sparse or not says_nothing(c)]


def score_about(run: Mapping[str, Any]) -> str:
    """What a run's score is of: "accuracy, linear probe"."""
    if missing(run.get("score_metric")):
        return ""
    return f"{metric_title(str(run['score_metric']))}, {adaptation_title(str(run['score_of']))}"
