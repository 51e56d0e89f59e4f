"""What the points of an embedding's map can be coloured by: columns of the samples, neighbours, scores."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.components.embedding import Coloring, by_category, by_date, by_number
from app.components.measures import adaptation_title, scale_of
from app.embedded import Points, Shown, columns_of, dates_of
from app.panels.sample_grid import labels_of
from app.state import store
from app.text import plain, visible
from rsfm.comparison.outcomes import outcomes
from rsfm.errors import RsfmError
from rsfm.packs import Pack

#: Begins the key of a column that not every pack has; no other key begins like that.
COLUMN = "column@"
#: Columns that every pack has go by their names.
USUAL = ("label", "split", "sensor", "gsd_m", "date", "scene")


def evaluations_of(shown: Shown) -> pd.DataFrame:
    """What was measured of the very model, images and degradation that a map shows, newest first.

    Returns:
        run_id, adaptation, split, each adaptation once.
    """
    about = shown.embedding.about
    rows = store().scores(about["dataset"])
    same = (
        (rows["model"] == about["model"]) & (rows["model_seed"] == about["model_seed"])
        & (rows["pack_hash"] == about["pack_hash"]) & (rows["bands"] == ",".join(about["bands"]))
        & (rows["severity"] == shown.severity) & (rows["train_degrade"] == "none")
    )  # fmt: skip
    # Untouched images are the same ones for every operator.
    if shown.severity != scale_of(about["operator"]).identity:
        same &= rows["operator"] == about["operator"]
    rows = rows[same & (rows["degrade_target"].isin(("single", about["layer"].removeprefix("image_"), "both")))]
    newest = rows.sort_values("time", ascending=False, kind="stable")
    return newest.drop_duplicates("adaptation")[["run_id", "adaptation", "split"]].reset_index(drop=True)


def colors_for(shown: Shown, pack: Pack) -> dict[str, str]:
    """Columns that points can be coloured by: key -> title."""
    found: dict[str, str] = {}
    if pack.info.task == "multilabel":
        found["first_label"] = "First label"
    for column in columns_of(pack):
        found[column.name if column.name in USUAL else COLUMN + column.name] = column.title
    if shown.severity != shown.embedding.severities[0]:
        found["kept"] = "Neighbours kept"
    for adaptation in sorted(evaluations_of(shown)["adaptation"]):
        name = visible(adaptation_title(adaptation))
        found[f"score@{adaptation}"] = f"Score: {name}"
        if pack.info.task == "classification":
            found[f"predicted@{adaptation}"] = f"Predicted: {name}"
    return found


def coloring(key: str, title: str, shown: Shown, points: Points, pack: Pack) -> Coloring:
    """The colours of one map's points."""
    what, _, adaptation = key.partition("@")
    samples = pack.samples.iloc[points.positions].reset_index(drop=True)
    match what:
        case "first_label":
            first = [labels[0] if (labels := labels_of(s)) else None for s in samples.itertuples()]
            return by_category(title, pd.Series(first), pack.info.classes)
        case "kept":
            return by_number(title, points.frame["kept"], (0, 1))
        case "score" | "predicted":
            mine = pd.Series(pd.NA, index=samples.index, dtype=object)
            frame = pd.DataFrame({"score": [], "predicted_index": []})
            evaluations = evaluations_of(shown)
            evaluations = evaluations[evaluations["adaptation"] == adaptation]
            if evaluations.empty:
                st.caption(f"{plain(shown.title)} was not evaluated like that: no colours.")
            for run_id, split in evaluations[["run_id", "split"]].itertuples(index=False):
                try:
                    frame = outcomes(store(), run_id, adaptation, shown.severity).set_index("sample_id")
                except RsfmError as error:
                    st.warning(plain(error), icon=":material/error:")
                else:
                    mine = samples["id"].where(samples["split"] == split)
            if what == "score":
                return by_number(title, mine.map(frame["score"]), (0, 1))
            names = dict(enumerate(pack.info.classes))
            return by_category(title, mine.map(frame["predicted_index"]).map(names), pack.info.classes)
    name = key.removeprefix(COLUMN)
    values = samples[name]
    match next(c.kind for c in columns_of(pack) if c.name == name):
        case "number":
            return by_number(title, values)
        case "date":
            return by_date(title, dates_of(values))
    return by_category(title, values.astype("string"), pack.info.classes if name == "label" else ())
