"""The list of runs, or of groups of them: filtered and ordered in the index, one page of it at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.components.run_table import (
    COLUMNS,
    GROUP_COLUMNS,
    GROUP_OPTIONAL,
    GROUP_SPARSE,
    OPTIONAL,
    SORT_TITLES,
    SPARSE,
    USUAL,
    group_rows,
    run_rows,
    worth_showing,
)
from app.page import empty_state, guarded, model_titles, standing_alarms
from app.state import store
from app.view_state import choose, choose_many, choose_pill, page_control, page_number, put, search_text
from rsfm.specs import KINDS, spec_hash
from rsfm.store.runs import STATES, is_run_id
from rsfm.store.view import RunFilter

PAGE_SIZE = 200
MAX_OVERLAY = 24
MAX_GROUPS = 20


@dataclass(frozen=True)
class Wanted:
    """Which runs are listed, and how; all of it stands in the URL."""

    filters: RunFilter
    columns: tuple[str, ...]
    group_columns: tuple[str, ...] = ()


def _choose_columns(label: str, titles: Mapping[str, str], name: str) -> tuple[str, ...]:
    chosen = choose_many(
        label, list(titles), name, placeholder="The usual ones", width=220, format_func=lambda c: titles.get(c, c)
    )
    return tuple(chosen)


def wanted_runs(view: str) -> Wanted:
    """The filters above the list. `view`: "runs" or "groups", each with columns of its own."""
    names = store().run_names()

    def known(what: str) -> list[str]:
        return [str(n) for n in names[names["what"] == what]["name"]]

    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = choose_pill("Kind", list(KINDS), "kind")
        search = search_text("Search", "q", placeholder="id, method, pack, model, tag, note", width=260)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        # What is filtered by a link need not be in use any more: it stays a filter, and finds nothing.
        states = choose_many("State", list(STATES), "state", placeholder="All", width=190)
        methods = choose_many("Method", known("method"), "method", placeholder="All", width=190, others=True)
        packs = choose_many("Pack", known("dataset"), "pack", placeholder="All", width=190, others=True)
        tags = choose_many(
            "Tags", known("tag"), "tag", placeholder="Any", width=190, others=True, help="Of several, all must fit."
        )
        sort = choose("Order", list(SORT_TITLES), "sort", format_func=lambda s: SORT_TITLES[s], width=150)
        group_columns: tuple[str, ...] = ()
        if view == "groups":
            group_columns = _choose_columns("Columns", GROUP_OPTIONAL, "group_columns")
        columns: tuple[str, ...] = ()
        if view == "runs" or opened():
            columns = _choose_columns("Columns" if view == "runs" else "Columns of their runs", OPTIONAL, "columns")
    filters: RunFilter = {
        "kind": kind, "states": states or None, "methods": methods or None, "datasets": packs or None,
        "tags": tags or None, "search": search or None, "sort": sort or "newest",
    }  # fmt: skip
    return Wanted(filters, columns, group_columns)


def overlaid() -> list[str]:
    """The runs that the URL has chosen."""
    return [i for i in dict.fromkeys(st.query_params.get_all("overlay")) if is_run_id(i)][:MAX_OVERLAY]


def opened() -> list[str]:
    """The groups that the URL has opened."""
    return list(dict.fromkeys(g[:64] for g in st.query_params.get_all("group")))[:MAX_GROUPS]


# -- a table whose ticks stand in the URL ---------------------------------------------------------------------------
def _table_key(name: str, ids: Sequence[str], ticks: list[int]) -> str:
    """The table's identity. Ticks are kept by position: other rows are another table, or they would pass to those
    that took these places; and so are other ticks in the address (the browser's Back)."""
    count = f"runs.turn.{name}"
    turn = st.session_state.setdefault(count, 0)
    key = f"runs.table.{name}.{spec_hash(list(ids))}.{turn}"
    if key in st.session_state and sorted(st.session_state[key].selection.rows) != ticks:
        st.session_state[count] = turn + 1
        return f"runs.table.{name}.{spec_hash(list(ids))}.{turn + 1}"
    return key


def _ticked(key: str, name: str, ids: Sequence[str], chosen: Callable[[], list[str]], most: int) -> None:
    """Rows that were ticked are the choice; those of other pages stay in it."""
    rows = st.session_state[key].selection.rows
    others = [i for i in chosen() if i not in ids]
    put(name, [*others, *(ids[i] for i in rows if i < len(ids))][:most])


def _ticked_table(
    rows: pd.DataFrame, ids: list[str], name: str, chosen: Callable[[], list[str]], most: int, **table: Any
) -> None:
    """A table in which rows can be ticked; `name` of the URL holds their ids."""
    now = chosen()
    ticks = [i for i, one in enumerate(ids) if one in now]
    key = _table_key(name, ids, ticks)
    st.dataframe(
        rows, hide_index=True, key=key, on_select=partial(_ticked, key, name, ids, chosen, most),
        selection_mode="multi-row", placeholder="–",
        selection_default={"selection": {"rows": ticks}} if ticks else None,
        height="content" if len(rows) <= 15 else 560, **table,
    )  # fmt: skip


# -- the lists ------------------------------------------------------------------------------------------------------
def _page_of(fetch: Callable[..., pd.DataFrame], what: str) -> tuple[pd.DataFrame, Callable[[], None]] | None:
    """One page of a list and what draws its foot; None where nothing fits."""
    total = int(store().run_counts()["n"].sum())
    page = page_number(-(-total // PAGE_SIZE))
    frame = fetch(limit=PAGE_SIZE + 1, offset=(page - 1) * PAGE_SIZE)
    if frame.empty and page > 1:  # the filters leave fewer pages than the address asks for
        put("page", None)
        st.rerun()
    if frame.empty:
        empty_state(":material/search_off:", "No run fits", "Loosen the filters above.")
        return None
    more = len(frame) > PAGE_SIZE
    frame = frame.head(PAGE_SIZE)

    def foot() -> None:
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            first = (page - 1) * PAGE_SIZE
            st.caption(f"{what}{first + 1:,} to {first + len(frame):,} shown; {total:,} runs in this workspace")
            if more or page > 1:
                page_control(page + (1 if more else 0))

    return frame, foot


def _columns(rows: pd.DataFrame, wanted: Wanted) -> list[str]:
    chosen = wanted.columns or [c for c in worth_showing(rows, SPARSE) if c in USUAL]
    return ["open", "what", *chosen]


def _run_table(frame: pd.DataFrame, wanted: Wanted, alt: str) -> None:
    rows = run_rows(frame, model_titles(), standing_alarms())
    ids = [str(i) for i in frame["run_id"]]
    _ticked_table(
        rows, ids, "overlay", overlaid, MAX_OVERLAY, column_config=COLUMNS, column_order=_columns(rows, wanted), alt=alt
    )


@guarded
def run_list(wanted: Wanted, drawn: list[str]) -> None:
    """One page of runs. `drawn`: the runs whose overlay is on the page."""
    found = _page_of(partial(store().runs, **wanted.filters), "")
    if found is not None:
        frame, foot = found
        _run_table(frame, wanted, "Runs")
        foot()
    if overlaid() != drawn:
        st.rerun()  # the overlay below stands outside of what the timer draws


@guarded
def group_list(wanted: Wanted, drawn: list[str]) -> None:
    """One page of groups, and below it the runs of those that are ticked."""
    found = _page_of(partial(store().run_groups, **wanted.filters), "Groups ")
    if found is None:
        return
    frame, foot = found
    rows = group_rows(frame, model_titles())
    ids = [str(g) for g in frame["group_id"]]
    _ticked_table(
        rows, ids, "group", opened, MAX_GROUPS, column_config=GROUP_COLUMNS,
        column_order=["what", *(wanted.group_columns or worth_showing(rows.drop(columns="what"), GROUP_SPARSE))],
        alt="Groups of runs that differ only in their seed",
    )  # fmt: skip
    foot()
    groups = opened()
    if groups:
        st.markdown(f"**Runs of {len(groups)} {'group' if len(groups) == 1 else 'groups'}**")
        within: RunFilter = {**wanted.filters, "groups": groups}
        inside = store().runs(limit=PAGE_SIZE + 1, **within)
        if inside.empty:
            st.caption("No run of these groups fits the filters.")
        else:
            _run_table(inside.head(PAGE_SIZE), wanted, "Runs of the ticked groups")
            if len(inside) > PAGE_SIZE:
                st.caption(
                    f"Only the first {PAGE_SIZE} are shown: tick fewer groups or filter above to see the others."
                )
    else:
        st.caption("Tick a group to see its runs.")
    if overlaid() != drawn:
        st.rerun()
