"""What is odd about results: the view `lint` of the index.

A row has subject, rule, severity and message, and `PLACE`: the curves of `Store.compare` that it is about. Of a rule
about models the subject is a model group, or a run where it is about one, and all of `PLACE` is known; of one about a
pack it is the pack, and the rest is NULL; of one about files it is the folder.

Rules about weights, features and inputs need columns that an evaluation writes into its score rows, all of a block or
none:

    basis            hash of the model's weights and preprocessing and of the way they were evaluated
    deterministic    true where evaluation seeds change nothing (kNN on all training samples), so that equal scores
                     are no surprise
    feature_dim      dimensions of the features behind this score;
    feature_std_l2   mean over them of the standard deviation of the ℓ2-normalised features of the test images
                     (healthy: about 1/√d); of maps in the mean over a few places, each between images
    feature_rank     RankMe (arXiv 2210.02885) of the same features minus their mean, of maps each place's own
    input_band       the band whose input is farthest from what the model was made for (`farthest_band`);
    input_mean, input_std  mean and standard deviation over the pixels of that band as the model gets it, (value - mean)
                     / std: about 0 and 1
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rsfm.degrade import OPERATORS, severity_text
from rsfm.registry.evaluation import EVALUATION_PRESETS
from rsfm.specs import evaluate_spec
from rsfm.tasks import TASKS

#: Features are collapsed below this share of 1/√d (as in training: `rsfm.alarms`), or where they lie on a line.
COLLAPSED_STD = 0.1
COLLAPSED_RANK = 2.0
#: Inputs this many standard deviations off, or this many times too narrow or wide, may be another world: a warning.
FAR_MEAN, FAR_STD = 5.0, 10.0
#: No world is that far: a unit or statistics are wrong (8-bit values as shares are 255 times off, counts of 10,000).
WRONG_MEAN, WRONG_STD = 30.0, 50.0


def farthest_band(names: Sequence[str], means: Sequence[float], stds: Sequence[float]) -> dict[str, str | float]:
    """`input_band`, `input_mean` and `input_std` of a score row, from the standardised input of each band."""

    def distance(i: int) -> float:
        if not (math.isfinite(means[i]) and math.isfinite(stds[i]) and stds[i] > 0):
            return math.inf
        return max(abs(means[i]) / FAR_MEAN, abs(math.log(stds[i])) / math.log(FAR_STD))

    i = max(range(len(names)), key=distance)
    return {"input_band": names[i], "input_mean": float(means[i]), "input_std": float(stds[i])}


#: What is the same for all points of a curve but for its model.
_PROTOCOL = "dataset, pack_hash, split, task, adaptation, operator, degrade_target, train_degrade"
_CURVE = f"{_PROTOCOL}, metric"
#: The curves that a finding is about, as their columns in `Store.compare`.
PLACE = ("model_group", "bands", *_PROTOCOL.split(", "))
_COLUMNS = ", ".join(PLACE)


def _of(table: str, columns: str = _COLUMNS) -> str:
    return ", ".join(f"{table}.{name}" for name in columns.split(", "))


def _level(operator: str, severity: str) -> str:
    """SQL: a severity as people write it, e.g. 4×, or "blur 2 px" of another operator than the usual one."""
    units = " ".join(f"WHEN '{name}' THEN '{severity_text(name, 0)[1:]}'" for name in OPERATORS)
    name = f"CASE {operator} WHEN 'bilinear' THEN '' ELSE {operator} || ' ' END"
    return f"format('{{}}{{:g}}{{}}', {name}, {severity}, CASE {operator} {units} ELSE '' END)"


def _within(mean: float, std: float) -> str:
    """SQL: the input's mean and standard deviation are numbers within these limits."""
    return (
        f"(isfinite(input_mean) AND isfinite(input_std) AND abs(input_mean) <= {mean} "
        f"AND input_std BETWEEN {1 / std} AND {std})"
    )


# Used by nearly all rules it would be kept as a table of its own, without what is known of its columns' values: on
# 36,000 scores its groups take seconds then, else tenths of one.
_COMMON = f"""
now_valid AS NOT MATERIALIZED (SELECT s.*, r.run_id FROM scores s JOIN runs r USING (run) WHERE s.current),
per_point AS MATERIALIZED (
    SELECT model_group, max(model_title) AS title, bands, severity, {_CURVE}, avg(value) AS value
    FROM now_valid GROUP BY ALL
)"""

