"""Neighbours by features, and figures that say how far a map may be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

#: Neighbours of each sample that are kept.
K = 15
#: Samples that figures are taken over, at most: enough for about ± 0.01.
JUDGED = 2_000
#: Rows of the distance matrix at once.
_ROWS = 512


def nearest(
    features: np.ndarray, *, k: int = K, device: str | torch.device = "cpu", after_rows: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """For each row the nearest others by Euclidean distance, nearest first; exact.

    Args:
        features: (N, D) float32; k is lowered to N − 1.
        after_rows: called with the number of rows after each piece; may raise to stop.

    Returns:
        (N, k) int32 rows, (N, k) float32 distances.
    """
    # About their mean: distances stay, and the squares below lose no digits to a common offset.
    centred = features - features.mean(axis=0, dtype=np.float64)
    x = torch.from_numpy(np.ascontiguousarray(centred, np.float32)).to(device)
    k = min(k, len(x) - 1)
    squares = (x * x).sum(dim=1)
    rows, far = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
    for start in range(0, len(x), _ROWS):
        some = slice(start, min(start + _ROWS, len(x)))
        distance = squares[some, None] + squares - 2 * x[some] @ x.T
        own = torch.arange(some.start, some.stop, device=x.device)
        distance[own - start, own] = torch.inf
        found = distance.topk(k, largest=False)
        rows[some] = found.indices.cpu().numpy()
        far[some] = found.values.clamp(min=0).sqrt().cpu().numpy()
        after_rows(some.stop - start)
    return rows, far


def kept(neighbours: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(N,) float32: which share of the neighbours of before, (N, k) each, are neighbours still."""
    shared = np.sort(np.concatenate([neighbours, before], axis=1), axis=1)
    return ((shared[:, 1:] == shared[:, :-1]).sum(axis=1) / before.shape[1]).astype(np.float32)


def figures(
    features: np.ndarray, placed: np.ndarray, neighbours: np.ndarray, labels: np.ndarray | None, seed: int
) -> dict[str, float | int | None]:
    """How far the map may be read.

    Args:
        features: (N, D); placed: (N, 2); neighbours: (N, k), see `nearest`.
        labels: (N,) class indices, −1 where there is none; or None.

    Returns:
        preservation: mean share of the k nearest by features that are among the k nearest on the map;
        trustworthiness: of the map's k nearest (Venna and Kaski 2001; 1: no intruders), over the judged samples alone;
        silhouette_features, silhouette_map: of the classes (Rousseeuw 1987; −1 to 1), None without two classes;
        judged: the number of samples these were taken over; k.
    """
    from sklearn.manifold import trustworthiness
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    count, k = neighbours.shape
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(count, min(JUDGED, count), replace=False))
    near = NearestNeighbors(n_neighbors=k + 1).fit(placed).kneighbors(placed[rows], return_distance=False)
    # The sample itself is not its neighbour; among equal points it may not be first, or not be there at all.
    others = np.where(near == rows[:, None], -1, near)
    others = np.array([row[row >= 0][:k] for row in others])
    result: dict[str, float | int | None] = {
        "k": k, "judged": len(rows), "preservation": float(kept(others, neighbours[rows]).mean()),
        "trustworthiness": None, "silhouette_features": None, "silhouette_map": None,
    }  # fmt: skip
    few = min(k, (len(rows) - 1) // 2)
    if few >= 1:
        result["trustworthiness"] = float(trustworthiness(features[rows], placed[rows], n_neighbors=few))
    if labels is not None:
        known = rows[labels[rows] >= 0]
        if 2 <= len(np.unique(labels[known])) < len(known):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result["silhouette_features"] = float(silhouette_score(features[known], labels[known]))
                result["silhouette_map"] = float(silhouette_score(placed[known], labels[known]))
    return result
