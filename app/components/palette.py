"""Colours, markers and dashes of models: told apart by colour-blind readers, and the same on every page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rsfm.store.view import Store

#: After Okabe and Ito, without their yellow and black; orange and sky blue darkened until each colour has a contrast
#: of 3 on white and on the dark ground.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#C58600", "#3596D2", "#A6611A", "#7B5EA7")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
#: Baselines keep the look that readers expect of them: neutral, and never a solid line.
FLOOR = "#7F8C93"
FLOORS = (("#66747C", "x", "dot"), ("#8A959B", "cross", "dash"), ("#7A868D", "asterisk-open", "longdash"))
#: Published numbers: thin lines of one grey, told apart by their open markers.
PUBLISHED = "#7F8C93"


@dataclass(frozen=True)
class Look:
    """How one model is drawn everywhere."""

    color: str
    marker: str
    dash: str
    width: float = 2.5


def model_looks(trained: Iterable[str], others: Iterable[str]) -> dict[str, Look]:
    """One look per model group.

    Args:
        trained: groups of pretrained models, oldest first: a new one never changes the looks before it.
        others: every other group (baselines), in any order.
    """
    looks: dict[str, Look] = {}
    for group in trained:
        if group not in looks:
            i = len(looks)
            looks[group] = Look(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], DASHES[i // len(COLORS) % 6])
    floors, known = 0, sorted(set(others) - set(looks))
    encoders = [g for g in known if not _is_floor(g)]
    for group in known:
        if _is_floor(group):
            looks[group] = Look(*FLOORS[floors % len(FLOORS)])
            floors += 1
    for i, group in enumerate(encoders):
        # From the far end of the palette: encoders with given weights rarely meet the first trained models' colours.
        looks[group] = Look(COLORS[-1 - i % len(COLORS)], MARKERS[-1 - i % len(MARKERS)], "dashdot")
    return looks


def looks_of_store(store: Store) -> dict[str, Look]:
    """One look per model group, from all models and results of a workspace: filters never change a colour."""
    models, measured = store.models(), store.compare()["model_group"].dropna().astype(str)
    trained = [str(g) for g in models.sort_values("created")["group_id"].dropna()] if len(models) else []
    return model_looks(dict.fromkeys(trained), set(measured))


def published_looks(groups: Iterable[str]) -> dict[str, Look]:
    """One look per published model, by name."""
    known = sorted(set(groups))
    return {g: Look(PUBLISHED, f"{MARKERS[i % len(MARKERS)]}-open", "dot", 1.2) for i, g in enumerate(known)}


def other_dash(dash: str, number: int = 0) -> str:
    """A dash that is not this one: of the same model under another condition; `number` counts conditions."""
    others = [
        d
        for d in ("dash", "dot", "longdash", "dashdot", "solid")
        if d.removeprefix("long") != dash.removeprefix("long")
    ]
    return others[number % len(others)]


def _is_floor(group: str) -> bool:
    return group == "band-stats" or group.startswith("random:")


def translucent(color: str, alpha: float) -> str:
    """`#RRGGBB` as Plotly's rgba text."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
