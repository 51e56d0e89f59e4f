"""What a supervisor costs with thousands of finished runs: `python tests/benchmarks/bench_supervisor.py [RUNS]`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from jobs.supervisor import Supervisor
from rsfm.specs import PrepareSpec
from rsfm.store.files import append_jsonl
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace


def main(runs: int = 5_000, turns: int = 100) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        for number in range(runs):
            run = create_run(workspace, PrepareSpec(dataset=f"d{number}"))
            append_jsonl(
                run.path / "events.jsonl",
                {"state": "starting", "attempt": 1, "slot": "cpu-0"},
                {"attempt": 1, "handle": {"runner_pid": 1, "runner_created": 1.0}},
                {"state": "running", "attempt": 1},
                {"state": "cancelled", "attempt": 1, "code": 3},  # the dearer end: it may be resumed
            )
        supervisor = Supervisor(workspace, idle_s=600)
        workspace.supervisor.mkdir()
        start = time.perf_counter()
        supervisor.tick()
        first = time.perf_counter() - start
        time.sleep(1.1)  # a young runs/ folder is read in every turn
        times = []
        for _ in range(turns):
            start = time.perf_counter()
            supervisor.tick()
            times.append(time.perf_counter() - start)
        times.sort()
        print(f"{runs} finished runs")
        print(f"  first turn           {first * 1e3:8.1f} ms")
        print(f"  a turn, median       {times[turns // 2] * 1e3:8.1f} ms")
        print(f"  a turn, p95          {times[int(turns * 0.95)] * 1e3:8.1f} ms")
        print(f"  share of one core    {times[turns // 2] / supervisor.poll_s * 100:8.1f} %")


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:2]))
