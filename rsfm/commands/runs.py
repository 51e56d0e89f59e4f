"""`rsfm runs | tag | stop | resume | jobs` and `rsfm index rebuild`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rsfm.commands.common import Bars, JsonOption, WorkspaceOption, frame_rows, print_json, table
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

index_app = typer.Typer(help="The DuckDB index over the run folders.", no_args_is_help=True, rich_markup_mode=None)

RunId = Annotated[str, typer.Argument(help="A run's id, see `rsfm runs`.", show_default=False)]


def _duration(seconds: float | None) -> str:
    if seconds is None or seconds != seconds:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def runs(
    limit: Annotated[int, typer.Option(help="The newest so many.", min=1)] = 50,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only runs with this tag, or with all of several (commas).")
    ] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """List runs, newest first."""
    from rsfm.store.about import split_tags
    from rsfm.store.view import Store

    tags = split_tags(tag)
    if tag and not tags:
        raise RsfmError("--tag names no tag. Leave it out to list all runs.")
    store = Store(Workspace.resolve(workspace))
    store.refresh_if_stale(0)
    frame = store.runs(limit=limit, tags=tags or None)
    if store.notice:
        print(store.notice, file=sys.stderr)
    if as_json:
        print_json(frame_rows(frame))
        return
    rows = []
    for run in frame_rows(frame):
        share = f"{100 * run['done'] / run['total']:.0f} %" if run.get("done") and run.get("total") else ""
        state = run["state"] + (" (stalled)" if run.get("stalled") else "")
        what = run.get("method") or run.get("model") or ""
        time = _duration(run.get("duration_s"))
        rows.append([run["run_id"], run["kind"], what, run["dataset"], state, share, time, run["tags"]])
    columns = ["run", "kind", "method or model", "pack", "state", "done", "time", "tags"]
    table("", columns, rows, empty="No run has these tags." if tag else "No runs yet.")


def tag(
    run_ids: Annotated[list[str], typer.Argument(help="Ids of runs, see `rsfm runs`.", show_default=False)],
    add: Annotated[list[str] | None, typer.Option("--add", help="A tag, or several with commas.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="A tag to take off, also one that the run was queued with.")
    ] = None,
    note: Annotated[str | None, typer.Option("--note", help='Replaces the note; "" takes it away.')] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Tag runs or write a note about them; without an option, show what is said of them."""
    from rsfm.store.about import edit_about

    found = edit_about(Workspace.resolve(workspace), run_ids, add=add or [], remove=remove or [], note=note)
    if as_json:
        print_json([{"run_id": run_id, "tags": list(a.tags), "note": a.note} for run_id, a in found.items()])
        return
    rows = ([run_id, ", ".join(a.tags), a.note] for run_id, a in found.items())
    table("", ["run", "tags", "note"], rows, empty="No runs were named.")


def stop(run_id: RunId, workspace: WorkspaceOption = None) -> None:
    """Ask a run to finish its step, save and stop. It can be resumed."""
    from jobs import client

    client.stop(Workspace.resolve(workspace), run_id)
    print(f"Asked {run_id} to stop.")


def resume(
    run_id: RunId,
    queue: Annotated[bool, typer.Option("--queue", help="Return at once instead of following it.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Go on with a stopped, failed or lost run from its last checkpoint, as a new attempt."""
    from jobs import client
    from rsfm.commands.common import follow

    place = Workspace.resolve(workspace)
    client.resume(place, run_id)
    if not queue:
        follow(place, run_id)
    print(run_id)


def jobs(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Show the supervisor, its slots and what waits."""
    from jobs import client
    from rsfm.store.view import Store

    place = Workspace.resolve(workspace)
    status = client.supervisor_status(place)
    store = Store(place)
    store.refresh_if_stale(0)
    waiting = frame_rows(store.runs(states=["queued"], limit=1000))
    if as_json:
        print_json({"supervisor": status, "queued": [run["run_id"] for run in waiting]})
        return
    if status is None:
        print("No supervisor runs for this workspace (one starts with the next job).")
    else:
        print(f"Supervisor: process {status['pid']}, since {status['started']}")
        rows = [[s["name"], s["kind"], s.get("run_id") or "free"] for s in status["slots"]]
        table("", ["slot", "kind", "run"], rows, empty="No slots.")
    table(
        "Queued",
        ["run", "kind", "pack"],
        ([r["run_id"], r["kind"], r["dataset"]] for r in waiting),
        empty="Nothing waits.",
    )


@index_app.command("rebuild")
def rebuild(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Throw the index away and make it again from the run folders. Loses nothing."""
    from rsfm.store.view import Store

    with Bars() as bars:
        counts = Store(Workspace.resolve(workspace)).rebuild(
            progress=lambda done, total: bars.show("Reading run folders", done, total, "runs")
        )
    if as_json:
        print_json(counts)
    else:
        print(", ".join(f"{n} {name}" for name, n in counts.items()))
