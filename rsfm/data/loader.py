"""Batches without end, and how long the training waited for them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rsfm.data.sampler import EndlessBatchSampler
from rsfm.data.source import PackSource

StoredBatch = dict[str, Tensor]  # layer -> (B, C, H, W) stored values; "index" -> (B,) int64


class _Batches(Dataset[StoredBatch]):
    """One item is one whole batch: a list of indices in, stored tensors out."""

    def __init__(self, sources: Mapping[str, PackSource]) -> None:
        self.sources = sources

    def __getitem__(self, indices: np.ndarray) -> StoredBatch:
        batch: StoredBatch = {name: source[indices] for name, source in self.sources.items()}
        batch["index"] = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return batch


@dataclass
class WaitTimer:
    """Seconds that the training spent waiting for a batch."""

    seconds: float = field(default=0.0)


@dataclass
class TimedLoader:
    """An iterable of batches that adds each wait to `timer`."""

    batches: Iterable[StoredBatch]
    timer: WaitTimer

    def __iter__(self) -> Iterator[StoredBatch]:
        iterator = iter(self.batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.timer.seconds += time.perf_counter() - start
            yield batch


@dataclass
class _InProcess:
    batches: _Batches
    sampler: EndlessBatchSampler

    def __iter__(self) -> Iterator[StoredBatch]:
        for indices in self.sampler:
            yield self.batches[indices]


def train_loader(
    sources: Mapping[str, PackSource], sampler: EndlessBatchSampler, *, workers: int, pin_memory: bool, timer: WaitTimer
) -> TimedLoader:
    """Endless batches of stored values.

    Args:
        workers: 0 reads in this process (right for packs in memory: a batch is one copy), else that many processes.
            The order is the sampler's in both cases.
    """
    batches = _Batches(sources)
    if workers == 0:
        return TimedLoader(_InProcess(batches, sampler), timer)
    # batch_size=None: the sampler's items are whole batches already.
    loader = DataLoader(
        batches, sampler=sampler, batch_size=None, num_workers=workers, pin_memory=pin_memory, prefetch_factor=4
    )
    return TimedLoader(loader, timer)
