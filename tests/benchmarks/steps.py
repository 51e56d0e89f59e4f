"""What the benchmarks of training steps share."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rsfm.bands import SENSORS
from rsfm.data.seeding import step_generator
from rsfm.data.source import PackSource
from rsfm.methods.base import Progress, Views
from rsfm.pack_arrays import write_arrays
from rsfm.specs import PretrainSpec, pretrain_spec
from rsfm.train.module import PretrainModule
from rsfm.train.pretrain import suit_device
from rsfm.train.setup import autocast, set_up
from rsfm.workspace import Workspace


def options(description: str | None, *, rounds: int, steps: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--size", type=int, default=64, help="pixels per side of stored images and views")
    parser.add_argument("--batch", type=int, default=0, help="images per step (default: the preset's per pass)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of both steps")
    parser.add_argument("--compile", action="store_true", help="compile our step, as runtime.compile does")
    return parser


@dataclass(frozen=True)
class Ours:
    """Our side, set up as a job sets it up, with the views of one batch."""

    args: argparse.Namespace
    spec: PretrainSpec
    module: PretrainModule
    device: torch.device
    source: PackSource
    progress: Progress
    views: Views

    @property
    def bands(self) -> int:
        return len(self.source.input.bands)

    @property
    def autocast(self) -> Callable[[], AbstractContextManager]:
        return partial(autocast, self.spec, self.device)


def set_up_ours(
    method: str, args: argparse.Namespace, folder: str, *, images: int, settings: Sequence[str] = ()
) -> Ours:
    """On at least `images` images of noise in 7 bands, in a workspace at `folder`."""
    torch.set_num_threads(args.threads)
    device, workspace = torch.device(args.device), Workspace(Path(folder))
    noise = np.random.default_rng(0).integers(0, 255, (max(images, args.batch), 7, args.size, args.size))
    write_arrays(workspace, "bench", {"train": noise.astype(np.uint8)}, SENSORS["landsat-7"].bands, gsd_m=30)
    asked = [f"image_size={args.size}", f"precision={args.precision}", f"compile={str(args.compile).lower()}"]
    batch = [f"batch_size={args.batch}", "accumulate=1"] if args.batch else []
    spec = pretrain_spec(method, "bench", args.preset, [*settings, *asked, *batch])
    setup = set_up(spec, workspace)
    suit_device(spec, setup, device)
    module = PretrainModule(spec, setup.method, setup.sources).to(device)
    (source,) = setup.sources.values()
    count = spec.optim.images_per_pass
    stored = {"image": source[np.arange(count)].to(device), "index": torch.arange(count, device=device)}
    progress = Progress(1, 1000, count)
    views = module.method.views(module.standardise(stored), step_generator(device, 0, 0), progress)
    print(f"{args.preset}: {spec.encoder.model_dump()}, batch {count}, 7 bands, {args.size} px, {args.device}")
    return Ours(args, spec, module, device, source, progress, views)


def nothing() -> None: ...


def stepper(
    model: nn.Module, loss: Callable[[], Tensor], autocast: Callable[[], AbstractContextManager],
    after: Callable[[], None] = nothing,
) -> Callable[[], None]:  # fmt: skip
    """One optimiser step as a function, with what follows it."""
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        with autocast():
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
    ours: Ours, theirs: nn.Module, loss: Callable[[], Tensor], *, after: Callable[[], None] = nothing,
    after_theirs: Callable[[], None] = nothing,
) -> None:  # fmt: skip
    """Time our step and theirs in turn and print both; the ratios are medians of rounds, so that other load hits both.

    Then our speed as a share of a large matrix product's on this device.

    Args:
        loss: theirs, on our views.
        after, after_theirs: what follows the optimiser's step.
    """
    args, device, module = ours.args, ours.device, ours.module
    operations = flops(ours)
    our_step = stepper(module.method, lambda: module.loss_of(ours.views)[0], ours.autocast, after)
    their_step = stepper(theirs, loss, ours.autocast, after_theirs)
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "lightly": []}
    for round_number in range(args.rounds + 1):
        pair = seconds(our_step, args.steps, device), seconds(their_step, args.steps, device)
        if round_number:  # the first warms up
            for taken, found in zip(times.values(), pair, strict=True):
                taken.append(found)
    middles = {}
    for name, taken in times.items():
        middles[name], busy = (statistics.median(t[kind] for t in taken) for kind in (0, 1))
        print(
            f"step, {name:8}   {middles[name] * 1e3:8.1f} ms   "
            f"{ours.spec.optim.images_per_pass / middles[name]:8.0f} images/s   "
            f"{busy * 1e3:8.1f} ms of processor time"
        )
    wall, processor = (
        statistics.median(a[kind] / b[kind] for a, b in zip(*times.values(), strict=True)) for kind in (0, 1)
    )
    print(f"ours / lightly   {wall:8.2f} (wall clock)   {processor:.2f} (processor time)")
    if device.type == "cuda":
        print(f"peak GPU memory of both   {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB")
    rate, side = operations / middles["ours"], 8192 if device.type == "cuda" else 2048
    peak = product_rate(side, args.precision, device)
    print(
        f"ours: {operations / 1e9:.1f} GFLOP per step, {rate / 1e12:.3f} TFLOP/s, {100 * rate / peak:.1f} % of a "
        f"product of {side}-square matrices in {args.precision} ({peak / 1e12:.3f} TFLOP/s)"
    )


def flops(ours: Ours) -> int:
    """Floating-point operations of our step's matrix products (attention among them), without compiling."""
    # FlopCounterMode misses some kinds of fused attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        with ours.autocast():
            total = ours.module.method.loss(ours.views).total
        total.backward()
    ours.module.method.pending.clear()
    if ours.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(ours.device)  # plain attention takes more than what is timed
    return counter.get_total_flops()


def product_rate(side: int, precision: str, device: torch.device) -> float:
    """Floating-point operations per second of a product of square matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(seconds(lambda: a @ b, 4, device)[0] for _ in range(5))
