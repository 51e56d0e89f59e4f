"""What pages share: heading, banner, empty states, links to runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import streamlit as st

from app.components.alarms import alarms_by_run
from app.components.map_view import MAPS
from app.components.palette import Look, looks_of_store
from app.state import store, store_of, workspace
from app.text import KIND_ICON, STATE_LOOK, missing, plain, run_details, run_title
from app.view_state import TOLD
from rsfm.alarms import Alarm
from rsfm.errors import RsfmError

#: Files of the pages, as `st.page_link` wants them.
NOW = "app_pages/now.py"
LAUNCH = "app_pages/launch.py"
RUNS = "app_pages/runs.py"
RUN = "app_pages/run.py"
DEGRADATION = "app_pages/degradation.py"
LEADERBOARD = "app_pages/leaderboard.py"
EMBEDDINGS = "app_pages/embeddings.py"
SEGMENTATION = "app_pages/segmentation.py"
CHANGE = "app_pages/change.py"
DATASETS = "app_pages/datasets.py"
MODELS = "app_pages/models.py"

#: Of every chart: no logo, no buttons that few need; the picture is saved in a size that suits a slide.
CHART = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg", "scale": 1},
}


#: What belongs to one visit of a page: messages about what was just done there, and what its map began with.
OF_A_VISIT = (
    "launch.queued", "run.problem", "add.found", "add.run", "add.problem", "notes.problem", "models.problem", TOLD,
    MAPS,
)  # fmt: skip
P = ParamSpec("P")


def entered(path: str) -> None:
    """Forget what belongs to the page before; called on every run of whichever page it is."""
    if st.session_state.get("page") != path:
        st.session_state["page"] = path
        for key in OF_A_VISIT:
            st.session_state.pop(key, None)


def guarded(draw: Callable[P, None]) -> Callable[P, None]:
    """For fragments: what a timer draws is not covered by the frame that shows a page's errors."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            draw(*args, **kwargs)
        except RsfmError as error:
            st.error(plain(error), icon=":material/error:")

    return inner


def heading(title: str, caption: str) -> None:
    """Title and one line that says what the page is for."""
    with st.container(gap="xxsmall", width="stretch"):
        st.title(title, anchor=False)
        st.caption(caption)


@st.fragment(run_every="5s")
@guarded
def banner() -> None:
    """Says when what is shown is not the present, and why. Draws only."""
    notice = store().notice
    if notice:
        st.warning(plain(notice), icon=":material/lock_clock:")


def empty_state(icon: str, title: str, text: str, links: Sequence[tuple[str, str]] = ()) -> None:
    """Nothing is here yet: what would be, and where to go.

    Args:
        links: pairs of a page's file and the link's label.
    """
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.space("small")
        st.markdown(f"#### {icon} {title}", text_alignment="center", width="content")
        st.caption(text, text_alignment="center", width="content")
        if links:
            with st.container(horizontal=True, horizontal_alignment="center"):
                for page, label in links:
                    st.page_link(page, label=label)
        st.space("small")


def state_badge(state: Any, *, stalled: Any = False) -> None:
    """A run's state as a coloured badge."""
    text = "unknown" if missing(state) else str(state)
    color, icon = STATE_LOOK.get(text, ("gray", ":material/help:"))
    st.badge(text, icon=icon, color=color)  # type: ignore[arg-type]
    if stalled and not missing(stalled):
        st.badge("stalled", icon=":material/warning:", color="orange", help="No sign of life in the promised time.")


def run_link(run: Mapping[str, Any], titles: Mapping[str, str] | None = None, *, label: str | None = None) -> None:
    """A link to the page of one run."""
    st.page_link(
        RUN,
        label=plain(label or run_title(run, titles)),
        icon=KIND_ICON.get(str(run.get("kind")), ":material/play_circle:"),
        query_params={"run": str(run["run_id"])},
        help=plain(f"{run_details(run)}  {run['run_id']}".strip()),
    )


def standing_alarms() -> dict[str, list[Alarm]]:
    """Run id -> its standing alarms, of all runs that have any."""
    return alarms_by_run(store_of(workspace()).alarms())


def looks_of_models() -> dict[str, Look]:
    """One look per model group of the workspace."""
    return looks_of_store(store_of(workspace()))


def model_titles() -> dict[str, str]:
    """Model name -> title, of every exported model."""
    models = store_of(workspace()).models()
    return {str(m.name): str(m.title) for m in models.itertuples() if not missing(m.title) and m.title}
