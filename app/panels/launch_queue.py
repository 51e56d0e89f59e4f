"""Requests of the Launch page: checked by a dry run, queued, and what came of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import streamlit as st

from app.components.commands import command_line
from app.components.spec_form import FormResult, show_errors
from app.page import RUN
from app.state import workspace
from app.text import KIND_ICON, plain
from jobs import client
from jobs.client import DryRun
from rsfm.errors import RsfmError
from rsfm.specs import Spec, spec_hash

#: How long the answer of a dry run is believed: packs, models and the disk change.
BELIEVED_S = 120.0


def checked(spec: Spec) -> DryRun | None:
    """What a dry run of exactly this request said in this session a moment ago."""
    when, answer = st.session_state.get("launch.checked", {}).get(spec_hash(spec.model_dump(mode="json")), (0.0, None))
    return answer if time.monotonic() - when < BELIEVED_S else None


def run_checks(specs: Sequence[Spec], labels: Sequence[str]) -> bool:
    """Dry-run each request, in a process of its own, and keep the answers. Whether all passed."""
    results = st.session_state.setdefault("launch.checked", {})
    passed = True
    for spec, label in zip(specs, labels, strict=True):
        answer = checked(spec)
        if answer is None or not answer.ok:
            with st.spinner(f"Checking {plain(label)}: data, bands, memory, one batch…", show_time=True):
                answer = client.dry_run(spec, workspace())
            results[spec_hash(spec.model_dump(mode="json"))] = (time.monotonic(), answer)
        passed = passed and answer.ok
    return passed


def show_checks(specs: Sequence[Spec], labels: Sequence[str]) -> None:
    for spec, label in zip(specs, labels, strict=True):
        found = checked(spec)
        if found is None:
            continue
        title = f"**{plain(label)}**: " if len(specs) > 1 else ""
        if found.ok:
            st.success(f"{title}ready to run.", icon=":material/task_alt:")
        else:
            st.error(f"{title}{plain(found.problem)}", icon=":material/block:")
        for remark in found.remarks:
            st.markdown(f":material/info: {plain(remark)}")


def queue(specs: Sequence[Spec], labels: Sequence[str]) -> None:
    """Put the requests into the queue and remember their ids for the message, one by one: any of them may fail."""
    made: list[dict[str, str]] = []
    st.session_state["launch.queued"] = made
    for spec, label in zip(specs, labels, strict=True):
        made.append({"run_id": client.submit(workspace(), spec), "label": label, "kind": spec.kind})
    st.toast("Queued." if len(made) == 1 else f"Queued {len(made)} runs.", icon=":material/playlist_add_check:")


def explain(result: FormResult, errors: Mapping[tuple[str, ...], str]) -> None:
    """Each complaint at its field; and all of them here, for a field may lie in a section that is closed."""
    show_errors(result, errors)
    if errors:
        st.error(
            f"This cannot run yet; {len(errors)} to change: "
            + plain("; ".join(f"{'.'.join(place)}: {text}" if place else text for place, text in errors.items())),
            icon=":material/edit:",
        )


def show_queued() -> None:
    made = st.session_state.get("launch.queued")
    if not made:
        return
    with st.container(border=True, gap="xsmall"):
        text = "Queued" if len(made) == 1 else f"Queued {len(made)} runs"
        st.markdown(f":green[:material/check_circle:] **{text}.** They go on without this page.".replace(
            "They go", "It goes" if len(made) == 1 else "They go"
        ))  # fmt: skip
        for run in made:
            st.page_link(
                RUN,
                label=f"Watch {plain(run['label'])}",
                icon=KIND_ICON[run["kind"]],
                query_params={"run": run["run_id"]},
            )


def actions(specs: Sequence[Spec] | None, labels: Sequence[str], key: str) -> None:
    """The command line, the two buttons, and what came of them."""
    problem = st.session_state.pop("launch.problem", None)
    if specs:
        st.markdown("**The same from a terminal**")
        st.code("\n".join(command_line(s) for s in specs), language="bash", wrap_lines=True)
    ready = bool(specs)
    with st.container(horizontal=True):
        queue_it = st.button(
            "Queue", type="primary", icon=":material/playlist_add:", key=f"{key}.queue", disabled=not ready,
            help="Checks the request first; what would fail is refused here with a reason.",
        )  # fmt: skip
        check_it = st.button("Dry run", icon=":material/rule:", key=f"{key}.check", disabled=not ready)
    if specs and (queue_it or check_it):
        try:
            passed = run_checks(specs, labels)
            if queue_it and passed:
                queue(specs, labels)
        except RsfmError as error:
            problem = str(error)
    if problem:
        st.error(plain(problem), icon=":material/block:")
    if specs:
        show_checks(specs, labels)
    show_queued()
