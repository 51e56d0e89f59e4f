"""A lab whose evaluations left predictions of real samples of its packs: right as they are, wrong when degraded.

python tests/app/flipped.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from comparison_world import evaluated, right
from lab import score_change
from lab_packs import CLASSES, make_pack, make_pairs

from rsfm.packs import Pack
from rsfm.workspace import Workspace

#: Severity -> how many of the 20 test samples are predicted as the next class.
WRONG = {1.0: 2, 2.0: 4, 4.0: 9, 8.0: 14}


def make_flipped(root: Path, *, classes: list[str] | None = None, title: str = "MAE vit-nano") -> Workspace:
    """A pack of scenes and one of pairs; a model with two model seeds and three evaluation seeds, and a weaker one."""
    workspace = Workspace(root)
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True, exist_ok=True)
    info = make_pack(workspace, "scenes", synthetic=True, classes=classes)
    samples = Pack.named(workspace, "scenes").split_samples("test")
    labels, ids = samples["label_index"].to_numpy(int), samples["id"].to_numpy()
    bands = ",".join(b.name for b in info.layers[0].bands)
    for group, more, model_seeds in (("mae", 0, (0, 1)), ("random:vit-nano", 3, (0,))):
        for model_seed in model_seeds:
            order = np.random.default_rng(model_seed).permutation(len(labels))
            found = {
                ("knn", severity, seed): _wrong(labels, order, min(wrong + more + seed, len(labels)))
                for severity, wrong in WRONG.items() for seed in range(3)
            }  # fmt: skip
            for severity in WRONG:
                part = {key: value for key, value in found.items() if key[1] == severity}
                evaluated(
                    workspace, group, {key: right(value == labels) for key, value in part.items()}, ids=ids,
                    labels=labels, predicted=part, title=title if group == "mae" else "Random ViT-nano",
                    model_seed=model_seed, dataset=info.name, pack_hash=info.content_hash, synthetic=True,
                    bands=bands, gsd_m=30.0 * severity,
                )  # fmt: skip
    pairs = make_pairs(workspace, "villages", 14, split="test")
    score_change(workspace, pairs, "mae", title, {1: 0.9, 4: 0.4}, adaptation="decoder", seeds=2, n=14)
    return workspace


def _wrong(labels: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """The labels, but `count` of them, in that order, are taken for the next class."""
    found = labels.copy()
    found[order[:count]] = (found[order[:count]] + 1) % len(CLASSES)
    return found


if __name__ == "__main__":
    print(make_flipped(Path(sys.argv[1])).root)
