"""Runners as jobs of a Slurm cluster, through submitit; the workspace must lie on a disk that the nodes share.

Set `RSFM_BACKEND=slurm` where the dashboard runs (a login node). One node per run: `RSFM_SLURM_CPUS` cores, one GPU
where the run wants one, `RSFM_SLURM_MEM_GB`, `RSFM_SLURM_TIME_MIN` minutes, on `RSFM_SLURM_PARTITION`. At most
`RSFM_SLURM_GPU_JOBS` and `RSFM_SLURM_CPU_JOBS` runs are handed to Slurm at once; the rest waits here, by priority.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import Any

from jobs.processes import python_environment
from jobs.protocol import Attempt, Rung, Slot, Task, env_number
from rsfm.errors import RsfmError

#: How often the accounting database is asked about one job.
POLL_S = 10.0
#: How long exit.json may take to come through a shared disk once Slurm says that the job is over.
DISK_DELAY_S = 30.0


def _job_name(attempt: Attempt) -> str:
    return f"rsfm-{attempt.folder.id}-{attempt.number}"


def _call(*words: str) -> str:
    """The output of one of Slurm's commands; "" where it fails: it is asked again in the next turn."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


class SlurmBackend:
    """One Slurm job per attempt: it runs the runner, which reports through the run folder as everywhere."""

    name = "slurm"

    def __init__(self, *, poll_s: float = POLL_S, disk_delay_s: float = DISK_DELAY_S) -> None:
        try:
            import submitit
        except ImportError:
            raise RsfmError("RSFM_BACKEND=slurm needs submitit: pip install 'rsfm-lab[slurm]'.") from None
        missing = [c for c in ("sbatch", "srun", "scancel", "sacct", "squeue") if shutil.which(c) is None]
        if missing:
            raise RsfmError(f"RSFM_BACKEND=slurm needs {', '.join(missing)} on PATH: is this a login node?")
        self._submitit = submitit
        self._poll_s = poll_s
        self._disk_delay_s = disk_delay_s
        self._jobs: dict[str, Any] = {}
        self._asked: dict[str, float] = {}
        self._over_since: dict[str, float] = {}

    def submit(self, task: Task) -> dict[str, Any]:
        attempt = Attempt(task.folder, task.attempt)
        ours = python_environment()
        variables = {**{k: ours[k] for k in ("PYTHONPATH", "PYTHONSAFEPATH")}, **task.environment()}
        # Set through `env`: Slurm's own variables on the node must stay.
        command = [
            "env", *(f"{k}={v}" for k, v in variables.items()),
            sys.executable, "-m", "jobs.runner", str(task.folder.path), "--attempt", str(task.attempt), "--",
            *task.command,
        ]  # fmt: skip
        wanted: dict[str, Any] = {
            "job_name": _job_name(attempt),
            "time": int(env_number("RSFM_SLURM_TIME_MIN", 1440, minimum=1)),
            "cpus_per_task": task.threads,
            "mem": f"{env_number('RSFM_SLURM_MEM_GB', 16, minimum=1):g}GB",
        }
        if task.slot.kind == "gpu":
            wanted["gpus_per_node"] = 1
        if partition := os.environ.get("RSFM_SLURM_PARTITION"):
            wanted["partition"] = partition
        try:
            executor = self._submitit.SlurmExecutor(folder=self._folder(attempt))
            executor.update_parameters(**wanted)
            job = executor.submit(self._submitit.helpers.CommandFunction(command, cwd=str(task.folder.path)))
        except (OSError, RuntimeError, ValueError) as error:
            raise RsfmError(f"Slurm did not take run {task.folder.id}: {error}") from error
        self._jobs[job.job_id] = job
        return {"job_id": job.job_id}

    def _folder(self, attempt: Attempt) -> str:
        return str(attempt.folder.path / "slurm")

    def poll(self, attempt: Attempt) -> bool:
        job_id = attempt.handle.get("job_id")
        if not job_id:
            return False
        if job_id not in self._jobs:
            self._jobs[job_id] = self._submitit.SlurmJob(folder=self._folder(attempt), job_id=job_id)
        now = time.monotonic()
        if job_id not in self._over_since and now - self._asked.get(job_id, float("-inf")) >= self._poll_s:
            self._asked[job_id] = now
            # What Slurm does not know (yet) counts as alive: silence never means lost.
            if self._jobs[job_id].done(force_check=True):
                self._over_since[job_id] = now
        over = self._over_since.get(job_id)
        return over is None or now - over < self._disk_delay_s

    def cancel(self, attempt: Attempt, rung: Rung) -> int:
        job_id = attempt.handle.get("job_id")
        if rung == "request" or not job_id or job_id in self._over_since:
            return 0
        words = ("--signal=TERM", job_id) if rung == "terminate" else (job_id,)
        _call("scancel", *words)
        return 1

    def tail(self, attempt: Attempt, max_bytes: int = 20_000) -> str:
        return attempt.folder.log_tail(max_bytes)

    def resources(self) -> list[Slot]:
        threads = int(env_number("RSFM_SLURM_CPUS", 8, minimum=1))
        gpu = int(env_number("RSFM_SLURM_GPU_JOBS", 4))
        cpu = int(env_number("RSFM_SLURM_CPU_JOBS", 4))
        return [
            *(Slot(f"slurm-gpu-{i}", "gpu", threads) for i in range(gpu)),
            *(Slot(f"slurm-cpu-{i}", "cpu", threads) for i in range(cpu)),
        ]

    def adopt(self, attempt: Attempt) -> dict[str, Any] | None:
        handle = attempt.handle
        if not handle.get("job_id"):
            # Handed over by a supervisor that died before it could write the number down.
            found = _call("squeue", "--noheader", "--format=%A", f"--name={_job_name(attempt)}").split()
            handle = {"job_id": found[0]} if found else {}
        if handle and self.poll(Attempt(attempt.folder, attempt.number, handle)):
            return handle
        return None