_DUPLICATE_KEY = f"""
SELECT max(r.run_id) AS subject, 'duplicate-key' AS rule, 'warning' AS severity,
       format('{{}} of {{}} on {{}} ({{}}, {{}}, model seed {{}}, evaluation seed {{}}) has {{}} different values: '
              '{{}}. The newest counts.', any_value(s.metric), any_value(s.model_title), any_value(s.dataset),
              any_value(s.adaptation), any_value({_level("s.operator", "s.severity")}),
              any_value(s.model_seed), any_value(s.eval_seed), count(DISTINCT s.value),
              list_aggregate(list_transform(list_sort(list(DISTINCT s.value)), lambda x: format('{{:.4f}}', x)),
                             'string_agg', ', ')) AS message, {", ".join(f"any_value(s.{c}) AS {c}" for c in PLACE)}
FROM scores s JOIN runs r USING (run) GROUP BY s.key HAVING count(DISTINCT s.value) > 1"""

# The per-band statistics of the same images see no texture: a model below them has learned nothing of use. Of several
# band sets the model's own is its floor, else the best one.
_BELOW_FLOOR = f"""
SELECT p.model_group, 'below-floor', 'warning',
       format('{{}} is below the band statistics on {{}} ({{}}, {{}}): {{}} {{:.3f}} against {{:.3f}}.', p.title,
              p.dataset, p.adaptation, {_level("p.operator", "p.severity")}, p.metric, p.value,
              coalesce(max(f.value) FILTER (f.bands IS NOT DISTINCT FROM p.bands), max(f.value))), {_of("p")}
FROM per_point p JOIN per_point f USING (severity, {_CURVE})
WHERE f.model_group = 'band-stats' AND p.model_group <> 'band-stats'
GROUP BY p.model_group, p.title, p.bands, p.value, p.severity, {_of("p", _CURVE)}
HAVING p.value < coalesce(max(f.value) FILTER (f.bands IS NOT DISTINCT FROM p.bands), max(f.value))"""

# The band statistics do not see pixels that only move: equal scores are theirs by right.
_SAME_AT_ALL_SEVERITIES = f"""
SELECT max(run_id), 'identical-scores', 'warning',
       format('{{}} of {{}} on {{}} ({{}}, evaluation seed {{}}) is {{:.4f}} at all {{}} severities: was the input '
              'degraded?', metric, max(model_title), dataset, adaptation, eval_seed, max(value),
              count(DISTINCT severity)), {_COLUMNS}
FROM now_valid WHERE model_group <> 'band-stats'
GROUP BY model_group, model_seed, eval_seed, bands, {_CURVE}
HAVING count(DISTINCT severity) > 1 AND count(DISTINCT value) = 1 AND max(value) > 0 AND max(value) < 1"""

# One equal pair may be chance; three equal ones and none that differs are not.
_SAME_FOR_ALL_SEEDS = f"""
SELECT model_group, 'identical-scores', 'warning',
       format('{{}} on {{}} ({{}}, {{}} evaluation seeds) scores the same with every seed at all {{}} severities: was '
              'another training subset drawn?', max(model_title), dataset, adaptation, count(DISTINCT eval_seed),
              count(DISTINCT severity)), {_COLUMNS}
FROM now_valid WHERE NOT deterministic
GROUP BY model_seed, {_COLUMNS}
HAVING count(DISTINCT eval_seed) > 1 AND count(DISTINCT (metric, severity, value)) = count(DISTINCT (metric, severity))
   AND count(DISTINCT (severity, eval_seed)) - count(DISTINCT severity) >= 3 AND max(value) > 0 AND min(value) < 1"""

# Two random initialisations of one architecture and seed are the same weights by right. Every curve among equal ones
# has one finding, in the same words: one per pair would be as many as the square of them.
_NAMED = 3


def _listed(separator: str) -> str:
    """SQL: the first of `names`, of which there are `count_of` (two or more), and how many more there are."""
    return (
        f"list_aggregate(names[:least(count_of - 1, {_NAMED})], 'string_agg', '{separator}') || "
        f"CASE WHEN count_of - 1 > {_NAMED} THEN format(' and {{}} more', count_of - {_NAMED}) "
        "ELSE ' and ' || names[count_of] END"
    )


