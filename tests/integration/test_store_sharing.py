"""Many processes at one index: an analyst's shell that holds it, and writers and readers that come all at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from store_world import begin, evaluate, finish, folder_content, index_content, log, pretrain, score, small_lab

from rsfm.errors import RsfmError
from rsfm.store.index import refresh
from rsfm.store.lock import Held, Unusable, locked, understand
from rsfm.store.view import Store
from rsfm.workspace import Workspace

HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
con.execute("SELECT count(*) FROM runs").fetchall()
print("held", flush=True)
sys.stdin.readline()
con.close()
"""


@contextmanager
def held(workspace: Workspace, how: str = "write") -> Iterator[int]:
    """Another program has the index open; gives its process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace.index), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        process.communicate("\n", timeout=20)


@pytest.fixture
def lab(workspace: Workspace) -> Workspace:
    small_lab(workspace)
    Store(workspace).rebuild()
    return workspace


def test_while_someone_holds_it_the_last_frames_stay_and_nothing_is_lost(lab: Workspace) -> None:
    warm = Store(lab)
    warm.refresh_if_stale(0)
    before = warm.runs()
    assert warm.notice is None
    with held(lab) as pid:
        new = pretrain(lab, seed=9)
        log(begin(new), range(20))
        warm.refresh_if_stale(0)
        assert warm.runs().drop(columns="duration_s").equals(before.drop(columns="duration_s"))
        assert warm.notice is not None
        assert f"(process {pid})" in warm.notice and "index.duckdb is held by python" in warm.notice
        assert "showing the state of" in warm.notice
        # A question that was never asked is answered from the folders, as they are now.
        assert len(warm.metrics(new.id, ["loss"])) == 20
        # A fresh dashboard starts all the same, and keeps up.
        fresh = Store(lab)
        fresh.refresh_if_stale(0)
        assert len(fresh.runs()) == len(before) + 1
        assert fresh.notice == f"{warm.notice.partition(': ')[0]}: showing the run folders instead."
        assert len(fresh.scores()) == len(Store(lab).scores()) == 6
        other = pretrain(lab, seed=10)
        fresh._memory._at = float("-inf")  # a second later
        fresh.refresh_if_stale(0)
        assert other.id in set(fresh.runs()["run_id"])
        with pytest.raises(RsfmError, match=r"is held by .*Close it there"):
            fresh.rebuild()
        assert refresh(lab) == "held"
    for store in (warm, fresh):
        store.refresh_if_stale(0)
        assert store.notice is None
        assert len(store.runs()) == len(before) + 2
    assert index_content(lab) == folder_content(lab)
    assert not list(lab.root.glob("*.corrupt*"))


def test_someone_who_only_reads_keeps_out_the_refresh_and_is_named(lab: Workspace) -> None:
    store = Store(lab)
    store.refresh_if_stale(0)
    with held(lab, "read") as pid:
        pretrain(lab, seed=9)
        store.refresh_if_stale(0)
        assert len(store.runs()) == 4, "the index as it was can still be read"
        assert store.notice is not None and str(pid) in store.notice
    store.refresh_if_stale(0)
    assert len(store.runs()) == 5 and store.notice is None


def test_a_holder_that_was_met_by_a_question_is_forgotten_by_the_next_one(lab: Workspace) -> None:
    store = Store(lab)
    with held(lab):
        assert len(store.runs()) == 4
        assert store.notice is not None
    assert len(store.runs(limit=3)) == 3
    assert store.notice is None


def test_our_own_refresh_is_waited_for_or_the_last_frame_shown(lab: Workspace) -> None:
    store = Store(lab)
    store.refresh_if_stale(0)
    before = store.runs()
    with duckdb.connect(str(lab.index)) as con:
        con.execute("DELETE FROM runs")  # the index is another one now
    with locked(lab.root / "index.lock", write=True, timeout_s=5):
        assert len(store.runs()) == len(before), "within the lock, so it did not wait for its end"
        assert refresh(lab) == "busy"
        assert store.notice is None
    assert store.runs().empty


def test_errors_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "index.duckdb"
    io = duckdb.IOException
    conflict = io(
        'IO Error: Could not set lock on file "x": Conflicting lock is held in /usr/bin/duckdb (PID 999999999).'
    )
    assert str(understand(conflict, path)) == "index.duckdb is held by duckdb (process 999999999)"
    assert isinstance(understand(conflict, path), Held)
    assert isinstance(understand(io("IO Error: Could not write file: No space left on device"), path), Held)
    for text in ("Corrupt database file: computed checksum 1", "not a valid DuckDB database file!"):
        meaning = understand(io(text), path)
        assert isinstance(meaning, Unusable) and meaning.damaged
    assert not getattr(understand(io("Cannot open database: database does not exist"), path), "damaged", True)
    other = duckdb.ConversionException("Could not convert")
    assert understand(other, path) is other


WRITER = """
import sys, time
from pathlib import Path
from rsfm.store.job import JobContext
from rsfm.store.runs import RunFolder
from rsfm.workspace import Workspace
run = RunFolder(Path(sys.argv[1]))
job = JobContext(Workspace(run.path.parents[1]), run, 1)
end = time.monotonic() + float(sys.argv[2])
step = 0
while time.monotonic() < end:
    step += 1
    job.metrics(step=step, samples=step, values={"loss": 1 / step, "lr": 0.1})
    job.progress(step, 10**6, unit="samples", force=step % 20 == 0)
    time.sleep(0.005)
