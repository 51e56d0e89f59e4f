"""The dry run of a pretraining: everything that can be checked before queueing, and what a step takes."""

from __future__ import annotations

import time
from functools import partial

import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from rsfm.data.seeding import step_generator
from rsfm.device import granted_device, peak_memory
from rsfm.errors import RsfmError
from rsfm.methods.base import Progress
from rsfm.packs import Pack
from rsfm.specs import PretrainSpec
from rsfm.train.module import PretrainModule
from rsfm.train.monitors import Monitors
from rsfm.train.optimizers import build_optimizer
from rsfm.train.pretrain import suit_device
from rsfm.train.setup import Setup, autocast, require_disk, set_up
from rsfm.workspace import Workspace

#: Images of the first passes; how many passes of the requested size follow, because a process takes more memory in the
#: second and third than in the first; and how long they and the monitors may take on a CPU.
_FEW, _SOME, _PASSES = 4, 8, 3
_LAST_S = 10.0
#: What a process grows by for each byte kept for the way back: gradients on that way, and what the allocator does not
#: give back, come on top (MAE, SimCLR and iBOT with their presets for CPUs: 1.9 to 2.9).
_PER_HELD = 2


def dry_run(spec: PretrainSpec, workspace: Workspace) -> list[str]:
    """Check everything that can be checked before queueing, including passes forward and backward.

    Made for a process of its own: on a CPU the memory is all that the process takes.

    Returns:
        Remarks for people: what was understood, how much memory and about how long it will take.

    Raises:
        RsfmError: why it cannot work.
    """
    wants_gpu = spec.runtime.device == "cuda" or (spec.runtime.device == "auto" and torch.cuda.is_available())
    device = granted_device(spec.runtime.device, "cuda" if wants_gpu else "cpu")
    if spec.runtime.threads:
        torch.set_num_threads(spec.runtime.threads)
    setup = set_up(spec, workspace, in_memory=False)
    suit_device(spec, setup, device)
    source = next(iter(setup.sources.values()))
    bands = source.input.bands
    remarks = [
        f"{len(source)} images with bands {', '.join(b.name for b in bands)} ({_units(setup.pack)}); "
        f"{spec.optim.samples / len(source):.1f} passes over them.",
        f"{spec.optim.steps} steps of {spec.optim.batch_size}; peak learning rate {spec.optim.peak_lr:.2e}.",
    ]
    encoder = setup.method.encoder
    if (source.input.height, source.input.width) != (encoder.image_size, encoder.image_size):
        remarks.append(
            f"Stored images have {source.input.height}×{source.input.width} pixels; views have {encoder.image_size}."
        )
    disk = require_disk(spec, setup.method, workspace)
    remarks.append(f"Checkpoints and model: up to {disk / 1e6:.0f} MB on disk.")
    return remarks + setup.method.remarks + _try_steps(spec, setup, device)


def _units(pack: Pack) -> str:
    return "/".join(sorted({band.unit for layer in pack.info.layers for band in layer.bands}))


def _try_steps(spec: PretrainSpec, setup: Setup, device: torch.device) -> list[str]:
    """A step of a few images, the monitors, passes of the requested size; on a CPU less where it would take long."""
    micro_batch = spec.optim.images_per_pass
    few, some = min(_FEW, micro_batch), min(_SOME, micro_batch)
    layer, source = next(iter(setup.sources.items()))
    width = setup.method.encoder.feature_dim
    monitors = Monitors(setup.pack, source, spec.splits, layer, width, in_memory=False)
    module = PretrainModule(spec, setup.method, setup.sources).to(device)
    try:
        held_by_few = _one_pass(spec, module, device, few)
        optimiser = _step_in_place(spec, module)
        per_image = _fastest(spec, module, device, some)
        size = micro_batch
        if device.type == "cpu":
            affordable = max(some, int(_LAST_S / per_image))
            size = min(micro_batch, max(some, affordable // _PASSES))
            monitors.take_fewer(affordable)
        per_image = _fastest(spec, module, device, size)
        peak = peak_memory(device)
        if size < micro_batch:
            # The process's own growth from one small pass to the next is too uneven.
            held_by_each = (_one_pass(spec, module, device, some) - held_by_few) // (some - few)
            peak += _PER_HELD * held_by_each * (micro_batch - size)
        monitors.measure(setup.method.encoder, device, partial(autocast, spec, device))
    except torch.OutOfMemoryError as error:
        raise RsfmError(
            f"A pass over {micro_batch} images does not fit into the GPU's memory. Raise optim.accumulate or lower "
            "optim.batch_size."
        ) from error
    peak = max(peak, peak_memory(device))
    del optimiser  # kept until here for its memory
    remarks = []
    if size < micro_batch:
        remarks.append(f"Tried with {size} images instead of {micro_batch}, to be quick.")
    if spec.runtime.compile:
        remarks.append("Tried without compiling: speed and memory will differ.")
    if device.type == "cuda":
        remarks.append(f"Peak GPU memory: {peak / 1e9:.2f} GB.")
    else:
        held = [*setup.sources.values(), *([monitors.queries.source] if monitors.queries else [])]
        peak += sum(source.bytes for source in held if source.fits_memory)
        free = psutil.virtual_memory().available + psutil.Process().memory_info().rss
        if peak > free:
            raise RsfmError(
                f"Passes over {micro_batch} images need about {peak / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB "
                "are free. Raise optim.accumulate or lower optim.batch_size."
            )
        remarks.append(f"Peak memory: about {peak / 1e9:.2f} GB.")
    minutes = per_image * spec.optim.samples / 60
    remarks.append(f"About {1 / per_image:.0f} images/s here: {minutes:.0f} minutes in all, monitors not counted.")
    return remarks


def _step_in_place(spec: PretrainSpec, module: PretrainModule) -> torch.optim.Optimizer:
    """An optimiser that has taken the memory it will keep, and changed nothing."""
    optimiser = build_optimizer(spec.optim, module.method.parameter_groups())
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    optimiser.step()
    return optimiser


def _fastest(spec: PretrainSpec, module: PretrainModule, device: torch.device, size: int) -> float:
    """Seconds per image of the fastest of the passes of `size` images; after the last of them, memory grows no more."""
    return min(_seconds(spec, module, device, size) for _ in range(_PASSES)) / size


def _seconds(spec: PretrainSpec, module: PretrainModule, device: torch.device, size: int) -> float:
    """What a pass of `size` images takes."""
    start = time.perf_counter()
    _one_pass(spec, module, device, size)
    return time.perf_counter() - start


def _one_pass(spec: PretrainSpec, module: PretrainModule, device: torch.device, size: int) -> int:
    """Data, views, loss and gradients of `size` images; refuses a loss that is not finite.

    Returns:
        Bytes that were kept between the way forward and the way back.
    """
    generator = step_generator(device, spec.seed, 0)
    index = torch.arange(size) % len(next(iter(module.sources.values())))
    stored = {name: source[index.numpy()].to(device) for name, source in module.sources.items()}
    batch = module.standardise({**stored, "index": index.to(device)})
    with torch.no_grad():
        views = module.method.views(batch, generator, Progress(0, spec.optim.steps, 0))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with autocast(spec, device), saved_tensors_hooks(keep, lambda tensor: tensor):
        total = module.method.loss(views).total
    # Where Lightning does so: until then, the gradients of the step before are still there.
    if spec.optim.accumulate == 1:
        module.zero_grad(set_to_none=True)
    total.backward()
    module.method.pending.clear()
    if not torch.isfinite(total):
        raise RsfmError("The first loss is not finite: check the pack's statistics and values.")
    return sum(kept.values())
