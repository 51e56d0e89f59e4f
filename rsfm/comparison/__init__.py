"""Is model A better than model B? From what their evaluations left for each test sample. No torch.

Compared is only what was measured by the same protocol on the same samples; every difference is tested with samples
and seeds as sources of chance (`rsfm.stats.groups`), and p-values are corrected for the number of cells.
"""

from rsfm.comparison.counts import PROTOCOL
from rsfm.comparison.curves import SUMMARY_COLUMNS, curve_summary, ladder_text, with_summaries
from rsfm.comparison.flips import CURVE, Flips, curve_id, flips
from rsfm.comparison.paired import COLUMNS, Verdict, paired, verdict
from rsfm.comparison.ranking import normalised, tiers_of

__all__ = [
    "COLUMNS", "CURVE", "PROTOCOL", "SUMMARY_COLUMNS", "Flips", "Verdict", "curve_id", "curve_summary", "flips",
    "ladder_text", "normalised", "paired", "tiers_of", "verdict", "with_summaries",
]  # fmt: skip
