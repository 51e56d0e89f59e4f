"""What an analyst does, in Chromium, with the real supervisor and real jobs behind it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lab import HOSTILE, beat, embed, history, make_lab
from lab_packs import make_pack
from PIL import Image
from playwright.sync_api import expect

from rsfm.alarms import ALARMS
from rsfm.packs import Pack
from rsfm.specs import pretrain_spec
from rsfm.store.job import JobContext
from rsfm.store.runs import FINISHED, RunFolder, create_run, list_runs
from rsfm.store.view import Store
from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
#: Address of a page -> something that only this page shows.
PAGES = {
    "/now": "Recently finished", "/launch": "The same from a terminal", "/runs": "runs in this workspace",
    "/run": "created", "/degradation": "How scores fall as test images get worse",
    "/leaderboard": "who cannot be told apart", "/embeddings": "Draw around points",
    "/segmentation": "No scene was predicted yet", "/change": "No scene was predicted yet",
    "/datasets": "On disk", "/models": "Encoders that runs have exported",
}  # fmt: skip


def finish_all(workspace: Workspace) -> None:
    """Runs that only look alive would be marked lost by the real supervisor."""
    for run in list_runs(workspace):
        if run.state() not in FINISHED:
            run.add_event(state="succeeded", attempt=1, message="Done.")


@pytest.fixture(scope="module")
def finished_lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_lab(tmp_path_factory.mktemp("e2e") / "workspace")
    embed(workspace, Pack.named(workspace, "synthetic-landsat7").info, model="band-stats", title="Band statistics")
    finish_all(workspace)
    return workspace


@pytest.fixture(scope="module")
def hostile_lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_lab(tmp_path_factory.mktemp("e2e") / "workspace", hostile=True)
    finish_all(workspace)
    return workspace


def test_launch_watch_stop_resume(tmp_path: Path, served: Callable, visit: Callable) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.packs.mkdir(parents=True)
    make_pack(workspace, "tiny", synthetic=True)
    analyst = visit(served(workspace)).open("/launch?preset=smoke")
    page = analyst.page

    # Launch: the form starts from the preset; what is changed reaches the command line and the request.
    page.get_by_text("Training", exact=True).click()
    samples = page.get_by_label("Samples", exact=True)
    samples.fill("38400")
    samples.press("Enter")
    expect(page.get_by_text("optim.samples=38400")).to_be_visible()
    page.get_by_role("button", name="Queue").click()
    watch = page.get_by_role("link", name="Watch MAE on tiny")
    watch.wait_for(timeout=150_000)
    run = list_runs(workspace)[0]
    assert run.spec().optim.samples == 38_400

    # Watch: progress moves by itself, curves appear.
    watch.click()
    page.wait_for_url(re.compile(rf"/run\?.*run={run.id}"))
    expect(page.get_by_text(re.compile(r"[\d,]+ of 38,400 samples")).first).to_be_visible(timeout=150_000)
    expect(page.get_by_text("Training loss")).to_be_visible(timeout=60_000)
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(timeout=60_000)

    # Stop: the run saves and ends, and says so.
    analyst.main.get_by_role("button", name="Stop", exact=True).click()
    resume = page.get_by_role("button", name="Resume")
    resume.wait_for(timeout=120_000)
    expect(page.get_by_text("Stopped and saved. Resume goes on from there.")).to_be_visible()
    assert run.state() == "cancelled"
    stopped_at = run.progress()["step"]
    assert 0 < stopped_at < 1200

    # Resume: a second attempt goes on from the checkpoint and is shown without a click.
    resume.click()
    expect(page.get_by_text("attempt 2")).to_be_visible(timeout=120_000)
    expect(page.get_by_test_id("stMetric").filter(has_text="Ended")).to_be_visible(timeout=300_000)
    expect(page.get_by_role("link", name="Evaluate it")).to_be_visible()
    assert run.state() == "succeeded" and run.progress()["step"] == 1200 > stopped_at

    # The index holds each step once.
    store = Store(workspace)
    store.refresh_if_stale(0)
    losses = store.metrics([run.id], names=["loss"], max_points=100_000)
    assert losses["step"].is_unique and set(losses["attempt"]) == {1, 2}
    assert analyst.troubles == [] and analyst.foreign() == []


def test_no_page_asks_anything_from_outside(finished_lab: Workspace, served: Callable, visit: Callable) -> None:
    more = {
        "/": "Recently finished", "/datasets?tab=Map": "Click a footprint",
        "/datasets?view=Catalog": "without a reader", "/datasets?view=Add+your+own": "A folder of images",
    }  # fmt: skip
    for scheme, width in (("light", 1440), ("dark", 800)):
        analyst = visit(served(finished_lab), width=width, scheme=scheme)
        for path, shown in {**PAGES, **more}.items():
            analyst.open(path)
            expect(analyst.main.get_by_text(shown).first).to_be_visible()
            # Nothing is wider than the window.
            assert analyst.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (path, width)
            assert analyst.page.get_by_test_id("stMain").evaluate("m => m.scrollWidth - m.clientWidth") <= 0, path
        assert analyst.foreign() == [] and analyst.troubles == []
        assert len(analyst.requests) > 50 and any(r.startswith("ws://") for r in analyst.requests)


def test_a_link_restores_the_view_in_another_browser(
    finished_lab: Workspace, served: Callable, visit: Callable
) -> None:
    base = served(finished_lab)
    first = visit(base).open("/degradation")
    page = first.page
    page.get_by_role("radio", name="Retention").click()
    page.wait_for_url(re.compile("value=retention"))
    page.get_by_role("radio", name="Factor").click()
    page.wait_for_url(re.compile("axis=factor"))
    assert "packs=synthetic-landsat7" in first.query(), "a default that depends on data is written out"
    second = visit(base).open("/degradation?" + first.query())
    expect(second.page.get_by_role("radio", name="Retention")).to_be_checked()
    expect(second.page.get_by_role("radio", name="Factor")).to_be_checked()
    expect(second.page.get_by_text("Accuracy retained").first).to_be_visible()

    # Back undoes the last choice, and the page follows.
    page.go_back()
    page.wait_for_url(lambda url: "axis=factor" not in url)
    expect(page.get_by_role("radio", name="Effective GSD")).to_be_checked()
    expect(page.get_by_role("radio", name="Retention")).to_be_checked()


def test_ticked_runs_lead_to_the_run_and_back(finished_lab: Workspace, served: Callable, visit: Callable) -> None:
    analyst = visit(served(finished_lab)).open("/runs?kind=pretrain&state=failed")
    page = analyst.page
    analyst.tick(0)
    link = page.get_by_role("link", name="MAE on landsat7-sample")
    link.wait_for()
    assert "overlay=" in page.url
    link.click()
    page.wait_for_url(re.compile(r"/run\?"))
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    page.go_back()
    page.wait_for_url(re.compile(r"/runs\?"))
    assert "state=failed" in page.url and "overlay=" in page.url
    link.wait_for()

    # The icon in a row opens the run in a tab of its own.
    table = page.get_by_test_id("stDataFrame").locator("canvas").first
    table.wait_for()
    box = table.bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    with page.expect_popup() as popup:
        page.mouse.click(box["x"] + 55, box["y"] + 50)
    assert re.search(r"/run\?run=", popup.value.url)
    assert analyst.troubles == []


def test_a_tick_stays_with_its_run(tmp_path: Path, served: Callable, visit: Callable) -> None:
    """Ticks are kept by position: a run that appears above must not inherit one, and Back takes one away."""
    workspace = Workspace(tmp_path / "workspace")
    workspace.runs.mkdir(parents=True)
    runs = []
    for seed in range(2):
        runs.append(create_run(workspace, pretrain_spec("mae", f"pack-{seed}", "smoke")))
        history(runs[-1], "succeeded", 5, 1, "Done.")
        time.sleep(1.1)  # they are listed by the second in which they were made
    analyst = visit(served(workspace)).open("/runs")
    page = analyst.page
    chosen = page.get_by_role("link", name=re.compile("MAE on pack-"))
    analyst.tick(1)
    expect(chosen).to_have_text(re.compile("pack-0"))

    newest = create_run(workspace, pretrain_spec("mae", "pack-new", "smoke"))
    history(newest, "succeeded", 0, 0, "Done.")
    expect(page.get_by_text("1 to 3 shown")).to_be_visible(timeout=60_000)
    expect(chosen).to_have_text(re.compile("pack-0"))
    analyst.tick(0)
    expect(chosen).to_have_count(2)
    expect(page.get_by_role("link", name="MAE on pack-new")).to_be_visible()
    assert page.url.count("overlay=") == 2 and runs[1].id not in page.url

    page.go_back()
    expect(chosen).to_have_count(1)
    expect(chosen).to_have_text(re.compile("pack-0"))
    analyst.tick(0)  # the box is free again: the tick went with the choice
    expect(chosen).to_have_count(2)
    assert analyst.troubles == []


def test_an_alarm_marks_the_run_while_it_trains(tmp_path: Path, served: Callable, visit: Callable) -> None:
    workspace = make_lab(tmp_path / "workspace")
    finish_all(workspace)
    run = create_run(workspace, pretrain_spec("mae", "landsat7-sample", "smoke"))
    history(run, "running", 1, 0)
    beat(run)
    job = JobContext(workspace, run, 1)
    job.metrics(step=2, samples=64, values={"loss": 1.0, "alarm/constant-collapse": 0.0})
    analyst = visit(served(workspace)).open(f"/run?run={run.id}")
    expect(analyst.main.get_by_text("No alarm stands.")).to_be_visible()
    job.metrics(step=4, samples=128, values={"loss": 1.0, "alarm/constant-collapse": 1.0})
    alarm = ALARMS["constant-collapse"]
    for text in (f"{alarm.title}.", alarm.meaning, alarm.advice):  # without a click
        expect(analyst.main.get_by_text(text)).to_be_visible()
    expect(analyst.main.locator(".stMarkdownBadge").filter(has_text=alarm.title).first).to_be_visible()
    job.metrics(step=6, samples=192, values={"loss": 0.9, "alarm/constant-collapse": 0.0})
    expect(analyst.main.get_by_text("No alarm stands.")).to_be_visible()
    expect(analyst.main.get_by_text(alarm.advice)).to_have_count(0)
    assert analyst.troubles == []


def test_the_map_shows_pixels(finished_lab: Workspace, served: Callable, visit: Callable, tmp_path: Path) -> None:
    analyst = visit(served(finished_lab), height=1300).open("/datasets?pack=landsat7-sample&tab=Map")
    frame = analyst.page.frame_locator("iframe")
    frame.locator("html[data-ready=true]").wait_for(timeout=90_000)
    analyst.page.wait_for_timeout(1500)
    shot = tmp_path / "map.png"
    frame.locator("#map").screenshot(path=shot)
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    middle = pixels[height // 3 : 2 * height // 3, 2 * width // 5 : 3 * width // 5]
    colourful = np.ptp(middle, axis=2) > 60
    assert colourful.mean() > 0.3, "the samples' own pixels, not only a plain ground"
    # A click shows the sample below it.
    frame.locator("#map canvas").click(position={"x": width // 2, "y": height // 2})
    frame.locator(".maplibregl-popup img").wait_for()
    assert (
        frame.locator(".maplibregl-popup img").evaluate(
            "i => new Promise(r => i.complete ? r(i.naturalWidth) : i.onload = () => r(i.naturalWidth))"
        )
        > 0
    )
    assert analyst.foreign() == [] and analyst.troubles == []


def test_hostile_names_stay_text(hostile_lab: Workspace, served: Callable, visit: Callable) -> None:
    analyst = visit(served(hostile_lab), height=1300)
    failed = next(r for r in list_runs(hostile_lab) if r.state() == "failed")
    evaluation = next(r for r in list_runs(hostile_lab) if r.envelope()["kind"] == "evaluate")
    verbatim = "</script><img src=x onerror=alert(1)>"
    for path in (*PAGES, f"/run?run={failed.id}", f"/run?run={evaluation.id}", "/datasets?pack=synthetic-landsat7",
                 "/datasets?pack=synthetic-landsat7&tab=Classes", "/datasets?pack=synthetic-landsat7&tab=Map",
                 "/launch?job=evaluate"):  # fmt: skip
        analyst.open(path)
        analyst.page.wait_for_timeout(500)
        assert analyst.page.locator('img[src="x"], img[src*="example.com"]').count() == 0, path
    assert analyst.foreign() == [] and analyst.troubles == []
    analyst.open(f"/run?run={failed.id}")
    shown = analyst.page.get_by_test_id("stAlert").first.inner_text().replace("\u2060", "")
    assert verbatim in shown and "![i](http://example.com/x.png)" in shown
    assert HOSTILE.count("\u202e") == 1 and "\u202e" not in shown

    map_frame = analyst.open("/datasets?pack=synthetic-landsat7&tab=Map").page.frame_locator("iframe")
    map_frame.locator("html[data-ready=true]").wait_for(timeout=90_000)
    box = map_frame.locator("#map").bounding_box()
    map_frame.locator("#map canvas").click(position={"x": box["width"] // 2, "y": box["height"] // 2})
    label = map_frame.locator(".maplibregl-popup p").first
    label.wait_for()
    assert verbatim in label.inner_text()
    assert analyst.troubles == []


def test_four_sessions_watch_while_eight_runs_log(tmp_path: Path, served: Callable, visit: Callable) -> None:
    workspace = make_lab(tmp_path / "workspace")
    finish_all(workspace)
    runs = [create_run(workspace, pretrain_spec("mae", "landsat7-sample", "smoke", seed=seed)) for seed in range(8)]
    for run in runs:
        history(run, "running", 1, 0)
        beat(run)
    base = served(workspace)
    # Not the page Now: it would wake a supervisor, which finds that nobody works on these runs.
    paths = (f"/run?run={runs[0].id}", f"/run?run={runs[1].id}&tab=Log", "/runs", f"/run?run={runs[2].id}&tab=Events")
    stop = threading.Event()

    def log(run: RunFolder) -> None:
        step = 0
        while not stop.wait(0.02):
            step += 1
            job = JobContext(workspace, run, 1)
            job.metrics(step=step, samples=32 * step, values={"loss": 1 / step, "knn": 0.5})
            job.progress(step, 10_000, unit="samples", force=True)
            with (run.path / "log.txt").open("a") as file:
                file.write(f"step {step}\n")

    threads = [threading.Thread(target=log, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        visits = [visit(base).open(path) for path in paths]
        for _ in range(8):
            visits[2].page.reload()
            visits[2].settle()
            for one in visits:
                assert one.page.get_by_test_id("stException").count() == 0
                assert one.page.get_by_test_id("stAlertContentError").count() == 0
        expect(visits[0].page.locator(".js-plotly-plot").first).to_be_visible()
        # The log goes on by itself, to lines that were not there at first.
        written = (runs[1].path / "log.txt").read_text().count("\n")
        visits[1].page.wait_for_function(
            "n => Math.max(...[...document.body.innerText.matchAll(/step (\\d+)/g)].map(m => Number(m[1]))) > n",
            arg=written,
        )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for one in visits:
        assert one.troubles == [] and one.foreign() == []
    # Nothing was lost on the way into the index; the server may be at it right now.
    store = Store(workspace)
    lines = {run.id: sum(1 for _ in (run.path / "metrics.jsonl").open()) for run in runs}
    end = time.monotonic() + 60
    while True:
        store.refresh_if_stale(0)
        found = {run.id: len(store.metrics([run.id], names=["loss"], max_points=10**6)) for run in runs}
        if found == lines or time.monotonic() > end:
            break
        time.sleep(0.2)
    assert found == lines
