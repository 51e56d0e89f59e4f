"""A user's own folder or scene: find out what it holds, say so, and register it as a dataset.

found = understand("~/tiles")
for finding in found.findings: print(finding.text)
with registered(found.entry, workspace): prepare(...)
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from data_catalog.entry import DatasetEntry, EntryLayer, write_registered
from data_catalog.guess import Finding, guess_bands, guess_sensor, guess_unit, named_bands
from data_catalog.readers.base import BadFile
from data_catalog.readers.files import RASTERS, Header, read_header, read_image
from data_catalog.readers.image_folder import LABELS, Listing, assign_splits, list_folder
from rsfm.bands import UNITS, Unit, sensor
from rsfm.errors import RsfmError
from rsfm.geo import ground_gsd
from rsfm.pack_writer import check_pack_name
from rsfm.packs import BandInfo, read_bytes_or_none
from rsfm.specs import PrepareSpec
from rsfm.workspace import Workspace

_FOLDER_READER = "data_catalog.readers.image_folder:ImageFolderReader"
_SCENE_READER = "data_catalog.readers.scene:SceneReader"
_LOOKED_INTO = 24  # files whose pixels are sampled
_PIXELS = 65_536  # per file
_SCENE_SIDE = 512  # a raster this wide or high, alone or with few others, is a scene


class Understanding(NamedTuple):
    """A draft entry and what it rests on."""

    entry: DatasetEntry
    findings: list[Finding]

    @property
    def ambiguous(self) -> list[Finding]:
        """Findings to confirm or to override."""
        return [f for f in self.findings if not f.certain]


@dataclass(frozen=True)
class _Looked:
    """Some of the files, opened."""

    paths: list[str]
    headers: list[Header]
    values: np.ndarray  # (C, N) stored values of pixels with data
    bad: list[BadFile]
    tags: str


def understand(
    path: str | Path,
    name: str | None = None,
    *,
    bands: Sequence[str] | None = None,
    sensor_name: str | None = None,
    unit: Unit | None = None,
    scale: float | None = None,
    gsd_m: float | None = None,
) -> Understanding:
    """Look at a folder of images or at a scene.

    Args:
        name: of the dataset; default: from the path.
        bands, sensor_name, unit, scale, gsd_m: what is known already; each overrides the guess.

    Raises:
        RsfmError: nothing usable there, or an override that cannot be.
    """
    source = Path(path).expanduser().resolve()
    if not source.exists():
        raise RsfmError(f"There is nothing at {source}.")
    if unit is not None and unit not in UNITS:
        raise RsfmError(f"Unknown unit {unit!r}; use one of {', '.join(UNITS)}.")
    if scale is not None and unit is None:
        raise RsfmError("A scale needs its unit: say what stored value times scale is.")
    listing = None if source.is_file() else list_folder(source)
    folder = source.parent if source.is_file() else source
    paths = [source.name] if listing is None else [item.path for item in listing.items]
    looked = _look(folder, paths)
    header = looked.headers[0]
    is_scene = listing is None or _holds_scenes(listing, looked)
    if listing is None and source.suffix.lower() not in RASTERS:
        raise RsfmError(f"{source} is a single picture: name a folder of images, or a georeferenced raster.")

    findings = [_layout_finding(listing, is_scene, paths)]
    findings += [Finding("files", f"{b.path} {b.reason}: it will be reported and left out.") for b in looked.bad]
    gsd = gsd_m or _median_gsd(looked.headers)
    findings.append(_ground_finding(looked.headers, gsd, given=gsd_m is not None))

    readme = _readme(folder)
    classes = listing.classes if listing else []
    found_bands, found_sensor, band_findings = _bands(looked, bands, sensor_name, gsd, readme)
    findings += band_findings
    layer_unit, layer_scale, unit_finding = _unit(looked, unit, scale, found_sensor, readme)
    findings.append(unit_finding)
    nodata = header.nodata
    if nodata is not None:
        findings.append(Finding("nodata", f"{nodata:g} means no data (as the files say)."))

    seed_options: dict[str, Any] = {}
    splits: dict[str, int] = {}
    if listing and not is_scene:
        items, note = assign_splits(listing.items, 0)
        splits = dict(Counter(item.split or "train" for item in items))
        said = ", ".join(f"{n} {s}" for s, n in splits.items())
        findings.append(Finding("splits", f"{said}." if note is None else f"{said}. {note}"))
        if note is not None:
            seed_options = {"split_seed": 0, "test_share": 0.2}
    sizes = Counter((h.height, h.width) for h in looked.headers)
    if not is_scene and len(sizes) > 1:
        shown = ", ".join(f"{h} x {w}" for h, w in list(sizes)[:4])
        findings.append(Finding("size", f"sizes differ ({shown} …): give an image size when preparing.", False))
    entry = DatasetEntry(
        name=check_pack_name(name) if name else _slug(source.stem if source.is_file() else source.name),
        title=(name or (source.stem if source.is_file() else source.name)),
        summary="Registered from a scene." if is_scene else "Registered from a folder of images.",
        task="classification" if classes and not is_scene else "unlabelled",
        classes=[] if is_scene else classes,
        layers=[
            EntryLayer(
                sensor=found_sensor, dtype=header.dtype, gsd_m=gsd, nodata=nodata,
                size=None if is_scene or len(sizes) > 1 else (header.height, header.width),
                bands=[b.model_copy(update={"unit": layer_unit, "scale": layer_scale}) for b in found_bands],
            )
        ],
        gsd_m=gsd, splits=splits, layout=findings[0].text,
        reader=_SCENE_READER if is_scene else _FOLDER_READER, reader_options=seed_options,
        default_source=str(source), facts="Found by looking at the files: " + " ".join(f.text for f in findings),
    )  # fmt: skip
    return Understanding(entry, findings)


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
    """What `rsfm data prepare image-folder|scene --source PATH` means; refuses to guess.

    Options bands, sensor, unit, scale and gsd_m say what is known; the others are the reader's.

    Returns:
        the entry that describes the data, and the spec for its reader.

    Raises:
        RsfmError: something about the data is ambiguous and not given in the spec's options.
    """
    known = {"bands", "sensor", "unit", "scale", "gsd_m"}
    options = {k: v for k, v in spec.options.items() if k in known}
    if "sensor" in options:
        options["sensor_name"] = options.pop("sensor")
    found = understand(source, spec.name, **options)
    given = set(options) | ({"bands"} if "sensor_name" in options else set())
    doubts = [f for f in found.ambiguous if f.subject not in given and f.subject in ("bands", "unit")]
    if doubts:
        raise RsfmError(
            "This cannot be told from the files alone: "
            + " ".join(f"{f.subject}: {f.text}" for f in doubts)
            + f" Register it with: rsfm data add {source} --name {spec.name}"
        )
    wanted_scene = kind.name == "scene"
    if (found.entry.reader == _SCENE_READER) != wanted_scene:
        raise RsfmError(
            f"{source} is a {'scene' if not wanted_scene else 'folder of images'}: prepare it as "
            f"{'scene' if not wanted_scene else 'image-folder'}."
        )
    rest = {k: v for k, v in spec.options.items() if k not in known}
    return found.entry.model_copy(update={"default_source": ""}), spec.model_copy(update={"options": rest})


# -- looking -----------------------------------------------------------------------------------------------------------
def _look(folder: Path, paths: list[str]) -> _Looked:
    headers: list[tuple[str, Header]] = []
    bad: list[BadFile] = []
    step = max(1, len(paths) // (_LOOKED_INTO * 4))
    for path in paths[::step]:
        try:
            headers.append((path, read_header(folder / path, path)))
        except BadFile as error:
            bad.append(error)
    if not headers:
        raise RsfmError(f"None of the images in {folder} can be opened: {bad[0].path} {bad[0].reason}.")
    forms = Counter((h.count, h.dtype) for _, h in headers)
    usual, number = forms.most_common(1)[0]
    if len(forms) > 1 and number <= len(headers) / 2:
        shown = "; ".join(next(f"{p} has {h.count} bands of {h.dtype}" for p, h in headers if (h.count, h.dtype) == f)
                          for f in forms)  # fmt: skip
        raise RsfmError(f"{folder} mixes different kinds of images ({shown}): name one file, or a folder of one kind.")
    chosen = [(p, h) for p, h in headers if (h.count, h.dtype) == usual]
    _refuse_band_files(folder, chosen)
    bad += [
        BadFile(p, f"has {h.count} bands of {h.dtype}, most have {usual[0]} of {usual[1]}")
        for p, h in headers
        if (h.count, h.dtype) != usual
    ]
    sizes = Counter((h.height, h.width) for _, h in chosen).most_common(1)[0][0]
    chosen.sort(key=lambda x: (x[1].height, x[1].width) != sizes)  # the usual size first
    parts = []
    for path, header in chosen[:: max(1, len(chosen) // _LOOKED_INTO)][:_LOOKED_INTO]:
        try:
            parts.append(_some_pixels(folder / path, path, header))
        except BadFile as error:
            bad.append(error)
    if not parts:
        raise RsfmError(f"None of the images in {folder} can be decoded: {bad[0].path} {bad[0].reason}.")
    return _Looked(
        [p for p, _ in chosen], [h for _, h in chosen], np.concatenate(parts, axis=1), bad, _tags(folder / chosen[0][0])
    )


def _refuse_band_files(folder: Path, chosen: list[tuple[str, Header]]) -> None:
    """Folders that hold one file per band are samples, not classes."""
    names = [PurePosixPath(p) for p, _ in chosen]
    if all(h.count == 1 for _, h in chosen) and all(
        n.stem.startswith(n.parent.name) and re.search(r"_(B\d{1,2}A?|V[VH]|H[VH])$", n.stem, re.I) for n in names
    ):
        raise RsfmError(
            f"{folder} holds one file per band ({names[0].name}): stack the bands of a sample into one file."
        )


def _some_pixels(path: Path, shown: str, header: Header) -> np.ndarray:
    """(C, N) stored values of pixels with data; large rasters are read thinned out."""
    if header.height * header.width > 4 * _PIXELS and path.suffix.lower() in RASTERS:
        image = _thinned(path, shown, header)
    else:
        image = read_image(path, shown)[1]
    flat = image.reshape(image.shape[0], -1)
    keep = np.isfinite(flat).all(axis=0) if flat.dtype.kind == "f" else np.ones(flat.shape[1], bool)
    if header.nodata is not None:
        keep &= (flat != header.nodata).any(axis=0)
    flat = flat[:, keep]
    return flat[:, :: max(1, flat.shape[1] // _PIXELS)].astype(np.float32)


def _thinned(path: Path, shown: str, header: Header) -> np.ndarray:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError

    factor = (header.height * header.width / _PIXELS) ** 0.5
    shape = (header.count, max(1, int(header.height / factor)), max(1, int(header.width / factor)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as dataset:
                return dataset.read(out_shape=shape)
    except (RasterioIOError, RasterioError) as error:
        raise BadFile(shown, "cannot be decoded") from error


def _tags(path: Path) -> str:
    """What the file's tags say in words, without what GDAL writes itself."""
    if path.suffix.lower() not in RASTERS:
        return ""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            return "\n".join(str(v) for v in dataset.tags().values())


