"""A report of degradation curves as one HTML file that needs nothing else: charts, figures, findings, how they came
about. The page Degradation and `rsfm report` make the same one. No streamlit."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from app.components.curves_view import (
    Packs,
    View,
    caption,
    charts_of,
    drawn_rows,
    entries_of,
    notices,
    on_its_axis,
    published_rows,
    source_note,
)
from app.components.degradation import VALUES, baselines, curve_keys, curves_of, key_of, seeds_text
from app.components.measures import (
    adaptation_title,
    interval_text,
    metric_title,
    ordered,
    ordered_adaptations,
    ordered_tasks,
    primary_metric,
    samples_word,
    scale_of,
    target_title,
    task_title,
)
from app.components.palette import Look
from app.components.score_table import comparison_table, levels_of, presented, tier_letters
from app.text import missing, visible
from rsfm import __version__
from rsfm.comparison import with_summaries
from rsfm.degrade import OPERATORS
from rsfm.errors import RsfmError

#: Nothing may be fetched, whatever a name contains.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #15232b; background: #fff; max-width: 1120px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.8rem; margin-bottom: 0; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 0; } .small { color: #4c5f69; font-size: 0.87rem; }
.wide { overflow-x: auto; margin-bottom: 1.2rem; } table { border-collapse: collapse; font-size: 0.87rem; width: 100%; }
th, td { padding: 0.3rem 0.6rem; border-bottom: 1px solid #d5dee2; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.interval { color: #4c5f69; font-size: 0.8rem; } .tier { font-weight: 600; } .published { color: #4c5f69; }
.mark { background: #efe9fb; color: #5b3aa8; border-radius: 4px; padding: 0 0.35rem; font-size: 0.8rem; }
code { font-size: 0.85em; overflow-wrap: anywhere; } figure { margin: 0.6rem 0 0; break-inside: avoid; }
@media print { body { max-width: none; margin: 0; } }
"""
CHART = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"format": "svg"}}


@dataclass(frozen=True)
class Report:
    """What a report is about.

    Attributes:
        view: what is shown; looks: of its models, published ones too.
        packs: opens a pack by name.
        found: findings about the rows, see `app.components.score_table.findings_about`.
        tiers: severity -> rows of `rsfm.comparison.tiers_of`; left_out: lines on what had no part in them.
    """

    view: View
    looks: Mapping[str, Look]
    packs: Packs
    found: Sequence[Mapping[str, Any]] = ()
    tiers: Mapping[float, pd.DataFrame] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    title: str = "Resolution degradation"
    made: datetime | None = None


def report_html(what: Report) -> str:
    """The whole file.

    Raises:
        RsfmError: there is nothing to show.
    """
    view = what.view
    if view.rows.empty:
        raise RsfmError("There is nothing to report: no result fits what was chosen.")
    made = what.made or datetime.now(UTC)
    drawn = drawn_rows(view)
    title = _text(what.title)
    parts = [
        f"<h1>{title}</h1>", f'<p class="small">{made:%Y-%m-%d %H:%M} UTC · RSFM Lab {_text(__version__)}</p>',
        "<h2>What was measured</h2>", _measured(view), _packs_table(view, what.packs),
        f"<p>{_text(caption(view, what.packs))}</p>",
        *([f"<p>{_text(source_note(view.published, view.value))}</p>"] if len(view.published) else []),
        f"<h2>{_text(_shown(view))}</h2>", *(f"<p>{_text(line)}</p>" for line in notices(view, drawn)),
        _charts(what, drawn),
        "<h2>Figures</h2>", _figures(what), "<h2>Findings</h2>", _findings(what.found),
        "<h2>How it was computed</h2>", _how(what),
    ]  # fmt: skip
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head>\n<body>{''.join(parts)}</body></html>\n"
    )


def _text(value: Any) -> str:
    """User text as HTML that shows exactly these characters."""
    return escape(visible(value))