_SAME_FOR_MODELS = f"""
SELECT of_one[1] AS model_group, 'identical-scores', 'warning',
       format('{{}} score the same on {{}} ({{}}, all {{}} scores): does each have its own weights?',
              {_listed(", ")}, dataset, adaptation, n),
       of_one[1], of_one[2], {_PROTOCOL}
FROM (
    SELECT {_PROTOCOL}, any_value(n) AS n, unnest(list(DISTINCT (model_group, bands))) AS of_one,
           list_transform(list_sort(list(DISTINCT (name, model_group, model_seed))), lambda x: x[1]) AS names,
           count(DISTINCT (model_group, model_seed)) AS count_of
    FROM curves GROUP BY {_PROTOCOL}, points
    HAVING count_of > 1 AND NOT (bool_and(starts_with(model_group, 'random:')) AND count(DISTINCT model_seed) = 1)
)"""
_CURVES = f"""
curves AS (
    SELECT model_seed, format('{{}} (seed {{}})', max(model_title), model_seed) AS name, {_COLUMNS},
           list((metric, severity, eval_seed, value) ORDER BY metric, severity, eval_seed, value) AS points,
           count(*) AS n
    FROM now_valid GROUP BY model_seed, {_COLUMNS}
    HAVING count(DISTINCT (severity, eval_seed)) >= 4 AND count(DISTINCT value) > 1
)"""


def _spelled_out() -> str:
    """SQL: the adaptation with a preset's settings in place of its name: someone may have asked for just those."""
    names = {}
    for name, preset in EVALUATION_PRESETS.items():
        spec = evaluate_spec("m", "d", name)
        plain = spec.model_copy(update={"preset": ""})
        for task in map(TASKS.__getitem__, preset.tasks):
            names |= {spec.protocol_name(a, task): plain.protocol_name(a, task) for a in task.adaptations}
    known = " ".join(f"WHEN '{name}' THEN '{plain}'" for name, plain in names.items())
    return f"CASE adaptation {known} ELSE adaptation END"


# What a curve was asked for, as far as its scores must differ by it: all precisions are one where nothing is
# accelerated, bands have no order, and the band statistics do not see pixels that only move.
_SETTING = (
    f"replace(regexp_replace({_spelled_out()}, '(, )?precision=[a-z0-9]+', ''), ' ()', '')",
    "CASE model_group WHEN 'band-stats' THEN '' ELSE operator END",
    "degrade_target",
    "train_degrade",
    "list_sort(string_split(bands, ','))",
)
_SET_BY = ("adaptation", "operator", "degrade_target", "train_degrade", "bands")
_ASKED_OF = "model_group, model_seed, dataset, pack_hash, split, task"
_UNTOUCHED = " ".join(f"WHEN '{name}' THEN {entry.identity}" for name, entry in OPERATORS.items())
# Points at which the input is as it was are the same for all operators and targets by right, and flat curves are
# another rule's. Of a search without chance, more seeds are no more evidence.
_DEGRADED = f"""
degraded AS (
    SELECT model_seed, {_COLUMNS}, max(model_title) AS title, ({", ".join(_SETTING)}) AS setting,
           list((metric, severity, eval_seed, value) ORDER BY metric, severity, eval_seed, value)
               FILTER (touched) AS points,
           count(DISTINCT (severity, CASE WHEN deterministic THEN 0 ELSE eval_seed END))
               FILTER (touched AND value > 0 AND value < 1) AS n
    FROM (SELECT *, severity IS DISTINCT FROM CASE operator {_UNTOUCHED} END AS touched FROM now_valid)
    GROUP BY model_seed, {_COLUMNS}
    HAVING n >= 4 AND count(DISTINCT (metric, eval_seed, value)) > count(DISTINCT (metric, eval_seed))
       AND count(DISTINCT (metric, value)) FILTER (touched) > count(DISTINCT metric) FILTER (touched)
)"""
# As among models, each of many equal curves has one finding; of several model seeds the first one's words.
_VARIED = ", ".join(
    f"CASE WHEN varied[{i}] THEN {label} || x[{i}] END"
    for i, label in enumerate(("''", *(f"'{name} '" for name in _SET_BY[1:])), start=1)
)
_IGNORED_SETTING = f"""
SELECT model_group, 'identical-scores', 'warning', arg_min(message, model_seed), {_COLUMNS}
FROM (
    SELECT {_ASKED_OF}, of_one[5] AS bands,
           {", ".join(f"of_one[{i}] AS {name}" for i, name in enumerate(_SET_BY[:4], start=1))},
           format('{{}} on {{}} ({{}}) scores the same with {{}} at all {{}} degraded points: was the setting '
                  'ignored?', title, dataset,
                  concat_ws(', ', CASE WHEN NOT varied[1] THEN of_one[1] END, 'model seed ' || model_seed),
                  {_listed("; ")}, n) AS message
    FROM (
        SELECT * EXCLUDE (asked), unnest(asked) AS of_one, len(asked) AS count_of,
               list_transform(asked[:{_NAMED + 1}], lambda x: concat_ws(', ', {_VARIED})) AS names
        FROM (
            SELECT {_ASKED_OF}, any_value(title) AS title, any_value(n) AS n,
                   list_sort(list(({", ".join(_SET_BY)}))) AS asked,
                   [{", ".join(f"count(DISTINCT {name}) > 1" for name in _SET_BY)}] AS varied
            FROM degraded GROUP BY {_ASKED_OF}, points HAVING count(DISTINCT setting) > 1
        )
    )
)
GROUP BY {_COLUMNS}"""

