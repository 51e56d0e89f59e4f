"""Training a network on a labelled pack, resumable to the step: fine-tuning, and heads on frozen encoders."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.data.seeding import derive_seed, step_generator
from rsfm.errors import RsfmError
from rsfm.evaluation.batches import IGNORE, Batch, LabelledImages, Part, TrainingViews, ahead, epoch_parts
from rsfm.evaluation.maps import FrozenMaps
from rsfm.evaluation.networks import TaskNetwork, autocast
from rsfm.evaluation.plan import Plan
from rsfm.specs import FitParams
from rsfm.store.job import Stopped
from rsfm.train.schedules import warmup_cosine

_SAVE_S = 20.0


@dataclass
class Reports:
    """What the loop tells while it runs.

    Attributes:
        samples: called with the number of samples after each step.
        epoch: called after each epoch with its number (from 1) and named values.
        stop: whether to save and stop.
        score: the score to choose the best epoch by; may raise `Stopped`.
    """

    samples: Callable[[int], None]
    epoch: Callable[[int, dict[str, float]], None]
    stop: Callable[[], bool]
    score: Callable[[TaskNetwork], float]


def task_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in float32: of classes (B,), of maps (B, H, W) over pixels that count, of flags (B, K) binary."""
    logits = logits.float()
    if target.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, target.float())
    if target.ndim == 3 and not (target != IGNORE).any():
        return logits.sum() * 0.0  # nothing in this batch counts
    return F.cross_entropy(logits, target, ignore_index=IGNORE)


@dataclass
class _Progress:
    """Where the training stands, besides weights and moments."""

    step: int = 0  # done, over all epochs
    total: float = 0.0  # sum of this epoch's losses
    highest: float = -1.0  # validation score
    best: dict[str, Tensor] | None = None  # weights of that epoch
    unscored: bool = False  # the last step was an epoch's last, and its validation did not come to an end


def fit_network(
    network: TaskNetwork, images: LabelledImages | FrozenMaps, what: Plan, fit: FitParams, *, seed: int, name: str,
    device: torch.device, checkpoint: Path, reports: Reports,
) -> TaskNetwork:  # fmt: skip
    """Train `network` in place; ends with the weights that `fit.select` asks for, in eval mode.

    Every draw is a function of (name, seed, step), so a run that was stopped and goes on ends as one that was not.

    Raises:
        Stopped: on request; `checkpoint` holds what is needed to go on.
        RsfmError: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(network.parameter_groups(fit), lr=1.0, betas=(0.9, 0.999))
    views = TrainingViews(fit, network.model.bands, device)
    per_epoch = len(epoch_parts(what, fit, seed, 0))
    steps, peak = fit.epochs * per_epoch, fit.peak_lr(network.frozen)
    at = _load(checkpoint, network, optimizer)
    reports.samples(round(at.step / per_epoch * len(what.draws[seed])))
    saved, pause = time.monotonic(), _SAVE_S

    def rate_at(step: int) -> float:
        return warmup_cosine(step, steps, round(fit.warmup * steps), peak, fit.min_lr)

    def generator_at(step: int) -> torch.Generator:
        return step_generator(device, derive_seed(name, seed), step)

    def read(step: int, part: Part) -> Batch:
        if isinstance(images, LabelledImages):
            return images.read(what.train_split, *part)
        flips = views.flips(len(part[0]), images.size, generator_at(step))
        return images.read(what.train_split, *part, flips)

    while at.step < steps or at.unscored:
        epoch = at.step // per_epoch - at.unscored
        parts = epoch_parts(what, fit, seed, epoch)[at.step - epoch * per_epoch :]
        network.train()
        reads = [partial(read, at.step + number, part) for number, part in enumerate(parts)]
        for part, batch in zip(parts, ahead(reads), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(at.step) * group["lr_scale"]
            view = views(batch.to(device), generator_at(at.step))
            with autocast(fit.precision, device):
                loss = task_loss(network(view.images, view.target.shape[-2:]), view.target)
            value = loss.item()
            if not math.isfinite(value):
                raise RsfmError(
                    f"The loss of {name} is {value} in epoch {epoch + 1}: lower fit.lr, or set fit.grad_clip=1."
                )
            optimizer.zero_grad()
            loss.backward()
            if fit.grad_clip:
                nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], fit.grad_clip)
            optimizer.step()
            at.step, at.total = at.step + 1, at.total + value
            reports.samples(len(part[0]))
            if at.step % per_epoch:
                stop = reports.stop()
                if stop or time.monotonic() - saved > pause:
                    pause, saved = _save(checkpoint, network, optimizer, at), time.monotonic()
                if stop:
                    raise Stopped
        network.eval()
        values = {"loss": at.total / per_epoch, "lr": rate_at(at.step - 1)}
        if fit.select == "best":
            try:
                values["val_score"] = reports.score(network)
            except Stopped:
                at.unscored = True
                _save(checkpoint, network, optimizer, at)
                raise
            at.unscored = False
            if values["val_score"] > at.highest:
                at.highest = values["val_score"]
                at.best = {n: t.detach().clone() for n, t in network.trained_state().items()}
        at.total = 0.0
        reports.epoch(epoch + 1, values)
        stop = reports.stop()
        if stop or at.step == steps or time.monotonic() - saved > pause:
            pause, saved = _save(checkpoint, network, optimizer, at), time.monotonic()
        if stop:
            raise Stopped
    if fit.select == "best":
        if at.best is None:
            raise RsfmError(
                f"The score of {name} is not defined on the validation split in any epoch (no positive sample there, "
                "or none predicted): set fit.select to last."
            )
        network.load_trained(at.best)
    return network.eval()


def _save(checkpoint: Path, network: TaskNetwork, optimizer: torch.optim.Optimizer, at: _Progress) -> float:
    """Keep what is needed to go on; returns the seconds until the next time, so that saving takes 5 % at the most."""
    start = time.monotonic()
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    temporary = checkpoint.with_name(f".{checkpoint.name}")
    state = {"network": network.trained_state(), "optimizer": optimizer.state_dict(), "progress": vars(at)}
    torch.save(state, temporary)
    temporary.replace(checkpoint)
    return max(_SAVE_S, 20 * (time.monotonic() - start))


def _load(checkpoint: Path, network: TaskNetwork, optimizer: torch.optim.Optimizer) -> _Progress:
    if not checkpoint.is_file():
        return _Progress()
    # To the CPU: loading moves what belongs on the device, and the optimiser's step counts do not.
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network.load_trained(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return _Progress(**state["progress"])
