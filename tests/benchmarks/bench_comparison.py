"""Comparing at size: `python tests/benchmarks/bench_comparison.py`.

Two models paired over 10,000 samples, 4 severities and 3 evaluation seeds (aim: 2 s), and a leaderboard of 60 models
on 20 packs (aim: half a second, which is what a rerun of a page has for everything). Takes some seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "app")]

from comparison_world import SEVERITIES, curve, evaluated  # noqa: E402 - folders that are no packages
from lab import compare_rows  # noqa: E402
from store_world import indexed  # noqa: E402

from app.components.board import board_table  # noqa: E402
from rsfm import comparison  # noqa: E402
from rsfm.comparison.board import board, columns_of  # noqa: E402
from rsfm.workspace import Workspace  # noqa: E402


def fastest_of_five(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    seconds = []
    for _ in range(5):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace, rng = Workspace(Path(folder)), np.random.default_rng(0)
        for group, share in (("a", 0.8), ("b", 0.6)):
            evaluated(workspace, group, curve(rng, 10_000, dict.fromkeys(SEVERITIES, share), seeds=3))
        store = indexed(workspace)
        print(f"two models, 10,000 samples: {fastest_of_five(lambda: comparison.paired(store, 'a', 'b')):.3f} s")
    groups = {f"m{i}": [0.9, 0.8, 0.6, 0.3] for i in range(60)}
    rows = pd.concat([compare_rows(groups, dataset=f"p{k}") for k in range(20)], ignore_index=True)
    found = columns_of(rows, "mean")

    def drawn() -> None:
        made = board(rows, found, normalised=False)
        board_table(made, found, [0] * len(made))

    print(f"leaderboard, {len(rows):,} scores: {fastest_of_five(drawn):.3f} s")


if __name__ == "__main__":
    main()
