"""`rsfm compare`: curves of all models, one model against another, tiers, and one number over packs."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsfm.commands.common import (
    JsonOption,
    WorkspaceOption,
    frame_rows,
    print_json,
    summary_columns,
    table,
)
from rsfm.errors import RsfmError
from rsfm.wording import samples_text
from rsfm.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from rsfm.store.view import Store

COMPARE_COLUMNS = (
    "model", "dataset", "task", "adaptation", "operator", "severity", "gsd_m", "metric", "mean", "std", "ci_low",
    "ci_high", "n", "scenes", "seeds", "model_title", "model_group", "synthetic", "seed_kind", "bands", "split",
    "pack_hash", "degrade_target", "train_degrade",
)  # fmt: skip
NOTHING = "No results yet. Make some with: rsfm evaluate --model MODEL --dataset PACK"
#: What may differ between curves of one model on one pack: named beside the model where it does.
_VARIANTS = ("split", "bands", "degrade_target", "train_degrade")
#: Left-out lines that are printed; all of them are in the JSON.
_MOST_LINES = 10


def compare(
    dataset: Annotated[str | None, typer.Option(help="Only this pack.")] = None,
    models: Annotated[
        str | None,
        typer.Option(help="Two models with a comma: is the first one better? A group, a run, a baseline or a title."),
    ] = None,
    trained: Annotated[
        str | None,
        typer.Option(
            help="With --models: how each was fitted, none or the operator of its training images: bilinear,none "
            "(then one model may be named twice), in full where it has several: bilinear (1, 16),none. "
            "Else only equal ways are compared."
        ),
    ] = None,
    tiers: Annotated[bool, typer.Option("--tiers", help="Which models cannot be told apart.")] = False,
    normalised: Annotated[
        bool, typer.Option("--normalised", help="One number per model: 0 is the best constant prediction, 1 perfect.")
    ] = False,
    adaptation: Annotated[str | None, typer.Option(help="Only this adaptation, as tables name it.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric; else all, or each task's primary one.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Compare models over severities: mean with interval, area under the curve, retention.

    With --models, --tiers or --normalised: tests on the same samples, with the spread of seeds.
    """
    place = Workspace.resolve(workspace)
    if (models is not None) + tiers + normalised > 1:
        raise typer.BadParameter("choose one of --models, --tiers and --normalised")
    if metric is not None and normalised:
        raise typer.BadParameter("--normalised takes each task's primary metric: leave --metric out")
    if trained is not None and models is None:
        raise typer.BadParameter("--trained says how the two of --models were fitted: name them")
    if models is not None:
        pair = _pair(models, "--models", "models")
        ways = None if trained is None else _pair(trained, "--trained", "ways of training")
        with _index(place) as store:
            _paired(store, *pair, dataset, adaptation, metric, ways, as_json)
    elif tiers:
        with _index(place) as store:
            _tiers(store, dataset, adaptation, metric, as_json)
    elif normalised:
        with _index(place) as store:
            _normalised(store, dataset, adaptation, as_json)
    elif as_json:
        from rsfm.comparison import SUMMARY_COLUMNS, with_summaries

        frame = with_summaries(_curves(place, dataset, adaptation, metric))
        print_json(frame_rows(frame[[*COMPARE_COLUMNS, *SUMMARY_COLUMNS]]))
    else:
        print_comparison(place, dataset, adaptation, metric)


