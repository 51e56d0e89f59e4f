"""What a degradation did to each single test sample: which were lost, which were won."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rsfm.comparison.counts import Samples, Unit, units
from rsfm.comparison.models import narrowed
from rsfm.degrade import severity_text
from rsfm.errors import RsfmError
from rsfm.metrics import METRICS
from rsfm.specs import spec_hash
from rsfm.store.view import Store

#: What makes one curve of one model, whichever metric is drawn.
CURVE = (
    "model_group", "dataset", "pack_hash", "split", "task", "adaptation", "bands", "operator", "degrade_target",
    "train_degrade",
)  # fmt: skip
#: Model seed, evaluation seed.
Seeds = tuple[int, int]


def curve_id(row: Mapping[str, Any]) -> str:
    """A short name of a curve, of its values of `CURVE`: the same on every machine."""
    return spec_hash({name: None if pd.isna(row[name]) else str(row[name]) for name in CURVE})[:12]


@dataclass(frozen=True)
class Flips:
    """The same n test samples at two severities, with S seeds that were measured at both.

    Attributes:
        ids: (n,) of the samples; labels: (n,) class indices, where samples have one class.
        seeds: of each of the S; runs: the evaluations that measured them, at `against` and at the severity.
        before, after: (S, n) the score of each sample alone; NaN where it is not defined.
        predicted_before, predicted_after: (S, n) class indices, where samples have one class.
        scores: (2, S) of all samples, before and after.
        metric: what is scored; of one class per sample it is 1 (right) or 0 (wrong).
        left_out: lines on evaluations and seeds that could not be used, and why.
    """

    ids: np.ndarray
    labels: np.ndarray | None
    seeds: tuple[Seeds, ...]
    runs: tuple[tuple[str, str], ...]
    before: np.ndarray
    after: np.ndarray
    predicted_before: np.ndarray | None
    predicted_after: np.ndarray | None
    scores: np.ndarray
    metric: str
    left_out: tuple[str, ...]

    @property
    def right_or_wrong(self) -> bool:
        """Whether a sample can only be right or wrong."""
        return METRICS[self.metric].layout == "right"

    @property
    def gain(self) -> np.ndarray:
        """(S, n) how much better each sample is after than before."""
        return (self.after - self.before) * (1 if METRICS[self.metric].higher_is_better else -1)

    @property
    def weights(self) -> np.ndarray:
        """(S,) what each seed counts in a mean: all model seeds the same, as in `Store.compare`; their sum is 1."""
        of_model = Counter(model for model, _ in self.seeds)
        return np.array([1 / (len(of_model) * of_model[model]) for model, _ in self.seeds])

    def only(self, seeds: Seeds) -> Flips:
        """Those of one seed alone.

        Raises:
            RsfmError: it is not among them.
        """
        if seeds not in self.seeds:
            raise RsfmError(f"{_named(seeds)} was not measured at both severities.".capitalize())
        i = self.seeds.index(seeds)
        one = slice(i, i + 1)
        return replace(
            self, seeds=self.seeds[one], runs=self.runs[one], before=self.before[one], after=self.after[one],
            predicted_before=None if self.predicted_before is None else self.predicted_before[one],
            predicted_after=None if self.predicted_after is None else self.predicted_after[one],
            scores=self.scores[:, one],
        )  # fmt: skip

    def table(self) -> pd.DataFrame:
        """One row per sample, in their order.

        Returns:
            position (0..n-1); sample_id; before, after: mean over the seeds that define them, by their weights; gain:
            over the seeds that define both; lost, won: with how many seeds it got worse, or better.
        """
        gain, weights = self.gain, self.weights
        return pd.DataFrame(
            {
                "position": np.arange(len(self.ids)), "sample_id": self.ids, "before": _mean(self.before, weights),
                "after": _mean(self.after, weights), "gain": _mean(gain, weights), "lost": (gain < 0).sum(axis=0),
                "won": (gain > 0).sum(axis=0),
            }
        )  # fmt: skip


def flips(
    store: Store, curve: Mapping[str, Any], severity: float, against: float, *, metric: str | None = None
) -> Flips:
    """Compare each test sample at a severity with itself at another one.

    Args:
        curve: values of `CURVE`, e.g. a row of `Store.compare`.
        severity, against: after and before.
        metric: the score of a sample; the primary one of the task where it is left out, or where it comes from all
            samples at once.

    Raises:
        RsfmError: nothing was measured at both, or its predictions cannot be used.
    """
    scores = store.scores(dataset=str(curve["dataset"]), model_group=str(curve["model_group"]))
    scores = narrowed(scores, {name: [curve[name]] for name in CURVE} | {"severity": [severity, against]})
    if metric is not None and (metric not in METRICS or METRICS[metric].layout is None):
        metric = None
    left_out: list[str] = []
    samples: Samples = {}
    at: dict[float, dict[Seeds, Unit]] = {severity: {}, against: {}}
    for run in units(store, scores, left_out, metric=metric, samples=samples):
        for unit in run:
            at[float(unit.row["severity"])][unit.seeds] = unit
    seeds = tuple(sorted(at[severity].keys() & at[against].keys()))
    if not seeds:
        why = " ".join(left_out[:5]) or "No seed was measured at both severities."
        raise RsfmError(f"The samples cannot be compared one by one. {why}")
    for level, other in ((against, severity), (severity, against)):
        if alone := sorted(at[level].keys() - at[other].keys()):
            there = severity_text(str(curve["operator"]), level)
            left_out.append(f"Left out, for their predictions are of {there} alone: {'; '.join(map(_named, alone))}.")
    ((ids, _, _),) = samples.values()
    before, after = ([at[level][s] for s in seeds] for level in (against, severity))
    return Flips(
        ids=ids,
        labels=before[0].labels,
        seeds=seeds,
        runs=tuple((str(b.row["run_id"]), str(a.row["run_id"])) for b, a in zip(before, after, strict=True)),
        before=_scores(before),
        after=_scores(after),
        predicted_before=_predicted(before),
        predicted_after=_predicted(after),
        scores=np.array([[float(unit.row["value"]) for unit in side] for side in (before, after)]),
        metric=str(before[0].row["metric"]),
        left_out=tuple(left_out),
    )


def _scores(of_each: Sequence[Unit]) -> np.ndarray:
    return np.stack([np.asarray(unit.statistic(unit.counts), np.float64) for unit in of_each])


def _predicted(of_each: Sequence[Unit]) -> np.ndarray | None:
    found = [unit.predicted for unit in of_each if unit.predicted is not None]
    return np.stack(found) if len(found) == len(of_each) else None


def _named(seeds: Seeds) -> str:
    return ", ".join(
        f"{word} seed {seed}" for word, seed in zip(("model", "evaluation"), seeds, strict=True) if seed >= 0
    )


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(S, n) to (n,): the weighted mean without NaN; NaN where nothing is left."""
    defined = ~np.isnan(values)
    total = weights @ np.where(defined, values, 0)
    return np.divide(total, weights @ defined, out=np.full(values.shape[1], np.nan), where=defined.any(axis=0))
