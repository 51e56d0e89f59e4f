"""Two processes, each with half of a batch, against one with the whole: DINO's and iBOT's loss, gradients and state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from distillation_world import make, part, views

from rsfm.losses.self_distillation import sinkhorn_targets
from rsfm.methods.base import Progress

CASES = [
    ("dino", {}), ("ibot", {}), ("ibot", {"patch_centre": "hidden", "shared_head": False}),
    ("ibot", {"centring": "sinkhorn"}),
    ("ibot", {"lambda_overlap": 1.0, "overlap_width": 8, "overlap_pool_width": 8}),
]  # fmt: skip


def one_step(name: str, params: dict, rank: int = 0, size: int = 1) -> dict[str, torch.Tensor]:
    """Loss, gradients (averaged as DDP does) and buffers after a step on this process' share of the batch."""
    method = make(name, **params, mask_ratios=[0.0, 0.5], mask_spreads=[0.0, 0.3]) if name == "ibot" else make(name)
    whole = views(method, 8)
    share = 8 // size
    total = method.loss(part(whole, slice(rank * share, (rank + 1) * share))).total
    total.backward()
    found = {"loss": total.detach().clone()}
    found |= {key: p.grad for key, p in method.named_parameters() if p.grad is not None}
    for value in found.values():
        if size > 1:
            dist.all_reduce(value)
            value /= size
    with torch.no_grad():
        method.after_step(Progress(1, 10, 8))
    return found | {key: value for key, value in method.named_buffers() if "centre" in key}


def uneven(rank: int = 0, size: int = 1) -> torch.Tensor:
    """Sinkhorn-Knopp where the processes hold 5 and 2 samples, and nothing and 7."""
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    mine = [x, x] if size == 1 else [x.split([5, 2])[rank], x.split([0, 7])[rank]]
    return torch.cat([sinkhorn_targets(m, 0.1) for m in mine])


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = [one_step(name, params, rank, 2) for name, params in CASES]
    torch.save({"cases": results, "uneven": uneven(rank, 2)}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_equal_one(ranks, number):
    name, params = CASES[number]
    torch.set_num_threads(1)
    alone = one_step(name, params)
    assert len(alone) > 20
    for rank in ranks:
        together = rank["cases"][number]
        assert together.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(together[key], value, atol=2e-6, rtol=1e-3, msg=lambda m, k=key: f"{k}: {m}")


def test_sinkhorn_balances_over_all_processes(ranks):
    whole = uneven()
    first, second = (rank["uneven"] for rank in ranks)
    torch.testing.assert_close(torch.cat([first[:5], second[:2]]), whole[:7])
    torch.testing.assert_close(torch.cat([first[5:], second[2:]]), whole[7:])