def _readme(folder: Path) -> str:
    """The folder's README, else its parent's where that speaks of the folder."""
    for place in (folder, folder.parent):
        for file in sorted(place.glob("[Rr][Ee][Aa][Dd][Mm][Ee]*")):
            if file.is_file() and file.suffix.lower() in ("", ".md", ".txt", ".rst"):
                text = file.read_text("utf-8", errors="replace")[:20_000]
                if place == folder or f"{folder.name}/" in text:
                    return text
    return ""


# -- concluding --------------------------------------------------------------------------------------------------------
def _holds_scenes(listing: Listing, looked: _Looked) -> bool:
    if listing.how != "images" or len(listing.items) > 16:
        return False
    return all(Path(p).suffix.lower() in RASTERS for p in looked.paths) and all(
        max(h.height, h.width) >= _SCENE_SIDE for h in looked.headers
    )


def _layout_finding(listing: Listing | None, is_scene: bool, paths: list[str]) -> Finding:
    if is_scene:
        return Finding(
            "layout", "One scene, cut into tiles." if len(paths) == 1 else f"{len(paths)} scenes, cut into tiles."
        )
    assert listing is not None
    count = len(listing.items)
    if listing.how == LABELS:
        labelled = f", {len(listing.classes)} classes" if listing.classes else ", without labels"
        return Finding("layout", f"{count} images named in {LABELS}{labelled}.")
    if listing.how == "class folders":
        return Finding("layout", f"{count} images in one folder per class, {len(listing.classes)} classes.")
    return Finding("layout", f"{count} images without labels.")