def _pair(text: str, option: str, what: str) -> tuple[str, str]:
    # Commas in parentheses belong to a name: bilinear (1, 16).
    found = [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    if len(found) != 2:
        raise typer.BadParameter(f"{option} takes two {what} with a comma, got {text!r}")
    return found[0], found[1]


@contextlib.contextmanager
def _index(place: Workspace) -> Iterator[Store]:
    """The index as it is now; says in the end, on standard error, what its reader must know of its age."""
    from rsfm.store.view import Store

    store = Store(place)
    store.refresh_if_stale(0)
    yield store
    if store.notice:
        print(store.notice, file=sys.stderr)


def _require_known(place: Workspace, dataset: str | None) -> None:
    """Refuse a pack that is neither prepared nor in any result."""
    from rsfm.packs import Pack

    if dataset is not None:
        Pack.named(place, dataset)


# -- all models: curves ---------------------------------------------------------------------------------------------
def _curves(place: Workspace, dataset: str | None, adaptation: str | None, metric: str | None) -> pd.DataFrame:
    with _index(place) as store:
        frame = store.compare(dataset=dataset, adaptation=adaptation, metric=metric)
    if frame.empty:
        _require_known(place, dataset)
    return frame


def print_comparison(
    place: Workspace, dataset: str | None = None, adaptation: str | None = None, metric: str | None = None
) -> None:
    """A row per model and adaptation, a column per severity, and what each curve amounts to."""
    from rsfm.comparison import with_summaries
    from rsfm.degrade import severity_text
    from rsfm.stats import CURVE_KEYS, seeds_text

    frame = with_summaries(_curves(place, dataset, adaptation, metric))
    if frame.empty:
        print(NOTHING)
        return
    for (pack, name, operator), part in frame.groupby(["dataset", "metric", "operator"], sort=True):
        severities = sorted(part["severity"].unique())
        differing = _differing(part, "model_group")
        rows, firsts = [], []
        for _, curve in part.groupby([k for k in CURVE_KEYS if k in part.columns], sort=False, dropna=False):
            at = {row.severity: row for row in curve.itertuples()}
            cells = [_with_interval(at[s]) if s in at else "" for s in severities]
            first = curve.iloc[0]
            kinds = curve.groupby("seed_kind", sort=False)["seeds"].agg(["min", "max"])  # of a kind at each severity
            seeds = ", ".join(seeds_text(kind, fewest, most) for kind, fewest, most in kinds.itertuples())
            rows.append([_named(first, differing), first["adaptation"], operator, *cells, seeds, _size(first)])
            firsts.append(first)
        gsd = part.drop_duplicates("severity").set_index("severity")["gsd_m"].to_dict()
        heads = [
            severity_text(operator, s) + (f" ({gsd[s]:g} m)" if gsd[s] == gsd[s] and gsd[s] is not None else "")
            for s in severities
        ]
        more = summary_columns(firsts)
        for row, summary in zip(rows, zip(*more.values(), strict=True), strict=True):
            row[-2:-2] = summary
        columns = ["model", "adaptation", "operator", *heads, *more, "seeds", "measured on"]
        table(f"{pack} · {name}{_synthetic(part)}", columns, rows, empty="")


def _differing(frame: pd.DataFrame, by: str) -> list[str]:
    """Of `_VARIANTS`, those that differ between rows of one model."""
    counts = frame.groupby([by, "adaptation"], dropna=False)[list(_VARIANTS)].nunique(dropna=False).max()
    return [name for name in _VARIANTS if counts[name] > 1]


def _named(row: pd.Series, differing: Sequence[str]) -> str:
    words = {"bands": "on {}", "train_degrade": "trained with {}", "split": "{}", "degrade_target": "{} degraded"}
    more = [words[name].format(row[name]) for name in differing if row[name] != "none"]
    return " ".join([str(row["model_title"]), *more])


def _with_interval(row: Any) -> str:
    """A score and its interval, where that is known."""
    return f"{row.mean:.3f}" + (f" [{row.ci_low:.3f}, {row.ci_high:.3f}]" if row.ci_low == row.ci_low else "")


def _size(row: pd.Series) -> str:
    """Test samples, and the scenes that they are parts of, where these are fewer."""
    return samples_text(int(row["n"]), None if row["scenes"] != row["scenes"] else int(row["scenes"]))


def _synthetic(frame: pd.DataFrame) -> str:
    return " · synthetic data" if bool(frame["synthetic"].any()) else ""


def _print_left_out(lines: Sequence[str]) -> None:
    if lines:
        print("Not compared:")
        for line in lines[:_MOST_LINES]:
            print(f"  {line}")
        if len(lines) > _MOST_LINES:
            print(f"  and {len(lines) - _MOST_LINES} more (see --json)")


# -- one model against another --------------------------------------------------------------------------------------
def _paired(
    store: Store,
    a: str,
    b: str,
    dataset: str | None,
    adaptation: str | None,
    metric: str | None,
    trained: tuple[str, str] | None,
    as_json: bool,
) -> None:
    from rsfm import comparison
    from rsfm.degrade import severity_text

    if store.scores(dataset=dataset).empty:
        _require_known(store.workspace, dataset)
        raise RsfmError(NOTHING)
    frame = comparison.paired(store, a, b, dataset, adaptation=adaptation, metric=metric, trained=trained)
    verdict = comparison.verdict(frame)
    if as_json:
        print_json(
            {
                "a": frame.attrs["a"], "b": frame.attrs["b"], "alpha": frame.attrs["alpha"],
                "verdict": {
                    "name": verdict.name, "text": verdict.text, "remarks": list(verdict.remarks),
                    "better": verdict.better, "worse": verdict.worse, "equal": verdict.equal,
                    "exceptions": frame_rows(verdict.exceptions),
                },
                "rows": frame_rows(frame), "left_out": frame.attrs["left_out"],
            }
        )  # fmt: skip
        return
    print(f"A  {frame.attrs['a']}  ({_seeds(frame, 'a')})\nB  {frame.attrs['b']}  ({_seeds(frame, 'b')})\n")
    print(verdict.text)
    for remark in verdict.remarks:
        print(remark)
    print()
    for (pack, name, operator, n, scenes), part in frame.groupby(
        ["dataset", "metric", "operator", "n", "scenes"], sort=False
    ):
        differing = [k for k in ("split", "degrade_target", "train_degrade", "bands_a", "bands_b") if _several(part, k)]
        rows = [
            [
                " ".join([row["adaptation"], *(str(row[k]) for k in differing)]),
                severity_text(operator, row["severity"]), f"{row['mean_a']:.3f}", f"{row['mean_b']:.3f}",
                f"{row['difference']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]",
                _p(row["p_adjusted"]), {"a": "A", "b": "B"}.get(row["verdict"], "-"),
            ]
            for _, row in part.iterrows()
        ]  # fmt: skip
        title = f"{pack} · {name}{f' · {operator}' if operator != 'bilinear' else ''} · {samples_text(n, scenes)}"
        table(title, ["adaptation", "at", "A", "B", "A - B [95 %]", "p", "better"], rows, empty="")
    print(f"p is corrected for {len(frame)} comparisons (Holm), intervals are not.")
    _print_left_out(frame.attrs["left_out"])


def _several(frame: pd.DataFrame, column: str) -> bool:
    return frame[column].nunique(dropna=False) > 1


def _seeds(frame: pd.DataFrame, side: str) -> str:
    """E.g. "3 model seeds", or "1 to 3 evaluation seeds"."""
    from rsfm.stats import seeds_text

    counts = frame.groupby(f"seed_kind_{side}", sort=True)[f"seeds_{side}"].agg(["min", "max"])
    return ", ".join(seeds_text(str(kind), low, high) for kind, low, high in counts.itertuples())


def _p(value: float) -> str:
    return "" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


# -- many models ----------------------------------------------------------------------------------------------------
def _tiers(store: Store, dataset: str | None, adaptation: str | None, metric: str | None, as_json: bool) -> None:
    from rsfm import comparison
    from rsfm.degrade import severity_text

    frame = comparison.tiers_of(store, dataset, adaptation=adaptation, metric=metric)
    if _print_rows_as_json(store, frame, dataset, as_json):
        return
    keys = ["dataset", "metric", "operator", "split", "adaptation", "degrade_target", "train_degrade"]
    for values, part in frame.groupby(keys, sort=False, dropna=False):
        pack, name, operator, test_split, how, target, trained = values
        severities = sorted(part["severity"].unique())
        several = part.groupby("model_group")["bands"].nunique(dropna=False).max() > 1
        lines = []
        for _, curve in part.groupby(["model_group", "bands"], sort=False, dropna=False):
            at = {row.severity: f"{row.tier} ({row.mean:.3f})" for row in curve.itertuples()}
            title = _named(curve.iloc[0], ["bands"] if several else [])
            lines.append((curve["tier"].mean(), -curve["mean"].mean(), [title, *(at.get(s, "") for s in severities)]))
        parts = [
            pack, name, how, *([operator] if operator != "bilinear" else []), test_split,
            *([f"{target} degraded"] if target != "single" else []),
            *([f"trained with {trained}"] if trained != "none" else []),
        ]  # fmt: skip
        heads = [severity_text(operator, s) for s in severities]
        title = " · ".join(map(str, parts)) + _synthetic(part)
        table(title, ["model", *heads], [cells for *_, cells in sorted(lines, key=lambda x: x[:2])], empty="")
    print("Tier (mean). Models that cannot be told from the best of a tier (p of 5 %, Holm) share it.")
    _print_left_out(frame.attrs["left_out"])


def _normalised(store: Store, dataset: str | None, adaptation: str | None, as_json: bool) -> None:
    from rsfm import comparison
    from rsfm.degrade import severity_text

    frame = comparison.normalised(store, dataset, adaptation=adaptation)
    if _print_rows_as_json(store, frame, dataset, as_json):
        return
    for (how, operator, trained), part in frame.groupby(["adaptation", "operator", "train_degrade"], sort=False):
        severities = sorted(part["severity"].unique())
        several = _several(part, "parts")
        rows = []
        for (_, parts), curve in part.groupby(["model_group", "parts"], sort=False):
            at = {row.severity: _with_interval(row) for row in curve.itertuples()}
            cells = [at.get(s, "") for s in severities]
            rows.append([curve["model_title"].iloc[0], *cells, *([parts] if several else [])])
        more = f" · {operator}" * (operator != "bilinear") + f" · trained with {trained}" * (trained != "none")
        packs = "" if several else f" · {part['parts'].iloc[0]}"
        heads = [*(severity_text(operator, s) for s in severities), *(["packs"] if several else [])]
        table(f"{how}{more}{packs}{_synthetic(part)}", ["model", *heads], rows, empty="")
    print("0: the best constant prediction, 1: a perfect one. Only rows with the same packs are comparable.")
    _print_left_out(frame.attrs["left_out"])


def _print_rows_as_json(store: Store, frame: pd.DataFrame, dataset: str | None, as_json: bool) -> bool:
    """Print a frame where JSON is asked for, or that there is nothing; whether that was all."""
    left_out: list[str] = frame.attrs["left_out"]
    if frame.empty:
        _require_known(store.workspace, dataset)
    if as_json:
        answer: dict[str, Any] = {"rows": frame_rows(frame), "left_out": left_out}
        print_json(answer)
        return True
    if frame.empty:
        print(NOTHING)
        _print_left_out(left_out)
    return bool(frame.empty)
