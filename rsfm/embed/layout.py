"""From features to two dimensions: UMAP (arXiv 1802.03426) on exact neighbours, and principal components. Seeded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np

Progress = Callable[[int, int], None]


def normalised(features: np.ndarray, metric: str) -> np.ndarray:
    """(N, D) features in which Euclidean distance orders as `metric` does: cosine → vectors of length 1."""
    if metric == "euclidean":
        return features
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def principal(features: np.ndarray, seed: int) -> tuple[np.ndarray, list[float]]:
    """(N, 2) float32: the first two principal components, and the share of the variance that each explains."""
    from sklearn.decomposition import PCA

    pca = PCA(2, random_state=seed)
    placed = pca.fit_transform(features)
    return placed.astype(np.float32), [float(share) for share in np.nan_to_num(pca.explained_variance_ratio_)]


def umap_layout(
    start: np.ndarray,
    indices: np.ndarray,
    distances: np.ndarray,
    *,
    min_dist: float,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    """(N, 2) float32 positions.

    Args:
        start: (N, 2) where the points begin: their principal components, which keeps the overall shape.
        indices, distances: (N, k) of the nearest others, nearest first, see `rsfm.embed.quality.nearest`.
        progress: called with (epochs done, of how many); may raise to stop.
    """
    import umap

    own = np.arange(len(start), dtype=indices.dtype)[:, None]  # UMAP counts a point as its own first neighbour
    known = (np.concatenate([own, indices], axis=1), np.pad(distances, ((0, 0), (1, 0))))
    spread = start.std(axis=0).max() or 1.0
    with warnings.catch_warnings():
        # That a seed means one thread, and given neighbours no later `transform`, is what we ask for.
        warnings.simplefilter("ignore")
        reducer = umap.UMAP(
            n_neighbors=known[0].shape[1], min_dist=min_dist, metric="euclidean", init=start * (10 / spread),
            random_state=seed, n_jobs=1, precomputed_knn=known, force_approximation_algorithm=True,
            tqdm_kwds={
                "disable": False, "file": _Told(progress), "bar_format": "{n_fmt}/{total_fmt}", "mininterval": 0.5,
            },
        )  # fmt: skip
        placed = reducer.fit_transform(start)
    return np.asarray(placed, np.float32)


class _Told:
    """A file for tqdm: what it writes is read as progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def write(self, text: str) -> int:
        if found := re.search(r"(\d+)/(\d+)", text):
            self.progress(int(found[1]), int(found[2]))
        return len(text)

    def flush(self) -> None:
        pass
