"""What the curves of the page Degradation show, and what is said of them: the same for the page and for reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import pandas as pd
import plotly.graph_objects as go

from app.components.degradation import (
    as_difference,
    as_retention,
    baselines,
    curves_of,
    degradation_figure,
    seeds_text,
    variant_text,
    variants,
)
from app.components.measures import (
    adaptation_title,
    interval_text,
    ordered_adaptations,
    ordered_tasks,
    samples_word,
    scale_of,
    size_text,
    target_title,
)
from app.components.palette import Look
from app.imaging import main_layer
from app.text import metres, missing
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.protocols import protocols, reference_frame

#: Opens a pack by name; raises RsfmError where there is none.
Packs = Callable[[str], Pack]


@dataclass(frozen=True)
class View:
    """What a reader has chosen to see.

    Attributes:
        rows: of `Store.compare`, of one operator; published: of `rsfm.protocols.reference_frame`, empty unless they are
            asked for.
        metric: None for the primary one of each of several tasks.
        axis: a key of `app.components.degradation.AXES`; value: of `VALUES`.
        baseline: a key of `baselines`; only for differences.
        note: what has no part in it though nobody left it out; not Markdown.
    """

    rows: pd.DataFrame
    published: pd.DataFrame
    metric: str | None = None
    axis: str = "gsd"
    value: str = "absolute"
    bands: bool = True
    baseline: str | None = None
    note: str = ""

    @property
    def baseline_title(self) -> str:
        """What differences are taken to; "" where none are."""
        return baselines(self.rows).get(self.baseline or "", "") if self.value == "difference" else ""

    @property
    def frame(self) -> pd.DataFrame:
        """Our rows and the published ones."""
        return pd.concat([self.rows, self.published], ignore_index=True) if len(self.published) else self.rows


def drawn_rows(view: View) -> pd.DataFrame:
    """The rows of the charts, on the scale that was chosen."""
    if view.value == "retention":
        return as_retention(view.frame)
    if view.value == "difference":
        return as_difference(view.frame, view.baseline or "")
    return view.frame.dropna(subset=["mean"])


def on_its_axis(view: View, drawn: pd.DataFrame) -> View:
    """As it was chosen, unless no GSD is known at all."""
    return replace(view, axis="factor") if view.axis == "gsd" and drawn["gsd_m"].isna().all() else view


#: What a curve must have to be drawn.
_NEEDED = {
    "absolute": "a defined score", "retention": "a result on images as they are",
    "difference": "a result of the baseline beside them",
}  # fmt: skip
#: Curves that are named in one line.
_NAMED = 6


def notices(view: View, drawn: pd.DataFrame) -> list[str]:
    """What the charts do not show of the rows, and why. Not Markdown.

    Args:
        drawn: of `drawn_rows`.
    """
    # That published numbers have no part in differences is said where they come from.
    rows, said = view.rows if view.value == "difference" else view.frame, []
    have, differing = curves_of(drawn), variants(rows)
    lost = dict.fromkeys(
        f"{first['model_title']} ({', '.join(p for p in parts if p)})"
        for key, (first, *_) in curves_of(rows).items() if key not in have
        for parts in [[adaptation_title(first["adaptation"]), first["dataset"],
                       *(variant_text(k, first) for k in differing)]]
    )  # fmt: skip
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        said.append(f"Not drawn, for lack of {_NEEDED[view.value]}: {'; '.join(sorted(lost)[:_NAMED])}{more}.")
    unknown = sorted({str(d) for d in drawn.loc[drawn["gsd_m"].isna(), "dataset"]}) if view.axis == "gsd" else []
    if unknown and on_its_axis(view, drawn) is not view:
        said.append("No GSD is known, so the curves are drawn against the factor.")
    elif unknown:
        said.append(f"Not drawn in metres, for their GSD is not known: {', '.join(unknown)}.")
    return said


# -- published numbers ---------------------------------------------------------------------------------------------
#: Pack, the catalog entry that it was made from, the GSD of its grid.
Entry = tuple[str, str, float | None]


def entries_of(datasets: pd.DataFrame, names: Collection[str]) -> tuple[Entry, ...]:
    """Of some packs, what `published_rows` must know of them; `datasets`: from `Store.datasets`."""
    known = datasets[datasets["name"].isin(list(names)) & datasets["dataset"].notna()].sort_values("name")
    columns = zip(known["name"], known["dataset"], known["gsd_m"], strict=True)
    return tuple((str(n), str(d), None if missing(g) else float(g)) for n, d, g in columns)


def published_rows(packs: tuple[Entry, ...]) -> pd.DataFrame:
    """Published numbers on these packs. Their grid is the pack's: both are tiles of the same dataset."""
    frame = reference_frame({name: entry for name, entry, _ in packs})
    if len(frame):
        gsd = frame["dataset"].map({name: gsd for name, _, gsd in packs}).astype(float)
        frame = frame.assign(gsd_m=gsd * frame["severity"])
    return frame


# -- charts --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Chart:
    """One task and adaptation: the rows that are drawn, and the figure."""

    task: str
    adaptation: str
    rows: pd.DataFrame
    figure: go.Figure


