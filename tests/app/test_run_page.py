"""The page Run: progress, tabs, the ladder, and what an evaluation or an alarm says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import HOSTILE, history, make_lab, score, stamp
from shown import Open, decoded, run_of, texts

from app.state import open_pack
from app.text import plain
from rsfm import registry
from rsfm.alarms import ALARMS
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec
from rsfm.store.files import write_json
from rsfm.store.runs import RunFolder, create_run
from rsfm.workspace import Workspace


def test_run_shows_progress_and_curves(open_page: Open, lab: Workspace) -> None:
    run = run_of(lab, state="running")
    test = open_page(lab, "run", run=run.id)
    numbers = {m.label: m.value for m in test.metric}
    assert numbers["Progress"] == "42 %" and numbers["Throughput"] == "441 /s"
    assert len(test.get("plotly_chart")) == 4
    assert "What a healthy run looks like" in texts(test)
    assert test.query_params["run"] == run.id


@pytest.mark.parametrize("state", ["running", "failed"])
def test_what_a_run_counts_is_text(open_page: Open, tmp_path: Path, state: str) -> None:
    workspace = make_lab(tmp_path / "w")
    run = run_of(workspace, state=state)
    counted = {"attempt": 1, "time": stamp(0), "done": 3, "total": 8, "rate": 2.0, "phase": HOSTILE, "unit": HOSTILE}
    write_json(run.path / "progress.json", counted)
    test = open_page(workspace, "run", run=run.id)
    assert not test.exception
    about = {m.label: m.proto.help for m in test.metric}["Throughput" if state == "running" else "Came to"]
    assert plain(HOSTILE) in about


@pytest.mark.parametrize("tab", ["Previews", "Log", "Events", "Settings", "Files"])
def test_run_tabs(open_page: Open, lab: Workspace, tab: str) -> None:
    run = run_of(lab, state="running")
    test = open_page(lab, "run", run=run.id, tab=tab)
    assert not test.exception and test.segmented_control[0].value == tab
    if tab == "Previews":
        assert f"/rsfm/artifacts/{run.id}/" in "".join(m.value for m in test.markdown)
        assert test.select_slider[0].value == 130, "the newest step first"
    if tab == "Log":
        assert "step 121: loss" in test.code[0].value


def test_a_prepared_pack_is_one_click_away(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "run", run=run_of(lab, kind="prepare").id)
    link = next(e.proto for e in test.get("page_link") if e.proto.label == "Open the pack")
    assert "landsat7-sample" in str(link)


def test_run_climbs_the_ladder_in_view(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "run", run=run_of(lab, state="stopping").id)
    assert "Asked to finish its step, save and exit" in texts(test) and "SIGKILL to its processes" in texts(test)
    assert test.button(key="run.stop").disabled


def test_run_stop_and_resume(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    running, failed = run_of(lab, state="running"), run_of(lab, state="failed")
    test = open_page(lab, "run", run=running.id)
    test.button(key="run.stop").click().run()
    assert ("stop", running.id) in no_jobs
    test = open_page(lab, "run", run=failed.id)
    assert "SIGKILL (out of memory)" in texts(test)
    test.button(key="run.resume").click().run()
    assert ("resume", failed.id) in no_jobs


def test_a_run_that_is_about_to_resume_is_not_offered_resume_again(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    run = run_of(workspace, state="failed")
    run.request("resume")
    test = open_page(workspace, "run", run=run.id)
    assert [b.key for b in test.button if str(b.key).startswith("run.")] == ["run.stop"]
    assert "queued" in texts(test)


def test_a_resume_that_is_taken_up_meanwhile_is_not_missed(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor acts between the page's two looks at the folder: first the new state, then the request goes."""
    workspace = make_lab(tmp_path / "w")
    run = run_of(workspace, state="failed")
    run.request("resume")
    read = RunFolder.events

    def events(folder: RunFolder) -> list[dict]:
        found = read(folder)
        if folder.id == run.id and folder.requested("resume"):
            folder.add_event(state="queued", message="Asked to resume.")
            folder.clear_request("resume")
        return found

    monkeypatch.setattr(RunFolder, "events", events)
    test = open_page(workspace, "run", run=run.id)
    assert not test.exception and [b.key for b in test.button if str(b.key).startswith("run.")] == ["run.stop"]


def test_a_refusal_stays_in_view(
    open_page: Open, lab: Workspace, no_jobs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.client

    def refuse(workspace: Workspace, run_id: str) -> None:
        raise RsfmError("The supervisor does not start.")

    monkeypatch.setattr(jobs.client, "stop", refuse)
    test = open_page(lab, "run", run=run_of(lab, state="running").id)
    test.button(key="run.stop").click().run()
    for _ in range(2):  # the timer draws the header again each second
        assert "The supervisor does not start" in test.error[0].value
        test.run()
    test.query_params["run"] = run_of(lab, state="failed").id
    test.run()
    assert "supervisor" not in "".join(e.value for e in test.error), "not said of another run"


def test_scores_of_a_run_are_its_own(open_page: Open, tmp_path: Path) -> None:
    """Another run of the same model, measured later, changes the comparison but not this run's curve."""
    workspace = make_lab(tmp_path / "w")
    first = run_of(workspace, model="band-stats")
    again = create_run(workspace, EvaluateSpec(model="band-stats", dataset="synthetic-landsat7"))
    history(again, "succeeded", 1, 1, "Done.")
    pack = open_pack(workspace, "synthetic-landsat7").info
    score(again, pack, "Band statistics", "band-stats", {"knn": [0.9, 0.9, 0.9, 0.9]}, seed=9)
    for run, low, high in ((first, 0.4, 0.6), (again, 0.85, 0.95)):
        test = open_page(workspace, "run", run=run.id)
        figure = json.loads(test.get("plotly_chart")[0].proto.spec)
        line = next(t for t in figure["data"] if t["mode"] == "lines+markers")
        assert all(low < y < high for y in decoded(line["y"]))
        assert line["line"]["dash"] != "solid", "a floor looks like a floor on every page"
        assert "This run alone: 3 evaluation seeds" in texts(test)


@pytest.mark.parametrize("bad", ["20261121-093045-mae-eurosat-7f3a", "../../etc/passwd", "</script>", "x" * 500])
def test_run_that_is_not_there(open_page: Open, lab: Workspace, bad: str) -> None:
    test = open_page(lab, "run", run=bad)
    assert not test.exception
    assert "There is no run" in test.error[0].value


def test_the_run_page_says_what_an_alarm_means_and_what_helps(open_page: Open, lab: Workspace) -> None:
    shown = texts(open_page(lab, "run", run=run_of(lab, state="running").id))
    for name in ("constant-collapse", "dimensional-collapse"):
        alarm = ALARMS[name]
        assert f"{alarm.title}." in shown and alarm.meaning in shown and alarm.advice in shown
    assert registry.METHODS["mae"].healthy in shown, "beside what a healthy run looks like"
    assert "Watched and silent: non-finite steps." in shown and "Codebook" not in shown
    # The mark stands whatever tab is open.
    log = texts(open_page(lab, "run", run=run_of(lab, state="running").id, tab="Log"))
    assert ALARMS["constant-collapse"].title in log and ALARMS["constant-collapse"].advice not in log
    done = texts(open_page(lab, "run", run=run_of(lab, kind="pretrain", state="succeeded").id))
    assert "No alarm stood at the end." in done and ALARMS["constant-collapse"].advice not in done
    failed = texts(open_page(lab, "run", run=run_of(lab, state="failed").id))
    assert "None was looked at." in failed
