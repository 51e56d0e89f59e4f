"""Kill -9 of dashboard, supervisor, runner and trainer under a real training: it ends as if nothing had happened."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jobs_world as world
import psutil
import pytest
from training_world import attempt, current_rows, make_world, start, weights

from jobs import client
from rsfm.specs import PretrainSpec, pretrain_spec
from rsfm.store.runs import RunFolder, open_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace

STEPS = 400
WHERE = {"supervisor": "jobs.supervisor", "runner": "jobs.runner", "trainer": "rsfm.execute"}


def make_spec() -> PretrainSpec:
    """Several seconds of steps, saved often, so that each kill hits the middle of something."""
    settings = [
        f"samples={8 * STEPS}", "batch_size=8", "warmup_samples=64", "log_every_steps=5", "monitor_every_steps=100",
        "checkpoint_every_steps=15", "threads=1", "runtime.device=cpu",
    ]  # fmt: skip
    return pretrain_spec("mae", "tiny", "smoke", settings)


class Dashboard:
    """`rsfm app` on a port of its own, killed and started again."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from rsfm.cli import main; main()", "app", "--port", str(self.port)]
        process = subprocess.Popen(
            [*command, "--workspace", str(self.workspace.root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        world.wait_for(self.answers, 60, "the dashboard")
        return process

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/rsfm/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def process_of(role: str, workspace: Workspace) -> psutil.Process | None:
    for process in world.processes_of(workspace.root):
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        # The runner's command line holds the trainer's too: the module is right after -m.
        if "-m" in words and words[words.index("-m") + 1] == WHERE[role]:
            return process
    return None


def steps_done(folder: RunFolder) -> int:
    rows = current_rows(folder)
    return max(rows, default=0)


@pytest.mark.chaos
def test_kills_of_everything_leave_the_training_as_it_would_have_been(workspace: Workspace, tmp_path: Path) -> None:
    make_world(workspace)
    spec = make_spec()
    dashboard = Dashboard(workspace)
    rng = random.Random(5)
    try:
        folder = open_run(workspace, client.submit(workspace, spec))
        reached = 0
        for victim in ["dashboard", "trainer", "supervisor", "runner"]:
            world.wait_for(lambda n=reached: steps_done(folder) > n + 10, 180, f"steps before the {victim} dies")
            time.sleep(rng.uniform(0, 0.3))
            if victim == "dashboard":
                dashboard.kill()
                assert folder.state() == "running"
                dashboard.process = dashboard.start()
            else:
                process = process_of(victim, workspace)
                assert process is not None, f"no {victim}"
                process.kill()
                # A supervisor that is still dying holds its lock: whoever asks for one in that moment believes it.
                psutil.wait_procs([process], timeout=60)
            if victim in ("trainer", "runner"):
                world.wait_state(folder, "failed", "lost", seconds=120)
                assert process_of("trainer", workspace) is None, "an orphan goes on"
                client.resume(workspace, folder.id)
            reached = steps_done(folder)
            client.ensure_supervisor(workspace)
        assert client.follow(workspace, folder.id, poll_s=0.2) == "succeeded"
        assert dashboard.answers()
    finally:
        dashboard.kill()
        for process in world.processes_of(workspace.root):
            process.kill()
    calm = make_world(Workspace.resolve(tmp_path / "calm"))
    whole = start(calm, spec)
    attempt(calm, whole)
    assert repr(current_rows(folder)) == repr(current_rows(whole))
    assert weights(workspace, folder) == weights(calm, whole)
    store = Store(workspace)
    store.refresh_if_stale(0)
    indexed = store.metrics([folder.id], ["loss"], max_points=10_000)
    assert sorted(indexed.step) == [1, *range(5, STEPS + 1, 5)]
