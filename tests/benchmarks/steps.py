"""What the benchmarks of training steps share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from rsfm.bands import SENSORS
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.workspace import Workspace


def make_pack(workspace: Workspace, count: int, size: int) -> Pack:
    """Noise in 7 bands."""
    images = np.random.default_rng(0).integers(0, 255, (count, 7, size, size)).astype(np.uint8)
    return write_arrays(workspace, "bench", {"train": images}, SENSORS["landsat-7"].bands, gsd_m=30)


def stepper(
    model: nn.Module, loss: Callable[[], Tensor], after: Callable[[], None] = lambda: None
) -> Callable[[], None]:
    """One optimiser step as a function, with what follows it."""
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        with torch.no_grad():
            after()

    return step


def seconds(function: Callable[[], object], repeat: int, device: torch.device) -> tuple[float, float]:
    """Wall-clock and processor time per call."""
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(repeat):
        function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeat, (time.process_time() - busy) / repeat


def duel(
    ours: Callable[[], None], theirs: Callable[[], None], *, rounds: int, steps: int, batch_size: int,
    device: torch.device, opponent: str = "lightly",
) -> None:  # fmt: skip
    """Time two steps in turn and print both; the ratios are medians of rounds, so that other load hits both."""
    times: dict[str, list[tuple[float, float]]] = {"ours": [], opponent: []}
    for round_number in range(rounds + 1):
        pair = seconds(ours, steps, device), seconds(theirs, steps, device)
        if round_number:  # the first warms up
            for taken, found in zip(times.values(), pair, strict=True):
                taken.append(found)
    for name, taken in times.items():
        middle, busy = (statistics.median(t[kind] for t in taken) for kind in (0, 1))
        print(
            f"step, {name:8}   {middle * 1e3:8.1f} ms   {batch_size / middle:8.0f} images/s   "
            f"{busy * 1e3:8.1f} ms of processor time"
        )
    wall, processor = (
        statistics.median(a[kind] / b[kind] for a, b in zip(*times.values(), strict=True)) for kind in (0, 1)
    )
    print(f"ours / {opponent}   {wall:8.2f} (wall clock)   {processor:.2f} (processor time)")
