"""Pretraining as a job: `run_job` trains, monitors, saves and exports; `dry_run` says beforehand whether it can."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch

from rsfm.device import granted_device, peak_memory
from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, model_folder
from rsfm.models.export import save_model
from rsfm.packs import Pack
from rsfm.registry import method as method_entry
from rsfm.specs import PretrainSpec
from rsfm.store.files import utc_now
from rsfm.store.job import JobContext
from rsfm.train.checkpoints import Checkpoints
from rsfm.train.module import PretrainModule
from rsfm.train.monitors import Monitors
from rsfm.train.recorder import Recorder
from rsfm.train.setup import (
    Setup,
    encoder_title,
    keep_freed_memory,
    lightning_precision,
    plain_attention,
    require_disk,
    set_up,
)


def run_job(spec: PretrainSpec, context: JobContext) -> None:
    """Train until done or asked to stop; an earlier attempt's last checkpoint is where it goes on.

    Raises:
        Stopped: on request; everything is saved.
        RsfmError: the spec cannot be carried out here, or the loss stayed non-finite.
    """
    device = granted_device(spec.runtime.device, context.device)
    torch.set_num_threads(spec.runtime.threads or context.threads)
    setup = set_up(spec, context.workspace)
    suit_device(spec, setup, device)
    require_disk(spec, setup.method, context.workspace)
    layer, source = next(iter(setup.sources.items()))
    _say_start(spec, setup, device)
    monitors = Monitors(setup.pack, source, spec.splits, layer, setup.method.encoder.feature_dim)
    if monitors.note:
        print(monitors.note, flush=True)
    checkpoints = Checkpoints(
        context.folder.path / "checkpoints", spec.runtime.keep_checkpoints, lambda line: print(line, flush=True)
    )
    resume = checkpoints.latest()
    _require_same_pack(context, setup.pack, resumed=resume is not None)
    if resume is not None:
        print(f"Resuming from {resume.name}.", flush=True)
    module = PretrainModule(spec, setup.method, setup.sources)
    with _quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, max_steps=spec.optim.steps,
            precision=lightning_precision(spec, device), accumulate_grad_batches=spec.optim.accumulate,
            callbacks=[Recorder(spec, context, checkpoints, monitors)], use_distributed_sampler=False,
            # The run folder's own writers do these.
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=context.folder.path,
        )  # fmt: skip
        trainer.fit(module, ckpt_path=resume, weights_only=True)
    where = "GPU memory" if device.type == "cuda" else "memory"
    print(f"Peak {where}: {peak_memory(device) / 1e9:.2f} GB.", flush=True)
    info = export(spec, context, setup, trainer.global_step, skipped_steps=module.skipped_steps)
    print(f"Model {info.name}: {info.feature_dim} features from {len(info.bands)} bands. Done.", flush=True)


def _require_same_pack(context: JobContext, pack: Pack, *, resumed: bool) -> None:
    """A run learns from one content: going on with another would belong to neither.

    Raises:
        RsfmError: the pack was replaced since the run began.
    """
    began_with = context.recall("pack")
    if resumed and began_with is not None and began_with != pack.info.content_hash:
        raise RsfmError(
            f"Pack {pack.name!r} was replaced since this run began (content {began_with}, now "
            f"{pack.info.content_hash}): it cannot go on. Prepare the former data again, or start a new run."
        )
    context.remember("pack", pack.info.content_hash)


def export(spec: PretrainSpec, context: JobContext, setup: Setup, step: int, *, skipped_steps: int = 0) -> ModelInfo:
    """Write the encoder to `models/<run_id>` of the workspace.

    Raises:
        RsfmError: the training diverged (most steps were skipped, or a weight is not finite).
    """
    encoder = setup.method.encoder
    decoder = setup.method.pair_decoder
    exported = [encoder] if decoder is None else [encoder, decoder]
    broken = sum(not bool(torch.isfinite(t).all()) for part in exported for t in part.state_dict().values())
    if broken or skipped_steps > step / 2:
        raise RsfmError(
            f"The training diverged: {skipped_steps} of {step} steps had no finite loss or gradient, {broken} of the "
            "model's tensors are not finite. Nothing was exported. Lower optim.base_lr or set optim.grad_clip."
        )
    source = next(iter(setup.sources.values())).input
    envelope = context.folder.envelope()
    pack = setup.pack.info
    title = f"{method_entry(spec.method).label} {encoder_title(spec)} · {pack.title or pack.name}"
    info = ModelInfo(
        name=context.folder.id, title=title, architecture=encoder.architecture, encoder=encoder.config(),
        image_size=encoder.image_size, feature_dim=encoder.feature_dim, pooling=encoder.pooling, bands=source.bands,
        sensor=source.sensor, gsd_m=source.gsd_m, method=spec.method, run_id=context.folder.id,
        group=envelope["group"], seed=spec.seed, step=step, samples=step * spec.optim.batch_size,
        trained_on=pack.name, trained_on_hash=pack.content_hash, synthetic=pack.synthetic, weights_hash="",
        created=utc_now(),
    )  # fmt: skip
    folder = model_folder(context.workspace, context.folder.id)
    return save_model(folder, encoder, info, decoder)


def suit_device(spec: PretrainSpec, setup: Setup, device: torch.device) -> None:
    """Settings of this process that make a device faster; results stay the same up to rounding."""
    if device.type == "cpu":
        keep_freed_memory()
        if lightning_precision(spec, device) == "bf16-mixed":
            plain_attention(setup.method)


def _say_start(spec: PretrainSpec, setup: Setup, device: torch.device) -> None:
    source = next(iter(setup.sources.values()))
    parameters = sum(p.numel() for p in setup.method.parameters())
    print(
        f"{method_entry(spec.method).title} on {setup.pack.name}: {len(source)} images, "
        f"{len(source.input.bands)} bands, {setup.method.encoder.image_size} px; {parameters / 1e6:.2f} M parameters; "
        f"{spec.optim.steps} steps of {spec.optim.batch_size} on {device.type}.",
        flush=True,
    )
    for remark in setup.method.remarks:
        print(remark, flush=True)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's advertisements and without its advice on data loaders, which are ours."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
