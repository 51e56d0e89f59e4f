"""Every page on an empty, a populated and a hostile workspace, run without a browser."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import CURVES, PAGES, SCRIPT, history, make_lab, make_multilabel, make_pack, make_pairs, score
from pydantic import Field, field_validator
from streamlit.testing.v1 import AppTest

from app.state import open_pack
from rsfm import registry
from rsfm.alarms import ALARMS
from rsfm.errors import RsfmError
from rsfm.registry import MethodEntry, Preset
from rsfm.specs import EvaluateSpec, Params, PretrainSpec, ResNetParams, pretrain_spec
from rsfm.store.runs import RunFolder, create_run, list_runs
from rsfm.store.view import Store
from rsfm.workspace import Workspace

TOKENIZER = "launch.pretrain.beit_vq.smoke.landsat7-sample.method_params.tokenizer"
Open = Callable[..., AppTest]
#: An image, a link or HTML that Markdown would see: its first character is not escaped.
MARKUP = re.compile(r"(?<!\\)(!\[i|<img|</script|\]\(http)")


def run_of(workspace: Workspace, **wanted: object) -> RunFolder:
    """The first run whose state and spec fit."""
    for run in list_runs(workspace):
        facts = {"state": run.state(), **run.envelope()["spec"]}
        if all(facts.get(k) == v for k, v in wanted.items()):
            return run
    raise AssertionError(f"no run with {wanted}")


def texts(test: AppTest) -> str:
    """Everything readable on the page."""
    parts = [e.value for kind in ("title", "subheader", "markdown", "caption", "error", "warning", "info", "success")
             for e in test.get(kind)]  # fmt: skip
    parts += [f"{m.label} {m.value}" for m in test.metric]
    parts += [e.proto.label for e in test.get("page_link")]
    parts += [e.text for e in test.get("progress")]
    return "\n".join(str(p) for p in parts).replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", ["empty", "lab", "hostile"])
def test_page_draws(open_page: Open, request: pytest.FixtureRequest, tmp_path: Path, state: str, page: str) -> None:
    workspace = {
        "empty": lambda: Workspace(tmp_path / "nothing"),
        "lab": lambda: request.getfixturevalue("lab"),
        "hostile": lambda: request.getfixturevalue("hostile_lab"),
    }[state]()
    test = open_page(workspace, page)
    assert not test.exception
    assert test.title or page == "run"
    if state == "empty":
        assert test.get("page_link") or page == "datasets", "an empty page says where to go next"
        assert not workspace.root.exists(), "looking creates nothing"


@pytest.mark.parametrize("page", [*PAGES, "run-evaluation", "run-failed", "datasets-classes"])
def test_user_text_is_never_markup(open_page: Open, hostile_lab: Workspace, page: str) -> None:
    query: dict[str, str] = {}
    if page == "run-evaluation":
        query = {"run": run_of(hostile_lab, kind="evaluate", state="succeeded").id}
    elif page == "run-failed":
        query = {"run": run_of(hostile_lab, state="failed").id}
    elif page == "datasets-classes":
        query = {"pack": "synthetic-landsat7", "classes": []}
    test = open_page(hostile_lab, page.partition("-")[0], **query)
    assert not test.exception
    seen = 0
    for kind in ("markdown", "caption", "title", "subheader", "error", "info", "warning", "badge"):
        for element in test.get(kind):
            assert not getattr(element.proto, "allow_html", False), element
            body = str(element.value)
            # Markdown escapes every special character: neither an image nor a link nor HTML is left.
            assert not MARKUP.search(body), body
            assert "\u202e" not in body and "\u2066" not in body, "characters that turn the reading direction round"
            seen += "onerror" in body
    for link in test.get("page_link"):
        assert not MARKUP.search(link.proto.label)
        seen += "onerror" in link.proto.label
    if page in ("run-failed", "now", "datasets", "datasets-classes"):
        assert seen, "the hostile text is shown, as text"


def test_no_page_imports_torch(lab: Workspace) -> None:
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
import jobs.client
jobs.client.ensure_supervisor = lambda w, **_: None
for page in {PAGES!r}:
    test = AppTest.from_file({str(SCRIPT)!r}, default_timeout=60).run()
    test.switch_page(f"app_pages/{{page}}.py").run()
    assert not test.exception, test.exception
from app.loading import load_ahead
load_ahead()
heavy = [m for m in ("torch", "lightning", "timm", "torchgeo", "umap") if m in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={"RSFM_WORKSPACE": str(lab.root), "PATH": "/usr/bin:/bin", "HOME": str(lab.root)}, cwd=SCRIPT.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


# -- Now ----------------------------------------------------------------------------------------------------------
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


# -- Launch -------------------------------------------------------------------------------------------------------
def test_launch_writes_its_choices_into_the_url(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch")
    assert test.query_params["pack"] == "landsat7-sample"
    assert test.query_params["method"] == "mae" and test.query_params["preset"] == "cpu"
    assert test.code[0].value == "rsfm pretrain --method mae --dataset landsat7-sample --preset cpu --queue"


def test_launch_checks_then_queues(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.number_input(key="launch.pretrain.mae.smoke.landsat7-sample.optim.samples").set_value(640).run()
    assert "--set optim.samples=640" in test.code[0].value
    test.button(key="launch.pretrain.queue").click().run()
    assert [verb for verb, _ in no_jobs] == ["dry_run", "submit"]
    spec = no_jobs[-1][1]
    assert isinstance(spec, PretrainSpec)
    assert (spec.optim.samples, spec.optim.batch_size, spec.preset, spec.dataset) == (
        640,
        32,
        "smoke",
        "landsat7-sample",
    )
    assert "Queued" in texts(test)


def test_launch_refuses_with_the_reason_and_keeps_the_form(
    open_page: Open, lab: Workspace, no_jobs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.client

    reason = "No space left: 3 GB are needed."
    monkeypatch.setattr(jobs.client, "dry_run", lambda spec, w, **_: jobs.client.DryRun(False, [], reason))
    test = open_page(lab, "launch", preset="smoke")
    field = "launch.pretrain.mae.smoke.landsat7-sample.optim.batch_size"
    test.number_input(key=field).set_value(64).run()
    test.button(key="launch.pretrain.queue").click().run()
    assert reason in texts(test)
    assert not [verb for verb, _ in no_jobs if verb == "submit"]
    assert test.number_input(key=field).value == 64


def test_launch_shows_errors_in_place(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.number_input(key="launch.pretrain.mae.smoke.landsat7-sample.encoder.width").set_value(63).run()
    shown = texts(test)
    assert "width 63 is not divisible by heads 2" in shown
    assert test.button(key="launch.pretrain.queue").disabled
    prefix = "launch.pretrain.mae.smoke.landsat7-sample"
    test.number_input(key=f"{prefix}.encoder.width").set_value(64)
    test.number_input(key=f"{prefix}.method_params.decoder_width").set_value(33).run()
    assert "decoder_width 33 is not divisible by decoder_heads 2" in texts(test)
    assert test.button(key="launch.pretrain.queue").disabled


class Views(Params):
    """How views are changed."""

    blur: float = Field(0.5, ge=0, le=1, title="Blur")

    @field_validator("blur")
    @classmethod
    def _not_too_much(cls, blur: float) -> float:
        if blur > 0.9:
            raise ValueError("nothing is left to see")
        return blur


class TeacherParams(Params):
    """A made-up method."""

    ema_momentum: float = Field(0.996, gt=0, lt=1, title="EMA momentum", description="Of the teacher.")
    local_crops: int = Field(8, ge=0, le=32, title="Local crops")
    augment: Views = Field(Views(blur=0.25), title="Augmentation")


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that no page knows: a convolutional encoder, settings with a group inside."""
    entry = MethodEntry(
        name="teach", title="Teacher and student", label="Teach", family="self-distillation", paper="A paper",
        inputs="images", summary="A summary.", target="nowhere:Nothing", params=TeacherParams, encoder=ResNetParams,
        healthy="It stays calm.",
        presets={"tiny": Preset("Tiny", {"encoder": {"layers": "resnet18"}, "method_params": {"local_crops": 3}})},
    )  # fmt: skip
    monkeypatch.setitem(registry.METHODS, "teach", entry)
    return "launch.pretrain.teach.tiny.landsat7-sample"


