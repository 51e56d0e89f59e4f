"""`rsfm data list | show | prepare | add`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rsfm.commands.common import Bars, JsonOption, WorkspaceOption, print_json, split, table
from rsfm.errors import RsfmError
from rsfm.wording import counted
from rsfm.workspace import Workspace

app = typer.Typer(help="Datasets and packs.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """List every dataset that the catalog knows, and what is prepared."""
    import data_catalog
    from rsfm.packs import list_packs

    place = Workspace.resolve(workspace)
    packs, broken = list_packs(place)
    for name, problem in {**broken, **data_catalog.broken_entries(place)}.items():
        print(f"warning: {name}: {problem}", file=sys.stderr)
    prepared: dict[str, list[str]] = {}
    for pack in packs:
        prepared.setdefault(pack.dataset, []).append(pack.name)
    entries = data_catalog.entries(place)
    if as_json:
        print_json(
            [
                {
                    "name": e.name, "title": e.title, "task": e.task, "sensors": e.sensors, "gsd_m": e.gsd_m,
                    "licence": e.licence, "synthetic": e.synthetic, "reader": e.reader is not None,
                    "packs": prepared.get(e.name, []),
                }
                for e in entries.values()
            ]
        )  # fmt: skip
        return
    rows = []
    for e in entries.values():
        status = ", ".join(prepared.get(e.name, [])) or ("can be prepared" if e.reader else "no reader yet")
        rows.append([e.name, e.task, ", ".join(e.sensors), f"{e.gsd_m:g}" if e.gsd_m else "", status, e.title])
    table("", ["name", "task", "sensors", "GSD (m)", "packs", "title"], rows, empty="The catalog is empty.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A dataset or a pack.", show_default=False)],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show what is known of one dataset and its packs."""
    import data_catalog
    from rsfm.packs import list_packs

    place = Workspace.resolve(workspace)
    packs = [p for p in list_packs(place)[0] if name in (p.name, p.dataset)]
    entries = data_catalog.entries(place)
    entry = entries.get(name) or (entries.get(packs[0].dataset) if packs else None)
    if entry is None and not packs:
        data_catalog.entry(name, place)  # raises, with the names that come close
    if as_json:
        print_json(
            {
                "entry": entry.model_dump(mode="json") if entry else None,
                "packs": [p.model_dump(mode="json") for p in packs],
            }
        )
        return
    if entry:
        _describe(entry)
    for pack in packs:
        sizes = ", ".join(f"{split} {n}" for split, n in pack.splits.items())
        print(f"\nPack {pack.name}: {sizes}; {pack.bytes / 2**20:.1f} MiB; {pack.content_hash}")
        if pack.skipped:
            first = pack.skipped[0]
            print(f"  {counted(len(pack.skipped), 'files')} left out, e.g. {first.path}: {first.reason}")
        for layer in pack.layers:
            rows = [
                [b.name, b.unit, f"{b.gsd_m:g}"]
                + ([f"{b.statistics.mean:.4g}", f"{b.statistics.std:.4g}"] if b.statistics else ["", ""])
                for b in layer.bands
            ]
            table(
                f"{layer.name}: {layer.dtype} {tuple(layer.shape)}",
                ["band", "unit", "native GSD (m)", "mean", "std"],
                rows,
                empty=f"{layer.name}: {layer.role}, {len(layer.classes)} classes",
            )


def _describe(entry: Any) -> None:
    print(f"{entry.name}: {entry.title}")
    if entry.synthetic:
        print("Synthetic: made by this program, not measured by any instrument.")
    for label, value in (
        ("About", entry.summary),
        ("Task", entry.task),
        ("Sensors", ", ".join(entry.sensors)),
        ("GSD", f"{entry.gsd_m:g} m" if entry.gsd_m else ""),
        ("Classes", ", ".join(entry.classes)),
        ("Layout", entry.layout),
        ("Licence", entry.licence or "not recorded here: look at the source before use"),
        ("Citation", entry.citation),
        ("Home", entry.homepage),
        ("Prepare", _how_to_prepare(entry) if entry.reader else "not yet: it has no reader and can only be listed"),
    ):
        if value:
            print(f"  {label}: {value}")


def _how_to_prepare(entry: Any) -> str:
    command = f"rsfm data prepare {entry.name}"
    if entry.generic:
        return f"{command} --source PATH --name NAME, or: rsfm data add PATH --name NAME"
    if entry.synthetic or entry.default_source:
        return command
    return f"{command} --source DIR" + (f", or {command} --download" if entry.download else "")


