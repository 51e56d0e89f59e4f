"""The optimiser of a spec, and clipping tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.optim import Lars
from torch import Tensor

from rsfm.methods.base import ParamGroup
from rsfm.specs import OptimParams


def build_optimizer(optim: OptimParams, groups: Sequence[ParamGroup]) -> torch.optim.Optimizer:
    """AdamW, SGD with momentum, or LARS (arXiv 1708.03888) with trust coefficient 0.001.

    LARS scales no group without weight decay (biases, norms), as in SimCLR.
    """
    settings = [
        {
            "params": group.parameters, "weight_decay": optim.weight_decay if group.decay else 0.0,
            "lr_scale": group.lr_scale, "decay": group.decay,
        }
        for group in groups
    ]  # fmt: skip
    if optim.optimizer == "adamw":
        return torch.optim.AdamW(settings, lr=optim.peak_lr, betas=(optim.beta1, optim.beta2), fused=True)
    if optim.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=optim.peak_lr, momentum=optim.beta1)
    return Lars(settings, lr=optim.peak_lr, momentum=optim.beta1)


def clip_each(gradients: Sequence[Tensor], largest: float) -> None:
    """Scale each gradient whose own norm exceeds `largest` down to it, in place (as DINO and iBOT do)."""
    norms = torch.stack(torch._foreach_norm(list(gradients)))
    factors = (largest / (norms + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(list(gradients), list(factors.unbind()))