def _table(columns: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """Columns: title and whether it holds numbers; the cells of rows are HTML."""
    heads = "".join(f"<th{' class=number' if number else ''}>{_text(title)}</th>" for title, number in columns)
    body = "".join(
        "<tr>" + "".join(
            f"<td{' class=number' if number else ''}>{cell}</td>"
            for cell, (_, number) in zip(row, columns, strict=True)
        ) + "</tr>"
        for row in rows
    )  # fmt: skip
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


# -- what was measured ---------------------------------------------------------------------------------------------
def _measured(view: View) -> str:
    rows, operator = view.rows, str(view.rows["operator"].iloc[0])
    scale, entry = scale_of(operator), OPERATORS.get(operator)
    known = f", definition {entry.operator_hash}" if entry else ""
    metrics = ", ".join(dict.fromkeys(metric_title(m) for m in rows["metric"]))
    facts = {
        "Baseline": view.baseline_title,
        "Degradation": f"{scale.title} ({operator}{known})",
        "Severities": f"{', '.join(levels_of(rows))} ({scale.axis})",
        "Degraded image": ", ".join(target_title(t) for t in sorted(set(rows["degrade_target"]) - {"single"})),
        "Metric": metrics,
        "Adaptations": ", ".join(adaptation_title(a) for a in ordered_adaptations(rows["adaptation"])),
        "Seeds": ", ".join(sorted({seeds_text(r) for r in rows[["seeds", "seed_kind"]].to_dict("records")})),
    }
    listed = [[_text(name), _text(value)] for name, value in facts.items() if value]
    models = [
        [_text(r["model_title"]), f"<code>{_text(r['model_group'])}</code>"]
        for r in rows.drop_duplicates("model_group").to_dict("records")
    ]
    note = f"<p>{_text(view.note)}</p>" if view.note else ""
    return _table([("", False), ("", False)], listed) + note + _table([("Model", False), ("Group", False)], models)


def _packs_table(view: View, packs: Packs) -> str:
    rows = []
    for first in view.rows.drop_duplicates(["dataset", "pack_hash", "split", "task"]).to_dict("records"):
        mark = ' <span class="mark">synthetic data</span>' if first["synthetic"] else ""
        try:
            info = packs(str(first["dataset"])).info
            about = " · ".join(t for t in (info.title, info.source, info.licence) if t)
            if info.content_hash != first["pack_hash"]:
                about = "was prepared again since this was measured"
        except RsfmError:
            about = "is no longer in the workspace"
        content = "not known" if missing(first["pack_hash"]) else first["pack_hash"]
        rows.append(
            [f"{_text(first['dataset'])}{mark}", f"<code>{_text(content)}</code>", _text(first["split"]),
             _text(task_title(first["task"])), f"{int(first['n']):,} {_text(samples_word(first['task']))}",
             _text(about)]
        )  # fmt: skip
    columns = ("Pack", "Content hash", "Split", "Task", "Samples", "About")
    return _table([(name, False) for name in columns], rows)


# -- charts --------------------------------------------------------------------------------------------------------
def _shown(view: View) -> str:
    return VALUES[view.value] + (f" to {view.baseline_title}" if view.baseline_title else "")


def _charts(what: Report, drawn: pd.DataFrame) -> str:
    view = on_its_axis(what.view, drawn)
    parts = []
    for number, chart in enumerate(charts_of(view, drawn, what.looks, what.packs)):
        name = f"{task_title(chart.task)} · {adaptation_title(chart.adaptation)}"
        chart.figure.update_layout(template="plotly_white", autosize=True)
        # Plotly writes "<" and "/" of the figure's texts as \u003c and \u002f: none can end the script.
        drawing = chart.figure.to_html(full_html=False, include_plotlyjs=False, config=CHART, div_id=f"chart-{number}")
        parts.append(f"<h3>{_text(name)}</h3><figure>{drawing}</figure>")
    return "".join(parts)


# -- figures -------------------------------------------------------------------------------------------------------
def _number(value: Any, digits: int = 3) -> str:
    return "–" if missing(value) else f"{value:.{digits}f}"


def _cell(point: Mapping[str, Any] | None, tier: str) -> str:
    """A score with its interval and tier."""
    if point is None or missing(point["mean"]):
        return "–"
    ends = (
        "" if missing(point["ci_low"]) or missing(point["ci_high"])
        else f'<br><span class="interval">{point["ci_low"]:.3f}–{point["ci_high"]:.3f}</span>'
    )  # fmt: skip
    mark = f' <span class="tier">{_text(tier)}</span>' if tier else ""
    return f"{point['mean']:.3f}{mark}{ends}"


def _figures(what: Report) -> str:
    view, levels = what.view, levels_of(what.view.frame)
    rows, shown = presented(view, what.found)
    keys = curve_keys(view.frame)
    at = {key: {p["severity"]: p for p in curve} for key, curve in curves_of(view.frame).items()}
    # `presented` names things for people; these are the same rows with the keys of their curves.
    raw = comparison_table(view.frame)
    curves = [at[key_of(r, keys)] for r in raw.to_dict("records")]
    letters = {s: tier_letters(raw, found) for s, found in what.tiers.items()}
    titles = {
        "model_title": "Model", "variant": "Measured with", "dataset": "Pack", "adaptation": "Adaptation",
        "training": "Training images", "metric": "Metric", "auc": "AUC", "auc_norm": "Norm. AUC", "mean": "Mean",
        "retention": "Retention", "findings": "Findings", "ladder": "Severities", "over": "Mean over", "n": "n",
    }  # fmt: skip
    columns = [c for c in shown if c in titles or c in levels]
    numbers = {*levels, "auc", "auc_norm", "mean", "retention", "findings", "n"}
    lines = []
    for i, row in enumerate(rows.to_dict("records")):
        cells = []
        for column in columns:
            if column in levels:
                tier = letters[levels[column]][i] if levels[column] in letters else ""
                cells.append(_cell(curves[i].get(levels[column]), tier))
            elif column in ("auc_norm", "retention"):
                cells.append("–" if missing(row[column]) else f"{row[column]:.0%}")
            elif column in numbers:
                digits = {"auc": 1, "mean": 3}.get(column, 0)
                cells.append(_number(row[column], digits))
            else:
                cells.append(_text(row[column]))
        if row["published"]:
            cells[0] = f'<span class="published">{cells[0]}</span>'
        lines.append(cells)
    csv = base64.b64encode(with_summaries(view.frame).to_csv(index=False).encode()).decode()
    scores = (
        "" if view.value == "absolute" else f"<p>The scores themselves; the charts show: {_text(_shown(view))}.</p>"
    )
    return (
        scores
        + _table([(titles.get(c, c), c in numbers) for c in columns], lines)
        + f'<p class="small">Below each score its 95 % interval{", beside it its tier" if what.tiers else ""}. '
        f'<a download="degradation.csv" href="data:text/csv;base64,{csv}">All figures as CSV</a></p>'
    )


# -- the rest ------------------------------------------------------------------------------------------------------
def _findings(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "<p>None: no rule of the result lint has found anything odd about these results.</p>"
    rows = [[_text(f["severity"]), _text(f["rule"]), _text(f["message"])] for f in found]
    return _table([("Severity", False), ("Rule", False), ("Finding", False)], rows)


def _how(what: Report) -> str:
    view, scale = what.view, scale_of(what.view.rows["operator"].iloc[0])
    words = " or ".join(dict.fromkeys(samples_word(t) for t in ordered_tasks(view.frame["task"])))
    metrics = view.frame["metric"].unique()
    said = [
        "Models are fitted on images as they are, unless “degraded in training” is said, and tested on the same "
        f"{words} at each severity. Labels stay as they are.",
        "A score is that of the pooled counts of all test samples (a mean average precision of their ranking). With "
        "two or more model seeds, evaluation seeds are averaged within each model seed first, and the spread is that "
        "of model seeds; otherwise that of evaluation seeds.",
        f"An interval (95 %) joins two sources of error in quadrature: that of samples ({interval_text(metrics)} over "
        f"{words}, of which those of one scene count as one), and the standard error of the mean over seeds times "
        "Student's t (4.3 for three seeds, 2.8 for five). One seed has the first alone.",
    ]
    if scale.coarser:
        said.append(
            "AUC is the area under the score over 1/factor by the trapezoid rule, with 0 at 0, × 100: only curves over "
            "the same factors may be compared; normalised, it is a share of a perfect model's. GSD is that of the "
            "pack's grid times the factor."
        )
    if scale.identity is not None:
        said.append("Retention is the score at the strongest severity over that on images as they are.")
    if what.tiers:
        said.append(
            "Tiers: a model could not be told from the best of its tier, and could be told from the best of every tier "
            "above (p < 0.05, with samples and seeds as sources of chance, corrected for the number of models after "
            "Holm). Each pack, adaptation, kind of training and severity has its own; A is the best."
        )
    lines = "".join(f"<li>{_text(line)}</li>" for line in what.left_out)
    return "".join(f"<p>{_text(s)}</p>" for s in said) + (f"<p>Not in the tiers:</p><ul>{lines}</ul>" if lines else "")


def tiers_wanted(rows: pd.DataFrame) -> list[float]:
    """The severities at which there is more than one model to tell apart, mildest first."""
    counts = rows.groupby("severity")["model_group"].nunique()
    return sorted(float(s) for s in counts.index[counts > 1])


# -- from names to a view ------------------------------------------------------------------------------------------
def _one_of(frame: pd.DataFrame, column: str, wanted: Sequence[str], what: str) -> pd.DataFrame:
    """The rows with one of the wanted values.

    Raises:
        RsfmError: one of them is in no row.
    """
    known = sorted(frame[column].dropna().astype(str).unique())
    unknown = [w for w in wanted if w not in known]
    if unknown:
        raise RsfmError(f"No result of {what} {', '.join(unknown)}; there are: {', '.join(known)}.")
    return frame[frame[column].isin(list(wanted))]


def view_of(
    everything: pd.DataFrame,
    datasets: pd.DataFrame,
    *,
    packs: Sequence[str] = (),
    metric: str | None = None,
    operator: str = "bilinear",
    target: str | None = None,
    adaptations: Sequence[str] = (),
    models: Sequence[str] = (),
    axis: str = "gsd",
    value: str = "absolute",
    baseline: str | None = None,
    authors: bool = False,
) -> View:
    """What the page Degradation would show of these choices; all that there is where one is left out.

    Args:
        everything: from `Store.compare`; datasets: from `Store.datasets`.
        metric: the primary one of each task where it is left out.
        models: groups, baselines' names or titles; baseline: another one, which differences are taken to.
        target: which image of a pair was degraded; of several the usual one where it is left out.

    Raises:
        RsfmError: no result fits, or a choice is not among the results.
    """
    if everything.empty:
        raise RsfmError("There are no results yet. Make some with: rsfm evaluate --model MODEL --dataset PACK")
    if (value == "difference") != (baseline is not None):
        raise RsfmError("A difference is taken to a baseline: give both, --show difference and --baseline MODEL.")
    rows = _one_of(everything, "dataset", packs, "pack") if packs else everything
    rows = _one_of(rows, "operator", [operator], "degradation")
    if metric is not None:
        rows = _one_of(rows, "metric", [metric], "metric")
    else:
        tasks = ordered_tasks(rows["task"])
        primary = {t: primary_metric(rows.loc[rows["task"] == t, "metric"].unique(), t) for t in tasks}
        rows = rows[rows["metric"] == rows["task"].map(primary)]
    targets = ordered(set(rows["degrade_target"]) - {"single"}, ("post", "pre", "both"))
    if target is not None:
        _one_of(rows, "degrade_target", [target], "degraded image")
    if targets:
        rows = rows[rows["degrade_target"].isin([target or targets[0], "single"])]
    published = published_rows(entries_of(datasets, set(rows["dataset"]))) if authors else rows.iloc[:0]
    if len(published):
        same = published["metric"].isin(rows["metric"]) & (published["operator"] == operator)
        published = published[same & published["degrade_target"].isin(rows["degrade_target"])]
    if adaptations:
        rows = _one_of(rows, "adaptation", adaptations, "adaptation")
        published = published[published["adaptation"].isin(list(adaptations))]
    base = _groups(rows, baseline) if baseline is not None else set()
    if models:
        groups = {g for name in models for g in _groups(rows, name)}
        rows = rows[rows["model_group"].isin(groups | base)]
    key = next((b for b in baselines(rows) if b.partition("|")[0] in base), None)
    return View(rows, published, metric, axis, value, True, key)


def _groups(rows: pd.DataFrame, name: str) -> set[str]:
    """The model groups that a name stands for."""
    for column in ("model_group", "model", "model_title"):
        found = rows.loc[rows[column].astype(str).str.casefold() == name.casefold(), "model_group"]
        if len(found):
            return set(map(str, found))
    titles = ", ".join(sorted(rows["model_title"].unique()))
    raise RsfmError(f"No result of model {name} fits what else was chosen; there are: {titles}.")
