"""Is the representation alive? Collapse monitors and an online kNN score on a fixed subset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rsfm.data.seeding import derive_seed
from rsfm.data.source import PackSource, Standardiser
from rsfm.data.views import resize
from rsfm.evaluation.heads import knn_predict
from rsfm.models.vit import Encoder
from rsfm.packs import Pack


def std_l2(features: Tensor) -> float:
    """Mean over dimensions of the standard deviation of ℓ2-normalised features (n, d).

    Healthy is about 1/√d; far below it, all images look alike (constant collapse).
    """
    return F.normalize(features.double(), dim=1).std(dim=0).mean().item()


def rankme(features: Tensor) -> float:
    """exp(−Σ p ln p) with p = σ / Σσ + 1e-7 over the singular values of (n, d) features (arXiv 2210.02885)."""
    values = torch.linalg.svdvals(features.double())
    total = values.sum()
    if total == 0:
        return 1.0
    p = values / total + 1e-7
    return torch.exp(-(p * p.log()).sum()).item()


def top1_eigen_share(features: Tensor) -> float:
    """Share of the variance of (n, d) features along their first principal axis; near 1: dimensional collapse."""
    centred = features.double() - features.double().mean(dim=0)
    values = torch.linalg.svdvals(centred).square()
    total = values.sum()
    return (values[0] / total).item() if total > 0 else 1.0


def knn_accuracy(
    memory: Tensor, memory_labels: Tensor, queries: Tensor, labels: Tensor, *, k: int = 20, temperature: float = 0.07
) -> float:
    """Accuracy of `rsfm.evaluation.heads.knn_predict` with at most as many neighbours as there are."""
    classes = int(memory_labels.max()) + 1
    predicted, _ = knn_predict(
        memory, memory_labels, queries, classes=classes, k=min(k, len(memory)), temperature=temperature
    )
    return (predicted == labels).float().mean().item()


def standardised(memory: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Both standardised per dimension with the memory's mean and deviation.

    A few dimensions of huge variance, common in masked autoencoders, otherwise decide every distance
    (arXiv 2401.00463).
    """
    std, mean = torch.std_mean(memory, dim=0)
    std = torch.where(std > 0, std, 1.0)
    return (memory - mean) / std, (queries - mean) / std


def collapse_monitors(features: Tensor) -> dict[str, float]:
    """All monitors of one (n, d) feature matrix; NaN where a feature is not finite."""
    names = ("std_l2", "rankme", "rankme_centered", "top1_eigen_share")
    if not torch.isfinite(features).all():
        return dict.fromkeys(names, float("nan"))
    centred = features - features.mean(dim=0)
    values = (std_l2(features), rankme(features), rankme(centred), top1_eigen_share(features))
    return dict(zip(names, values, strict=True))


def _subset(count: int, size: int, name: str) -> np.ndarray:
    """The same subset in every run on a pack, whatever its seed."""
    order = np.random.default_rng(derive_seed("monitor", name)).permutation(count)
    return np.sort(order[:size])


@dataclass
class _Images:
    """Standardised images of the subset, as stored on the CPU; labels where there are any."""

    source: PackSource
    index: np.ndarray
    labels: Tensor | None = None


class Monitors:
    """Features of fixed subsets under the encoder as it is.

    The subset of the training data has 512 images, or two per feature dimension where that is more. Where the pack
    has scene labels, it is also the kNN's memory, and 256 images of `val` (else `test`) are the queries. RankMe and
    kNN compare between runs only on equal numbers of images: between encoders of one width.

    Args:
        in_memory: of the queries, as in `PackSource`.
    """

    def __init__(
        self, pack: Pack, source: PackSource, splits: list[str], layer: str, feature_dim: int, *,
        in_memory: bool | None = None,
    ) -> None:  # fmt: skip
        self.standardiser = Standardiser(source)
        labelled = pack.info.task == "classification"
        held_out = next((s for s in ("val", "test") if pack.info.splits.get(s, 0) and s not in splits), None)
        self.queries: _Images | None = None
        self.note = ""
        labels = np.concatenate([pack.label_indices(s) for s in splits]) if labelled else None
        if labels is not None and held_out is not None and (labels >= 0).any():
            names = [b.name for b in source.input.bands]
            queries = PackSource(pack, [held_out], layer, names, in_memory=in_memory)
            index = _subset(len(queries), 256, "queries")
            self.queries = _Images(queries, index, torch.from_numpy(pack.label_indices(held_out)[index]))
        elif labels is not None:
            self.note = "No online kNN: the pack has labels, but no val or test split besides the training's."
        index = _subset(len(source), max(512, 2 * feature_dim), "memory")
        self.memory = _Images(source, index, None if labels is None else torch.from_numpy(labels[index]))

    def take_fewer(self, most: int) -> None:
        """Measure at most so many images of each subset: enough to see what it takes."""
        self.memory.index = self.memory.index[:most]
        if self.memory.labels is not None:
            self.memory.labels = self.memory.labels[:most]
        if self.queries is not None:
            assert self.queries.labels is not None
            self.queries.index, self.queries.labels = self.queries.index[:most], self.queries.labels[:most]

    @torch.no_grad()
    def _features(
        self, encoder: Encoder, images: _Images, device: torch.device, autocast: Callable[[], torch.autocast]
    ) -> Tensor:
        standardiser = self.standardiser.to(device)
        chunks = []
        for start in range(0, len(images.index), 128):
            stored = images.source[images.index[start : start + 128]].to(device)
            x = resize(standardiser(stored)[0], encoder.image_size)
            with autocast():
                chunks.append(encoder.features(x).float())
        return torch.cat(chunks)

    def measure(
        self, encoder: Encoder, device: torch.device, autocast: Callable[[], torch.autocast]
    ) -> dict[str, float]:
        """Values by metric name; leaves the encoder's mode as it was and draws no random number."""
        training = encoder.training
        encoder.eval()
        try:
            memory = self._features(encoder, self.memory, device, autocast)
            values = collapse_monitors(memory.cpu())
            if self.queries is not None and torch.isfinite(memory).all():
                queries = self._features(encoder, self.queries, device, autocast)
                assert self.memory.labels is not None and self.queries.labels is not None
                known, wanted = self.memory.labels.to(device), self.queries.labels.to(device)
                values["knn"] = knn_accuracy(memory, known, queries, wanted)
                memory, queries = standardised(memory, queries)
                values["knn_standardised"] = knn_accuracy(memory, known, queries, wanted)
        finally:
            encoder.train(training)
        return values
