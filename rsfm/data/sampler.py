"""An endless stream of batches whose order is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EndlessBatchSampler(Sampler[np.ndarray]):
    """Batches of sample indices, one random permutation of the data after the other, without end.

    The stream is the epochs' permutations laid end to end and cut into batches; a batch may cross from one epoch
    into the next, so none is short. Starting at batch k gives what an uninterrupted stream would give from there.

    Args:
        count: number of samples.
        batch_size: samples per batch and rank.
        start: batch to begin with.
        rank, world: this process's share: rank r takes positions r, r + world, … of each global batch.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, *, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if count < 1:
            raise ValueError("an endless sampler needs at least one sample")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.start, self.rank, self.world = start, rank, world

    def permutation(self, epoch: int) -> np.ndarray:
        """(count,) int64: the order of one epoch."""
        return np.random.Generator(np.random.Philox([self.seed, epoch])).permutation(self.count)

    def __iter__(self) -> Iterator[np.ndarray]:
        size = self.batch_size * self.world
        epoch, offset = divmod(self.start * size, self.count)
        order = self.permutation(epoch)
        while True:
            parts = []
            missing = size
            while missing:
                taken = order[offset : offset + missing]
                parts.append(taken)
                missing -= len(taken)
                offset += len(taken)
                if offset == self.count:
                    epoch, offset = epoch + 1, 0
                    order = self.permutation(epoch)
            yield np.concatenate(parts)[self.rank :: self.world]
