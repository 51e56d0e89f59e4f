"""Kill -9 of everything that can be killed, at random moments, again and again; then all must be right by itself."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator

import jobs_world as world
import psutil
import pytest

from jobs import client
from jobs.processes import alive, created
from jobs.protocol import ENV_RUN
from rsfm.store.runs import RunFolder, list_runs, open_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace

ROUNDS = 10  # of each kind
STEPS = 40

#: What may follow what in a run's events.
FOLLOWS = {
    None: {"starting", "cancelled"},
    "queued": {"starting", "cancelled"},
    "starting": {"running", "queued", "lost", "failed", "succeeded"},
    "running": {"succeeded", "failed", "lost"},
    "failed": {"queued"},
    "lost": {"queued"},
    "succeeded": set(),
}


@pytest.fixture(autouse=True)
def counting_supervisor(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from world.counting_only(workspace, monkeypatch, slots=3)


def by_role(workspace: Workspace) -> dict[str, list[psutil.Process]]:
    """The living processes of this workspace, found as an outsider finds them."""
    found: dict[str, list[psutil.Process]] = {"supervisor": [], "runner": [], "job": []}
    for process in world.processes_of(workspace.root):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "supervise" in words:
                found["supervisor"].append(process)
            elif "jobs.runner" in words:
                found["runner"].append(process)
            elif "count" in words:
                found["job"].append(process)
    return found


def jobs_per_run(workspace: Workspace) -> Counter[str]:
    runs: Counter[str] = Counter()
    for process in by_role(workspace)["job"]:
        with contextlib.suppress(psutil.Error):
            runs[process.environ()[ENV_RUN]] += 1
    return runs


def kill(process: psutil.Process) -> int:
    """SIGKILL, and wait until it is dead; returns how many were killed."""
    born = created(process.pid)
    if born is None:
        return 0
    process.kill()
    world.wait_for(lambda: not alive(process.pid, born), what="a death")
    return 1


def submit(workspace: Workspace, number: int) -> None:
    for _ in range(number):
        client.submit(workspace, world.spec(steps=STEPS, pause=0.02, save_every=4), start_supervisor=False)


def resume_what_fell(folders: list[RunFolder]) -> None:
    for folder in folders:
        if folder.state() in ("failed", "lost") and not folder.requested("resume"):
            folder.request("resume")


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1])
def test_chaos(workspace: Workspace, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_WITH_INDEX", "1")
    rng = random.Random(seed)
    plan = ["supervisor", "runner", "job"] * ROUNDS + ["supervisor+runner"] * 2
    rng.shuffle(plan)
    submit(workspace, 5)
    killed: Counter[str] = Counter()
    done_before: dict[str, int] = {}
    for victims in plan:
        client.ensure_supervisor(workspace)
        runs = list_runs(workspace)
        if sum(f.state() != "succeeded" for f in runs) < 4:
            submit(workspace, 2)
        resume_what_fell(runs)
        time.sleep(rng.uniform(0, 0.5))
        for victim in victims.split("+"):
            choice = world.wait_for(lambda v=victim: by_role(workspace)[v], what=f"a {victim} to kill")
            killed[victim] += kill(rng.choice(sorted(choice, key=lambda p: p.pid)))
        assert max(jobs_per_run(workspace).values(), default=0) <= 1, "two jobs in one folder"
        for folder in list_runs(workspace):
            events = folder.events()
            assert len(events) >= done_before.get(folder.id, 0), "an event was lost"
            done_before[folder.id] = len(events)
    assert all(n >= ROUNDS for n in killed.values()), killed

    runs = list_runs(workspace)
    deadline = time.monotonic() + 60
    while any(f.state() != "succeeded" for f in runs):
        assert time.monotonic() < deadline, {f.id: f.state() for f in runs}
        resume_what_fell(runs)
        client.ensure_supervisor(workspace)
        time.sleep(0.1)
    falls: Counter[str] = Counter()
    for folder in runs:
        before = None
        for state in world.events(folder, "state"):
            assert state in FOLLOWS[before], (folder.id, before, state)
            before = state
            falls[state] += 1
        assert world.folded_steps(folder) == list(range(1, STEPS + 1)), folder.id
    # Killing supervisors costs no run anything.
    assert falls["lost"] <= killed["runner"]
    assert falls["failed"] <= killed["job"]
    world.wait_for(lambda: not world.processes_of(workspace.root), 20, "everything to leave by itself")
    store = Store(workspace)
    store.refresh_if_stale(0)
    indexed = store.metrics([f.id for f in runs], ["loss"], max_points=10_000)
    assert len(indexed) == len(runs) * STEPS
    for folder in runs:
        assert sorted(indexed[indexed.run_id == folder.id].step) == list(range(1, STEPS + 1))


@pytest.mark.chaos
def test_supervisor_killed_within_a_start(workspace: Workspace) -> None:
    """Aimed at the narrow windows: the supervisor dies within milliseconds of deciding to start a run."""
    rng = random.Random(3)
    seen: Counter[str] = Counter()
    for _ in range(5):
        folder = open_run(workspace, client.submit(workspace, world.spec(steps=3), start_supervisor=False))
        client.ensure_supervisor(workspace)
        world.wait_for(lambda f=folder: f.state() != "queued" or f.events(), what="the start")
        time.sleep(rng.uniform(0, 0.08))
        kill(psutil.Process(client.ensure_supervisor(workspace)["pid"]))
        assert client.follow(workspace, folder.id, poll_s=0.05) == "succeeded"
        assert world.folded_steps(folder) == [1, 2, 3]
        seen.update(world.events(folder, "state"))
    assert seen["succeeded"] == 5
    assert not seen["lost"] and not seen["failed"]
