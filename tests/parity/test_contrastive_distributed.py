"""Contrastive losses and BatchNorm in two processes equal those of one process on the joined batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from moco_world import small
from pair_world import build, generator, in_two_processes, smooth_images, views_of, wave
from torch import Tensor, nn

from rsfm.losses.contrastive import moco_v2, moco_v3, nt_xent
from rsfm.methods.base import Progress
from rsfm.models.norms import BatchNorm, MapBatchNorm

torch.set_num_threads(1)

QUEUE = torch.nn.functional.normalize(wave(6, 6, 0.45, 1), dim=1)
#: Loss of the features of two views (q1, q2, k1, k2), and how many of them get a gradient.
LOSSES: dict[str, tuple[Callable[..., Tensor], int]] = {
    "nt_xent": (lambda a, b, c, d: nt_xent(a, b, 0.2), 2),
    "moco_v2": (lambda a, b, c, d: moco_v2(a, d, QUEUE, 0.2), 1),
    "moco_v3": (lambda a, b, c, d: moco_v3(a, b, c, d, 0.2), 2),
}


def features() -> list[Tensor]:
    return [wave(8, 6, a, b).float() for a, b in ((0.7, 0.1), (0.5, 0.9), (0.6, -0.4), (0.9, 0.3))]


def weighted(out: Tensor) -> Tensor:
    """A loss that tells the rows of a process' part apart."""
    return (out * (torch.arange(len(out)) % 6 + 1).view(-1, *[1] * (out.ndim - 1))).sin().mean()


def batch_norm(values: Tensor, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> dict[str, Tensor]:
    """Output, gradient, statistics, and output in eval mode."""
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.5, 1.5, 5))
        layer.bias.copy_(torch.linspace(-0.5, 0.5, 5))
    mine = values.clone().requires_grad_()
    out = layer(mine)
    weighted(out).backward()
    layer.eval()
    return {
        "out": out.detach(), "gradient": mine.grad, "weight": layer.weight.grad, "mean": layer.running_mean,
        "variance": layer.running_var, "eval": layer(mine).detach(), "count": layer.num_batches_tracked,
    }  # fmt: skip


