"""Slots: one per GPU, known by its UUID, plus CPU slots; and who of the queue starts next."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from jobs.protocol import Slot, env_number


def cpu_cores() -> int:
    """Cores that this process may use: its affinity, within a container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no control group of version 2: no quota to respect
    return cores


def _smi(fields: str) -> list[list[str]]:
    """Rows of nvidia-smi; none where there is no such tool or no driver behind it."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]
    return [row for row in rows if len(row) == len(fields.split(","))]


def gpu_slots(threads: int = 0) -> list[Slot]:
    """One slot per GPU of this machine, within `CUDA_VISIBLE_DEVICES` where that is set (indices or UUIDs)."""
    rows = _smi("index,uuid,name,memory.total")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        wanted = [v.strip() for v in visible.split(",") if v.strip()]
        rows = [r for r in rows if any(r[0] == w or (w.startswith("GPU-") and r[1].startswith(w)) for w in wanted)]
    share = threads or max(1, cpu_cores() // max(1, len(rows)))
    return [
        Slot(
            name=f"gpu-{index}", kind="gpu", threads=share, title=name, uuid=uuid,
            memory_bytes=int(memory) * 2**20 if memory.isdigit() else None,
        )
        for index, uuid, name, memory in rows
    ]  # fmt: skip


def gpu_readings() -> dict[str, dict[str, Any]]:
    """UUID -> memory_used_bytes and utilisation (0..1); None where the driver does not say, as of a part of a GPU."""
    return {
        uuid: {
            "memory_used_bytes": int(used) * 2**20 if used.isdigit() else None,
            "utilisation": int(busy) / 100 if busy.isdigit() else None,
        }
        for uuid, used, busy in _smi("uuid,memory.used,utilization.gpu")
    }


def cpu_slots() -> list[Slot]:
    """`RSFM_CPU_SLOTS` slots (default 1) that share the cores evenly."""
    count = int(env_number("RSFM_CPU_SLOTS", 1, minimum=1))
    threads = max(1, cpu_cores() // count)
    return [Slot(name=f"cpu-{i}", kind="cpu", threads=threads) for i in range(count)]


class Waiting(Protocol):
    """What the queue must know of a run."""

    priority: int
    queued_at: str
    needs_gpu: bool | None

    @property
    def id(self) -> str: ...


def in_order(queue: Iterable[Waiting]) -> list[Waiting]:
    """Higher priority first, then whoever waits longest."""
    return sorted(queue, key=lambda run: (-run.priority, run.queued_at, run.id))


def choose(needs_gpu: bool | None, slots: Sequence[Slot], busy: Iterable[str]) -> tuple[Slot | None, str]:
    """A free slot for a run, or why there is none now.

    Args:
        needs_gpu: True: a GPU; False: a CPU slot; None: a GPU where the machine has one, else a CPU slot.
    """
    has_gpu = any(s.kind == "gpu" for s in slots)
    if needs_gpu and not has_gpu:
        return None, "It needs a GPU and this machine has none."
    kind = "gpu" if needs_gpu or (needs_gpu is None and has_gpu) else "cpu"
    taken = set(busy)
    for slot in slots:
        if slot.kind == kind and slot.name not in taken:
            return slot, ""
    return None, f"It waits for a free {kind.upper()} slot."
