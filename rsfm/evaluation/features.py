"""Frozen features of one split of a pack at one severity: extracted once, then read from the workspace's cache."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rsfm.errors import RsfmError
from rsfm.evaluation.images import PackImages
from rsfm.models.export import FeatureModel
from rsfm.specs import spec_hash
from rsfm.workspace import Workspace

#: Raised whenever equal models and packs no longer give equal features.
CACHE_FORMAT = 5
#: Images per forward pass on a CPU, whatever the batch: more do not fit its caches and are slower.
_CPU_PIECE = 32


@dataclass(frozen=True)
class FeatureCache:
    """Features on disk, named by the hash of everything that decides them. May be deleted at any time."""

    workspace: Workspace

    def path(self, model: FeatureModel, images: PackImages, split: str, severity: float) -> Path:
        """Where the features lie. At native resolution no operator is applied, so none is in the name."""
        operator = images.operator
        native = severity == operator.identity
        name = spec_hash(
            {
                "format": CACHE_FORMAT, "model": model.key, "pack": images.pack.info.content_hash, "split": split,
                "operator": None if native else operator.operator_hash, "severity": None if native else float(severity),
                "bands": images.names, "layer": images.layer,
            }
        )  # fmt: skip
        return self.workspace.features / f"{name}.npy"

    def load(self, path: Path, shape: tuple[int, int]) -> np.ndarray | None:
        """The features, or None where there are none or not whole ones of that shape."""
        try:
            features = np.load(path, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        return features if features.shape == shape and features.dtype == np.float32 else None

    def save(self, path: Path, features: np.ndarray) -> None:
        """Written in one step: another job that evaluates the same model sees all of it or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.npy")
        try:
            np.save(temporary, features)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def extract(
    model: FeatureModel,
    images: PackImages,
    split: str,
    severity: float,
    *,
    cache: FeatureCache,
    device: str | torch.device,
    batch_size: int,
    after_batch: Callable[[int], None],
) -> np.ndarray:
    """(N, D) float32 features of a whole split, in the order of its rows.

    Args:
        after_batch: called with the number of images after each batch, or once with all of them on a cache hit; may
            raise to stop.

    Raises:
        RsfmError: the model gives features that are not finite.
    """
    count = images.pack.info.splits[split]
    path = cache.path(model, images, split, severity)
    cached = cache.load(path, (count, model.feature_dim))
    if cached is not None:
        after_batch(count)
        return cached
    # A probe on an encoder in training mode measures its dropout and drop path, not the encoder.
    assert not any(module.training for module in model.modules())
    features = np.empty((count, model.feature_dim), np.float32)
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        features[start:stop] = forward(model, images.read(split, slice(start, stop), severity), device)
        after_batch(stop - start)
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise RsfmError(
            f"Model {model.name} gives features that are not finite for {bad} of {count} images of {split!r} in pack "
            f"{images.pack.name!r}: its weights are damaged, or its training diverged."
        )
    cache.save(path, features)
    return features


@torch.no_grad()
def forward(model: FeatureModel, values: Tensor, device: str | torch.device) -> np.ndarray:
    """(B, C, H, W) values in the bands' unit to (B, D) features."""
    pieces = [values.to(device)] if torch.device(device).type != "cpu" else list(values.split(_CPU_PIECE))
    features = torch.cat([model.extract(piece) for piece in pieces])
    assert not features.requires_grad
    return features.cpu().numpy()
