"""The head of DINO (arXiv 2104.14294) and iBOT (arXiv 2111.07832): features to similarities with learned prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def init_truncated(module: nn.Module) -> None:
    """Weights of linear layers from a normal of σ = 0.02, cut at two units; zero biases. For `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Prototypes(nn.Module):
    """Similarities of unit vectors with K learned directions: a bias-free linear layer with weight normalisation.

    Args:
        free_gain: whether each prototype's gain is learned; else it stays 1 and the outputs are cosines.
    """

    def __init__(self, width: int, count: int, *, free_gain: bool = False) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.empty(count, width))
        # As a linear layer starts; only the direction of each row matters.
        nn.init.uniform_(self.directions, -(width**-0.5), width**-0.5)
        self.gain = nn.Parameter(torch.ones(count)) if free_gain else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) unit vectors to (..., K) float32 logits."""
        # Divided by a temperature of 0.04, the rounding of bf16 would be a third of a nat.
        with torch.autocast(x.device.type, enabled=False):
            weights = F.normalize(self.directions, dim=-1)
            if self.gain is not None:
                weights = weights * self.gain.unsqueeze(-1)
            return F.linear(x.float(), weights)


class DINOHead(nn.Module):
    """Three linear layers with GELU between them, unit vectors, then prototypes for images and for patches.

    The linear layers serve both kinds of token; no batch normalisation.

    Args:
        width: of the incoming tokens.
        shared: one set of prototypes for both; else patches have their own.
    """

    def __init__(
        self, width: int, prototypes: int, *, hidden: int = 2048, bottleneck: int = 256, free_gain: bool = False,
        shared: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.mlp.apply(init_truncated)
        self.prototypes = Prototypes(bottleneck, prototypes, free_gain=free_gain)
        self.own_patch_prototypes = None if shared else Prototypes(bottleneck, prototypes, free_gain=free_gain)

    @property
    def patch_prototypes(self) -> Prototypes:
        return self.own_patch_prototypes or self.prototypes

    def embed(self, tokens: Tensor) -> Tensor:
        """(..., width) tokens to (..., bottleneck) unit vectors, float32."""
        return F.normalize(self.mlp(tokens).float(), dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) class tokens to (..., K) logits."""
        return self.prototypes(self.embed(tokens))
