"""What a folder of images or a scene holds, in words and as a dataset entry."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_catalog.entry import DatasetEntry, EntryLayer
from data_catalog.examples import SHOWN, Example, choose, spread
from data_catalog.guess import Finding, guess_bands, guess_sensor, guess_unit, named_bands
from data_catalog.look import Looked, look, readme
from data_catalog.readers.files import RASTERS, Header
from data_catalog.readers.image_folder import LABELS, TEST_SHARE, Listing, assign_splits
from rsfm.bands import UNITS, Unit, sensor
from rsfm.errors import RsfmError
from rsfm.geo import ground_gsd
from rsfm.pack_writer import check_pack_name
from rsfm.packs import BandInfo

FOLDER_READER = "data_catalog.readers.image_folder:ImageFolderReader"
SCENE_READER = "data_catalog.readers.scene:SceneReader"
_SCENE_SIDE = 512  # a raster this wide or high, alone or with few others, is a scene


@dataclass(frozen=True)
class Understanding:
    """A draft entry and what it rests on.

    Attributes:
        examples: samples to look at, those to show first in front.
        counts: split -> class -> number of images, where images have one class each.
    """

    entry: DatasetEntry
    findings: list[Finding]
    examples: tuple[Example, ...] = ()
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ambiguous(self) -> list[Finding]:
        """Findings to confirm or to override."""
        return [f for f in self.findings if not f.certain]

    @property
    def tiled(self) -> bool:
        """Whether its images can be cut into tiles."""
        return self.entry.reader != FOLDER_READER and self.entry.task != "multilabel"

    @property
    def is_scene(self) -> bool:
        return self.entry.reader == SCENE_READER


@dataclass(frozen=True)
class Known:
    """What the user knows already; each overrides the guess.

    Raises:
        RsfmError: an unknown unit, or a scale without one.
    """

    bands: Sequence[str] | None = None
    sensor_name: str | None = None
    unit: Unit | None = None
    scale: float | None = None
    gsd_m: float | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and self.unit not in UNITS:
            raise RsfmError(f"Unknown unit {self.unit!r}; use one of {', '.join(UNITS)}.")
        if self.scale is not None and self.unit is None:
            raise RsfmError("A scale needs its unit: say what stored value times scale is.")


def describe_images(source: Path, listing: Listing | None, name: str | None, known: Known) -> Understanding:
    """A folder of images (`listing`) or one scene (None)."""
    folder = source.parent if listing is None else source
    paths = [source.name] if listing is None else [item.path for item in listing.items]
    looked = look(folder, paths)
    is_scene = listing is None or _holds_scenes(listing, looked)
    if listing is None and source.suffix.lower() not in RASTERS:
        raise RsfmError(f"{source} is a single picture: name a folder of images, or a georeferenced raster.")
    layer, about = describe_layer(folder, looked, known)
    findings = [_layout_finding(listing, is_scene, paths), *about]
    classes = listing.classes if listing and not is_scene else []
    seed_options: dict[str, Any] = {}
    splits: dict[str, int] = {}
    examples = [Example(path, None, (("image", path),)) for path in spread(paths, SHOWN)]
    counts: dict[str, dict[str, int]] = {}
    if listing and not is_scene:
        items, note = assign_splits(listing.items, 0)
        splits = dict(Counter(item.split or "train" for item in items))
        findings.append(splits_finding(splits, note))
        chosen = [items[i] for i in choose([item.label for item in items])]
        examples = [Example(item.path, item.label, (("image", item.path),)) for item in chosen]
        found = Counter((item.split or "train", item.label) for item in items if item.label is not None)
        for (split, label), number in found.items():
            counts.setdefault(split, {})[label] = number
        without = len(items) - sum(found.values())
        if classes and without:
            findings.append(Finding("labels", f"{without} images have none: they will be reported and left out."))
        if note is not None:
            seed_options = {"split_seed": 0, "test_share": TEST_SHARE}
    if not is_scene and layer.size is None:
        findings.append(Finding("size", f"{sizes_text(looked)}: give an image size when preparing.", False))
    entry = DatasetEntry(
        name=entry_name(source, name), title=entry_title(source, name),
        summary="Registered from a scene." if is_scene else "Registered from a folder of images.",
        task="classification" if classes else "unlabelled", classes=classes,
        layers=[layer.model_copy(update={"size": None}) if is_scene else layer],
        gsd_m=layer.gsd_m, splits=splits, layout=findings[0].text,
        reader=SCENE_READER if is_scene else FOLDER_READER, reader_options=seed_options,
        default_source=str(source), facts=facts_text(findings),
    )  # fmt: skip
    return Understanding(entry, findings, tuple(examples), counts)


def describe_layer(folder: Path, looked: Looked, known: Known) -> tuple[EntryLayer, list[Finding]]:
    """An image layer's sensor, bands, unit, pixel size and usual size (None where sizes differ), and why."""
    findings = [Finding("files", f"{b.path} {b.reason}: it will be reported and left out.") for b in looked.bad]
    gsd = known.gsd_m or _median_gsd(looked.headers)
    findings.append(_ground_finding(looked.headers, gsd, given=known.gsd_m is not None))
    text = readme(folder)
    bands, sensor_name, band_findings = _bands(looked, known.bands, known.sensor_name, gsd, text)
    unit, scale, unit_finding = _unit(looked, known.unit, known.scale, sensor_name, text)
    findings += [*band_findings, unit_finding]
    header = looked.headers[0]
    if header.nodata is not None:
        findings.append(Finding("nodata", f"{header.nodata:g} means no data (as the files say)."))
    sizes = {(h.height, h.width) for h in looked.headers}
    layer = EntryLayer(
        sensor=sensor_name, dtype=header.dtype, gsd_m=gsd, nodata=header.nodata,
        size=sizes.pop() if len(sizes) == 1 else None,
        bands=[b.model_copy(update={"unit": unit, "scale": scale}) for b in bands],
    )  # fmt: skip
    return layer, findings


