"""Which scores belong to a model as people name it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from rsfm.errors import RsfmError

#: Columns of `Store.scores` -> the values that count.
Where = Mapping[str, Collection[object]]


def narrowed(scores: pd.DataFrame, where: Where | None, *, adaptation: str | None = None) -> pd.DataFrame:
    """The rows with one of the wanted values in every column that is named."""
    for name, values in {**({} if adaptation is None else {"adaptation": [adaptation]}), **(where or {})}.items():
        scores = scores[scores[name].isin(list(values))]
    return scores


#: What makes a place where models are compared; columns of `Store.scores`.
PLACE = ("dataset", "split", "task", "adaptation", "operator", "degrade_target", "severity")
Places = Collection[tuple[object, ...]]


def places_of(rows: pd.DataFrame) -> frozenset[tuple[object, ...]]:
    """The values of `PLACE` that some rows have together."""
    return frozenset(rows[list(PLACE)].itertuples(index=False, name=None))


def at_places(scores: pd.DataFrame, places: Places) -> pd.DataFrame:
    """The rows at some places. Unlike `narrowed`, which keeps every combination of the wanted values."""
    wanted = set(places)
    return scores[[place in wanted for place in scores[list(PLACE)].itertuples(index=False, name=None)]]


def rows_of(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one model.

    Args:
        scores: from `Store.scores`.
        name: a group id (all its seeds), a baseline's name, a run id (of a pretraining: that seed alone; of an
            evaluation: what it measured), or a title.

    Raises:
        RsfmError: no such model, or several of that title.
    """
    for column in ("model_group", "model", "run_id", "model_title"):
        found = scores[scores[column] == name]
        if found.empty and column == "model_title":
            found = scores[scores[column].str.casefold() == name.casefold()]
        groups = found["model_group"].unique()
        if len(groups) > 1 and column == "model_title":
            raise RsfmError(f"{len(groups)} models are called {name!r}: name one by its group, {', '.join(groups)}.")
        if len(groups):
            return found
    if scores.empty:
        raise RsfmError("There are no results yet. Make some with: rsfm evaluate --model MODEL --dataset PACK")
    known = scores.drop_duplicates("model_group").sort_values("model_title")
    names = [
        title if title == group else f"{title} ({group})"
        for title, group in zip(known["model_title"], known["model_group"], strict=True)
    ]
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    raise RsfmError(f"No results of a model {name!r}. There are: {', '.join(names[:12])}{more}.")


def label(rows: pd.DataFrame, scores: pd.DataFrame) -> str:
    """The newest title of a model, with what tells it from others of that title."""
    newest = rows.sort_values("time", na_position="first").iloc[-1]
    title, group = str(newest["model_title"]), str(newest["model_group"])
    others = scores[(scores["model_title"] == title) & ~scores.index.isin(rows.index)]
    if others.empty:
        return title
    if (others["model_group"] == group).any():  # another seed, or another evaluation of the same
        runs = rows["model"].unique() if rows["model"].nunique() == 1 else rows["run_id"].unique()
        name = runs[0] if len(runs) == 1 and runs[0] != group else f"{group}, seed {newest['model_seed']}"
        return f"{title} ({name})"
    return f"{title} ({group})"
