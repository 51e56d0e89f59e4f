"""Uniform random masking, each sample on its own (arXiv 2111.06377)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def visible_count(tokens: int, ratio: float) -> int:
    """floor(N (1 − r)): how many tokens stay visible."""
    # The small term keeps 10 · (1 − 0.9) from becoming 0.999….
    return math.floor(tokens * (1 - ratio) + 1e-9)


def uniform_mask(batch: int, tokens: int, ratio: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hide a random subset of the tokens, of exactly the same size in every sample.

    Returns:
        keep: (B, K) int64 positions of the visible tokens, ascending, K = floor(N (1 − r)).
        hidden: (B, N − K) int64 positions of the others, ascending.
    """
    noise = torch.rand(batch, tokens, generator=generator, device=generator.device)
    order = noise.argsort(dim=1)
    count = visible_count(tokens, ratio)
    return order[:, :count].sort(dim=1).values, order[:, count:].sort(dim=1).values
