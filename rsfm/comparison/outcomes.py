"""How one evaluation did on each single sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rsfm.comparison.counts import prediction_files
from rsfm.errors import RsfmError
from rsfm.metrics import METRICS
from rsfm.store.view import Store


def outcomes(store: Store, run_id: str, adaptation: str, severity: float) -> pd.DataFrame:
    """One row per test sample.

    Returns:
        sample_id; score: the run's primary metric of this sample alone, mean over evaluation seeds (for classes the
        share of seeds that got it right), NaN where it is not defined; predicted_index: of the first seed, where a
        sample has one class, else absent.

    Raises:
        RsfmError: there are no such predictions, or they cannot be read.
    """
    chosen = (pc.field("adaptation") == adaptation) & (pc.field("severity") == severity)
    try:
        tables = [pq.read_table(file, filters=chosen) for file in prediction_files(store, run_id)]
    except (OSError, pa.ArrowException) as error:
        raise RsfmError(f"The predictions of {run_id} cannot be read: {error}") from None
    frame = pd.concat([t.to_pandas() for t in tables], ignore_index=True) if tables else pd.DataFrame()
    if frame.empty:
        raise RsfmError(f"Run {run_id} left no predictions of {adaptation} at {severity:g}.")
    if "counts" in frame:
        metric = METRICS[str(frame["metric"].iloc[0])]
        frame["score"] = np.asarray(metric.of(np.stack(frame["counts"]).astype(np.float64)), np.float64)
    else:
        frame["score"] = frame["correct"].astype(float)
    found = frame.groupby("sample_id", sort=False)["score"].mean().reset_index()
    if "predicted_index" in frame and frame["predicted_index"].notna().all():
        first = frame[frame["eval_seed"] == frame["eval_seed"].min()].set_index("sample_id")["predicted_index"]
        found["predicted_index"] = found["sample_id"].map(first).astype("Int64")
    return found