#: Input, our layer, torch's.
NORMS: dict[str, tuple[Tensor, type[nn.Module], type[nn.Module]]] = {
    "features": (3 + 2 * torch.randn(12, 5, generator=generator()), BatchNorm, nn.BatchNorm1d),
    "maps": (3 + 2 * torch.randn(12, 5, 3, 2, generator=generator()), MapBatchNorm, nn.BatchNorm2d),
}
IMAGES = smooth_images(16)
# Flat patches do not count, and one process has most of them: a mean of means would differ.
IMAGES[:6, :, :, :16] = 0
#: Method -> its settings. All views are of the whole batch; of `mae_contrastive`, one after the other.
METHODS: dict[str, dict[str, Any]] = {
    "simclr": {"temperature": 0.5},
    "moco_v3": {"projector_width": 48, "projection_dim": 16},
    "mae": {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
    "mae_contrastive": {
        "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2, "denoising_weight": 0.5, "crop_min_scale": 0.9,
        "gradients_every_steps": 0,
    },
}  # fmt: skip


def step_of(name: str, rank: int = 0, size: int = 1) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients on the rank-th part of the batch."""
    method = build(name, **METHODS[name])
    halves = 2 if name == "mae_contrastive" else 1
    mine = {
        key: torch.cat([half.chunk(size)[rank] for half in value.chunk(halves)]) if value.ndim else value
        for key, value in views_of(method, IMAGES).items()
    }
    loss = method.loss(mine).total
    loss.backward()
    return loss.item(), {key: p.grad for key, p in method.named_parameters() if p.grad is not None}


def queue_step(*halves: int) -> tuple[float, dict[str, Tensor], Tensor]:
    """Loss, gradients and queue of MoCo v2 on one or both halves of a batch, each of which is a BatchNorm group."""
    method = small(groups=len(halves), batch_size=8 * len(halves))
    rows = torch.cat([torch.arange(8) + 8 * half for half in halves])
    shuffled = torch.cat([torch.tensor([3, 0, 7, 1, 6, 2, 5, 4]) + 8 * place for place in range(len(halves))])
    loss = method.loss({"view1": IMAGES[rows], "view2": IMAGES[rows].flip(3), "order": shuffled}).total
    loss.backward()
    with torch.no_grad():
        method.after_step(Progress(1, 10, 16))
    return loss.item(), {key: p.grad for key, p in method.named_parameters() if p.grad is not None}, method.queue


def of_one_process(rank: int) -> dict:
    """Everything that needs a process group, in one go: starting processes takes far longer."""
    results: dict = {}
    for name, (loss_of, learn) in LOSSES.items():
        mine = [x.chunk(2)[rank].clone().requires_grad_(number < learn) for number, x in enumerate(features())]
        loss = loss_of(*mine)
        loss.backward()
        results[name] = loss.item(), [x.grad for x in mine[:learn]]
    for name, (values, ours, _) in NORMS.items():
        results[f"norm of {name}"] = batch_norm(values.chunk(2)[rank], ours(5))
    for name in METHODS:
        results[f"step of {name}"] = step_of(name, rank, 2)
    loss, gradients, queue = queue_step(rank)
    results["step of moco_v2"], results["queue of moco_v2"] = (loss, gradients), queue
    method = build("moco_v2", encoder={"layers": "resnet18"}, queue_size=32, batchnorm_groups=2)
    method.pending.append({"keys": torch.full((8, 128), float(rank))})
    method.after_step(Progress(1, 10, 16))
    results["queue"] = method.queue[:, 0], method.keys_seen
    dist.barrier()
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    return in_two_processes(of_one_process, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients(results, name):
    loss_of, learn = LOSSES[name]
    whole = [x.requires_grad_(number < learn) for number, x in enumerate(features())]
    loss = loss_of(*whole)
    loss.backward()
    assert sum(r[name][0] for r in results) / 2 == pytest.approx(loss.item(), rel=1e-6)
    for number in range(learn):
        # Gradients are averaged over the processes: each one's counts half.
        ours = torch.cat([r[name][1][number] for r in results]) / 2
        torch.testing.assert_close(ours, whole[number].grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm(results, name):
    values, _, torchs = NORMS[name]
    ours, theirs = [r[f"norm of {name}"] for r in results], batch_norm(values, torchs(5))
    for key in ("out", "eval"):
        torch.testing.assert_close(torch.cat([r[key] for r in ours]), theirs[key])
    torch.testing.assert_close(torch.cat([r["gradient"] for r in ours]) / 2, theirs["gradient"])
    torch.testing.assert_close(sum(r["weight"] for r in ours) / 2, theirs["weight"])
    for result in ours:
        for key in ("mean", "variance", "count"):
            torch.testing.assert_close(result[key], theirs[key])


@pytest.mark.parametrize("name", [*METHODS, "moco_v2"])
def test_steps_of_whole_methods(results, name):
    loss, gradients = queue_step(0, 1)[:2] if name == "moco_v2" else step_of(name)
    both = [r[f"step of {name}"] for r in results]
    assert sum(theirs for theirs, _ in both) / 2 == pytest.approx(loss, rel=1e-5)
    assert len(gradients) > 10
    for key, gradient in gradients.items():
        ours = sum(theirs[key] for _, theirs in both) / 2
        torch.testing.assert_close(ours, gradient, rtol=1e-3, atol=1e-5, msg=key)


def test_the_queue_takes_the_keys_of_all_processes_in_order(results):
    for result in results:
        torch.testing.assert_close(result["queue of moco_v2"], queue_step(0, 1)[2])
    for queue, seen in (r["queue"] for r in results):
        assert seen == 16
        assert queue[:16].tolist() == [0.0] * 8 + [1.0] * 8
        assert torch.equal(queue, results[0]["queue"][0])
