"""What all verbs share: options, tables, JSON, and following a job with a progress bar."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsfm.errors import JobFailed
from rsfm.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="The lab's folder; else $RSFM_WORKSPACE, else ./workspace.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]


def split(text: str) -> list[str]:
    """`a, b,c` -> ["a", "b", "c"]."""
    return [part.strip() for part in text.split(",") if part.strip()]


def integers(text: str, option: str) -> list[int]:
    """`1,2,4` -> [1, 2, 4]; anything else is refused by the option's name."""
    try:
        return [int(part) for part in split(text)]
    except ValueError:
        raise typer.BadParameter(f"{option} takes whole numbers with commas, got {text!r}") from None


def numbers(text: str, option: str) -> list[float]:
    """`0.5,2` -> [0.5, 2.0]; anything else is refused by the option's name."""
    try:
        return [float(part) for part in split(text)]
    except ValueError:
        raise typer.BadParameter(f"{option} takes numbers with commas, got {text!r}") from None


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def frame_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as JSON-ready rows (missing values are null, times ISO text)."""
    return json.loads(frame.to_json(orient="records", date_format="iso"))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print a table, or what to do when there is nothing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = list(rows)
    # Names are never cut: a table that is piped or stands in a narrow window may be wider than the window.
    console = Console(width=None if sys.stdout.isatty() else 240)
    if not rows:
        console.print(empty, markup=False)
        return
    out = Table(*columns, title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for row in rows:
        out.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    console.print(out)


def summary_columns(curves: Sequence[pd.Series], *, percent: bool = False) -> dict[str, list[str]]:
    """Columns with what curves amount to: heading -> a cell for each curve.

    Left out are numbers that none of them has, and the severities where they are the same for all.

    Args:
        curves: a point of each, from `rsfm.comparison.with_summaries`.
        percent: whether scores are written as such.
    """
    columns = {
        "AUC": ("curve_auc", "{:.1f}", 1), "norm. AUC": ("curve_auc_norm", "{:.1f} %", 100),
        "mean": ("curve_mean", *(("{:.1f}", 100) if percent else ("{:.3f}", 1))),
        "retention": ("curve_retention", "{:.1f} %", 100),
    }  # fmt: skip
    found = {}
    for head, (name, text, times) in columns.items():
        values = [times * float(curve[name]) for curve in curves]
        if not all(map(math.isnan, values)):
            found[head] = ["" if math.isnan(value) else text.format(value) for value in values]
    ladders = [str(curve["curve_ladder"]) for curve in curves]
    return found | ({"severities": ladders} if len(set(ladders)) > 1 else {})


class Bars:
    """Progress on standard error: live bars on a terminal, a line every few seconds elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._live = sys.stderr.isatty()
        self._said = 0.0
        self._last = ""
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=32),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"), TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"), console=Console(stderr=True), transient=False, disable=not self._live,
        )  # fmt: skip
        self._task: Any = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, what: str, done: float, total: float, unit: str = "", more: str = "") -> None:
        if self._live:
            if self._task is None:
                self._task = self._progress.add_task(what, total=total, unit=unit, more=more)
            self._progress.update(self._task, description=what, completed=done, total=total, unit=unit, more=more)
        elif what != self._last or done >= total or time.monotonic() - self._said > 5:
            self._last, self._said = what, time.monotonic()
            print(f"{what}  {done:.0f}/{total:.0f} {unit}  {more}".rstrip(), file=sys.stderr, flush=True)


class Interrupted(JobFailed):
    """A run was stopped with Ctrl-C."""


def follow(workspace: Workspace, run_id: str) -> str:
    """Show a run until it is finished. Ctrl-C asks it to stop; a second one leaves it running in the background.

    Returns:
        Its final state.

    Raises:
        JobFailed: it did not succeed; `Interrupted` after Ctrl-C.
    """
    from jobs import client
    from rsfm.store.runs import open_run

    error: type[JobFailed] = JobFailed
    with Bars() as bars:

        def on_progress(p: dict[str, Any]) -> None:
            rate = f"{p['rate']:.0f} {p.get('unit', '')}/s" if p.get("rate") else ""
            loss = f"loss {p['loss']:.4f}" if isinstance(p.get("loss"), (int, float)) else ""
            bars.show(
                p.get("phase") or p.get("state") or run_id, p.get("done") or 0, p.get("total") or 1,
                p.get("unit", ""), "  ".join(x for x in (rate, loss) if x),
            )  # fmt: skip

        try:
            state = client.follow(workspace, run_id, on_progress=on_progress)
        except KeyboardInterrupt:
            error = Interrupted
            print("\nStopping (saves first; press Ctrl-C again to leave it running)…", file=sys.stderr)
            client.stop(workspace, run_id)
            state = client.follow(workspace, run_id, on_progress=on_progress)
    if state != "succeeded":
        reason = (open_run(workspace, run_id).exit() or {}).get("traceback") or ""
        last = reason.strip().splitlines()[-1] if reason.strip() else "see its log"
        raise error(f"run {run_id} is {state}: {last} ({workspace.runs / run_id / 'log.txt'})")
    return state


def follow_all(workspace: Workspace, run_ids: Sequence[str]) -> list[str]:
    """`follow` runs one after the other, also when one fails.

    Returns:
        A line for each that did not succeed.

    Raises:
        Interrupted: Ctrl-C stopped the one that was shown; the others go on in the background.
    """
    failed = []
    for number, run_id in enumerate(run_ids, 1):
        print(f"[{number}/{len(run_ids)}] {run_id}", file=sys.stderr)
        try:
            follow(workspace, run_id)
        except Interrupted:
            raise
        except JobFailed as error:
            print(f"  {error}", file=sys.stderr)
            failed.append(str(error))
    return failed


def require_all(failed: Sequence[str], total: int) -> None:
    """Raises: JobFailed: some runs did not succeed (`follow_all`)."""
    if failed:
        raise JobFailed(f"{len(failed)} of {total} runs did not succeed: {'; '.join(failed)}")
