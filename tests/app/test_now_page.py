"""The page Now: what runs, what waits, what has finished."""

from __future__ import annotations

from pathlib import Path

from lab import history, make_lab
from shown import Open, run_of, texts

from rsfm.specs import pretrain_spec
from rsfm.store.runs import create_run, list_runs
from rsfm.workspace import Workspace


def test_now_shows_what_runs_and_wakes_the_supervisor(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    test = open_page(lab, "now")
    numbers = {m.label: m.value for m in test.metric}
    assert numbers["Running"] == "2" and numbers["Queued"] == "1" and numbers["Failed or lost"] == "1"
    assert "16,640 of 39,936 samples" in texts(test)
    # Once for each full run of the page, never from the timer.
    assert {verb for verb, _ in no_jobs} == {"ensure"}


def test_now_leaves_a_finished_lab_alone(open_page: Open, tmp_path: Path, no_jobs: list) -> None:
    workspace = make_lab(tmp_path / "w")
    for run in list_runs(workspace):
        if run.state() not in ("succeeded", "failed"):
            run.add_event(state="succeeded", attempt=1)
    test = open_page(workspace, "now")
    assert not test.exception and no_jobs == []


def test_now_counts_what_has_ended_today_however_many(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    long = create_run(workspace, pretrain_spec("mae", "p", "smoke"))  # queued first, ends last
    for seed in range(70):
        history(create_run(workspace, pretrain_spec("mae", "p", "smoke", seed=seed)), "succeeded", 0.02, 0.01, "Done.")
    history(create_run(workspace, pretrain_spec("mae", "p", "smoke")), "succeeded", 3 * 1440, 1, "Days ago.")
    long.add_event(state="starting", attempt=1)
    long.add_event(state="succeeded", attempt=1, message="Done.")
    test = open_page(workspace, "now")
    assert {m.label: m.value for m in test.metric}["Succeeded today"] == "71"
    links = [e.proto for e in test.get("page_link") if "MAE on p" in e.proto.label]
    assert len(links) == 8 and long.id in str(links[0])


def test_now_stops_the_run_of_the_button(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    running = run_of(lab, state="running")
    test = open_page(lab, "now")
    no_jobs.clear()
    test.button(key=f"now-stop-{running.id}").click().run()
    assert ("stop", running.id) in no_jobs