def test_a_new_method_needs_no_page_code(open_page: Open, lab: Workspace, teacher: str, no_jobs: list) -> None:
    test = open_page(lab, "launch", method="teach")
    assert not test.exception and not test.error
    assert test.number_input(key=f"{teacher}.method_params.local_crops").value == 3
    assert "It stays calm." in texts(test) and "A summary." in texts(test)
    # The encoder is the method's own kind, and nothing asks for a transformer's sizes.
    assert test.selectbox(key=f"{teacher}.encoder.layers").value == "resnet18"
    assert "Tokens per image" not in str(test.table[0].value)
    assert not [w for w in test.number_input if w.key == f"{teacher}.encoder.width"]
    # A group inside the settings starts from the method's own defaults, and its values reach the request.
    assert test.number_input(key=f"{teacher}.method_params.augment.blur").value == 0.25
    test.number_input(key=f"{teacher}.method_params.augment.blur").set_value(0.75)
    test.selectbox(key=f"{teacher}.encoder.layers").set_value("resnet34").run()
    assert "--set encoder.layers=resnet34" in test.code[0].value
    assert "--set method_params.augment.blur=0.75" in test.code[0].value
    test.button(key="launch.pretrain.queue").click().run()
    assert not test.exception
    spec = no_jobs[-1][1]
    assert isinstance(spec, PretrainSpec) and spec.encoder == ResNetParams(layers="resnet34")
    assert spec.params == TeacherParams(local_crops=3, augment=Views(blur=0.75))
    assert "Watch Teach on landsat7-sample" in texts(test)