def charts_of(
    view: View, drawn: pd.DataFrame, looks: Mapping[str, Look], packs: Packs, *,
    chosen: tuple[str, float] | None = None,
) -> list[Chart]:  # fmt: skip
    """A chart per task and adaptation, those of a task on the same vertical axis.

    Args:
        chosen: the point to mark, see `degradation_figure`.
    """
    found = []
    for task in ordered_tasks(drawn["task"]):
        of_task = drawn[drawn["task"] == task]
        chance = chance_level(view.rows[view.rows["task"] == task], packs)
        ends = y_range(of_task, view.value, chance)
        for adaptation in ordered_adaptations(of_task["adaptation"]):
            rows = of_task[of_task["adaptation"] == adaptation]
            figure = degradation_figure(
                rows, looks, axis=view.axis, value=view.value, bands=view.bands, chance=chance, chosen=chosen,
                revision=f"{view.axis}|{view.value}|{rows['operator'].iloc[0]}|{rows['metric'].iloc[0]}",
            )  # fmt: skip
            figure.update_yaxes(range=ends)
            found.append(Chart(task, adaptation, rows, figure))
    return found


def chance_level(rows: pd.DataFrame, packs: Packs) -> float | None:
    """Accuracy of guessing, where one labelled pack is shown."""
    if len(rows) == 0 or set(rows["metric"]) != {"accuracy"} or rows["dataset"].nunique() != 1:
        return None
    try:
        classes = packs(str(rows["dataset"].iloc[0])).info.classes
    except RsfmError:  # the results outlive the pack they were measured on
        return None
    return 1 / len(classes) if classes else None


def y_range(rows: pd.DataFrame, value: str, chance: float | None) -> list[float]:
    ends = rows[["mean", "ci_low", "ci_high"]].astype(float)
    low, high = float(ends.min(axis=None)), float(ends.max(axis=None))
    if chance is not None and value == "absolute":
        low, high = min(low, chance), max(high, chance)
    pad = 0.06 * max(high - low, 0.05)
    return [low - pad if value == "difference" else max(0, low - pad), high + pad]


# -- what is said --------------------------------------------------------------------------------------------------
def coarse_bands(dataset: str, packs: Packs) -> str:
    """Bands whose own pixels are coarser than the pack's grid: there, degradation begins later than the axis says."""
    try:
        layer = main_layer(packs(dataset))
    except RsfmError:
        return ""
    coarse = [b for b in layer.bands if layer.gsd_m and b.gsd_m > 1.05 * layer.gsd_m]
    if not coarse:
        return ""
    sizes = sorted({b.gsd_m for b in coarse})
    span = f"{sizes[0]:g} m" if len(sizes) == 1 else f"{sizes[0]:g} m to {sizes[-1]:g} m"
    return f" Natively coarser bands ({span}): {', '.join(b.name for b in coarse)}."


def caption(view: View, packs: Packs) -> str:
    """What was measured, on what, with which uncertainty. Not Markdown."""
    frame, parts = view.rows, []
    scale = scale_of(frame["operator"].iloc[0])
    for dataset, rows in frame.groupby("dataset", sort=False):
        first = rows.iloc[0]
        grid = rows.loc[rows["gsd_m"].notna(), ["gsd_m", "severity"]]
        gsd = ""
        if len(grid):
            native = grid["gsd_m"].iloc[0] / (grid["severity"].iloc[0] if scale.coarser else 1)
            gsd = f", {metres(native)} grid"
        kind = "synthetic pack" if first["synthetic"] else "pack"
        parts.append(f"{kind} {dataset}{gsd}, {size_text(rows.loc[rows['n'].idxmax()])}")
    targets = sorted(set(frame["degrade_target"]) - {"single"})
    if targets:
        parts.append(f"degraded: {', '.join(target_title(t).lower() for t in targets)}")
    kinds = sorted({seeds_text(row) for row in frame[["seeds", "seed_kind"]].to_dict("records")})
    words = " and ".join(dict.fromkeys(samples_word(t) for t in ordered_tasks(frame["task"])))
    said = f"{interval_text(frame['metric'])} over {words}" + (
        "" if frame["seeds"].max() == 1 else " and the spread over seeds, joined"
    )
    unknown = frame["ci_low"].isna()
    if unknown.any():  # of a test set of one scene, or of published scores
        said = "not known" if unknown.all() else f"{said}; not known for {unknown.sum()} of {len(frame)} points"
    how = f"Mean over {', '.join(kinds)}. Intervals (95 %): {said}."
    if view.value == "difference":
        how += " They are those of the scores, moved along: whether a difference is more than noise needs a test."
    if view.value == "retention":
        how += " They are those of the scores, as shares of the same number."
    text = "; ".join(parts)
    notes = "".join(coarse_bands(str(d), packs) for d in dict.fromkeys(frame["dataset"])) if scale.coarser else ""
    return f"{text[0].upper()}{text[1:]}. {how}{notes}"


def source_note(published: pd.DataFrame, value: str) -> str:
    """Where the published numbers come from. Not Markdown."""
    known = protocols()
    names = dict.fromkeys(str(g).split(":")[1] for g in published["model_group"])
    said = [f"{known[n].source} ({known[n].paper})" for n in names if n in known]
    apart = "They take no part in order, tiers or tests" + (", nor in differences." if value == "difference" else ".")
    return f"Marked (authors): {'; '.join(said)}. {apart}"