print(step)
"""
READER = """
import json, sys, time
from pathlib import Path
from rsfm.store.view import Store
from rsfm.workspace import Workspace
store = Store(Workspace(Path(sys.argv[1])))
end, asked, notices, last = time.monotonic() + float(sys.argv[2]), 0, set(), {}
while time.monotonic() < end:
    store.refresh_if_stale(0.2)
    runs = store.runs()
    assert len(runs) == 8, runs
    for run_id in runs["run_id"][:3]:
        points = store.metrics(run_id, ["loss"], max_points=10**6)
        assert points["step"].is_unique and points["step"].tolist() == list(range(1, len(points) + 1))
        assert len(points) >= last.get(run_id, 0)
        last[run_id] = len(points)
    store.compare()
    asked += 5
    if store.notice:
        notices.add(store.notice)
    time.sleep(0.05)
print(json.dumps({"asked": asked, "notices": sorted(notices), "seen": sum(last.values())}))
"""


def test_eight_runs_log_at_once_while_four_readers_poll(workspace: Workspace) -> None:
    runs = [pretrain(workspace, seed=i) for i in range(8)]
    for run in runs:
        begin(run)

    def start(code: str, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, args)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    writers = [start(WRITER, run.path, 4) for run in runs]
    readers = [start(READER, workspace.root, 5) for _ in range(2)]
    troubles: list[BaseException] = []
    shared = Store(workspace)
    stop = threading.Event()

    def poll() -> None:
        try:
            while not stop.is_set():
                shared.refresh_if_stale(0.1)
                assert len(shared.runs()) == 8
                shared.metrics(runs[0].id)
                time.sleep(0.05)
        except BaseException as error:  # noqa: BLE001 - carried to the test's own thread
            troubles.append(error)

    threads = [threading.Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    outcomes: set[str] = set()
    while any(w.poll() is None for w in writers):
        outcomes.add(refresh(workspace))  # as the supervisor does
        time.sleep(0.2)
    told = [(p.communicate(timeout=60), p.returncode) for p in (*writers, *readers)]
    stop.set()
    for thread in threads:
        thread.join(timeout=60)
    assert not troubles and all(code == 0 and not err for (_, err), code in told), (troubles, told)
    written = {run.id: int(out) for run, ((out, _), _) in zip(runs, told, strict=False)}
    assert outcomes <= {"refreshed", "unchanged", "busy"} and min(written.values()) > 5
    for (out, _), _ in told[len(writers) :]:
        seen = json.loads(out)
        assert seen["asked"] and not seen["notices"], seen
    store = Store(workspace)
    store.refresh_if_stale(0)
    found = (
        store.metrics(list(written), max_points=10**6)
        .groupby(["run_id", "name"])["step"]
        .agg(["size", "nunique", "max"])
    )
    for run_id, count in written.items():
        assert found.loc[run_id].values.tolist() == [[count] * 3] * 2, "every row is in the index exactly once"
    assert index_content(workspace) == folder_content(workspace)


def test_a_refresher_that_is_killed_leaves_a_good_index(workspace: Workspace) -> None:
    run = pretrain(workspace)
    job = begin(run)
    log(job, range(100))
    assert len(Store(workspace).runs()) == 1
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from rsfm.store.index import Index\nfrom rsfm.workspace import Workspace\n"
        "index = Index(Workspace(Path(sys.argv[1])))\nprint('on', flush=True)\n"
        "while True: index.refresh(wait_s=1, look=True)\n"
    )
    for round_number in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(workspace.root)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        for i in range(20):
            start = 100 + round_number * 200 + i * 10
            log(job, range(start, start + 10))
            time.sleep(0.01 * (round_number + 1))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    store = Store(workspace)
    store.refresh_if_stale(0)
    assert store.metrics(run.id, ["loss"], max_points=10**6)["step"].tolist() == list(range(700))
    assert index_content(workspace) == folder_content(workspace)


def test_threads_share_one_store(workspace: Workspace) -> None:
    run = evaluate(workspace)
    begin(run).scores([score(severity=s) for s in range(1, 9)])
    finish(run)
    store = Store(workspace)
    sizes: list[tuple[int, int]] = []

    def ask() -> None:
        for i in range(10):
            store.refresh_if_stale(0)
            store._frames.clear()
            sizes.append((len(store.runs(limit=1 + i)), len(store.scores())))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(1, 8)] * 60
