"""Every question that pages and the command line ask of the index. Named SQL with parameters, never pasted text."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import pandas as pd

from rsfm.stats.student import T_95
from rsfm.store.lint import PLACE
from rsfm.tasks import TASKS

Cursor = duckdb.DuckDBPyConnection

#: Columns of `runs()`; `run()` adds those of `_RUN_MORE`. The last three become `stalled` and `duration_s`.
_RUN_COLUMNS = """run_id, kind, group_id, method, dataset, model, preset, seed, state, false AS stalled, attempt,
    created, started, finished, 0.0::DOUBLE AS duration_s, done, total, unit, phase, rate, eta_s, loss, knn, message,
    tags, note"""
_RUN_MORE = "spec, versions, git_revision, host, device, slot"
_RUN_HIDDEN = "active_s, epoch(active_since) AS active_since, epoch(heartbeat_due) AS heartbeat_due"

_RUN_FILTER = """($kind IS NULL OR kind = $kind)
  AND ($states IS NULL OR list_contains($states::VARCHAR[], state))
  AND ($methods IS NULL OR list_contains($methods::VARCHAR[], method))
  AND ($datasets IS NULL OR list_contains($datasets::VARCHAR[], dataset))
  AND ($groups IS NULL OR list_contains($groups::VARCHAR[], group_id))
  AND ($tags IS NULL OR list_has_all(string_split(coalesce(tags, ''), ', '), $tags::VARCHAR[]))
  AND ($search IS NULL OR contains(
        lower(concat_ws(' ', run_id, kind, group_id, method, dataset, model, preset, state, tags, note)),
        lower($search)))"""
# What evaluations come down to in one number: the task's first metric on the images at their best, of the adaptation
# that did best. `owner` is a run or a group of runs: of its rows with equal keys the newest counts, on the content of
# the pack that it measured last, folded as in `_FOLD`.
_FIRST = ", ".join(f"('{name}', '{task.metrics[0]}')" for name, task in sorted(TASKS.items()))
_HEADLINE = f"""
owned AS (
    SELECT owner, s.run, s.seq, s.time, s.pack_hash, s.severity, s.adaptation, s.metric, s.model_seed, s.value
    FROM {{scores}} WHERE (s.task, s.metric) IN ({_FIRST})
    QUALIFY row_number() OVER (
        PARTITION BY owner, s.key ORDER BY s.time DESC NULLS LAST, s.attempt DESC NULLS LAST, s.run DESC, s.seq DESC
    ) = 1
),
used AS (
    SELECT * FROM (
        SELECT *, pack_hash IS NOT DISTINCT FROM first_value(pack_hash) OVER (
            PARTITION BY owner ORDER BY time DESC NULLS LAST, run DESC, seq DESC) AS newest
        FROM owned
    ) WHERE newest QUALIFY severity = min(severity) OVER (PARTITION BY owner)
),
of_seed AS (
    SELECT owner, adaptation, metric, model_seed, avg(value) AS mean, stddev_samp(value) AS std, count(value) AS n
    FROM used GROUP BY ALL
),
headline AS (
    SELECT owner, adaptation AS score_of, metric AS score_metric, avg(mean) AS score,
           CASE WHEN count(mean) > 1 THEN stddev_samp(mean) ELSE max(std) END AS score_std,
           CASE WHEN count(mean) > 1 THEN count(mean) ELSE max(n) END AS score_seeds,
           CASE WHEN count(mean) > 1 THEN 'model seeds' ELSE 'evaluation seeds' END AS seed_kind
    FROM of_seed GROUP BY owner, adaptation, metric
    QUALIFY row_number() OVER (PARTITION BY owner ORDER BY score DESC NULLS LAST, adaptation, metric) = 1
)"""
#: How a list of runs can be ordered: name -> columns of `runs` and `headline`, the same for groups.
SORTS = {
    "newest": "created DESC NULLS LAST",
    "oldest": "created NULLS LAST",
    "loss": "if(isnan(loss), NULL, loss) NULLS LAST",
    "knn": "if(isnan(knn), NULL, knn) DESC NULLS LAST",
    "score": "if(isnan(score), NULL, score) DESC NULLS LAST",
    "longest": "active_s DESC NULLS LAST",
    "method": "method NULLS LAST, created DESC NULLS LAST",
    "pack": "dataset NULLS LAST, created DESC NULLS LAST",
    "state": "state, created DESC NULLS LAST",
}
# The scores of one page are far fewer than all; only an order by score needs those of every run.
_RUNS = f"""
WITH page AS (
    SELECT * FROM runs WHERE {_RUN_FILTER} ORDER BY {{order}}, run_id DESC LIMIT $limit OFFSET $offset
),
{_HEADLINE.format(scores="(SELECT run AS owner, * FROM scores SEMI JOIN page USING (run)) s")}
SELECT {_RUN_COLUMNS}, score, score_metric, score_of, {_RUN_HIDDEN} FROM page LEFT JOIN headline ON owner = run
ORDER BY {{order}}, run_id DESC
"""
_RUNS_BY_SCORE = f"""
WITH {_HEADLINE.format(scores="(SELECT run AS owner, * FROM scores) s")}
SELECT {_RUN_COLUMNS}, score, score_metric, score_of, {_RUN_HIDDEN} FROM runs LEFT JOIN headline ON owner = run
WHERE {_RUN_FILTER}
ORDER BY {{order}}, run_id DESC
LIMIT $limit OFFSET $offset
"""
RUNS = {
    name: (_RUNS_BY_SCORE if name == "score" else _RUNS).format(order=order) for name, order in SORTS.items()
}  # fmt: skip
# Only runs that have succeeded count. Of several of one seed the newest does; of evaluations, whose seeds stand in
# their scores, those of which some score is the newest of its key.
_GROUPS_OF_RUNS = f"""
WITH picked AS (
    SELECT *, (group_id, kind) AS owner,
           row_number() OVER (
               PARTITION BY group_id, kind, seed, model, if(seed IS NULL AND model IS NULL, run_id, NULL),
                            state = 'succeeded'
               ORDER BY created DESC NULLS LAST, run_id DESC) = 1 AS newest
    FROM runs WHERE {_RUN_FILTER}
),
{_HEADLINE.format(scores="scores s JOIN (SELECT run, owner FROM picked WHERE state = 'succeeded') p USING (run)")},
counted AS (
    SELECT *, state = 'succeeded' AND CASE WHEN owner IN (SELECT owner FROM headline)
                                           THEN run IN (SELECT run FROM used) ELSE newest END AS counts
    FROM picked
),
folded AS (
    SELECT owner, any_value(group_id) AS group_id, any_value(kind) AS kind, any_value(method) AS method,
           any_value(dataset) AS dataset,
           arg_max(model, (created, run_id)) AS model, any_value(preset) AS preset,
           arg_max(run_id, (created, run_id)) AS run_id, arg_max(spec, (created, run_id)) AS spec, count(*) AS n,
           count(*) FILTER (state = 'succeeded') AS succeeded,
           count(*) FILTER (state IN ('failed', 'lost')) AS failed,
           count(*) FILTER (state = 'cancelled') AS cancelled, count(*) FILTER (counts) AS counted,
           CASE WHEN count(*) FILTER (state = 'succeeded') = count(*) THEN 'succeeded'
                WHEN count(*) FILTER (state IN ('failed', 'lost')) > 0 THEN 'failed' ELSE 'running' END AS state,
           avg(loss) FILTER (counts) AS loss,
           stddev_samp(if(isfinite(loss), loss, NULL)) FILTER (counts) AS loss_std,
           count(*) FILTER (counts AND NOT isfinite(loss)) AS not_finite,
           avg(knn) FILTER (counts) AS knn, stddev_samp(if(isfinite(knn), knn, NULL)) FILTER (counts) AS knn_std,
           count(knn) FILTER (counts) AS knn_seeds, sum(active_s) AS active_s, max(created) AS created
    FROM counted GROUP BY owner
)
SELECT group_id, kind, method, dataset, model, preset, run_id, spec, n, succeeded, failed, cancelled, counted,
       coalesce(score_seeds, counted) AS seeds,
       coalesce(seed_kind, CASE WHEN kind = 'pretrain' THEN 'model seeds' END) AS seed_kind,
       loss, loss_std, not_finite, knn, knn_std, knn_seeds, score, score_std, score_metric, score_of,
       active_s AS duration_s, created