def test_errors_inside_a_group_of_settings_are_named(open_page: Open, lab: Workspace, teacher: str) -> None:
    test = open_page(lab, "launch", method="teach")
    test.number_input(key=f"{teacher}.method_params.augment.blur").set_value(0.95).run()
    assert not test.exception
    assert "method_params.augment.blur: nothing is left to see" in texts(test)
    assert test.button(key="launch.pretrain.queue").disabled


@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_every_preset_of_every_method_is_a_request_as_it_stands(open_page: Open, lab: Workspace, method: str) -> None:
    for preset in registry.METHODS[method].presets:
        test = open_page(lab, "launch", method=method, preset=preset)
        assert not test.exception and not test.error, preset
        assert not test.button(key="launch.pretrain.queue").disabled
        words = test.code[0].value.split()
        assert words[:7] == ["rsfm", "pretrain", "--method", method, "--dataset", "landsat7-sample", "--preset"]
        assert words[7:] == [preset, "--queue"], "the form changes nothing by itself"


def test_launch_starts_from_the_weights_of_another_run(open_page: Open, lab: Workspace) -> None:
    trained = run_of(lab, kind="pretrain", state="succeeded").id
    test = open_page(lab, "launch", preset="smoke")
    box = test.selectbox(key="launch.pretrain.mae.smoke.landsat7-sample.init.weights")
    assert box.value is None
    box.set_value(trained).run()
    assert f"--set init.weights={trained}" in test.code[0].value


def test_launch_offers_the_tokenizers_that_there_are(open_page: Open, lab: Workspace, tmp_path: Path) -> None:
    box = open_page(lab, "launch", method="beit_vq", preset="smoke").selectbox(key=TOKENIZER)
    assert box.options == [] and box.placeholder == "None yet: train a VQ tokenizer"
    workspace = make_lab(tmp_path / "w")
    trained = run_of(workspace, kind="pretrain", state="succeeded").id
    file = workspace.models / trained / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"method": "vq_tokenizer"}))
    test = open_page(workspace, "launch", method="beit_vq", preset="smoke")
    test.selectbox(key=TOKENIZER).select_index(0).run()
    assert f"--set method_params.tokenizer={trained}" in test.code[0].value


