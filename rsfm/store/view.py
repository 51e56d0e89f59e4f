"""What pages and the command line see of the workspace: frames."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd

from rsfm.store import queries
from rsfm.store.answers import Answers


class RunFilter(TypedDict, total=False):
    """Which runs are listed, and in which order. What is left out or None does not matter."""

    kind: str | None
    search: str | None
    #: Any of them.
    states: Sequence[str] | None
    methods: Sequence[str] | None
    datasets: Sequence[str] | None
    groups: Sequence[str] | None
    #: All of them.
    tags: Sequence[str] | None
    #: A key of `queries.SORTS`; the newest first where it is left out.
    sort: str


class Store(Answers):
    """Questions to the index of one workspace, each answered with a new frame.

    Missing text is None, missing numbers are NaN, times are UTC (`datetime64[us, UTC]`).
    """

    # -- runs ------------------------------------------------------------------------------------------------------
    def runs(self, limit: int = 200, offset: int = 0, **wanted: Unpack[RunFilter]) -> pd.DataFrame:
        """Runs, newest first. `loss` is the last one, `knn` the best one; `tags` are joined by commas.

        Of an evaluation, `score` is the task's first metric at the lowest severity, of the adaptation that did best
        (`score_of`), over its evaluation seeds; of what it measured twice the newest row counts.
        """
        sql, values = _picked(queries.RUNS, wanted)
        return _as_of_now(self._ask(sql, **values, limit=limit, offset=offset))

    def run_groups(self, limit: int = 200, offset: int = 0, **wanted: Unpack[RunFilter]) -> pd.DataFrame:
        """The same runs, folded to groups: runs that differ only in their seed.

        `loss` and `knn` are means over the seeds that have succeeded (of several runs of one seed the newest), with
        `_std` (n - 1); `not_finite` of these losses are no numbers, `knn_seeds` of the runs have a kNN. `score` is
        folded as in `compare`: of the adaptation whose mean is best (`score_of`), over `seeds` of `seed_kind`.
        `counted` runs went into these numbers; `run_id` and `spec` are those of the newest run; `n`, `succeeded`,
        `failed` (or lost) and `cancelled` count runs.
        """
        sql, values = _picked(queries.GROUPS_OF_RUNS, wanted)
        return self._ask(sql, **values, limit=limit, offset=offset)

    def run_names(self) -> pd.DataFrame:
        """what ("method", "dataset" or "tag"), name, n: what runs can be filtered by, the most used first."""
        return self._ask(queries.RUN_NAMES)

    def run(self, run_id: str) -> pd.DataFrame:
        """One run (or no row): as `runs`, with spec and versions (JSON), git_revision, host, device, slot."""
        return _as_of_now(self._ask(queries.RUN, run_id=run_id))

    def run_counts(self) -> pd.DataFrame:
        """state, n."""
        return self._ask(queries.RUN_COUNTS)

    def latest(self, limit: int = 20) -> pd.DataFrame:
        """Runs that have ended, the last one first: as `runs`."""
        return _as_of_now(self._ask(queries.LATEST, limit=limit))

    def ended_since(self, since: datetime) -> pd.DataFrame:
        """state, n: runs that have ended at `since` (aware) or later."""
        return self._ask(queries.ENDED_SINCE, since=since.astimezone(UTC).replace(tzinfo=None))

    def events(self, run_id: str) -> pd.DataFrame:
        """time, state, attempt, message, data (the whole event as JSON), in order."""
        return self._ask(queries.EVENTS, run_id=run_id)

    def attempts(self, run_id: str) -> pd.DataFrame:
        """attempt, started, finished, state, code, signal, start_step, last_step, message."""
        return self._ask(queries.ATTEMPTS, run_id=run_id)

    # -- metrics ---------------------------------------------------------------------------------------------------
    def metric_names(self, run_id: str) -> pd.DataFrame:
        """name, n, last, best_min, best_max, last_step."""
        return self._ask(queries.METRIC_NAMES, run_id=run_id)

    def metrics(
        self, run_ids: str | Sequence[str], names: Sequence[str] | None = None, max_points: int = 2000
    ) -> pd.DataFrame:
        """run_id, name, attempt, step, samples, time, value, by run, name and step.

        Steps that a later attempt did again are gone. A series of more than `max_points` is thinned evenly; its first
        and last points stay.
        """
        wanted = (run_ids,) if isinstance(run_ids, str) else tuple(run_ids)
        picked = tuple(names) if names is not None else None
        fetch = partial(queries.metrics, run_ids=wanted, names=picked, max_points=max_points)
        return self.answer(("metrics", wanted, picked, max_points), fetch)

    def alarms(self) -> pd.DataFrame:
        """run_id, name (`alarm/<name>`), last: alarms that stood when they were last looked at, of all runs."""
        return self._ask(queries.ALARMS)

    # -- results ---------------------------------------------------------------------------------------------------
    def scores(
        self,
        dataset: str | None = None,
        model_group: str | None = None,
        run_id: str | Sequence[str] | None = None,
        *,
        newest_content: bool = False,
    ) -> pd.DataFrame:
        """Single measurements, with run_id, attempt and time.

        Of rows with equal keys (`rsfm.store.schema.SCORE_KEY`) the newest counts: of all runs, or of `run_id` (one run
        or several) alone.

        Args:
            newest_content: only those on the newest measured content of each pack, as in `compare`.

        Raises:
            ValueError: `newest_content` with `run_id`, whose own content counts.
        """
        if run_id is not None:
            if newest_content:
                raise ValueError("scores of one run are those of its own content: leave newest_content out")
            runs = (run_id,) if isinstance(run_id, str) else tuple(run_id)
            return self._ask_results(queries.SCORES_OF_RUN, run_id=runs, dataset=dataset, model_group=model_group)
        more = {"model_group": model_group, "newest_content": newest_content}
        return self._ask_results(queries.SCORES, dataset=dataset, **more)

    def compare(
        self,
        dataset: str | None = None,
        task: str | None = None,
        adaptation: str | None = None,
        metric: str | None = None,
        run_id: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """One row per model group and point of its curve, folded over seeds.

        Only scores on the newest measured content of each pack (`pack_hash`) count; with `run_id` all that this
        evaluation, or several, measured, whatever another one measured later.

        With two or more model seeds, evaluation seeds are averaged within each model seed first, and `std` (n - 1)
        and `seeds` are those of the model seeds' means; otherwise they are those of the evaluation seeds, which
        `seed_kind` says. One seed has no `std`.

        `ci_low` and `ci_high` join the two sources of error in quadrature, each side by itself:

            ci_low  = mean - sqrt(mean over seeds of (value - its ci_low), squared  + (t * std)² / seeds)
            ci_high = mean + sqrt(mean over seeds of (its ci_high - value), squared + (t * std)² / seeds)

        with Student's t for the seeds there are: 12.7 for two, 4.3 for three, 2.8 for five.
        All seeds are measured on the same test samples, so averaging over seeds does not shrink the bootstrap's half
        width; the spread over seeds shrinks with their number. A single value keeps its own interval; where a seed has
        none (a test set of one scene), there is none, for the spread over seeds says nothing of other scenes. `n` is
        the number of test samples. Scores are shares, so an interval ends at 0 and 1.

        Raises:
            ValueError: `run_id` with another argument.
        """
        if run_id is not None:
            if (dataset, task, adaptation, metric) != (None,) * 4:
                raise ValueError("with run_id all that those runs measured is compared: leave the other arguments out")
            return self._ask_results(
                queries.COMPARE_RUN, run_id=(run_id,) if isinstance(run_id, str) else tuple(run_id)
            )
        return self._ask_results(queries.COMPARE, dataset=dataset, task=task, adaptation=adaptation, metric=metric)

    def artifacts(self, run_id: str, kind: str | None = None) -> pd.DataFrame:
        """Files that a run left, checked when they were registered: `ok`, else `problem` says why not. Paths are
        relative to the run's folder; `artifact_id` is another one when a path is registered again."""
        return self._ask(queries.ARTIFACTS, run_id=run_id, kind=kind)

    # -- the workspace ---------------------------------------------------------------------------------------------
    def datasets(self) -> pd.DataFrame:
        """Packs, the broken ones with their `problem`; `splits` is JSON, `bands` joined by commas."""
        return self._ask(queries.DATASETS)

    def models(self) -> pd.DataFrame:
        """Exported models, newest first, the broken ones with their `problem`."""
        return self._ask(queries.MODELS)

    def uses_of(self, name: str) -> pd.DataFrame:
        """Runs that used a model, newest first: run_id, kind, method, dataset, model, preset, seed, state, created,
        spec, and role: "model" (asked for it), "start" (its weights or tokens), "network" (predicted with what was
        trained on it)."""
        return self._ask(queries.USES, name=name)

    def lint(self, severity: str | None = None) -> pd.DataFrame:
        """subject, rule, severity, message, and `rsfm.store.lint.PLACE`: what is odd about the results.

        Args:
            severity: only error, warning or info; None: all.
        """
        return self._ask_results(queries.LINT[severity])

    def problems(self) -> pd.DataFrame:
        """path (below the workspace), problem: folders and files that were left out."""
        return self._ask(queries.PROBLEMS)

    def _ask(self, sql: str, **parameters: object) -> pd.DataFrame:
        return self.answer((sql, *parameters.values()), partial(queries.frame, sql=sql, **parameters))

    def _ask_results(self, sql: str, **parameters: object) -> pd.DataFrame:
        fetch = partial(queries.frame, sql=sql, **parameters)
        return self.answer((sql, *parameters.values()), fetch, of_results=True)


def _picked(statements: Mapping[str, str], wanted: RunFilter) -> tuple[str, dict[str, object]]:
    """The statement and its values for a list of runs.

    Raises:
        TypeError: there is no such filter.
    """
    if unknown := wanted.keys() - RunFilter.__annotations__.keys():
        raise TypeError(f"unknown filters: {', '.join(sorted(unknown))}")
    values: dict[str, object] = {"kind": wanted.get("kind"), "search": wanted.get("search") or None}
    for name in ("states", "methods", "datasets", "groups", "tags"):
        asked: Sequence[str] | None = wanted.get(name)  # type: ignore[assignment]
        values[name] = None if asked is None else tuple(asked)
    return statements[wanted.get("sort", "newest")], values


def _as_of_now(found: pd.DataFrame) -> pd.DataFrame:
    """Fill in what the clock decides: how long a run has been going, and whether its runner is overdue."""
    now = time.time()
    spent, since, due = (found.pop(name).to_numpy() for name in ("active_s", "active_since", "heartbeat_due"))
    going = np.maximum(0.0, np.nan_to_num(now - since))
    found["duration_s"] = np.where(found["started"].isna(), np.nan, spent + going)
    found["stalled"] = due < now
    return found