_COLLAPSED = f"""
SELECT model_group, 'collapsed-features', 'warning',
       format('{{}} on {{}} ({{}}, {{}}) rests on collapsed features: they spread {{:.3f}} of what is healthy, over '
              '{{:.1f}} of {{}} dimensions.', max(model_title), dataset, adaptation,
              list_aggregate(
                  list_transform(list_sort(list(DISTINCT severity)), lambda x: {_level("operator", "x")}),
                  'string_agg', ', '),
              min(feature_std_l2 * sqrt(feature_dim)), min(feature_rank), max(feature_dim)), {_COLUMNS}
FROM now_valid
WHERE feature_std_l2 IS NOT NULL AND feature_rank IS NOT NULL
  AND (feature_std_l2 < {COLLAPSED_STD} / sqrt(feature_dim) OR (feature_rank < {COLLAPSED_RANK} AND feature_dim >= 8))
GROUP BY {_COLUMNS}"""

_WRONG_INPUT = f"""
SELECT model_group, 'wrong-input',
       CASE WHEN bool_or(NOT {_within(WRONG_MEAN, WRONG_STD)}) THEN 'error' ELSE 'warning' END,
       format('{{}} on {{}} ({{}}, band {{}}) gets input with mean {{:.3g}} and standard deviation {{:.3g}}, where '
              'about 0 and 1 are right: a wrong unit, missing statistics, or images unlike those it was made for.',
              max(model_title), dataset, adaptation, arg_max(input_band, (time, seq)),
              arg_max(input_mean, (time, seq)), arg_max(input_std, (time, seq))), {_COLUMNS}
FROM now_valid
WHERE input_band IS NOT NULL AND input_mean IS NOT NULL AND input_std IS NOT NULL
  AND NOT {_within(FAR_MEAN, FAR_STD)}
GROUP BY {_COLUMNS}"""

# Scores of one model seed that a later version, or another pretraining of the same seed, has measured in part only.
_MIXED_BASIS = f"""
SELECT model_group, 'mixed-basis', 'warning',
       format('{{}} on {{}} ({{}}) mixes scores of different weights, preprocessing or operators under model seed '
              '{{}}: evaluate it again at all severities.', max(model_title), dataset, adaptation, model_seed),
       {_COLUMNS}
FROM now_valid GROUP BY model_seed, {_COLUMNS}
HAVING count(DISTINCT (coalesce(basis, ''), coalesce(operator_hash, ''))) > 1"""

_NOWHERE = ", ".join("NULL" for _ in PLACE)
_OLDER_PACK = f"""
SELECT s.dataset, 'older-pack', 'info',
       format('{{}} measured on an earlier content of pack {{}} and not compared.',
              CASE count(*) WHEN 1 THEN '1 score was' ELSE count(*) || ' scores were' END, s.dataset),
       {", ".join("s.dataset" if name == "dataset" else "NULL" for name in PLACE)}
FROM now_valid s JOIN newest_content p USING (dataset) WHERE s.pack_hash <> p.pack_hash GROUP BY s.dataset"""

_UNREADABLE_LINE = f"""
SELECT owner, 'unreadable-line', 'info',
       format('{{}}: {{}} could not be read (a writer that was killed leaves half a line).', name,
              CASE bad WHEN 1 THEN '1 line' ELSE bad || ' lines' END), {_NOWHERE}
FROM files WHERE bad > 0"""

LINT = f"CREATE VIEW lint AS WITH {_COMMON},{_CURVES},{_DEGRADED}" + " UNION ALL ".join(
    (
        _DUPLICATE_KEY, _BELOW_FLOOR, _SAME_AT_ALL_SEVERITIES, _SAME_FOR_ALL_SEEDS, _SAME_FOR_MODELS, _IGNORED_SETTING,
        _COLLAPSED, _WRONG_INPUT, _MIXED_BASIS, _OLDER_PACK, _UNREADABLE_LINE,
    )
)  # fmt: skip