def _median_gsd(headers: list[Header]) -> float | None:
    found = [g for h in headers if (g := ground_gsd(h.crs, h.transform, h.height, h.width)) is not None]
    return float(np.median(found)) if found else None


def _ground_finding(headers: list[Header], gsd: float | None, *, given: bool) -> Finding:
    systems = sorted({h.crs for h in headers if h.crs})
    if given:
        return Finding("ground", f"{gsd:g} m per pixel, as given.")
    if not systems or gsd is None:
        return Finding("ground", "No georeference: the pixel size in metres is not known.", False)
    shown = systems[0] if len(systems) == 1 else f"{len(systems)} coordinate systems, e.g. {systems[0]}"
    return Finding("ground", f"{shown if len(shown) < 60 else 'a custom projection'}, {gsd:.3g} m per pixel.")


def _bands(
    looked: _Looked, names: Sequence[str] | None, wanted: str | None, gsd: float | None, readme: str
) -> tuple[list[BandInfo], str | None, list[Finding]]:
    header = looked.headers[0]
    findings = []
    if wanted is not None:
        guessed, why = sensor(wanted).name, "as given"
    else:
        guessed, why = guess_sensor(looked.paths, header.descriptions, readme)
    if names is not None:
        if len(names) != header.count:
            raise RsfmError(f"{len(names)} bands are named, but the files have {header.count}.")
        if len(set(names)) != len(names):
            raise RsfmError(f"A band is named twice in {', '.join(names)}.")
        bands = named_bands(names, guessed if wanted else None, gsd)
        if wanted is None and guessed and {b.name for b in bands} <= {b.name for b in sensor(guessed).bands}:
            bands = named_bands(names, guessed, gsd)
        band_findings = [Finding("bands", f"{' '.join(b.name for b in bands)}: as given.")]
    else:
        before = guessed
        bands, guessed, band_findings = guess_bands(header, guessed, gsd, looked.values.mean(axis=1))
        why = why if guessed == before else "from the bands"
    if guessed:
        findings.append(Finding("sensor", f"{sensor(guessed).title}: {why}."))
    return bands, guessed, findings + band_findings


def _unit(
    looked: _Looked, unit: Unit | None, scale: float | None, sensor_name: str | None, readme: str
) -> tuple[Unit, float, Finding]:
    if unit is not None:
        factor = 1.0 if scale is None else scale
        return unit, factor, Finding("unit", f"{unit}, scale {factor:g}: as given.")
    texts = [("the file", looked.tags), ("the README", readme)]
    return guess_unit(looked.headers[0].dtype, looked.values, sensor_name, texts)


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-_.")
    return check_pack_name(slug or "data")
