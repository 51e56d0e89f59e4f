"""What every encoder of others looks like from outside, and timm's encoders behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rsfm.models.vit import pyramid_blocks


class Network(nn.Module):
    """An encoder of others.

    Attributes:
        feature_dim: length of the feature vector.
        fixed: whether images must have the size of training; else it is the least.
    """

    feature_dim: int
    fixed: bool = True

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, feature_dim)."""
        raise NotImplementedError

    def pyramid(self, x: Tensor) -> list[Tensor] | None:
        """(B, C, H, W) to maps (B, D, h, w), fine to coarse or all of one size; None: there are none."""
        return None

    @property
    def trainable(self) -> nn.Module:
        """What fine-tuning changes; knows its layers (`group_matcher`)."""
        return self


class TimmNetwork(Network):
    """A timm encoder without its classifier; also Scale-MAE, which is one with other positions."""

    def __init__(self, encoder: nn.Module, *, fixed: bool) -> None:
        super().__init__()
        # Twice as fast for convolutions on a CPU; the values stay the same.
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.fixed, self.feature_dim = fixed, encoder.head_hidden_size
        self._levels = _levels(encoder)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.contiguous(memory_format=torch.channels_last))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        return self.encoder.forward_intermediates(x, indices=self._levels, intermediates_only=True, output_fmt="NCHW")

    @property
    def trainable(self) -> nn.Module:
        return self.encoder


def _levels(encoder: nn.Module) -> int | list[int]:
    """Which of a timm encoder's outputs are maps: the last four stages; of a ViT, blocks spread evenly."""
    blocks = getattr(encoder, "blocks", None)
    plain = isinstance(blocks, nn.Sequential | nn.ModuleList) and hasattr(encoder, "patch_embed")
    return [number - 1 for number in pyramid_blocks(len(blocks))] if plain else 4
