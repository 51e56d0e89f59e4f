"""The dashboard: `python tests/benchmarks/bench_app.py [--runs 1000] [--rows 10_000_000] [--keep FOLDER]`.

Time from `rsfm app` to its first answers, and the time of each page's script on an index at size: warm (nothing has
changed), and while eight runs log (each script run finds new rows and asks the index again). Aims: first answer
within 3 s, 95 % of the scripts within 500 ms. Takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

SIX = ("loss", "lr", "grad_norm", "throughput", "knn", "rankme")
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "app" / "streamlit_app.py"
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "app")]

from bench_store import LIVE, build_folders  # noqa: E402 - scripts beside this one
from lab import embed  # noqa: E402
from lab_packs import make_pack  # noqa: E402
from predicted import make_predicted  # noqa: E402

from app.kept_selections import Selection, word_of  # noqa: E402
from rsfm.packs import Pack  # noqa: E402
from rsfm.store.files import append_jsonl, utc_now  # noqa: E402
from rsfm.store.runs import RunFolder  # noqa: E402
from rsfm.store.view import Store  # noqa: E402
from rsfm.workspace import Workspace  # noqa: E402


def time_to_answer(workspace: Workspace, path: str) -> float:
    """Seconds from starting the command to the first 200 at `path`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from rsfm.cli import main; main()", "app", "--port", str(port)]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--workspace", str(workspace.root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        try:
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
                        answer.read()
                        return time.perf_counter() - began
                except OSError:
                    time.sleep(0.01)
        finally:
            process.terminate()


def page_times(
    workspace: Workspace, page: str, query: dict[str, object], live: list[RunFolder], turns: int
) -> tuple[list[float], list[float]]:
    """Seconds of each script run after the first two, by the clock and by the processor.

    Args:
        live: runs that log a row before each.
    """
    from streamlit.testing.v1 import AppTest

    test = AppTest.from_file(str(SCRIPT), default_timeout=120).run()
    test.switch_page(f"app_pages/{page}.py")
    for name, value in query.items():
        test.query_params[name] = value
    times, work = [], []
    for turn in range(turns + 2):
        for run in live:
            values = {"loss": 0.5, "lr": 0.001}
            row = {
                "attempt": 1,
                "step": 10**6 + time.monotonic_ns() // 10**6,
                "samples": 1,
                "time": utc_now(),
                "values": values,
            }
            append_jsonl(run.path / "metrics.jsonl", row)
        if live:
            time.sleep(1.05)  # a refresh looks again after a second
        began, busy = time.perf_counter(), time.process_time()
        test.run()
        if turn >= 2:
            times.append(time.perf_counter() - began)
            work.append(time.process_time() - busy)
        assert not test.exception, f"{page}: {test.exception}"
    return times, work


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--keep", type=Path, help="use this folder, made at the first time, and leave it")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="rsfm-bench-"))
    workspace = Workspace(folder.resolve())
    try:
        if not workspace.runs.is_dir():
            workspace.packs.mkdir(parents=True)
            workspace.runs.mkdir()
            build_folders(workspace, arguments.runs, arguments.rows)
            for name, labels in (("pack-0", False), ("pack-1", True)):
                make_pack(workspace, name, labels=labels, count=600)
            embed(workspace, Pack.named(workspace, "pack-1").info, model="band-stats", title="Band statistics")
            make_predictions(workspace)
            Store(workspace).rebuild()
        measure(workspace, arguments.turns)
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder)


def make_predictions(workspace: Workspace) -> None:
    """A scene of each kind, drawn by networks that were trained in a second."""
    scenes = workspace.root / "scenes"
    scenes.mkdir()
    made = make_predicted(scenes).workspace
    for name in ("packs", "runs"):
        for folder in (made.root / name).iterdir():
            folder.rename(workspace.root / name / folder.name)


