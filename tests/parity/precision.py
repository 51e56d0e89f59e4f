"""Losses in bfloat16, beside those in float32."""

from __future__ import annotations

import torch

from rsfm.methods.base import Method, Views


def check_bf16(method: Method, views: Views) -> None:
    """Under autocast the loss is float32 all the same, and near what it is without."""
    with torch.no_grad():
        exact = method.loss(views).total
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = method.loss(views).total
    assert rounded.dtype == torch.float32
    assert abs(exact - rounded) < 1e-2
