"""The one LightningModule that trains every method."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from rsfm.data.loader import StoredBatch, TimedLoader, WaitTimer, train_loader
from rsfm.data.sampler import EndlessBatchSampler
from rsfm.data.seeding import step_generator
from rsfm.data.source import Batch, PackSource, Standardiser
from rsfm.errors import RsfmError
from rsfm.methods.base import Method, Progress, Views
from rsfm.specs import PretrainSpec
from rsfm.train.optimizers import build_optimizer, clip_each
from rsfm.train.schedules import learning_rate, weight_decay

#: So many optimiser steps in a row without a finite loss end the run.
MAX_SKIPPED_IN_A_ROW = 20
#: Gradient norms of all parameters, and of the encoder's first and last block.
_NORMS = ("grad_norm", "grad_norm_first", "grad_norm_last")


class PretrainModule(pl.LightningModule):
    """Drives a method: order of the data, randomness, optimiser, schedules, non-finite steps.

    Everything random about a step is a function of (seed, step, rank); everything that outlives a step is in the
    checkpoint. So stopping and resuming changes no weight and no logged number.

    Args:
        sources: the stored layers that the method learns from, by name.
    """

    def __init__(self, spec: PretrainSpec, method: Method, sources: Mapping[str, PackSource]) -> None:
        super().__init__()
        self.spec = spec
        self.method = method
        self.sources = dict(sources)
        self.standardisers = nn.ModuleDict({name: Standardiser(source) for name, source in sources.items()})
        self.wait = WaitTimer()
        self.grad_norms: dict[str, float] = {}  # of the last step, by `_NORMS`
        self.skipped_steps = 0
        self._skipped_in_a_row = 0
        self._step_is_finite = True
        self._micro_step = 0  # forward passes since the last optimiser step
        self._pending: list[dict[str, Tensor]] = []  # their scalars, still on the device
        self._norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._running_before: list[Tensor] = []  # their running statistics before this step
        # Of the finite passes since the last `take_means`. Counted by name: some signals are measured now and then.
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        #: The loss and all that is logged of it, compiled where that was asked for.
        self.loss_of: Callable[[Views], tuple[Tensor, dict[str, Tensor]]]
        self.loss_of = torch.compile(self._scalars) if spec.runtime.compile else self._scalars

    # -- data ------------------------------------------------------------------------------------------------------
    def train_dataloader(self) -> TimedLoader:
        optim, runtime = self.spec.optim, self.spec.runtime
        sampler = EndlessBatchSampler(
            len(next(iter(self.sources.values()))), optim.images_per_pass, self.spec.seed,
            # Not from the loop's own counters: this is where an uninterrupted stream would be now.
            start=self.trainer.global_step * optim.accumulate,
        )  # fmt: skip
        return train_loader(
            self.sources, sampler, workers=runtime.workers, pin_memory=self.device.type == "cuda", timer=self.wait
        )

    def standardise(self, stored: StoredBatch) -> Batch:
        """Stored values on the device to a standardised batch."""
        images: dict[str, Tensor] = {}
        non_finite: Tensor | None = None
        for name, standardiser in self.standardisers.items():
            images[name], count = standardiser(stored[name])
            if count is not None:
                non_finite = count if non_finite is None else non_finite + count
        return Batch(images, stored["index"], non_finite)

    # -- the step --------------------------------------------------------------------------------------------------
    def training_step(self, stored: StoredBatch, batch_idx: int) -> Tensor:
        if not self._micro_step:
            self._running_before = [b.clone() for b in self._running()]
        position = self.global_step * self.spec.optim.accumulate + self._micro_step
        self._micro_step += 1
        generator = step_generator(self.device, self.spec.seed, position, self.global_rank)
        # Views are made in float32 whatever the precision of the model.
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            batch = self.standardise(stored)
            views = self.method.views(batch, generator, self.progress)
        # An empty list at each pass of a step: a compiled loss is compiled anew for each length.
        earlier, self.method.pending = self.method.pending, []
        total, scalars = self.loss_of(views)
        self.method.pending = earlier + self.method.pending
        if batch.non_finite is not None:
            scalars["non_finite_values"] = batch.non_finite
        self._pending.append(scalars)
        return total

    def _scalars(self, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and all that is logged of it, without gradients."""
        parts = self.method.loss(views)
        total = parts.total.float()
        scalars = {"loss": total, **parts.logs}
        if len(parts.parts) > 1:
            scalars |= {f"loss/{name}": value for name, value in parts.parts.items()}
        return total, {name: value.detach() for name, value in scalars.items()}

    def _running(self) -> list[Tensor]:
        """BatchNorm's running statistics, which forward passes move; a move to a device replaces the tensors."""
        return [buffer for norm in self._norms for buffer in norm.buffers()]

    @property
    def progress(self) -> Progress:
        """How far the training is, before the current step."""
        step = self.global_step
        return Progress(step, self.spec.optim.steps, step * self.spec.optim.batch_size)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.spec.optim, self.method.parameter_groups())

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clipping; and a step whose loss or gradient is not finite is made to change nothing."""
        self.method.after_backward(self.progress)
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        ends = [
            torch.nn.utils.get_total_norm(found, foreach=True) if found else torch.zeros_like(norm)
            for found in ([p.grad for p in b.parameters() if p.grad is not None] for b in self.method.trained.ends())
        ]
        # The one place where the host waits for the device: all of the step's scalars come over at once.
        scalars = [value for scalars in self._pending for value in scalars.values()]
        values = torch.stack([v.float() for v in (norm, *ends, *scalars)]).tolist()
        self.grad_norms = dict(zip(_NORMS, values[: len(_NORMS)], strict=True))
        del values[: len(_NORMS)]
        self._step_is_finite = math.isfinite(self.grad_norms["grad_norm"])
        for names in self._pending:
            pass_values = dict(zip(names, values[: len(names)], strict=True))
            del values[: len(names)]
            if math.isfinite(pass_values["loss"]):
                for name, value in pass_values.items():
                    self._sums[name] = self._sums.get(name, 0.0) + value
                    self._counts[name] = self._counts.get(name, 0) + 1
            else:
                self._step_is_finite = False
        self._pending.clear()
        self._micro_step = 0
        if not self._step_is_finite:
            # Without gradients the optimiser touches neither weights nor moments.
            for parameter in self.method.parameters():
                parameter.grad = None
            for buffer, before in zip(self._running(), self._running_before, strict=True):
                buffer.copy_(before)
        elif self.spec.optim.grad_clip > 0:
            if self.spec.optim.clip_norm == "tensor":
                clip_each(gradients, self.spec.optim.grad_clip)
            else:
                torch.nn.utils.clip_grads_with_norm_(self.method.parameters(), self.spec.optim.grad_clip, norm)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        step = self.global_step
        rate, decay = learning_rate(self.spec.optim, step), weight_decay(self.spec.optim, step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
            if group["decay"]:
                group["weight_decay"] = decay
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self._step_is_finite:
            self._skipped_in_a_row = 0
            # Here, not in a later hook: a checkpoint written by any callback must hold the result.
            done = step + 1
            with torch.no_grad():
                self.method.after_step(Progress(done, self.spec.optim.steps, done * self.spec.optim.batch_size))
            self.method.pending.clear()
            return
        self.method.pending.clear()
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise RsfmError(
                f"The loss or its gradient was not finite in {MAX_SKIPPED_IN_A_ROW} steps in a row (up to step "
                f"{step + 1}). Lower optim.base_lr, set optim.grad_clip, or use runtime.precision=fp32."
            )

    # -- what is logged --------------------------------------------------------------------------------------------
    def take_means(self) -> dict[str, float]:
        """Means of loss, parts and further scalars over the finite passes since the last call; empty without any."""
        means = {name: value / self._counts[name] for name, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    @property
    def between_steps(self) -> bool:
        """Whether the last forward pass ended an optimiser step (False inside an accumulation)."""
        return self._micro_step == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of the training, for features between steps."""
        return self.trainer.precision_plugin.forward_context()

    # -- checkpoints -----------------------------------------------------------------------------------------------
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rsfm"] = {
            "sums": dict(self._sums), "counts": dict(self._counts), "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self._skipped_in_a_row,
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["rsfm"]
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
        self.skipped_steps, self._skipped_in_a_row = state["skipped_steps"], state["skipped_in_a_row"]
