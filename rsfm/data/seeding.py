"""Randomness as a function of where it is used, so that stopping and resuming changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from a list of numbers and words; nearby inputs give unrelated seeds."""
    text = "/".join(str(p) for p in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


@contextmanager
def from_seed(seed: int | None) -> Iterator[None]:
    """What is initialised inside is a function of `seed`, and the global random state of the CPU stays as it was;
    None: it draws from that state."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def seeded(*parts: int | str) -> AbstractContextManager[None]:
    """`from_seed` of a list of numbers and words."""
    return from_seed(derive_seed(*parts))


def step_generator(device: torch.device, seed: int, micro_step: int, rank: int = 0) -> torch.Generator:
    """Set the global random state (CPU and device) for one forward pass, and return a generator for its views.

    Dropout and the like draw from the global state; views draw from the generator. Both depend on
    (seed, micro_step, rank) only.
    """
    torch.manual_seed(derive_seed("global", seed, micro_step, rank))  # all CUDA devices too
    generator = torch.Generator(device)
    generator.manual_seed(derive_seed("views", seed, micro_step, rank))
    return generator
