"""What a training run leaves in its folder while it runs: metrics, progress, checkpoints, previews, log lines."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from rsfm import alarms
from rsfm.data.source import Batch
from rsfm.methods.base import Panel, Views
from rsfm.registry import method as method_entry
from rsfm.specs import PretrainSpec
from rsfm.store.job import JobContext, Stopped
from rsfm.train.checkpoints import Checkpoints
from rsfm.train.module import PretrainModule
from rsfm.train.monitors import Monitors
from rsfm.train.previews import save_panel
from rsfm.train.schedules import learning_rate, weight_decay

_POLL_S = 0.3  # how often the control folder is looked at
_LOG_LINE_S = 5.0
_PREVIEW_IMAGES = 8


class Recorder(pl.Callback):
    """Writes through the job's context, and obeys its requests to stop or to save.

    Everything that depends on the step alone happens at the same steps in every attempt; everything that depends on
    time (progress, log lines, throughput) touches no number that the training uses.
    """

    def __init__(self, spec: PretrainSpec, context: JobContext, checkpoints: Checkpoints, monitors: Monitors) -> None:
        self.spec, self.context, self.checkpoints, self.monitors = spec, context, checkpoints, monitors
        self._last: dict[str, float] = {}  # newest values, for progress and log lines
        self._polled = 0.0
        self._said = -_LOG_LINE_S
        self._interval = _Interval()
        self._non_finite_said = False
        self._ringing: set[str] = set()
        self._first_share = float("nan")  # `top1_eigen_share` before the first step

    def state_dict(self) -> dict[str, Any]:
        """What alarms look at, so that a resumed run raises the same ones."""
        return {"last": dict(self._last), "ringing": sorted(self._ringing), "first_share": self._first_share}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._last, self._ringing = dict(state_dict["last"]), set(state_dict["ringing"])
        self._first_share = state_dict.get("first_share", 0.0)  # older checkpoints lack it; 0 keeps their rule

    # -- hooks -----------------------------------------------------------------------------------------------------
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, PretrainModule)
        if trainer.global_step == 0:
            batch, views = self._fixed_views(pl_module)
            self._panels([pl_module.method.views_panel(batch, views)], pl_module, 0)
            self._measure(pl_module, 0)
        self._progress(trainer.global_step)
        self._interval.restart(trainer.global_step, pl_module.wait.seconds)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, PretrainModule)
        if not pl_module.between_steps:
            return
        step, runtime = trainer.global_step, self.spec.runtime
        last = step == self.spec.optim.steps
        if step == 1:
            self._interval.restart(step, pl_module.wait.seconds)  # the first step warms up
        if step == 1 or last or step % runtime.log_every_steps == 0:
            self._log(pl_module, step)
        if last or step % runtime.monitor_every_steps == 0:
            with self._interval.paused():
                self._measure(pl_module, step)
        if last or step % runtime.checkpoint_every_steps == 0:
            with self._interval.paused():
                self._save(trainer, step)
        self._progress(step, force=last)
        self._obey(trainer, step)

    # -- parts -----------------------------------------------------------------------------------------------------
    def _log(self, module: PretrainModule, step: int) -> None:
        values = module.take_means()
        if not self._non_finite_said and values.get("non_finite_values"):
            self._non_finite_said = True
            print("The images hold values that are not finite; they count as the band's mean.", flush=True)
        values |= {
            "lr": learning_rate(self.spec.optim, step - 1), "weight_decay": weight_decay(self.spec.optim, step - 1),
            **module.grad_norms, "skipped_steps": float(module.skipped_steps),
        }  # fmt: skip
        values |= self._interval.rates(step, self.spec.optim.batch_size, module.wait.seconds)
        self._write(step, values)
        now = time.monotonic()
        if step == 1 or step == self.spec.optim.steps or now - self._said >= _LOG_LINE_S:
            self._said = now
            words = [f"step {step}/{self.spec.optim.steps}"]
            for name, form in (("loss", "{:.4f}"), ("knn", "{:.3f}"), ("lr", "{:.2e}"), ("throughput", "{:.0f}")):
                if name in self._last:
                    words.append(f"{name} {form.format(self._last[name])}")
            if "throughput" in self._last:
                words[-1] += " images/s"
            print(" · ".join(words), flush=True)

    def _write(self, step: int, values: dict[str, float]) -> None:
        self._last |= values
        self.context.metrics(step=step, samples=step * self.spec.optim.batch_size, values=values)

    @torch.no_grad()
    def _measure(self, module: PretrainModule, step: int) -> None:
        values = self.monitors.measure(module.method.encoder, module.device, module.autocast)
        if step == 0:
            self._first_share = values["top1_eigen_share"]
        known = {
            **self._last, **values, "feature_dim": float(module.method.encoder.feature_dim),
            alarms.STRANGERS: float(module.method.strangers), alarms.FIRST_SHARE: self._first_share,
        }  # fmt: skip
        without = method_entry(self.spec.method).no_alarms
        values |= alarms.evaluate(known, step / self.spec.optim.steps, but=without)
        self._say_alarms(self._last | values, step)
        self._write(step, values)
        _, views = self._fixed_views(module)
        training = module.method.training
        module.method.eval()
        with module.autocast():
            panels = module.method.previews(views)
        module.method.train(training)
        self._panels(panels, module, step)

    def _say_alarms(self, values: dict[str, float], step: int) -> None:
        ringing = {alarm.name for alarm in alarms.standing(values)}
        for name in sorted(ringing - self._ringing):
            alarm = alarms.ALARMS[name]
            print(f"Alarm at step {step}: {alarm.title}. {alarm.meaning} {alarm.advice}", flush=True)
        self._ringing = ringing

    @torch.no_grad()
    def _fixed_views(self, module: PretrainModule) -> tuple[Batch, Views]:
        """A few images and their views: the same images, crops and masks at every call."""
        subset = self.monitors.memory.index
        index = subset[np.linspace(0, len(subset) - 1, min(_PREVIEW_IMAGES, len(subset))).astype(np.int64)]
        stored = {name: source[index].to(module.device) for name, source in module.sources.items()}
        stored["index"] = torch.from_numpy(index).to(module.device)
        generator = torch.Generator(module.device)
        generator.manual_seed(0)
        batch = module.standardise(stored)
        return batch, module.method.views(batch, generator, module.progress)

    def _panels(self, panels: list[Panel | None], module: PretrainModule, step: int) -> None:
        bands = next(iter(module.sources.values())).input.bands
        for panel in panels:
            if panel is not None:
                path = save_panel(panel, bands, self.context.folder.path / "artifacts" / "previews", step)
                self.context.artifact(
                    path, kind="preview", title=panel.title, what=panel.what, step=step, caption=panel.caption
                )

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        self.checkpoints.save(step, lambda path: trainer.save_checkpoint(path))

    def _progress(self, step: int, *, force: bool = False) -> None:
        batch = self.spec.optim.batch_size
        live = {name: self._last[name] for name in ("loss", "knn", "throughput") if name in self._last}
        self.context.progress(
            step * batch, self.spec.optim.steps * batch, unit="samples", phase="pretraining", force=force, step=step,
            steps=self.spec.optim.steps, **live,
        )  # fmt: skip

    def _obey(self, trainer: pl.Trainer, step: int) -> None:
        now = time.monotonic()
        if now - self._polled < _POLL_S and not trainer.received_sigterm:
            return
        self._polled = now
        if self.context.stop_requested() or trainer.received_sigterm:
            self._save(trainer, step)
            self._progress(step, force=True)
            print(f"Stopping at step {step}: saved.", flush=True)
            raise Stopped
        if self.context.folder.requested("checkpoint"):
            with self._interval.paused():
                self._save(trainer, step)
            self.context.folder.clear_request("checkpoint")
            print(f"Saved at step {step} on request.", flush=True)


class _Interval:
    """Time of the training steps since the last log, without what happens in between."""

    def __init__(self) -> None:
        self.restart(0, 0.0)

    def restart(self, step: int, waited: float) -> None:
        self._start, self._step, self._waited, self._pause = time.perf_counter(), step, waited, 0.0

    def paused(self) -> _Pause:
        return _Pause(self)

    def add_pause(self, seconds: float) -> None:
        self._pause += seconds

    def rates(self, step: int, batch_size: int, waited: float) -> dict[str, float]:
        """Images per second, and the share of the time spent waiting for data; empty right after a start."""
        seconds = time.perf_counter() - self._start - self._pause
        steps = step - self._step
        share = (waited - self._waited) / seconds if seconds > 0 else 0.0
        self.restart(step, waited)
        return {"throughput": steps * batch_size / seconds, "data_wait_share": share} if steps > 0 else {}


class _Pause:
    def __init__(self, interval: _Interval) -> None:
        self.interval = interval

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.interval.add_pause(time.perf_counter() - self.start)
