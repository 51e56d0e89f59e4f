"""A user's own folder or scene: find out what it holds, say so, and register it as a dataset.

found = understand("~/tiles")
for finding in found.findings: print(finding.text)
with registered(found.entry, workspace): prepare(...)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_catalog.describe import Known, Understanding, describe_images
from data_catalog.describe_dense import describe_bigearthnet, describe_dense
from data_catalog.entry import DatasetEntry, entries, write_registered
from data_catalog.readers.groups import LAYOUTS, group_files
from data_catalog.readers.image_folder import LABELS, Bounds, image_files, list_folder
from rsfm.bands import Unit
from rsfm.errors import RsfmError
from rsfm.packs import read_bytes_or_none
from rsfm.specs import PrepareSpec
from rsfm.workspace import Workspace

_MASK_OPTIONS = {"coding", "values", "colours", "ignore"}


def understand(
    path: str | Path,
    name: str | None = None,
    *,
    bands: Sequence[str] | None = None,
    sensor_name: str | None = None,
    unit: Unit | None = None,
    scale: float | None = None,
    gsd_m: float | None = None,
    bounds: Bounds | None = None,
) -> Understanding:
    """Look at a folder (images, images with masks, pairs with masks, BigEarthNet patches) or at a scene.

    Args:
        name: of the dataset; default: from the path.
        bands, sensor_name, unit, scale, gsd_m: what is known already; each overrides the guess.
        bounds: how much of a folder is looked through; default: all of it.

    Raises:
        RsfmError: nothing usable there, or an override that cannot be.
    """
    source = Path(path).expanduser().resolve()
    if not source.exists():
        raise RsfmError(f"There is nothing at {source}.")
    known = Known(bands, sensor_name, unit, scale, gsd_m)
    if source.is_file():
        return describe_images(source, None, name, known)
    if (source / LABELS).is_file():
        return describe_images(source, list_folder(source, bounds=bounds), name, known)
    if (found := describe_bigearthnet(source, name, known)) is not None:
        return found
    files = image_files(source, bounds)
    for task in LAYOUTS:
        if (groups := group_files(files, task)) is not None:
            return describe_dense(source, task, groups, name, known)
    return describe_images(source, list_folder(source, files), name, known)


@contextmanager
def registered(entry: DatasetEntry, workspace: Workspace, *, replace: bool = False) -> Iterator[Path]:
    """Keep the entry in the workspace, so that `entry.name` can be prepared; yields its file.

    What cannot be prepared is not kept: an RsfmError from the body leaves the catalog as it was.

    Raises:
        RsfmError: the name is taken by a built-in dataset or, without `replace`, by another dataset or pack.
    """
    if not replace:
        refuse_taken(entry.name, workspace)
    before = read_bytes_or_none(workspace.datasets / f"{entry.name}.json")
    file = write_registered(entry, workspace)
    try:
        yield file
    except RsfmError:
        file.unlink() if before is None else file.write_bytes(before)
        raise


def refuse_taken(name: str, workspace: Workspace) -> None:
    """Refuse a name under which the workspace already has a dataset or a pack.

    Raises:
        RsfmError: it is taken; says by what.
    """
    if (workspace.datasets / f"{name}.json").exists() or (workspace.packs / name).exists():
        raise RsfmError(
            f"There is a dataset or a pack {name!r} already: choose another name, or replace it (--replace)."
        )


def for_prepare(kind: DatasetEntry, spec: PrepareSpec, source: Path) -> tuple[DatasetEntry, PrepareSpec]:
    """What `rsfm data prepare <kind> --source PATH` means, e.g. for image-folder or scene; refuses to guess.

    Options bands, sensor, unit, scale and gsd_m say what is known; the others are the reader's.

    Returns:
        the entry that describes the data, and the spec for its reader.

    Raises:
        RsfmError: something about the data is ambiguous and not given in the spec's options, or it is of another kind.
    """
    known = {"bands", "sensor", "unit", "scale", "gsd_m"}
    options = {k: v for k, v in spec.options.items() if k in known}
    if "sensor" in options:
        options["sensor_name"] = options.pop("sensor")
    found = understand(source, spec.name, **options)
    if found.entry.reader != kind.reader:
        fitting = [e for e in entries().values() if e.reader == found.entry.reader]
        other = next((e for e in fitting if e.generic), fitting[0])
        what = other.title[0].lower() + other.title[1:] if other.generic else other.title
        raise RsfmError(f"{source} is {what}: prepare it as {other.name}.")
    given = set(options) | ({"bands"} if "sensor_name" in options else set())
    given |= {"masks"} if _MASK_OPTIONS & set(spec.options) else set()
    doubts = [f for f in found.ambiguous if f.subject not in given and f.subject in ("bands", "unit", "masks")]
    if doubts:
        raise RsfmError(
            "This cannot be told from the files alone: "
            + " ".join(f"{f.subject}: {f.text}" for f in doubts)
            + f" Register it with: rsfm data add {source} --name {spec.name}"
        )
    rest = {k: v for k, v in spec.options.items() if k not in known}
    return found.entry.model_copy(update={"default_source": ""}), spec.model_copy(update={"options": rest})