FROM folded LEFT JOIN headline USING (owner) ORDER BY {{order}}, run_id DESC LIMIT $limit OFFSET $offset
"""
GROUPS_OF_RUNS = {name: _GROUPS_OF_RUNS.format(order=order) for name, order in SORTS.items()}
RUN_NAMES = """
SELECT 'method' AS what, method AS name, count(*) AS n FROM runs WHERE method IS NOT NULL GROUP BY method
UNION ALL SELECT 'dataset', dataset, count(*) FROM runs WHERE dataset IS NOT NULL GROUP BY dataset
UNION ALL SELECT 'tag', tag, count(*) FROM (SELECT unnest(string_split(tags, ', ')) AS tag FROM runs WHERE tags <> '')
GROUP BY tag
ORDER BY 1, 3 DESC, 2
"""
RUN = f"SELECT {_RUN_COLUMNS}, {_RUN_MORE}, {_RUN_HIDDEN} FROM runs WHERE run_id = $run_id"
LATEST = f"""
SELECT {_RUN_COLUMNS}, {_RUN_HIDDEN} FROM runs
WHERE finished IS NOT NULL ORDER BY finished DESC, run_id DESC LIMIT $limit
"""
ENDED_SINCE = "SELECT state, count(*) AS n FROM runs WHERE finished >= $since GROUP BY state ORDER BY state"
RUN_COUNTS = "SELECT state, count(*) AS n FROM runs GROUP BY state ORDER BY state"

EVENTS = """
SELECT e.time, e.state, e.attempt, e.message, e.data FROM events e JOIN runs r USING (run)
WHERE r.run_id = $run_id ORDER BY e.seq
"""
ATTEMPTS = """
WITH mine AS (SELECT run FROM runs WHERE run_id = $run_id),
a AS (SELECT * FROM attempts WHERE run IN (FROM mine)),
s AS (SELECT * FROM starts WHERE run IN (FROM mine))
SELECT coalesce(a.attempt, s.attempt) AS attempt, a.started, a.finished, a.state, a.code, a.signal, s.start_step,
       s.last_step, a.message
