"""One batch through an encoder and a trained head: what is not finite is refused.

The class of a NaN is the first one, and may well score like one that was learnt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rsfm.degrade import severity_text
from rsfm.errors import RsfmError
from rsfm.evaluation.batches import Batch, LabelledImages
from rsfm.evaluation.images import PackImages, Rows
from rsfm.evaluation.networks import TaskNetwork, autocast


@torch.no_grad()
def outputs(
    network: TaskNetwork, batch: Batch, images: LabelledImages, split: str, rows: Rows, severity: float, precision: str
) -> tuple[list[list[Tensor]], Tensor]:
    """What the encoder makes of each image of a batch (see `TaskNetwork.encoded`), and the logits in float32.

    Args:
        split, rows, severity: what the batch is of.

    Raises:
        RsfmError: not finite; says for which samples.
    """
    what = images.what
    with autocast(precision, network.model.mean.device):
        encoded = network.encoded(batch.images)
        for layer, levels in zip(images.layers, encoded, strict=True):
            level = severity if what.degraded(layer.layer) else what.operator.identity
            require_finite(levels, layer, split, rows, level, network.model.name)
        logits = network(encoded, batch.target.shape[-2:]).float()
    _require(
        [logits], images.layers[0], split, rows, severity,
        f"The trained head on model {network.model.name} gives values",
        "Its training diverged: lower fit.lr, or set fit.grad_clip=1.",
    )  # fmt: skip
    return encoded, logits


def require_finite(
    levels: Sequence[Tensor], images: PackImages, split: str, rows: Rows, severity: float, model: str
) -> None:
    """Refuse what an encoder gives for these images, (B, …) each.

    Raises:
        RsfmError: not finite; says for which of them.
    """
    _require(
        levels, images, split, rows, severity, f"Model {model} gives features",
        "Its weights are damaged, its training diverged, or it cannot take such images: evaluate another checkpoint, "
        "or leave that severity out.",
    )  # fmt: skip


def _require(
    values: Sequence[Tensor], images: PackImages, split: str, rows: Rows, severity: float, what: str, advice: str
) -> None:
    finite = torch.stack([torch.isfinite(value).flatten(1).all(dim=1) for value in values]).all(dim=0)
    if finite.all():
        return
    bad, operator = images.ids(split)[rows][~finite.cpu().numpy()], images.operator
    level = "not degraded" if severity == operator.identity else severity_text(operator.name, severity)
    raise RsfmError(
        f"{what} that are not finite for {len(bad)} of {len(finite)} images of {split!r} in pack "
        f"{images.pack.name!r} ({level}), the first of them {str(bad[0])!r}. {advice}"
    )
