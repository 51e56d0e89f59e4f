"""What can be asked of a labelled pack: its task, the ways to adapt an encoder to it, and how it is scored.

No torch: pages and forms read this too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Adaptation = Literal["knn", "centroid", "linear", "decoder", "finetune"]

#: Adaptation -> what it is called, and what is trained.
ADAPTATIONS: dict[str, tuple[str, str]] = {
    "knn": ("kNN", "nothing is trained: the nearest training images vote"),
    "centroid": ("Nearest class mean", "nothing is trained: the nearest mean of a class's training images decides"),
    "linear": ("Linear probe", "a linear layer on frozen features"),
    "decoder": ("Frozen encoder + decoder", "a UPerNet decoder on frozen features"),
    "finetune": ("Fine-tuning", "the encoder and its head, with a smaller learning rate for early layers"),
}


@dataclass(frozen=True)
class Task:
    """One kind of labels.

    Attributes:
        dense: labels are maps; otherwise one label, or one set of labels, per image.
        pairs: two images per sample, an earlier and a later one.
        metrics: names in `rsfm.metrics.METRICS`, the primary one first.
        adaptations: what is possible; usual: what is done where nothing is said.
    """

    name: str
    title: str
    dense: bool
    pairs: bool
    metrics: tuple[str, ...]
    adaptations: tuple[Adaptation, ...]
    usual: tuple[Adaptation, ...]

    def trains(self, adaptation: str) -> bool:
        """Whether the adaptation is trained by gradient steps; otherwise it is solved on stored features."""
        return self.dense or adaptation == "finetune"

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the image layers in a pack."""
        return ("image_pre", "image_post") if self.pairs else ("image",)

    @property
    def degrade_target(self) -> str:
        """Which image is degraded where nothing is said: of a pair the later one (arXiv 2510.17014)."""
        return "post" if self.pairs else "single"


TASKS: dict[str, Task] = {
    t.name: t
    for t in (
        Task(
            "classification", "Scene classification", False, False, ("accuracy",),
            ("knn", "centroid", "linear", "finetune"),
            ("knn", "linear"),
        ),
        Task(
            "multilabel", "Multi-label classification", False, False, ("micro_f1", "macro_f1", "mean_ap"),
            ("knn", "linear", "finetune"), ("knn", "linear"),
        ),
        Task(
            "segmentation", "Semantic segmentation", True, False, ("mean_iou", "overall_accuracy"),
            ("linear", "decoder", "finetune"), ("decoder",),
        ),
        Task(
            "change", "Change detection", True, True, ("f1", "iou", "precision", "recall"),
            ("linear", "decoder", "finetune"), ("decoder",),
        ),
    )
}  # fmt: skip