def measure(workspace: Workspace, turns: int) -> None:
    import jobs.client

    # The runs of this index only look alive: nothing must be started for them.
    jobs.client.ensure_supervisor = lambda *_, **__: {}
    os.environ["RSFM_WORKSPACE"] = str(workspace.root)
    store = Store(workspace)
    counts = store.run_counts()
    print(f"{int(counts['n'].sum()):,} runs, index {workspace.index.stat().st_size / 1e6:,.0f} MB")
    time_to_answer(workspace, "/rsfm/health")  # compiled files and disk cache
    for title, path in (("first answer (/rsfm/health)", "/rsfm/health"), ("first page's HTML (/now)", "/now")):
        times = [time_to_answer(workspace, path) for _ in range(5)]
        print(f"{title:<34} median {statistics.median(times):5.2f} s   worst {max(times):5.2f} s   (aim 3 s)")

    newest = store.runs(kind="pretrain", limit=40)
    finished = [str(r) for r in newest.loc[newest["state"] == "succeeded", "run_id"]]
    living = [str(r) for r in newest.loc[newest["state"] == "running", "run_id"]][:LIVE]
    evaluation = str(store.runs(kind="evaluate", states=("succeeded",), limit=1)["run_id"].iloc[0])
    drawn = str(store.runs(kind="embed", states=("succeeded",), limit=1)["run_id"].iloc[0])
    maps = [f"{drawn}@{severity}" for severity in (1, 4)]
    content = Pack.named(workspace, "pack-1").info.content_hash
    pick = word_of(workspace, Selection(content, np.arange(0, 600, 3)))
    views: dict[str, tuple[str, dict[str, object]]] = {
        "Now": ("now", {}),
        "Launch, pretrain": ("launch", {}),
        "Launch, evaluate": ("launch", {"job": "evaluate"}),
        "Launch, embed": ("launch", {"job": "embed", "pack": "pack-1"}),
        "Launch, predict": ("launch", {"job": "predict"}),
        "Launch, prepare": ("launch", {"job": "prepare"}),
        "Runs, 200 of them": ("runs", {}),
        "Runs, as groups": ("runs", {"view": "groups"}),
        "Runs, 5 overlaid": ("runs", {"overlay": finished[:5]}),
        "Run, curves": ("run", {"run": finished[0]}),
        "Run, six curves": ("run", {"run": finished[0], "metrics": [*SIX]}),
        "Run, previews": ("run", {"run": finished[0], "tab": "Previews"}),
        "Run, log": ("run", {"run": living[0], "tab": "Log"}),
        "Run, scores": ("run", {"run": evaluation}),
        "Degradation": ("degradation", {}),
        "Degradation, all packs": ("degradation", {"packs": ["pack-0", "pack-1", "pack-2", "pack-3"]}),
        "Leaderboard": ("leaderboard", {}),
        "Embeddings, two maps": ("embeddings", {"color": "label", "map": maps[0], "beside": maps[1], "pick": pick}),
        "Segmentation": ("segmentation", {}),
        "Change": ("change", {}),
        "Models": ("models", {}),
        "Datasets, samples": ("datasets", {"pack": "pack-1"}),
        "Datasets, catalog": ("datasets", {"view": "Catalog"}),
    }  # fmt: skip
    folders = [RunFolder(workspace.runs / run_id) for run_id in living]
    head = ("median", "p95", "processor")
    print(f"{'page script (aim: p95 500 ms)':<32}{'warm':>30}{'while 8 runs log':>34}")
    print(f"{'':<32}{head[0]:>12}{head[1]:>9}{head[2]:>13}{head[0]:>12}{head[1]:>9}{head[2]:>13}")
    for title, (page, query) in views.items():
        cells: list[float] = []
        for live, count in (([], turns), (folders, max(5, turns // 3))):
            times, work = page_times(workspace, page, query, live, count)
            cells += [1000 * x for x in (statistics.median(times), p95(times), statistics.median(work))]
        shown = [f"{c:.0f} ms" for c in cells]
        print(f"{title:<32}" + "".join(f"{c:>{w}}" for c, w in zip(shown, (12, 9, 13) * 2, strict=True)), flush=True)


if __name__ == "__main__":
    main()
