"""Large things in a browser: `python tests/benchmarks/bench_load.py [--points 100_000] [--side 10_000] [--keep DIR]`.

A map of 100,000 embedded samples: from its address to the drawn plot, and from a lasso around a fifth of them to the
thumbnails (aim: 1 s). A predicted scene of 10,000 × 10,000 pixels: how long the prediction takes and how much memory,
and its tiles over HTTP, the first time and again (aim: 60 ms for 95 % of those that are asked for again). Takes some
minutes and about 2 GB of disk; needs Chromium.
"""

from __future__ import annotations

import argparse
import math
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("app", "integration", "e2e")]

from bench_app import p95  # noqa: E402
from browser import FLAGS, find  # noqa: E402 - folders that are no packages
from lab import history  # noqa: E402

from app.panels.selection_view import PER_PAGE  # noqa: E402
from rsfm.embedding_info import PATH, Embedding, write_embedding  # noqa: E402
from rsfm.pack_writer import PackWriter  # noqa: E402
from rsfm.packs import BandInfo, LayerInfo, Pack  # noqa: E402
from rsfm.prediction_info import read_prediction  # noqa: E402
from rsfm.specs import EmbedSpec, PredictSpec  # noqa: E402
from rsfm.store.files import append_jsonl, utc_now  # noqa: E402
from rsfm.store.runs import RunFolder, create_run, list_runs  # noqa: E402
from rsfm.store.view import Store  # noqa: E402
from rsfm.workspace import Workspace  # noqa: E402

CLASSES = [f"class {i}" for i in range(10)]


# -- what is looked at ---------------------------------------------------------------------------------------------
def build_embedding(workspace: Workspace, points: int) -> None:
    """A pack of small images, and a map of ten clusters."""
    rng = np.random.default_rng(0)
    bands = [BandInfo(name=n, wavelength_nm=w, gsd_m=10, unit="uint8") for n, w in
             (("red", 650), ("green", 550), ("blue", 470))]  # fmt: skip
    layer = LayerInfo(dtype="uint8", shape=(3, 32, 32), gsd_m=10.0, bands=bands)
    with PackWriter(workspace, "many", request_hash="many", layers=[layer]) as writer:
        for i in range(points):
            image = rng.integers(0, 255, (3, 32, 32), dtype=np.uint8)
            writer.add(id=f"sample-{i:06d}", split="train", arrays={"image": image}, label=CLASSES[i % 10])
        info = writer.finish(dataset="many", title="Many", task="classification", classes=CLASSES)
    samples = Pack.named(workspace, "many").samples
    angle = samples["label_index"].to_numpy(float) * 2 * math.pi / 10
    xy = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 5 + rng.normal(0, 0.6, (points, 2))
    frame = pd.DataFrame(
        {
            "severity": 1.0, "split": samples["split"], "row": samples["row"], "id": samples["id"], "x": xy[:, 0],
            "y": xy[:, 1], "pc1": xy[:, 1], "pc2": xy[:, 0],
            "neighbours": list(rng.integers(0, points, (points, 15), dtype=np.int32)), "kept": 1.0,
        }
    )  # fmt: skip
    figures = {
        "severity": 1.0, "gsd_m": 10.0, "neighbours_kept": 1.0, "k": 15, "judged": 1000, "preservation": 0.5,
        "trustworthiness": 0.9, "silhouette_features": 0.3, "silhouette_map": 0.4,
    }  # fmt: skip
    about = {
        "model": "band-stats", "model_title": "Band statistics", "model_group": "band-stats", "model_seed": 0,
        "dataset": "many", "pack_hash": info.content_hash, "layer": "image", "synthetic": False,
        "bands": ["red", "green", "blue"], "operator": "bilinear", "metric": "cosine", "splits": ["train"],
        "count": points, "total": points, "seed": 0, "feature_dim": 6, "explained": [0.4, 0.2], "neighbors": 15,
        "min_dist": 0.1, "maps": [figures],
    }  # fmt: skip
    run = create_run(workspace, EmbedSpec(model="band-stats", dataset="many", severities=[1]))
    history(run, "succeeded", 5, 1, "Done.")
    write_embedding(run.path / PATH, Embedding(about=about, points=frame))
    row = {"attempt": 1, "time": utc_now(), "path": PATH, "kind": "embedding", "title": "Map"}
    append_jsonl(run.path / "artifacts.jsonl", row)