def _prepare(spec: Any, place: Workspace, as_json: bool, download: bool = False) -> None:
    from data_catalog.prepare import prepare

    with Bars() as bars:

        def progress(done: int, total: int, what: str) -> None:
            bars.show(what, done, total)

        if download:
            from data_catalog import entry
            from data_catalog.download import download as fetch

            fetch(entry(spec.dataset, place), place, progress=progress)
        info = prepare(spec, place, progress=progress)
    if as_json:
        print_json(info.model_dump(mode="json"))
        return
    for note in info.notes:
        print(f"  {note}", file=sys.stderr)
    for item in info.skipped[:10]:
        print(f"skipped {item.path}: {item.reason}", file=sys.stderr)
    if len(info.skipped) > 10:
        print(f"… {len(info.skipped)} skipped in all (rsfm data show {info.name} --json)", file=sys.stderr)
    print(f"Pack {info.name}: " + ", ".join(f"{n} {s}" for s, n in info.splits.items()) + f" ({info.title})")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="A dataset of the catalog.", show_default=False)],
    source: Annotated[Path | None, typer.Option(help="Folder or file that holds the data.")] = None,
    pack: Annotated[str | None, typer.Option("--name", help="Name of the pack; else the dataset's.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch it first (resumable, checksummed).")] = False,
    image_size: Annotated[int | None, typer.Option(help="Resample images to this many pixels.")] = None,
    tile_size: Annotated[int | None, typer.Option(help="Cut images into tiles of this many pixels.")] = None,
    stride: Annotated[int | None, typer.Option(help="Step between tiles; else the tile size.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many samples per split.")] = None,
    on_bad: Annotated[str, typer.Option(help="Bad files: skip (and report) or refuse.")] = "skip",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the reader's own options.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Turn a dataset into a pack: memory-mapped arrays, samples, statistics. Can be interrupted and run again."""
    from rsfm.specs import parse_spec

    if download and source is not None:
        raise RsfmError("--download fetches what --source would name: give one of them.")
    spec = parse_spec(
        {
            "kind": "prepare", "dataset": name, "source": str(source) if source else None, "name": pack,
            "image_size": image_size, "tile_size": tile_size, "stride": stride, "limit": limit, "on_bad": on_bad,
            "options": _options(settings),
        }
    )  # fmt: skip
    _prepare(spec, Workspace.resolve(workspace), as_json, download)


def _options(settings: list[str] | None) -> dict[str, Any]:
    """`key=value` texts, where a value is JSON or else plain text."""
    import json

    options: dict[str, Any] = {}
    for setting in settings or []:
        key, sep, text = setting.partition("=")
        if not sep:
            raise RsfmError(f"--set takes key=value, got {setting!r}.")
        try:
            options[key] = json.loads(text)
        except json.JSONDecodeError:
            options[key] = text
    return options


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="A folder of images, with masks or in pairs or not; or a scene.", show_default=False)
    ],
    name: Annotated[str, typer.Option(help="What to call it.")],
    sensor: Annotated[str | None, typer.Option(help="Overrides what was understood.")] = None,
    bands: Annotated[str | None, typer.Option(help="Band names in file order, with commas.")] = None,
    unit: Annotated[str | None, typer.Option(help="dn, reflectance, db or uint8.")] = None,
    scale: Annotated[float | None, typer.Option(help="value in unit = stored * scale.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Resample images to this many pixels.")] = None,
    tile_size: Annotated[int | None, typer.Option(help="Cut images into tiles of this many pixels.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the reader's own options.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a dataset of yours with that name.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show what was understood.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Add your own folder or scene: infer, show what was understood, register, prepare."""
    from data_catalog.add import refuse_taken, registered, understand
    from rsfm.specs import parse_spec

    place = Workspace.resolve(workspace)
    wanted = {"image_size": image_size, "tile_size": tile_size, "options": _options(settings)}
    spec = parse_spec({"kind": "prepare", "dataset": name, **wanted})
    if not replace and not dry:
        refuse_taken(name, place)
    found = understand(path, name, sensor_name=sensor, bands=split(bands) if bands else None, unit=unit, scale=scale)
    entry, findings = found.entry, found.findings
    for finding in findings:
        print(f"  {finding}", file=sys.stderr)
    if dry:
        if as_json:
            print_json({"entry": entry.model_dump(mode="json"), "findings": [vars(f) for f in findings]})
        return
    with registered(entry, place, replace=replace):
        _prepare(spec, place, as_json)
