"""What the machine is doing: cores, memory and GPUs, now and over the last minutes.

Read by the supervisor; where none lives, by the dashboard for itself, without the GPUs, whose driver may be slow.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import psutil

from jobs.slots import gpu_readings

#: How many readings the little curves keep.
KEPT = 60


def _cpu_seconds() -> tuple[float, float]:
    """Seconds that all cores were busy, and in all, since the machine started.

    psutil's own `cpu_percent` compares with the last call of the same thread; readers here come from several.
    """
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Linux counts guests within the others.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - idle, total


class Readings:
    """The latest readings. `take` may be slow (a driver answers); everything else only looks at what it left."""

    def __init__(self) -> None:
        self._machine: dict[str, Any] = {}
        self._gpus: dict[str, dict[str, Any]] = {}
        self._curves: dict[str, deque[float]] = {}
        self._cpu_before = _cpu_seconds()

    def take(self, *, gpus: bool) -> None:
        """Read the machine; `gpus`: and its GPUs."""
        memory = psutil.virtual_memory()
        busy = self._busy()
        used = memory.total - memory.available
        self._machine = {
            "cpu": busy, "cores": psutil.cpu_count() or 1, "memory_used_bytes": used, "memory_bytes": memory.total,
            "cpu_curve": self._curve("cpu", busy), "memory_curve": self._curve("memory", used / memory.total),
        }  # fmt: skip
        if not gpus:
            return
        found = gpu_readings()
        for uuid, reading in found.items():
            reading["curve"] = self._curve(uuid, reading["utilisation"])
        self._gpus = found

    def _busy(self) -> float | None:
        """Share of the cores' time since the last reading; where no time has passed, what that one said."""
        before, now = self._cpu_before, _cpu_seconds()
        if now[1] <= before[1]:
            return self._machine.get("cpu")
        self._cpu_before = now
        return min(1.0, max(0.0, (now[0] - before[0]) / (now[1] - before[1])))

    def _curve(self, name: str, value: float | None) -> list[float]:
        curve = self._curves.setdefault(name, deque(maxlen=KEPT))
        if value is not None:
            curve.append(round(value, 3))
        return list(curve)

    def machine(self) -> dict[str, Any] | None:
        """Keys: cpu (0..1 or None), cores, memory_used_bytes, memory_bytes, cpu_curve, memory_curve; None before the
        first reading.
        """
        return self._machine or None

    def gpu(self, uuid: str | None) -> dict[str, Any]:
        """Keys: memory_used_bytes, utilisation (0..1 or None), curve; empty where the driver says nothing of it."""
        return self._gpus.get(uuid or "", {})
