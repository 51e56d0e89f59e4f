"""Uncertainty, tests and summaries: what decides whether one model is better than another. Light to import.

Throughout, a *score* is in 0..1, larger is better, and a severity is a coarsening factor f (1 = native).

    intervals      the interval of a score: exact for proportions, else the bootstrap's
    bootstrap      resampling of pooled counts
    significance   exact McNemar test; correction for many tests
    groups         two groups of runs: samples and seeds both vary
    ranking        tiers instead of ranks; one number over several datasets
    curves         what a curve over severities amounts to: area, mean, retention
"""

from rsfm.stats.bootstrap import FEW_SCENES, bootstrap_pooled, bootstrap_weighted, few_scenes, per_scene
from rsfm.stats.curves import CURVE_KEYS, CurveSummary, auc_normalised, scale_auc, summarise
from rsfm.stats.groups import (
    GroupDifference,
    Measured,
    common_seeds,
    fold,
    group_difference,
    jackknife,
    mean_difference,
    measure,
    seeds_text,
    uneven,
)
from rsfm.stats.intervals import equal_scenes, is_proportion, proportion_interval, score_interval
from rsfm.stats.ranking import NormalisedMean, folded_error, normalised_mean, tiers
from rsfm.stats.significance import McNemar, holm, mcnemar_exact

__all__ = [
    "CURVE_KEYS", "FEW_SCENES", "CurveSummary", "GroupDifference", "McNemar", "Measured", "NormalisedMean",
    "auc_normalised", "bootstrap_pooled", "bootstrap_weighted", "common_seeds", "equal_scenes", "few_scenes",
    "fold", "folded_error", "group_difference", "holm", "is_proportion", "jackknife", "mcnemar_exact",
    "mean_difference", "measure", "normalised_mean", "per_scene", "proportion_interval", "scale_auc",
    "score_interval", "seeds_text", "summarise", "tiers", "uneven",
]  # fmt: skip