def test_optional_numbers_can_be_emptied(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", preset="vit-s")
    box = test.number_input(key="launch.pretrain.mae.vit-s.landsat7-sample.image_size")
    assert box.value == 224
    box.set_value(None).run()
    assert "--set image_size=null" in test.code[0].value and not test.error


def test_launch_evaluates_several_models_as_one_run_each(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    test = open_page(lab, "launch", job="evaluate")
    trained = run_of(lab, kind="pretrain", state="succeeded").id
    assert test.multiselect(key="url.model").value == [trained]
    test.multiselect(key="url.model").set_value([trained, "band-stats"]).run()
    test.text_input(key="launch.evaluate.synthetic-landsat7.severities").set_value("1, 4").run()
    test.button(key="launch.evaluate.queue").click().run()
    specs = [spec for verb, spec in no_jobs if verb == "submit"]
    assert [s.model for s in specs] == [trained, "band-stats"]
    assert all(
        isinstance(s, EvaluateSpec) and s.severities == [1, 4] and s.dataset == "synthetic-landsat7" for s in specs
    )


def test_launch_names_a_bad_factor(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", job="evaluate")
    test.text_input(key="launch.evaluate.synthetic-landsat7.severities").set_value("1, two").run()
    assert "severities" in texts(test) and test.button(key="launch.evaluate.queue").disabled


def test_launch_shows_what_was_queued_before_a_request_failed(
    open_page: Open, lab: Workspace, no_jobs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.client

    submit = jobs.client.submit

    def submit_one(workspace: Workspace, spec: Any) -> str:
        if len([verb for verb, _ in no_jobs if verb == "submit"]) == 1:
            raise RsfmError("The disk is full.")
        return submit(workspace, spec)

    monkeypatch.setattr(jobs.client, "submit", submit_one)
    test = open_page(lab, "launch", job="evaluate", model=["band-stats", "random:vit-nano"])
    test.button(key="launch.evaluate.queue").click().run()
    assert not test.exception
    assert "The disk is full." in texts(test) and "Watch band-stats on synthetic-landsat7" in texts(test)


def test_a_dry_run_is_believed_for_a_moment_only(
    open_page: Open, lab: Workspace, no_jobs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.button(key="launch.pretrain.check").click().run()
    assert "ready to run" in texts(test)
    test.button(key="launch.pretrain.check").click().run()
    assert [verb for verb, _ in no_jobs] == ["dry_run"]
    later = time.monotonic() + 200
    monkeypatch.setattr(time, "monotonic", lambda: later)
    test.run()
    assert "ready to run" not in texts(test), "packs, models and the disk change"
    test.button(key="launch.pretrain.queue").click().run()
    assert [verb for verb, _ in no_jobs] == ["dry_run", "dry_run", "submit"]


def test_launch_evaluates_the_model_of_the_link_or_says_what_is_wrong(open_page: Open, lab: Workspace) -> None:
    absent = "20261121-093045-mae-eurosat-7f3a"
    test = open_page(lab, "launch", job="evaluate", model=absent)
    assert test.multiselect(key="url.model").value == [absent], "not silently another one"
    assert f"--model {absent}" in test.code[0].value
    trained = run_of(lab, kind="pretrain", state="succeeded").id
    test = open_page(lab, "launch", job="evaluate")
    assert test.query_params["model"] == trained
    next(b for b in test.button if b.label == "Add the baselines").click().run()
    assert set(test.query_params["model"]) >= {trained, "band-stats", "efficientnet-lite0", "random:vit-nano"}


def test_what_was_queued_is_said_once_per_visit(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.button(key="launch.pretrain.queue").click().run()
    test.run()
    assert "Watch MAE on landsat7-sample" in texts(test), "it stays while the page is open"
    test.switch_page("app_pages/runs.py").run()
    test.switch_page("app_pages/launch.py").run()
    assert "Watch MAE" not in texts(test)


def test_launch_says_what_is_wrong_in_a_closed_section(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", job="prepare", dataset="synthetic-rgb")
    test.text_area(key="launch.prepare.synthetic-rgb.options").set_value("[1").run()
    assert test.button(key="launch.prepare.queue").disabled
    assert "This cannot run yet" in test.error[0].value and "options" in test.error[0].value


# -- alarms -------------------------------------------------------------------------------------------------------
def test_standing_alarms_mark_the_run_on_now_and_runs(open_page: Open, lab: Workspace) -> None:
    title = ALARMS["constant-collapse"].title
    assert f"{title} +1" in texts(open_page(lab, "now"))
    rows = open_page(lab, "runs").dataframe[0].value.set_index("run")
    running, done = run_of(lab, state="running").id, run_of(lab, kind="pretrain", state="succeeded").id
    assert list(rows.loc[running, "alarms"]) == [title, ALARMS["dimensional-collapse"].title]
    assert list(rows.loc[done, "alarms"]) == [], "an alarm that has gone is no mark"


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


# -- Run ----------------------------------------------------------------------------------------------------------
def test_run_shows_progress_and_curves(open_page: Open, lab: Workspace) -> None:
    run = run_of(lab, state="running")
    test = open_page(lab, "run", run=run.id)
    numbers = {m.label: m.value for m in test.metric}
    assert numbers["Progress"] == "42 %" and numbers["Throughput"] == "441 /s"
    assert len(test.get("plotly_chart")) == 4
    assert "What a healthy run looks like" in texts(test)
    assert test.query_params["run"] == run.id


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


def test_a_fragment_shows_an_error_as_a_sentence() -> None:
    def script() -> None:
        from app.page import guarded
        from rsfm.errors import RsfmError

        def fail() -> None:
            raise RsfmError("There is *no* run.")

        guarded(fail)()

    test = AppTest.from_function(script).run()
    assert not test.exception and test.error[0].value == r"There is \*no\* run\."


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


def decoded(values: Any) -> list[float]:
    """Plotly's arrays: a list, or base64 of float64."""
    return np.frombuffer(base64.b64decode(values["bdata"])).tolist() if isinstance(values, dict) else values


@pytest.mark.parametrize("bad", ["20261121-093045-mae-eurosat-7f3a", "../../etc/passwd", "</script>", "x" * 500])
def test_run_that_is_not_there(open_page: Open, lab: Workspace, bad: str) -> None:
    test = open_page(lab, "run", run=bad)
    assert not test.exception
    assert "There is no run" in test.error[0].value


def test_pages_work_while_another_program_holds_the_index(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    run = run_of(workspace, state="running")
    open_page(workspace, "run", run=run.id)  # the index exists now
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(workspace.index)!r}); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "held"
        run.add_event(message="still going")
        time.sleep(1.1)
        for page, query in (("run", {"run": run.id}), ("now", {}), ("runs", {}), ("degradation", {}), ("datasets", {})):
            test = open_page(workspace, page, **query)
            assert not test.exception, page
            if page == "run":
                assert {m.label: m.value for m in test.metric}["Progress"] == "42 %"
        assert test.warning and str(holder.pid) in test.warning[0].value
        holder.communicate("")


# -- Degradation --------------------------------------------------------------------------------------------------
def test_degradation_says_what_is_synthetic(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "degradation")
    assert len(test.get("plotly_chart")) == 2
    assert "Synthetic pack synthetic-landsat7, 30 m grid, n = 240 test images" in texts(test).replace("**", "")
    assert "3 evaluation seeds" in texts(test)
    assert test.query_params["packs"] == "synthetic-landsat7"
    table = test.dataframe[0].value
    assert len(table) == 2 * len(CURVES) and list(table["dataset"].unique()) == ["synthetic-landsat7 (synthetic)"]
    best = table[table["adaptation"] == "Linear probe"].iloc[0]
    assert best["model_title"].startswith("MAE") and 0.5 < best["retention"] < 0.65


def test_degradation_of_one_adaptation_against_factors(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "degradation", adaptation="knn", axis="factor", value="retention", models=["band-stats"])
    assert len(test.get("plotly_chart")) == 1
    assert set(test.dataframe[0].value["adaptation"]) == {"kNN"}
    assert len(test.dataframe[0].value) == 1


def test_degradation_lists_findings_beside_the_rows_they_are_about(open_page: Open, tmp_path: Path) -> None:
    """Findings whose subject is a run, as the store words them, reach the model that the run has measured."""
    workspace = make_lab(tmp_path / "w")
    pack = open_pack(workspace, "synthetic-landsat7").info
    run = create_run(workspace, EvaluateSpec(model="timm:x", dataset=pack.name))
    history(run, "succeeded", 1, 1, "Done.")
    score(run, pack, "Flat", "timm:x", {"linear": [0.5, 0.5, 0.5, 0.5]}, spread=0)
    score(run, pack, "Flat", "timm:x", {"linear": [0.6, 0.5, 0.5, 0.5]}, spread=0)
    test = open_page(workspace, "degradation")
    table = test.dataframe[0].value.set_index(["model_title", "adaptation"])["findings"]
    rules = set(Store(workspace).lint().query("subject == @run.id")["rule"])
    assert rules == {"duplicate-key"}
    assert table["Flat", "Linear probe"] >= 3 and table["Random ViT-nano", "kNN"] >= 1
    assert np.isnan(table["MAE vit-nano · landsat7-sample", "kNN"])
    assert "different values" in texts(test)
    score(run, pack, "Flat", "timm:x", {"linear": [0.5, 0.5, 0.5, 0.5]}, spread=0)
    assert "was the input degraded" in texts(open_page(workspace, "degradation"))


def test_degradation_keeps_another_band_set_apart(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    pack = open_pack(workspace, "synthetic-landsat7").info
    run = create_run(workspace, EvaluateSpec(model="band-stats", dataset=pack.name, bands=["B4"]))
    history(run, "succeeded", 1, 1, "Done.")
    score(run, pack, "Band statistics", "band-stats", {"knn": [0.3, 0.3, 0.2, 0.2]}, bands="B4")
    test = open_page(workspace, "degradation", adaptation="knn", models=["band-stats"])
    rows = test.dataframe[0].value
    assert sorted(rows["variant"]) == ["3 bands (B1 B2 B3)", "band B4"]
    assert rows.set_index("variant").loc["band B4", "1×"] < 0.35 < rows.set_index("variant").loc[
        "3 bands (B1 B2 B3)", "1×"
    ]  # fmt: skip
    assert "variant" in test.dataframe[0].proto.column_order


# -- Datasets -----------------------------------------------------------------------------------------------------
def test_datasets_shows_samples_by_address(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "datasets", pack="synthetic-landsat7", split="test")
    images = [m.value for m in test.markdown if m.value.startswith("![")]
    assert len(images) == 20 and all("/rsfm/thumbs/synthetic-landsat7/test/" in i for i in images)
    one = open_page(lab, "datasets", pack="synthetic-landsat7", split="test", classes=["Water"])
    assert 0 < len([m for m in one.markdown if m.value.startswith("![")]) < 20


@pytest.mark.parametrize("tab", ["Map", "Bands", "Classes"])
def test_datasets_tabs(open_page: Open, lab: Workspace, tab: str) -> None:
    test = open_page(lab, "datasets", pack="synthetic-landsat7", tab=tab)
    assert not test.exception
    if tab == "Map":
        assert test.get("iframe")[0].proto.src.startswith("/rsfm/maps/packs/synthetic-landsat7?")
    if tab == "Bands":
        assert list(test.dataframe[0].value["Band"]) == ["B1", "B2", "B3", "B4", "B5", "B6", "B7"]
    if tab == "Classes":
        assert len(test.get("plotly_chart")) == 1


@pytest.mark.parametrize("layer", [None, "image_post", "mask"])
def test_datasets_shows_pairs_and_their_masks(open_page: Open, tmp_path: Path, layer: str | None) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    make_pairs(workspace)
    test = open_page(workspace, "datasets", pack="pairs", **({"layer": layer} if layer else {}))
    assert not test.exception and not test.error
    images = [m.value for m in test.markdown if m.value.startswith("![")]
    assert len(images) == 6 and all(f"layer={layer or 'image_pre'}" in i for i in images)
    assert ("unchanged" in texts(test)) == (layer == "mask"), "a mask has a legend"
    assert {m.label: m.value for m in test.metric}["Bands"] == "3"


@pytest.mark.parametrize("tab", ["Map", "Bands", "Classes"])
def test_datasets_tabs_of_pairs(open_page: Open, tmp_path: Path, tab: str) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    make_pairs(workspace)
    test = open_page(workspace, "datasets", pack="pairs", tab=tab)
    assert not test.exception and not test.error
    if tab == "Bands":
        assert len(test.dataframe) == 2, "one table per date"
    if tab == "Classes":
        assert "One class per pixel" in texts(test) and len(test.get("plotly_chart")) == 1


def test_samples_with_several_labels_are_found_by_any_of_them(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    make_multilabel(workspace)

    def shown(*classes: str) -> list[str]:
        test = open_page(workspace, "datasets", pack="several", classes=list(classes))
        assert not test.exception
        return [m.value.partition("]")[0] for m in test.markdown if m.value.startswith("![")]

    assert shown("Forest") == ["![Forest", "![Forest, Water"]
    assert shown("Water", "Crop") == ["![Forest, Water", "![Crop"]
    assert len(shown()) == 3


def test_catalog_marks_entries_without_a_reader(open_page: Open, lab: Workspace) -> None:
    import data_catalog

    entries = data_catalog.entries(lab)
    test = open_page(lab, "datasets", view="Catalog")
    shown = texts(test)
    assert all(e.title in shown for e in entries.values())
    if any(not e.reader for e in entries.values()):
        assert "without a reader yet" in shown


def test_adding_a_folder_shows_what_was_understood_then_keeps_it(
    open_page: Open, tmp_path: Path, no_jobs: list
) -> None:
    from PIL import Image

    workspace = Workspace(tmp_path / "w")
    for i in range(6):
        folder = tmp_path / "tiles" / ("a", "b")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (40 * i, 90, 120)).save(folder / f"{i}.png")
    test = open_page(workspace, "datasets", view="Add your own")
    test.text_input[0].set_value(str(tmp_path / "nothing-here"))
    test.button[0].click().run()
    assert "There is nothing at" in test.error[0].value.replace("\\", "")
    test.text_input[0].set_value(str(tmp_path / "tiles"))
    test.text_input[1].set_value("my-tiles")
    test.button[0].click().run()
    assert not test.exception and not test.error
    assert "6 images in one folder per class, 2 classes" in texts(test)
    assert no_jobs == [] and not workspace.root.exists(), "nothing is kept or started before the reader says so"
    keep = next(b for b in test.button if b.label == "Keep and prepare")
    keep.click().run()
    assert not test.exception and not test.error
    assert [(verb, spec.dataset) for verb, spec in no_jobs] == [("submit", "my-tiles")]
    assert (workspace.datasets / "my-tiles.json").is_file()
    catalog = open_page(workspace, "datasets", view="Catalog", find="my-tiles")
    assert "my-tiles" in texts(catalog)


@pytest.fixture
def own_tiles(tmp_path: Path) -> Path:
    """A folder of four images."""
    from PIL import Image

    (tmp_path / "tiles").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (40 * i, 90, 120)).save(tmp_path / "tiles" / f"{i}.png")
    return tmp_path / "tiles"


def look(test: AppTest, path: Path | str, name: str) -> AppTest:
    test.text_input[0].set_value(str(path))
    test.text_input[1].set_value(name)
    return test.button[0].click().run()


def press(test: AppTest, label: str) -> AppTest:
    return next(b for b in test.button if b.label == label).click().run()


def test_adding_refuses_the_name_of_a_built_in_dataset(
    open_page: Open, tmp_path: Path, no_jobs: list, own_tiles: Path
) -> None:
    test = open_page(Workspace(tmp_path / "w"), "datasets", view="Add your own")
    press(look(test, own_tiles, "eurosat-ms"), "Keep and prepare")
    assert "built-in dataset" in texts(test) and no_jobs == []


def test_adding_refuses_a_taken_name_until_told_to_replace_it(
    open_page: Open, tmp_path: Path, no_jobs: list, own_tiles: Path
) -> None:
    workspace = Workspace(tmp_path / "w")
    press(look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "mine"), "Keep and prepare")
    before = (workspace.datasets / "mine.json").read_bytes()
    no_jobs.clear()
    test = look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "mine")
    assert "already" in test.warning[0].value
    press(test, "Keep and prepare")
    assert "choose another name" in texts(test) and "--replace" not in texts(test)
    assert no_jobs == [] and (workspace.datasets / "mine.json").read_bytes() == before
    test.toggle(key="add.replace.mine").set_value(True).run()
    press(test, "Keep and prepare")
    assert [(verb, spec.dataset) for verb, spec in no_jobs] == [("submit", "mine")]
    # The name of a pack is taken as well.
    make_pack(workspace, "packed")
    press(look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "packed"), "Keep and prepare")
    assert not (workspace.datasets / "packed.json").exists()


def test_what_cannot_be_queued_is_not_kept(
    open_page: Open, tmp_path: Path, own_tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.client

    def refuse(*_: object) -> str:
        raise RsfmError("No room.")

    workspace = Workspace(tmp_path / "w")
    test = look(open_page(workspace, "datasets", view="Add your own"), own_tiles, "mine")
    monkeypatch.setattr(jobs.client, "submit", refuse)
    press(test, "Keep and prepare")
    assert "No room." in texts(test) and not (workspace.datasets / "mine.json").exists()


def test_adding_passes_the_size_on(open_page: Open, tmp_path: Path, no_jobs: list, own_tiles: Path) -> None:
    test = look(open_page(Workspace(tmp_path / "w"), "datasets", view="Add your own"), own_tiles, "mine")
    test.number_input(key="add.size").set_value(32).run()
    press(test, "Keep and prepare")
    assert no_jobs[-1][1].image_size == 32 and no_jobs[-1][1].tile_size is None
    assert "queued for preparation" in texts(test)


@pytest.mark.parametrize("path", ["", "   ", "~no-such-user-here/x", "a" * 5000, "tiles\x00.tif"])
def test_adding_what_is_no_path_is_one_sentence(open_page: Open, tmp_path: Path, path: str) -> None:
    test = look(open_page(Workspace(tmp_path / "w"), "datasets", view="Add your own"), path, "mine")
    assert not test.exception and len(test.error) == 1
