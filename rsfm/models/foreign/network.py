"""What every encoder of others looks like from outside, and timm's encoders behind it."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from timm.models.hiera import Hiera
from timm.models.hieradet_sam2 import HieraDet
from torch import Tensor, nn

from rsfm.models.vit import pyramid_blocks


class Network(nn.Module):
    """An encoder of others.

    Attributes:
        feature_dim: length of the feature vector.
        fixed: whether images must have the size of training; else it is the least.
        divisor: what the sides of its images must be multiples of, where they are not fixed.
    """

    feature_dim: int
    fixed: bool = True
    divisor: int = 1

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

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        # Twice as fast for convolutions on a CPU; the values stay the same.
        self.encoder = encoder.to(memory_format=torch.channels_last)
        self.feature_dim = encoder.head_hidden_size
        anywhere = getattr(encoder, "dynamic_img_size", False)
        self.fixed = not anywhere and bool(getattr(encoder, "pretrained_cfg", {}).get("fixed_input_size"))
        reductions = _reductions(encoder)
        self._plain = len(set(reductions)) == 1
        if anywhere or self._plain:  # convolutions cope with sides that their strides do not divide
            self.divisor = reductions[0]
        #: Four levels, evenly spread where all have one size; else the last stages, some networks have but three.
        self._levels = [n - 1 for n in pyramid_blocks(len(reductions))] if self._plain else min(4, len(reductions))
        #: Their final norm is one of pooled features, and timm refuses to norm maps with it.
        self._norms_last = not self._plain and not isinstance(encoder, Hiera | HieraDet)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x.contiguous(memory_format=torch.channels_last))

    def pyramid(self, x: Tensor) -> list[Tensor] | None:
        """The last map with the network's final norm, where that is a norm of maps and not of pooled features."""
        if not self._levels:
            return None
        x = x.contiguous(memory_format=torch.channels_last)
        options = {"indices": self._levels, "intermediates_only": True, "output_fmt": "NCHW"}
        # Of stages timm norms the last one; of a ViT it would norm every block.
        found = self.encoder.forward_intermediates(x, norm=self._norms_last, **options)
        if self._plain and hasattr(self.encoder, "blocks") and hasattr(self.encoder, "norm"):
            found[-1] = self.encoder.norm(found[-1].movedim(1, -1)).movedim(-1, 1).contiguous()
        return found

    @property
    def trainable(self) -> nn.Module:
        return self.encoder


def timm_encoder(architecture: str, **options: Any) -> nn.Module:
    """A timm encoder without its classifier, which takes images of any size where timm can: positions are resampled.

    Raises:
        TypeError, ValueError, AssertionError, RuntimeError: as `timm.create_model`.
    """
    try:
        return timm.create_model(architecture, num_classes=0, dynamic_img_size=True, **options)
    except TypeError:  # not an option of this architecture
        return timm.create_model(architecture, num_classes=0, **options)


def known_architectures(name: str) -> str:
    """What to do about a name that timm does not know, as the end of a sentence: similar names, or where all are."""
    base = name.partition(".")[0]
    near = timm.list_models(f"*{base}*")[:5] or difflib.get_close_matches(base, timm.list_models(), n=5)
    listing = 'python -c "import timm; print(*timm.list_models(), sep=chr(10))"'
    return f"similar names: {', '.join(near)}" if near else f"all names that it knows: {listing}"


def _reductions(encoder: nn.Module) -> list[int]:
    """By how much each map of a timm encoder is smaller than the image; none where timm knows of no maps."""
    info = getattr(encoder, "feature_info", None)
    if info is None or not hasattr(encoder, "forward_intermediates"):
        return []
    return info.reduction() if hasattr(info, "reduction") else [level["reduction"] for level in info]