# -- in words ----------------------------------------------------------------------------------------------------------
def splits_finding(splits: dict[str, int], note: str | None) -> Finding:
    said = ", ".join(f"{n} {s}" for s, n in splits.items())
    return Finding("splits", f"{said}." if note is None else f"{said}. {note}")


def sizes_text(looked: Looked) -> str:
    sizes = list(Counter((h.height, h.width) for h in looked.headers))
    return f"sizes differ ({', '.join(f'{h} x {w}' for h, w in sizes[:4])}{' …' if len(sizes) > 4 else ''})"


def facts_text(findings: list[Finding]) -> str:
    return "Found by looking at the files: " + " ".join(f.text for f in findings)


def entry_title(source: Path, name: str | None) -> str:
    return name or (source.stem if source.is_file() else source.name)


def entry_name(source: Path, name: str | None) -> str:
    """Given, or from the path."""
    if name:
        return check_pack_name(name)
    slug = re.sub(r"[^a-z0-9_.]+", "-", entry_title(source, None).lower()).strip("-_.")
    return check_pack_name(slug or "data")


def _holds_scenes(listing: Listing, looked: Looked) -> bool:
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
    looked: Looked, names: Sequence[str] | None, wanted: str | None, gsd: float | None, readme: str
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
    looked: Looked, unit: Unit | None, scale: float | None, sensor_name: str | None, readme: str
) -> tuple[Unit, float, Finding]:
    if unit is not None:
        factor = 1.0 if scale is None else scale
        return unit, factor, Finding("unit", f"{unit}, scale {factor:g}: as given.")
    texts = [("the file", looked.tags), ("the README", readme)]
    return guess_unit(looked.headers[0].dtype, looked.values, sensor_name, texts)
