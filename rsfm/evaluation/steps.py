"""How far an evaluation is, in samples: those to encode, to train on and to test, and what a head on features costs."""

from __future__ import annotations

from rsfm.evaluation.plan import Plan
from rsfm.specs import EvaluateSpec
from rsfm.store.job import JobContext


class Steps:
    """Progress of one attempt."""

    HEAD_SAMPLES = 100

    def __init__(self, spec: EvaluateSpec, what: Plan, context: JobContext, *, maps: int = 0) -> None:
        """With so many `maps` of a frozen encoder to keep (see `rsfm.evaluation.maps`)."""
        self.spec, self.what, self.context = spec, what, context
        self.done, self.phase = 0, ""
        fitted = [a for a in what.adaptations if what.task.trains(a)]
        heads = len(what.adaptations) - len(fitted)
        self.total = maps + heads * len(spec.eval_seeds) * self.HEAD_SAMPLES
        self.total += what.n_features if heads else 0
        self.total += len(fitted) * sum(self.per_fit(seed) for seed in spec.eval_seeds)

    def per_fit(self, seed: int) -> int:
        return self.spec.fit.epochs * len(self.what.draws[seed]) + len(self.what.severities) * self.what.n_test

    def samples(self, count: int, phase: str, *, may_stop: bool = True) -> None:
        self.done += count
        self.context.progress(self.done, self.total, unit="samples", phase=phase, force=phase != self.phase)
        self.phase = phase
        if may_stop:
            self.context.check_stop()

    def finish(self) -> None:
        self.context.progress(self.total, self.total, unit="samples", phase="done", force=True)