def build_prediction(workspace: Workspace, side: int) -> None:
    """A scene of noise and fields, predicted by a network that was trained in a second."""
    from scenes_world import evaluated, make_pack, write_scene

    evaluation = evaluated(workspace, make_pack(workspace, pairs=False), model="band-stats", adaptations=["linear"])
    rng = np.random.default_rng(0)
    fields = np.kron(rng.integers(60, 200, (3, side // 100 + 1, side // 100 + 1)), np.ones((1, 100, 100)))
    scene = (fields[:, :side, :side] + rng.normal(0, 8, (1, side, side))).clip(1, 255).astype(np.uint8)
    file = write_scene(workspace.root / "scene.tif", scene, tiled=True, compress="deflate")
    del fields, scene
    run = create_run(workspace, PredictSpec(evaluation=evaluation, scene=str(file), tile_size=256))
    command = [sys.executable, "-m", "rsfm.execute", str(run.path), "--attempt", "1", "--threads", "2"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        import psutil

        peak, watched = 0, psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.2)
    if process.returncode:
        sys.exit("the prediction failed: see its log above")
    history(run, "succeeded", 5, 1, "Done.")
    print(f"predicting {side:,} x {side:,} pixels: {time.perf_counter() - began:.0f} s, at most {peak / 1e6:,.0f} MB")


# -- how it is looked at -------------------------------------------------------------------------------------------
@contextmanager
def served(workspace: Workspace) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from rsfm.cli import main; main()", "app", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--workspace", str(workspace.root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/rsfm/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def tile_addresses(bounds: tuple[float, float, float, float], zoom: int, count: int) -> list[tuple[int, int, int]]:
    """Web Mercator tiles (z, x, y) inside west, south, east, north, evenly taken."""
    west, south, east, north = bounds
    n = 2**zoom

    def at(lon: float, lat: float) -> tuple[int, int]:
        y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
        return int((lon + 180) / 360 * n), int(y * n)

    (x0, y0), (x1, y1) = at(west, north), at(east, south)
    found = [(zoom, x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)]
    return found[:: max(1, len(found) // count)][:count]


def bench_tiles(base: str, run: RunFolder) -> None:
    info = read_prediction(run.path)
    assert info.scene.bounds is not None
    print(
        f"{'tiles over HTTP (aim: p95 60 ms again)':<42}{'first, median':>14}{'p95':>9}{'again, median':>15}{'p95':>9}"
    )
    for kind in [layer.kind for layer in info.layers]:
        for zoom in (11, 13, 15):
            addresses = tile_addresses(info.scene.bounds, zoom, 60)
            rounds: list[list[float]] = []
            for _ in range(2):
                times = []
                for z, x, y in addresses:
                    began = time.perf_counter()
                    with urllib.request.urlopen(f"{base}/rsfm/tiles/{run.id}/{kind}/{z}/{x}/{y}.png") as answer:
                        answer.read()
                    times.append(1000 * (time.perf_counter() - began))
                rounds.append(times if len(times) > 1 else times * 2)
            cells = [f"{f(r):.0f} ms" for r in rounds for f in (statistics.median, p95)]
            title = f"{kind}, zoom {zoom} ({len(addresses)} tiles)"
            print(f"{title:<42}{cells[0]:>14}{cells[1]:>9}{cells[2]:>15}{cells[3]:>9}", flush=True)


def bench_lasso(base: str, points: int, turns: int = 5) -> None:
    from playwright.sync_api import sync_playwright

    path = find()
    if path is None:
        print("no Chromium: the embedding is not looked at")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1600})
        drawn, chosen, thumbnails = [], [], []
        for turn in range(turns):
            began = time.perf_counter()
            page.goto(f"{base}/embeddings?color=label")
            plot = page.locator(".stage[data-drawn]").first
            plot.wait_for(timeout=120_000)
            drawn.append(time.perf_counter() - began)
            page.wait_for_timeout(1500)
            box = plot.bounding_box()
            assert box is not None
            share = 0.25 + 0.005 * turn  # about a fifth of the points, another one each time
            corners = [(0.02, 0.02), (0.98, 0.02), (0.98, share), (0.02, share), (0.02, 0.02)]
            page.mouse.move(box["x"] + 0.02 * box["width"], box["y"] + 0.02 * box["height"])
            page.mouse.down()
            for x, y in corners[1:]:
                page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
            began = time.perf_counter()
            page.mouse.up()
            heading = page.get_by_role("heading").filter(has_text="selected")
            heading.wait_for(timeout=120_000)
            page.wait_for_function(
                "wanted => { const i = [...document.querySelectorAll('img[src*=\"/rsfm/thumbs/\"]')];"
                " return i.length === wanted && i.every(x => x.complete && x.naturalWidth) }",
                arg=PER_PAGE,
                timeout=120_000,
            )
            thumbnails.append(time.perf_counter() - began)
            chosen.append(int(heading.inner_text().split()[0].replace(",", "")))
        browser.close()
    print(f"map of {points:,} samples: drawn after {statistics.median(drawn):.2f} s (worst {max(drawn):.2f} s)")
    counts = f"{min(chosen):,} to {max(chosen):,}"
    after = f"{statistics.median(thumbnails):.2f} s (worst {max(thumbnails):.2f} s)"
    print(f"lasso of {counts}: all {PER_PAGE} thumbnails of the page after {after}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="use this folder, made at the first time, and leave it")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="rsfm-load-"))
    workspace = Workspace(folder.resolve())
    try:
        if not workspace.runs.is_dir():
            build_embedding(workspace, arguments.points)
            build_prediction(workspace, arguments.side)
            Store(workspace).rebuild()
        prediction = next(r for r in list_runs(workspace) if r.envelope()["kind"] == "predict")
        with served(workspace) as base:
            bench_tiles(base, prediction)
            bench_lasso(base, arguments.points)
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
