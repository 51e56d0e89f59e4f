"""The index at size: `python tests/benchmarks/bench_store.py [--runs 1000] [--rows 10_000_000] [--keep FOLDER]`.

Writes run folders, builds the index from them, then times every query (each time from the file, then again from the
store's memory), a refresh without news, and a refresh while eight runs log. Takes some minutes and about 1 GB of
disk per ten million rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rsfm.specs import EvaluateSpec, group_hash, pretrain_spec
from rsfm.store.files import append_jsonl, utc_now, write_json
from rsfm.store.index import Index, refresh
from rsfm.store.runs import RunFolder
from rsfm.store.view import Store
from rsfm.workspace import Workspace

NAMES = (
    "loss", "lr", "weight_decay", "grad_norm", "throughput", "data_wait_share", "std_l2", "rankme", "rankme_centered",
    "knn",
)  # fmt: skip
LIVE = 8


def metric_lines(lines: int, seed: int) -> bytes:
    dice = random.Random(seed)
    rows = []
    for step in range(1, lines + 1):
        values = {name: round(dice.random(), 6) for name in NAMES}
        clock = f"{step // 3600 % 24:02d}:{step // 60 % 60:02d}:{step % 60:02d}"
        rows.append(
            {
                "attempt": 1,
                "step": step * 5,
                "samples": step * 640,
                "time": f"2026-11-21T{clock}.000+00:00",
                "values": values,
            }
        )
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()


def score_rows(model: int, seed: int) -> list[dict]:
    return [
        {
            "attempt": 1, "time": utc_now(), "model": f"run-{model}", "model_title": f"MAE {model}",
            "model_group": f"group-{model}", "model_seed": seed, "eval_seed": eval_seed, "dataset": f"pack-{model % 4}",
            "pack_hash": "h", "synthetic": False, "split": "test", "task": "classification", "adaptation": adaptation,
            "bands": "B02,B03,B04", "operator": "bilinear", "severity": severity, "gsd_m": 10.0 * severity,
            "degrade_target": "single", "train_degrade": "none", "metric": "accuracy",
            "value": 0.9 - severity / 20 + eval_seed / 100, "ci_low": 0.3, "ci_high": 0.95, "n": 1000,
        }
        for severity in (1, 2, 4, 8)
        for adaptation in ("knn", "linear")
        for eval_seed in (0, 1, 2)
    ]  # fmt: skip


def build_folders(workspace: Workspace, runs: int, rows: int) -> list[str]:
    """70 % pretraining, 30 % evaluation runs; the last eight pretraining runs are still going."""
    pretraining = max(LIVE, int(runs * 0.7))
    bodies = [metric_lines(rows // pretraining // len(NAMES), seed) for seed in range(4)]
    png = b"\x89PNG\r\n\x1a\n" + bytes(200)
    ids = []
    for i in range(runs):
        pretrain = i < pretraining
        if pretrain:
            spec = pretrain_spec("mae", f"pack-{i % 4}", "smoke", seed=i % 3)
        else:
            spec = EvaluateSpec(model=f"random:vit-nano-{i}", dataset=f"pack-{i % 4}")
        run_id = (
            f"202611{1 + i // 86400:02d}-{i // 3600 % 24:02d}{i // 60 % 60:02d}{i % 60:02d}-{spec.kind}-{i:05d}-beef"
        )
        folder = workspace.runs / run_id
        (folder / "artifacts" / "previews").mkdir(parents=True)
        envelope = {
            "run_id": run_id, "kind": spec.kind, "group": group_hash(spec), "spec": spec.model_dump(mode="json"),
            "created": f"2026-11-{1 + i // 86400:02d}T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}.000+00:00",
            "versions": {"torch": "2.14"}, "tags": ["bench"],
        }  # fmt: skip
        write_json(folder / "spec.json", envelope)
        run = RunFolder(folder)
        run.add_event(state="starting", attempt=1, slot="cpu-0", device="cpu", message="Attempt 1 starts.")
        run.add_event(state="running", attempt=1, message="Running.")
        if pretrain:
            (folder / "metrics.jsonl").write_bytes(bodies[i % 4])
            for step in range(10):
                path = folder / "artifacts" / "previews" / f"views-{step:08d}.png"
                path.write_bytes(png)
            append_jsonl(
                folder / "artifacts.jsonl",
                *(
                    {
                        "attempt": 1,
                        "time": utc_now(),
                        "kind": "preview",
                        "step": s,
                        "path": f"artifacts/previews/views-{s:08d}.png",
                    }
                    for s in range(10)
                ),
            )
        else:
            append_jsonl(folder / "scores.jsonl", *score_rows((i - pretraining) // 3, i % 3))
        write_json(folder / "progress.json", {"attempt": 1, "done": 640, "total": 640, "unit": "samples"})
        if not (pretraining - LIVE <= i < pretraining):
            run.add_event(state="succeeded", attempt=1, message="Done.")
            long_ago = time.time() - 3600
            for file in folder.glob("*.json*"):
                os.utime(file, (long_ago, long_ago))
        ids.append(run_id)
    return ids


def timed(
    label: str, call: Callable[[], object], *, times: int = 40, before: Callable[[], object] | None = None
) -> None:
    """Print p50 and p95 on the clock, and p50 of the processor's time, which others on the machine hardly inflate."""
    taken, worked = [], []
    for _ in range(times):
        if before:
            before()
        start, busy = time.perf_counter(), time.process_time()
        call()
        taken.append((time.perf_counter() - start) * 1e3)
        worked.append((time.process_time() - busy) * 1e3)
    taken.sort()
    worked.sort()
    p50, p95, cpu = taken[times // 2], taken[int(times * 0.95)], worked[times // 2]
    print(f"{label:<44} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   processor {cpu:7.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keep", type=Path, help="build the workspace here once and use it again")
    args = parser.parse_args()
    root = args.keep or Path(tempfile.mkdtemp(prefix="bench-store-"))
    workspace = Workspace(root)
    try:
        if not workspace.runs.is_dir():
            start = time.perf_counter()
            build_folders(workspace, args.runs, args.rows)
            print(f"wrote {args.runs} run folders in {time.perf_counter() - start:.1f} s")
        measure(workspace)
    finally:
        if not args.keep:
            shutil.rmtree(root)


def measure(workspace: Workspace) -> None:
    start, busy = time.perf_counter(), time.process_time()
    counts = Store(workspace).rebuild()
    taken, busy = time.perf_counter() - start, time.process_time() - busy
    print(
        f"index built in {taken:.1f} s (processor {busy:.1f} s), {workspace.index.stat().st_size / 1e6:.0f} MB:", counts
    )
    ids = sorted(p.name for p in workspace.runs.iterdir())
    pretrained = [i for i in ids if "-pretrain-" in i]
    live = [RunFolder(workspace.runs / i) for i in pretrained[-LIVE:]]

    timed("refresh, first of a process", lambda: Index(workspace).refresh(wait_s=5), times=10)
    refresh(workspace)
    timed("refresh, no news (supervisor, each second)", lambda: refresh(workspace), times=100)
    step = iter(range(10**7, 10**8))

    def log() -> None:
        for run in live:
            row = {
                "attempt": 1,
                "step": next(step),
                "samples": 1,
                "time": utc_now(),
                "values": dict.fromkeys(NAMES, 0.5),
            }
            append_jsonl(run.path / "metrics.jsonl", row)
            write_json(run.path / "progress.json", {"attempt": 1, "done": 1, "total": 2, "unit": "samples"})

    timed(f"refresh, {LIVE} runs logged a row and progress", lambda: refresh(workspace), times=60, before=log)

    store = Store(workspace)
    store.refresh_if_stale(0)
    dice = random.Random(0)
    queries: dict[str, Callable[[], object]] = {
        "runs()": store.runs,
        "runs(search, states)": lambda: store.runs(search=str(dice.randint(0, 99)), states=["succeeded"]),
        "runs(limit=5000)": lambda: store.runs(limit=5000),
        "run(id)": lambda: store.run(dice.choice(ids)),
        "run_counts()": store.run_counts,
        "events(id)": lambda: store.events(dice.choice(ids)),
        "attempts(id)": lambda: store.attempts(dice.choice(ids)),
        "metric_names(id)": lambda: store.metric_names(dice.choice(pretrained)),
        "metrics(1 run, 1 name)": lambda: store.metrics(dice.choice(pretrained), ["loss"]),
        "metrics(1 run, all names)": lambda: store.metrics(dice.choice(pretrained)),
        "metrics(1 run, all names, 300 points)": lambda: store.metrics(dice.choice(pretrained), max_points=300),
        "metrics(8 runs, 1 name)": lambda: store.metrics(dice.sample(pretrained, 8), ["loss"]),
        "metrics(20 runs, 2 names)": lambda: store.metrics(dice.sample(pretrained, 20), ["loss", "knn"]),
        "scores(dataset)": lambda: store.scores(dataset=f"pack-{dice.randint(0, 3)}"),
        "scores(run)": lambda: store.scores(run_id=ids[-dice.randint(1, 50)]),
        "compare()": store.compare,
        "compare(dataset)": lambda: store.compare(dataset=f"pack-{dice.randint(0, 3)}"),
        "artifacts(id)": lambda: store.artifacts(dice.choice(pretrained)),
        "datasets()": store.datasets,
        "models()": store.models,
        "lint()": store.lint,
        "problems()": store.problems,
    }
    print("-- from the file")
    for label, call in queries.items():
        timed(label, call, before=store._frames.clear)
    print("-- again, the index unchanged")
    timed("runs()", store.runs)
    timed("compare()", store.compare)


if __name__ == "__main__":
    main()
