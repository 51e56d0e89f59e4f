"""What the benchmarks of training steps share."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rsfm.bands import SENSORS
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.workspace import Workspace


def add_options(parser: argparse.ArgumentParser, rounds: int, steps: int) -> None:
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--size", type=int, default=64, help="pixels per side of stored images and views")
    parser.add_argument("--batch", type=int, default=0, help="images per step (default: the preset's per pass)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of both steps")
    parser.add_argument("--compile", action="store_true", help="compile our step, as runtime.compile does")


def settings_of(args: argparse.Namespace) -> list[str]:
    """The settings of a run that the options stand for."""
    batch = [f"batch_size={args.batch}", "accumulate=1"] if args.batch else []
    return [f"image_size={args.size}", f"precision={args.precision}", f"compile={str(args.compile).lower()}", *batch]


def make_pack(workspace: Workspace, count: int, size: int) -> Pack:
    """Noise in 7 bands."""
    images = np.random.default_rng(0).integers(0, 255, (count, 7, size, size)).astype(np.uint8)
    return write_arrays(workspace, "bench", {"train": images}, SENSORS["landsat-7"].bands, gsd_m=30)


def stepper(
    model: nn.Module, loss: Callable[[], Tensor], after: Callable[[], None] = lambda: None, *, precision: str = "fp32"
) -> Callable[[], None]:
    """One optimiser step as a function, with what follows it."""
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=1e-4, fused=True)
    device = learned[0].device.type

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            total = loss()
        total.backward()
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
) -> float:  # fmt: skip
    """Time two steps in turn and print both; the ratios are medians of rounds, so that other load hits both.

    Returns:
        Seconds of our step.
    """
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
    if device.type == "cuda":
        print(f"peak GPU memory of both   {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB")
    return statistics.median(taken for taken, _ in times["ours"])


def flops(loss: Callable[[], Tensor], device: torch.device, precision: str) -> int:
    """Floating-point operations of matrix products (attention among them), forward and backward, without compiling."""
    # FlopCounterMode misses some kinds of fused attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            total = loss()
        total.backward()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # plain attention takes more than what is timed
    return counter.get_total_flops()


def say_share_of_peak(operations: int, step: float, device: torch.device, precision: str) -> None:
    """Print a step's speed as a share of a large matrix product's on this device."""
    side = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    peak = 2 * side**3 / min(seconds(lambda: a @ b, 4, device)[0] for _ in range(5))
    print(
        f"ours: {operations / 1e9:.1f} GFLOP per step, {operations / step / 1e12:.3f} TFLOP/s, "
        f"{100 * operations / step / peak:.1f} % of a product of {side}-square matrices in {precision} "
        f"({peak / 1e12:.3f} TFLOP/s)"
    )
