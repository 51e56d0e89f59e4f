"""`rsfm report`: the curves, figures and findings of the page Degradation in one HTML file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from rsfm.commands.common import Bars, WorkspaceOption, split
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace


def report(
    output: Annotated[Path, typer.Option(help="The file to write, FILE.html.")],
    dataset: Annotated[str | None, typer.Option(help="Packs, with commas; else all with results.")] = None,
    metric: Annotated[str | None, typer.Option(help="The score; else each task's primary one.")] = None,
    operator: Annotated[str, typer.Option(help="The degradation.")] = "bilinear",
    target: Annotated[
        Literal["pre", "post", "both"] | None, typer.Option(help="Of pairs: which image was degraded.")
    ] = None,
    adaptation: Annotated[str | None, typer.Option(help="As tables name them, with semicolons; else all.")] = None,
    models: Annotated[str | None, typer.Option(help="Groups, baselines or titles, with commas; else all.")] = None,
    axis: Annotated[Literal["gsd", "factor"], typer.Option(help="The horizontal axis.")] = "gsd",
    show: Annotated[
        Literal["absolute", "retention", "difference"],
        typer.Option(help="Scores, shares of the score on images as they are, or differences to --baseline."),
    ] = "absolute",
    baseline: Annotated[str | None, typer.Option(help="The model that differences are taken to.")] = None,
    authors: Annotated[bool, typer.Option("--authors", help="Published numbers too, where there are any.")] = False,
    tiers: Annotated[bool, typer.Option(help="Which models cannot be told apart; reads predictions.")] = True,
    title: Annotated[str, typer.Option(help="Its heading.")] = "Resolution degradation",
    workspace: WorkspaceOption = None,
) -> None:
    """Write a report that needs nothing else: charts, figures with intervals and tiers, findings, methods."""
    from app.components.naming import distinct_titles, specs_of
    from app.components.palette import looks_of_store, published_looks
    from app.components.score_table import findings_about
    from app.report import Report, report_html, tiers_wanted, view_of
    from rsfm import comparison
    from rsfm.degrade import severity_text
    from rsfm.packs import Pack
    from rsfm.store.view import Store

    if not output.parent.is_dir():
        raise RsfmError(f"There is no folder {output.parent} to write {output.name} to.")
    place = Workspace.resolve(workspace)
    store = Store(place)
    store.refresh_if_stale(0)
    view = view_of(
        distinct_titles(store.compare(), partial(specs_of, store)), store.datasets(), packs=split(dataset or ""),
        metric=metric, operator=operator, target=target,
        adaptations=[a.strip() for a in (adaptation or "").split(";") if a.strip()], models=split(models or ""),
        axis=axis, value=show, baseline=baseline, authors=authors,
    )  # fmt: skip
    found, left_out = {}, {}
    wanted = tiers_wanted(view.rows) if tiers else []
    with Bars() as bars:
        for i, severity in enumerate(wanted):
            bars.show(f"tiers at {severity_text(operator, severity)}", i, len(wanted), "severities")
            names = ("dataset", "split", "adaptation", "operator", "degrade_target", "model_group")
            where = {name: set(view.rows[name]) for name in names} | {"severity": [severity]}
            found[severity] = comparison.tiers_of(store, metric=metric, where=where)
            left_out |= dict.fromkeys(found[severity].attrs["left_out"])
        if wanted:
            bars.show("tiers", len(wanted), len(wanted), "severities")
    looks = {**looks_of_store(store), **published_looks(view.published["model_group"])}
    text = report_html(
        Report(
            view, looks, partial(Pack.named, place), found=findings_about(store.lint(), view.rows), tiers=found,
            left_out=list(left_out), title=title,
        )
    )  # fmt: skip
    output.write_text(text, encoding="utf-8")
    print(output)