FROM a FULL JOIN s ON a.attempt = s.attempt ORDER BY 1
"""
METRIC_NAMES = """
SELECT s.name, s.n, s.last, s.best_min, s.best_max, s.last_step FROM series s JOIN runs r USING (run)
WHERE r.run_id = $run_id ORDER BY s.name
"""
ALARMS = """
SELECT r.run_id, s.name, s.last FROM series s JOIN runs r USING (run)
WHERE starts_with(s.name, 'alarm/') AND s.last > 0 ORDER BY r.run_id, s.name
"""
_RUN_NUMBERS = "SELECT run, run_id FROM runs WHERE list_contains($1::VARCHAR[], run_id)"
# One branch per run: a plain `run = ?` skips all row groups of other runs, a list of runs does not. Only where there
# are so many that most row groups are read anyway, planning the branches would cost more.
_METRIC_BRANCH = "SELECT * FROM metrics WHERE run IN ({runs}) {names}"
_MOST_BRANCHES = 32
# Of n points the first, the last, and those where the evenly spaced position moves on: at most `points` of them.
_METRICS = """
WITH picked AS ({branches}),
numbered AS (
    SELECT *, row_number() OVER series - 1 AS i, count(*) OVER (PARTITION BY run, name) AS n
    FROM picked WINDOW series AS (PARTITION BY run, name ORDER BY step, attempt)
)
SELECT r.run_id, m.name, m.attempt, m.step, m.samples, m.time, m.value FROM numbered m JOIN runs r USING (run)
WHERE m.n <= ? OR m.i = 0 OR (m.i * (? - 1)) // (m.n - 1) <> ((m.i - 1) * (? - 1)) // (m.n - 1)
ORDER BY r.run_id, m.name, m.step
"""

_SCORE_COLUMNS = """s.model, s.model_title, s.model_group, s.model_seed, s.eval_seed, s.dataset, s.pack_hash,
    s.synthetic, s.split, s.task, s.adaptation, s.bands, s.operator, s.severity, s.gsd_m, s.degrade_target,
    s.train_degrade, s.metric, s.value, s.ci_low, s.ci_high, s.n, s.scenes, s.operator_hash, run_id,
    s.attempt, s.time"""
_SCORE_ORDER = """s.dataset, s.task, s.model_group, s.adaptation, s.metric, s.operator, s.severity, s.model_seed,
    s.eval_seed, run_id"""
SCORES = f"""
SELECT {_SCORE_COLUMNS} FROM scores s JOIN runs r USING (run)
WHERE s.current AND ($dataset IS NULL OR s.dataset = $dataset)
  AND ($model_group IS NULL OR s.model_group = $model_group)
  AND (NOT $newest_content OR EXISTS (
      FROM newest_content n WHERE n.dataset = s.dataset AND n.pack_hash IS NOT DISTINCT FROM s.pack_hash))
ORDER BY {_SCORE_ORDER}
"""
# Of some runs their own newest rows count, whatever another run measured later.
_OWN = """
SELECT s.*, r.run_id FROM scores s JOIN runs r USING (run)
WHERE list_contains($run_id::VARCHAR[], r.run_id)
QUALIFY row_number() OVER (
    PARTITION BY s.key ORDER BY s.time DESC NULLS LAST, s.attempt DESC NULLS LAST, s.seq DESC) = 1
