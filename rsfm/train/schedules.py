"""Schedules as pure functions of the step; lengths come from samples seen (`OptimParams`)."""

from __future__ import annotations

import math

from rsfm.specs import OptimParams


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` (step 0) towards `end`, which step `steps` would reach (the last step does not).

    Used for learning rates, weight decay and the momentum of moving averages (arXiv 2006.07733, 2104.14294).
    """
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * step / steps))


def warmup_cosine(step: int, steps: int, warmup: int, peak: float, end: float) -> float:
    """Linear from 0 (step 0) to `peak` (step warmup − 1), then `cosine` over the other steps, starting at `peak`."""
    if step < warmup:
        return peak * step / (warmup - 1) if warmup > 1 else 0.0
    return cosine(step - warmup, max(steps - warmup, 1), peak, end)


def learning_rate(optim: OptimParams, step: int) -> float:
    """The learning rate of optimiser step `step` (from 0): warm-up and cosine, in samples seen."""
    warmup = round(optim.warmup_samples / optim.batch_size)
    return warmup_cosine(step, optim.steps, warmup, optim.peak_lr, optim.min_lr)


def weight_decay(optim: OptimParams, step: int) -> float:
    """The weight decay of optimiser step `step`: constant, or along half a cosine to `weight_decay_end`."""
    if optim.weight_decay_end is None:
        return optim.weight_decay
    return cosine(step, optim.steps, optim.weight_decay, optim.weight_decay_end)


def linear_warmup(samples: float, warmup_samples: float, start: float, end: float) -> float:
    """From `start` to `end` over `warmup_samples`, then `end`."""
    return end if samples >= warmup_samples else start + (end - start) * samples / warmup_samples
