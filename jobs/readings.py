"""What the machine is doing: cores, memory and GPUs, now and over the last minutes. Read by the supervisor alone."""

from __future__ import annotations

from collections import deque
from typing import Any

import psutil

from jobs.slots import gpu_readings

#: How many readings the little curves keep.
KEPT = 60


class Readings:
    """The latest readings. `take` may be slow (a driver answers); everything else only looks at what it left."""

    def __init__(self) -> None:
        self._machine: dict[str, Any] = {}
        self._gpus: dict[str, dict[str, Any]] = {}
        self._curves: dict[str, deque[float]] = {}
        psutil.cpu_percent()  # the first call has nothing to compare with

    def take(self, *, gpus: bool) -> None:
        """Read the machine; `gpus`: and its GPUs."""
        memory = psutil.virtual_memory()
        busy = psutil.cpu_percent() / 100
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

    def _curve(self, name: str, value: float | None) -> list[float]:
        curve = self._curves.setdefault(name, deque(maxlen=KEPT))
        if value is not None:
            curve.append(round(value, 3))
        return list(curve)

    def machine(self) -> dict[str, Any] | None:
        """Keys: cpu (0..1), cores, memory_used_bytes, memory_bytes, cpu_curve, memory_curve; None before the first."""
        return self._machine or None

    def gpu(self, uuid: str | None) -> dict[str, Any]:
        """Keys: memory_used_bytes, utilisation (0..1 or None), curve; empty where the driver says nothing of it."""
        return self._gpus.get(uuid or "", {})
