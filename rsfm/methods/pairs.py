"""What methods that compare two views of an image share."""

from __future__ import annotations

from torch import Tensor

from rsfm.errors import RsfmError
from rsfm.methods.base import Panel, Views
from rsfm.specs import PretrainSpec


def require_others(spec: PretrainSpec) -> list[str]:
    """Check that an image has others to be compared with in one forward pass.

    Returns:
        A remark where a pass is less than the batch.

    Raises:
        RsfmError: one image per pass.
    """
    size = spec.optim.images_per_pass
    if size < 2:
        raise RsfmError(
            f"{spec.method} compares the images of one forward pass, but optim.batch_size {spec.optim.batch_size} and "
            f"optim.accumulate {spec.optim.accumulate} leave one image per pass. Use a larger batch."
        )
    if spec.optim.accumulate == 1:
        return []
    return [
        f"Negatives come from one forward pass: {size} images at a time, not the {spec.optim.batch_size} of a step."
    ]


def pair_panel(stored: Tensor, views: Views) -> Panel:
    """What is stored beside both views (`view1`, `view2`)."""
    return Panel(
        "views", "First batch", [("stored", stored), ("view 1", views["view1"]), ("view 2", views["view2"])],
        caption="What is stored, and the two augmented views that the model must recognise as the same image.",
    )  # fmt: skip
