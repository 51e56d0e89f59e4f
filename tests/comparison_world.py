"""Evaluations with predictions, for tests of comparisons: run folders as `rsfm evaluate` leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from store_world import begin, finish, score

from rsfm.metrics import METRICS
from rsfm.specs import EvaluateSpec
from rsfm.store.runs import RunFolder, create_run
from rsfm.workspace import Workspace

SEVERITIES = (1.0, 2.0, 4.0, 8.0)
Counts = Mapping[tuple[str, float, int], np.ndarray]  # (adaptation, severity, evaluation seed) -> (n, k)


def evaluated(
    workspace: Workspace,
    group: str,
    counts: Counts,
    *,
    metric: str = "accuracy",
    ids: np.ndarray | None = None,
    scenes: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    predicted: Mapping[tuple[str, float, int], np.ndarray] | None = None,
    old: bool = False,
    **row: Any,
) -> RunFolder:
    """One evaluation of one model on one pack, finished.

    Args:
        counts: of each sample.
        ids: of the samples; their numbers where left out. scenes: names of what they are parts of.
        labels: class indices; predicted: those that were found, with the keys of `counts`.
        old: the table as it was before it held counts (accuracy only).
        row: what differs from `store_world.score`; "title" for the model's title.
    """
    run = create_run(workspace, EvaluateSpec(model=row.get("model", group), dataset=row.get("dataset", "pack")))
    job = begin(run)
    shared = {"model": group, "model_group": group, "model_title": row.pop("title", group.upper()), "metric": metric}
    rows, frames = [], []
    for (adaptation, severity, seed), part in counts.items():
        value = float(METRICS[metric].of(part.sum(axis=0)))
        setting = {"adaptation": adaptation, "severity": severity, "eval_seed": seed}
        interval = {"ci_low": value - 0.1, "ci_high": value + 0.1}  # any
        whole = score(**shared | setting | interval | {"value": value, "n": len(part)} | row)
        rows.append(whole)
        names = [f"s{i:06d}" for i in range(len(part))] if ids is None else ids
        frame = pd.DataFrame({"sample_id": names, **setting})
        if old:
            frame["correct"] = part[:, 0] == 1
            frame["adaptation"] = adaptation.partition(" (")[0]
        else:
            for name in ("operator", "degrade_target", "train_degrade", "metric"):
                frame[name] = whole[name]
            frame["counts"] = list(part)
        if scenes is not None:
            frame["scene"] = scenes
        if labels is not None:
            frame["label_index"] = labels
        if predicted is not None:
            frame["predicted_index"] = predicted[adaptation, severity, seed]
        frames.append(frame)
    job.scores(rows)
    path = run.path / "artifacts" / "predictions.parquet"
    path.parent.mkdir(exist_ok=True)
    pd.concat(frames, ignore_index=True).to_parquet(path, index=False)
    job.artifact(path, kind="predictions")
    finish(run)
    return run


def right(correct: np.ndarray) -> np.ndarray:
    """(n,) booleans to counts (n, 2)."""
    return np.stack([correct, np.ones(len(correct))], axis=1).astype(np.float64)


def curve(
    rng: np.random.Generator,
    n: int,
    shares: Mapping[float, float],
    *,
    seeds: int = 1,
    adaptation: str = "knn",
    difficulty: np.ndarray | None = None,
) -> dict[tuple[str, float, int], np.ndarray]:
    """Right with the given share at each severity, seeds drawn anew; the same `difficulty` makes models agree."""
    hard = rng.random(n) if difficulty is None else difficulty
    return {
        (adaptation, severity, seed): right((0.7 * hard + 0.3 * rng.random(n)) < share)
        for severity, share in shares.items()
        for seed in range(seeds)
    }


def judged(*verdicts: str, **columns: object) -> pd.DataFrame:
    """Rows of a paired comparison with these verdicts, as far as the overall verdict looks at them."""
    usual = {
        "bands_a": "B", "bands_b": "B", "synthetic": False, "n": 500, "scenes": 500, "seeds_a": 3, "seeds_b": 3,
        "dataset": "p", "ci_low": -0.01, "ci_high": 0.03, "p_value": 0.5,
    }  # fmt: skip
    frame = pd.DataFrame({"verdict": list(verdicts), **usual} | columns)
    frame.attrs = {"a": "MAE", "b": "iBOT"}
    return frame