"""
SCORES_OF_RUN = f"""
SELECT {_SCORE_COLUMNS} FROM ({_OWN}) s
WHERE ($dataset IS NULL OR s.dataset = $dataset) AND ($model_group IS NULL OR s.model_group = $model_group)
ORDER BY {_SCORE_ORDER}
"""

# As `rsfm.stats.student.standard_errors`; of a single seed NULL.
_T_95 = f"[{', '.join(map(str, T_95))}][least(seeds - 1, {len(T_95)})]"

# Folds the scores named `valid`: evaluation seeds within a model seed first. What one seed has no interval for has none
# at all: the spread over seeds says nothing of other test images.
_FOLD = f"""
names AS (
    SELECT model_group, arg_max(model, (time, run, seq)) AS model, arg_max(model_title, (time, run, seq)) AS model_title
    FROM valid GROUP BY model_group
),
of_a_model AS (
    SELECT model_group, dataset, pack_hash, split, task, adaptation, bands, operator, severity, degrade_target,
           train_degrade, metric, model_seed,
           avg(value) AS mean, stddev_samp(value) AS eval_std, count(*) AS eval_seeds,
           CASE WHEN count(ci_low) = count(*) THEN avg(greatest(0, value - ci_low)) END AS below,
           CASE WHEN count(ci_high) = count(*) THEN avg(greatest(0, ci_high - value)) END AS above,
           max(ci_low) AS own_low, max(ci_high) AS own_high, max(n) AS n, max(scenes) AS scenes, max(gsd_m) AS gsd_m,
           bool_or(synthetic) AS synthetic
    FROM valid GROUP BY ALL
),
point AS (
    SELECT model_group, dataset, pack_hash, split, task, adaptation, bands, operator, severity, degrade_target,
           train_degrade, metric,
           avg(o.mean) AS mean, CASE WHEN count(*) > 1 THEN stddev_samp(o.mean) ELSE max(o.eval_std) END AS std,
           CASE WHEN count(*) > 1 THEN count(*) ELSE max(o.eval_seeds) END AS seeds,
           CASE WHEN count(*) > 1 THEN 'model seeds' ELSE 'evaluation seeds' END AS seed_kind,
           CASE WHEN count(o.below) = count(*) THEN avg(o.below) END AS below,
           CASE WHEN count(o.above) = count(*) THEN avg(o.above) END AS above,
           max(o.own_low) AS own_low, max(o.own_high) AS own_high,
           max(o.n) AS n, max(o.scenes) AS scenes, max(o.gsd_m) AS gsd_m, bool_or(o.synthetic) AS synthetic
    FROM of_a_model o GROUP BY ALL
)
SELECT n.model, n.model_title, p.model_group, p.dataset, p.synthetic, p.task, p.adaptation, p.operator, p.severity,
       p.gsd_m, p.metric, p.mean, p.std,
       CASE WHEN p.seeds = 1 THEN p.own_low
            WHEN p.below IS NOT NULL THEN greatest(0, p.mean - sqrt(p.below ** 2 + p.of_seeds ** 2)) END AS ci_low,
       CASE WHEN p.seeds = 1 THEN p.own_high
            WHEN p.above IS NOT NULL THEN least(1, p.mean + sqrt(p.above ** 2 + p.of_seeds ** 2)) END AS ci_high,
       p.n, p.scenes, p.seeds, p.seed_kind, p.pack_hash, p.split, p.bands, p.degrade_target, p.train_degrade
FROM (SELECT *, {_T_95} * std / sqrt(seeds) AS of_seeds FROM point) p JOIN names n USING (model_group)
ORDER BY p.dataset, p.task, p.adaptation, p.metric, n.model_title, p.model_group, p.operator, p.bands, p.severity
"""
COMPARE = f"""
WITH chosen AS (
    SELECT s.*, r.run_id FROM scores s JOIN runs r USING (run)
    WHERE s.current AND ($dataset IS NULL OR s.dataset = $dataset) AND ($task IS NULL OR s.task = $task)
      AND ($adaptation IS NULL OR s.adaptation = $adaptation) AND ($metric IS NULL OR s.metric = $metric)
),
valid AS (
    SELECT c.* FROM chosen c JOIN newest_content n
        ON c.dataset = n.dataset AND c.pack_hash IS NOT DISTINCT FROM n.pack_hash
),
{_FOLD}"""
COMPARE_RUN = f"WITH valid AS ({_OWN}),\n{_FOLD}"

ARTIFACTS = """
SELECT a.artifact_id, r.run_id, a.attempt, a.time, a.path, a.kind, a.title, a.step, a.bytes, a.ok, a.problem
FROM artifacts a JOIN runs r USING (run)
WHERE r.run_id = $run_id AND ($kind IS NULL OR a.kind = $kind)
ORDER BY a.time NULLS FIRST, a.seq
"""
DATASETS = """
SELECT name, title, dataset, synthetic, task, splits, samples, bands, sensor, gsd_m, size, classes, content_hash,
       bytes, created, problem
