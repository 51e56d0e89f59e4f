"""The Slurm backend against a cluster of five small scripts: sbatch, srun, sacct, squeue, scancel."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jobs_world as world
import pytest

from jobs.backends import make_backend
from jobs.backends.slurm import SlurmBackend
from jobs.protocol import Attempt, Graces
from jobs.supervisor import Supervisor
from rsfm.errors import RsfmError
from rsfm.specs import EvaluateSpec
from rsfm.store.runs import RunFolder, create_run
from rsfm.workspace import Workspace

pytest.importorskip("submitit")

# A job is a folder $CLUSTER/<id> with its name, its process id and, once it has ended, the file `over`.
SCRIPTS = {
    "sbatch": r"""
id=$(($(ls "$CLUSTER" | wc -l) + 1)); job="$CLUSTER/$id"; mkdir "$job"
sed -n 's/^#SBATCH --job-name=//p' "$1" > "$job/name"; cp "$1" "$job/script"
(cd "$job"; export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1
 setsid sh -c 'echo $$ > pid; sh ./script; echo $? > over') > "$job/output" 2>&1 &
echo "Submitted batch job $id"
""",
    "srun": 'while [ "${1#--}" != "$1" ]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done; exec "$@"',
    "sacct": r"""
echo "JobID|State|NodeList"
for job in "$CLUSTER"/*; do
  state=RUNNING
  if [ -f "$job/over" ]; then state=COMPLETED; fi
  if [ -f "$job/cancelled" ]; then state="CANCELLED by 0"; fi
  echo "$(basename "$job")|$state|node1"
done
""",
    "squeue": r"""
for word in "$@"; do case "$word" in --name=*) name="${word#--name=}";; esac; done
for job in "$CLUSTER"/*; do
  if [ "$(cat "$job/name")" = "$name" ] && [ ! -f "$job/over" ]; then basename "$job"; fi
done
""",
}


#: SIGTERM goes to the processes of the job's step (only the runner heeds it), a plain cancel ends all of the job.
SCANCEL = """
import os, signal, sys
from pathlib import Path
import psutil

cluster = Path(os.environ["CLUSTER"])
with (cluster.parent / "scancel.log").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
job = cluster / sys.argv[-1]
gentle = sys.argv[1] == "--signal=TERM"
if not gentle:
    (job / "cancelled").touch()
session = int((job / "pid").read_text())
for process in psutil.process_iter():
    try:
        if os.getsid(process.pid) == session and (not gentle or "jobs.runner" in process.cmdline()[:3]):
            process.send_signal(signal.SIGTERM if gentle else signal.SIGKILL)
    except (psutil.Error, OSError):
        continue
"""


@pytest.fixture
def cluster(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, script in SCRIPTS.items():
        (binaries / name).write_text(f"#!/bin/sh\n{script}")
        (binaries / name).chmod(0o755)
    (binaries / "scancel").write_text(f"#!{sys.executable}\n{SCANCEL}")
    (binaries / "scancel").chmod(0o755)
    jobs = tmp_path / "cluster"
    jobs.mkdir()
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CLUSTER", str(jobs))
    monkeypatch.setenv("RSFM_SLURM_PARTITION", "gpu-short")
    monkeypatch.setenv("RSFM_SLURM_CPUS", "2")
    yield jobs
    for process in world.processes_of(workspace.root):
        process.kill()


@pytest.fixture
def supervisor(workspace: Workspace, cluster: Path) -> Iterator[Supervisor]:
    made = Supervisor(
        workspace,
        backend=SlurmBackend(poll_s=0.2, disk_delay_s=0.3),
        command_factory=world.count_command,
        graces=Graces(0.6, 0.6, 20),
        idle_s=600,
        poll_s=0.05,
    )
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.leave()
    thread.join(timeout=20)


def job_id(folder: RunFolder) -> str:
    return next(h["job_id"] for h in world.events(folder, "handle"))


def test_a_run_through_slurm(workspace: Workspace, supervisor: Supervisor, cluster: Path) -> None:
    folder = create_run(workspace, world.spec(steps=5, print="on the node"))
    world.wait_state(folder, "succeeded", seconds=40)
    assert world.events(folder, "slot") == ["slurm-cpu-0"]
    assert world.folded_steps(folder) == [1, 2, 3, 4, 5]
    assert "on the node" in supervisor.backend.tail(Attempt(folder, 1))
    script = (cluster / job_id(folder) / "script").read_text()
    for line in ("--partition=gpu-short", "--cpus-per-task=2", "--mem=16GB", f"--job-name=rsfm-{folder.id}-1"):
        assert f"#SBATCH {line}" in script
    assert "gpus" not in script
    on_gpu = create_run(workspace, EvaluateSpec(model="band-stats", dataset="x", device="cuda"))
    world.wait_for(lambda: world.events(on_gpu, "handle"), what="the second job")
    assert "#SBATCH --gpus-per-node=1" in (cluster / job_id(on_gpu) / "script").read_text()
    world.wait_state(on_gpu, seconds=40)


def test_cancel_ladder_through_slurm(workspace: Workspace, supervisor: Supervisor, cluster: Path) -> None:
    folder = create_run(workspace, world.spec(steps=10_000, deaf_to_stop=True, deaf_to_term=True))
    world.wait_for(lambda: (folder.progress() or {}).get("done", 0) > 2, 40, "two steps")
    folder.request("stop")
    world.wait_state(folder, "cancelled", seconds=40)
    assert world.events(folder, "rung") == ["request", "terminate", "kill"]
    number = job_id(folder)
    calls = (cluster.parent / "scancel.log").read_text().splitlines()
    assert calls[:2] == [f"--signal=TERM {number}", number]
    world.wait_for(lambda: not world.processes_of(folder.path), what="the end of its processes")


def test_sigterm_reaches_the_job_through_its_runner(
    workspace: Workspace, supervisor: Supervisor, cluster: Path
) -> None:
    folder = create_run(workspace, world.spec(steps=10_000, deaf_to_stop=True))
    world.wait_for(lambda: (folder.progress() or {}).get("done", 0) > 2, 40, "two steps")
    folder.request("stop")
    world.wait_state(folder, "cancelled", seconds=40)
    assert world.events(folder, "rung") == ["request", "terminate"]
    assert folder.exit()["signal"] == "SIGTERM"


def test_adopts_a_job_that_no_event_names(workspace: Workspace, cluster: Path) -> None:
    from jobs.protocol import Slot, Task

    folder = create_run(workspace, world.spec(steps=400))
    command = world.count_command(folder, 1, 1, "cpu")
    handle = SlurmBackend().submit(Task(folder, 1, Slot("slurm-cpu-0", "cpu", 1), 1, command))
    fresh = SlurmBackend(poll_s=0, disk_delay_s=0)
    assert fresh.adopt(Attempt(folder, 1)) == handle
    assert fresh.adopt(Attempt(folder, 2)) is None
    world.wait_for(folder.heartbeat, 40, "the runner")
    assert fresh.cancel(Attempt(folder, 1, handle), "kill") == 1
    world.wait_for(lambda: not fresh.poll(Attempt(folder, 1, handle)), what="Slurm to say that it is over")


def test_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RSFM_BACKEND", "slurm")
    with pytest.raises(RsfmError, match="needs sbatch, srun"):
        make_backend()
