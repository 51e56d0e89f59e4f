"""The whole way in the browser, on real imagery: files -> pack -> pretraining -> evaluation -> curve."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rsfm.packs import Pack
from rsfm.store.runs import FINISHED, RunFolder, list_runs
from rsfm.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.realdata, pytest.mark.timeout(1800)]
PATIENCE_MS = 600_000


def newest(workspace: Workspace, kind: str) -> RunFolder:
    return [run for run in list_runs(workspace) if run.envelope()["kind"] == kind][-1]


def wait_for(runs: list[RunFolder], patience_s: float = 900) -> None:
    end = time.monotonic() + patience_s
    while any(run.state() not in FINISHED for run in runs):
        assert time.monotonic() < end, {run.id: run.state() for run in runs}
        time.sleep(1)
    assert {run.state() for run in runs} == {"succeeded"}, [run.log_tail(2000) for run in runs]


def test_real_13_band_images_from_files_to_the_curve(
    tmp_path: Path, realdata: Path, served: Callable, visit: Callable
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.root.mkdir()
    analyst = visit(served(workspace), height=1600).open("/launch?job=prepare&dataset=eurosat-ms")
    page, main = analyst.page, analyst.main
    ended = page.get_by_test_id("stMetric").filter(has_text="Ended")

    # Prepare: the folder is named in the form.
    folder = main.get_by_label("Folder", exact=True)
    folder.fill(str(realdata / "eurosat_ms"))
    folder.press("Enter")
    expect(main.get_by_text("--source")).to_be_visible()
    main.get_by_role("button", name="Queue").click()
    main.get_by_role("link", name="Watch prepare eurosat-ms").click(timeout=PATIENCE_MS)
    expect(ended).to_be_visible(timeout=PATIENCE_MS)
    pack = Pack.named(workspace, "eurosat-ms")
    assert len(pack.bands()) == 13 and not pack.info.synthetic

    # Pretrain: from the pack's own page, with the preset that takes seconds.
    analyst.open("/datasets?pack=eurosat-ms")
    main.get_by_role("link", name="Pretrain on it").click()
    page.wait_for_url(re.compile(r"/launch\?.*pack=eurosat-ms"))
    analyst.open(f"/launch?{analyst.query()}&preset=smoke")
    main.get_by_role("button", name="Queue").click()
    main.get_by_role("link", name="Watch MAE on eurosat-ms").click(timeout=PATIENCE_MS)
    trained = newest(workspace, "pretrain")
    page.wait_for_url(re.compile(rf"run={trained.id}"))

    # Watch: to the end, without a click; curves, alarms and pictures are there.
    expect(ended).to_be_visible(timeout=PATIENCE_MS)
    wait_for([trained])
    expect(main.get_by_text("Training loss")).to_be_visible()
    expect(main.get_by_text("Online kNN accuracy").first).to_be_visible()
    expect(main.get_by_text(re.compile("Watched and silent: .*non-finite steps"))).to_be_visible()
    main.get_by_role("radio", name="Previews").click()
    picture = main.locator("img[src*='/rsfm/artifacts/']").first
    picture.wait_for()
    assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") > 300

    # Evaluate: the model of the run and the three baselines, one run each.
    main.get_by_role("link", name="Evaluate it").click()
    page.wait_for_url(re.compile(rf"job=evaluate.*model={trained.id}|model={trained.id}.*job=evaluate"))
    main.get_by_role("button", name="Add the baselines").click()
    expect(main.get_by_text("--model band-stats")).to_be_visible()
    seeds = main.get_by_label("Evaluation seeds", exact=True)
    seeds.fill("0")
    seeds.press("Enter")
    expect(main.get_by_text("--seeds 0").first).to_be_visible()
    main.get_by_role("button", name="Queue").click()
    expect(main.get_by_text("Queued 4 runs.")).to_be_visible(timeout=PATIENCE_MS)
    evaluations = [run for run in list_runs(workspace) if run.envelope()["kind"] == "evaluate"]
    assert [run.spec().model for run in evaluations].count(trained.id) == 1 and len(evaluations) == 4
    wait_for(evaluations)

    # Compare: four models on one chart, against metres, with intervals, and nothing called synthetic.
    analyst.open("/degradation?packs=eurosat-ms&adaptation=linear")
    chart = main.locator(".js-plotly-plot")
    expect(chart).to_have_count(1)
    expect(chart.locator(".legendtext")).to_have_count(4)
    legend = " ".join(chart.locator(".legendtext").all_text_contents())
    assert all(name in legend for name in ("MAE", "Random ViT", "Band statistics", "EfficientNet-Lite0"))
    lines = chart.evaluate("c => c._fullData.map(t => [t.mode, t.fill, Array.from(t.x), Array.from(t.y)])")
    curves = [(x, y) for mode, _, x, y in lines if mode == "lines+markers"]
    grid = pack.layer().gsd_m
    assert len(curves) == 4 and sum(fill == "toself" for _, fill, _, _ in lines) == 4, "each with its interval"
    for x, y in curves:
        assert x == pytest.approx([grid * f for f in (1, 2, 4, 8)]) and all(0 < v <= 1 for v in y)
    expect(main.get_by_text("synthetic")).to_have_count(0)
    assert analyst.foreign() == [] and analyst.troubles == []