FROM datasets ORDER BY name
"""
MODELS = """
SELECT name, title, method, run_id, group_id, seed, bands, feature_dim, trained_on, architecture, parameters,
       image_size, sensor, gsd_m, step, samples, synthetic, bytes, imported, created, problem
FROM models ORDER BY created DESC NULLS LAST, name
"""
# What was made of a model: runs that asked for it, and predictions by networks that were trained on it.
USES = """
WITH naming AS (SELECT * FROM runs WHERE contains(spec, $name) AND run_id <> $name),
asked AS (SELECT * FROM naming WHERE model = $name)
SELECT run_id, kind, method, dataset, model, preset, seed, state, created, spec, 'model' AS role FROM asked
UNION ALL
SELECT run_id, kind, method, dataset, model, preset, seed, state, created, spec, 'start' AS role FROM naming
WHERE kind = 'pretrain'
  AND (spec ->> '$.init.weights' = $name OR spec ->> '$.method_params.tokenizer' = $name)
UNION ALL
SELECT r.run_id, r.kind, r.method, r.dataset, r.model, r.preset, r.seed, r.state, r.created, r.spec, 'network' AS role
FROM runs r WHERE r.kind = 'predict' AND r.spec ->> '$.evaluation' IN (SELECT run_id FROM asked WHERE kind = 'evaluate')
ORDER BY created DESC NULLS LAST, run_id DESC
"""
# Written out, so that rules which find nothing of a severity are not run for it.
LINT = {
    severity: f"""
SELECT subject, rule, severity, message, {", ".join(PLACE)} FROM lint
WHERE {f"severity = '{severity}'" if severity else "true"} ORDER BY severity DESC, rule, subject, message
"""
    for severity in (None, "error", "warning", "info")
}
PROBLEMS = "SELECT path, problem FROM problems ORDER BY path, problem"


def frame(cursor: Cursor, sql: str, **parameters: object) -> pd.DataFrame:
    """The rows of a query."""
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()}
    cursor.execute(sql, values)
    return plain(cursor)


def metrics(cursor: Cursor, run_ids: Sequence[str], names: Sequence[str] | None, max_points: int) -> pd.DataFrame:
    """Points of some series, each thinned evenly to `max_points`, first and last kept."""
    numbers = cursor.execute(_RUN_NUMBERS, [list(run_ids)]).fetchall()
    picked = f"AND name IN ({', '.join('?' * len(names))})" if names else "" if names is None else "AND false"
    # No run: the same columns, no rows.
    runs = [run for run, _ in numbers] or [-1]
    parts = [[run] for run in runs] if len(runs) <= _MOST_BRANCHES else [runs]
    branches = [_METRIC_BRANCH.format(runs=", ".join("?" * len(part)), names=picked) for part in parts]
    sql = _METRICS.format(branches=" UNION ALL ".join(branches))
    values = [value for part in parts for value in (*part, *(names or ()))]
    points = max(2, max_points)
    cursor.execute(sql, [*values, points, points, points])
    return plain(cursor)


def plain(cursor: Cursor) -> pd.DataFrame:
    """The rows of the last query: text is `object` with None, missing numbers are NaN, times UTC, flags bool.

    DuckDB's own frames take three times as long, and their missing text (NaN) is true.
    """
    found = cursor.fetchnumpy()
    # One index for all columns: to align one per column would take most of the time.
    index = pd.RangeIndex(len(next(iter(found.values()))))
    columns: dict[str, object] = {}
    for name, values in found.items():
        missing = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
        data = np.ma.getdata(values)
        if missing is not None and missing.any():
            if data.dtype.kind in "iu":
                data = data.astype(np.float64)
            # A copy: the engine's own buffer may not be written to.
            data = np.where(missing, _MISSING[data.dtype.kind], data)
        if data.dtype.kind == "M":
            columns[name] = pd.DatetimeIndex(data.astype("datetime64[us]")).tz_localize("UTC")
        else:
            columns[name] = pd.Series(data, index, dtype=object) if data.dtype.kind == "O" else data
    return pd.DataFrame(columns, index)


_MISSING = {"O": None, "f": np.nan, "M": np.datetime64("NaT", "us"), "b": False}
