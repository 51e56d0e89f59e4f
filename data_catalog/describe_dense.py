"""What a folder of images with masks, or of pairs, holds; and BigEarthNet patches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

from data_catalog.describe import (
    Known,
    Understanding,
    describe_layer,
    entry_name,
    entry_title,
    facts_text,
    sizes_text,
    splits_finding,
)  # fmt: skip
from data_catalog.entry import DatasetEntry, EntryLayer, Task, entry
from data_catalog.examples import Example, choose
from data_catalog.guess import Finding
from data_catalog.guess_masks import guess_masks
from data_catalog.look import Looked, look
from data_catalog.readers.bigearthnet import S1_FOLDER, S1_FOLDERS_V1, S2_FOLDER, S2_FOLDERS_V1, first_folder
from data_catalog.readers.groups import LAYOUTS, Groups, divide
from data_catalog.readers.image_folder import TEST_SHARE
from rsfm.errors import RsfmError
from rsfm.wording import counted

SEGMENTATION_READER = "data_catalog.readers.dense:SegmentationFolderReader"
CHANGE_READER = "data_catalog.readers.dense:ChangeFolderReader"
_NAMES = {"segmentation": ("background", "foreground"), "change": ("no change", "change")}
_TILE_SIZE = 256
_LEAST_TILE = 32
_LARGE = 512  # pixels: more than that is much for a network at once


def describe_dense(source: Path, task: str, groups: Groups, name: str | None, known: Known) -> Understanding:
    """A folder whose files `group_files` put together."""
    images = [layer for layer in LAYOUTS[task] if layer != "mask"]
    good = groups.complete
    looked = look(source, [group.files[layer] for group in good for layer in images])
    masks = guess_masks(source, [group.files["mask"] for group in good], _NAMES[task])
    layer, about = describe_layer(source, looked, known)
    divided, note = divide(groups.items, 0, TEST_SHARE)
    splits = dict(Counter(g.split or "train" for g in divided))
    options: dict[str, Any] = {k: v for k, v in masks.options.items() if v}
    findings = [_layout_finding(task, groups), *about, *masks.findings, splits_finding(splits, note)]
    if layer.size is None:
        options["tile_size"] = _tile_size(looked)
        text = f"{sizes_text(looked)}: cut into tiles of {options['tile_size']} pixels, unless another size is given."
        findings.append(Finding("size", text))
        splits = {}  # how many tiles there are is found when they are cut
    elif max(layer.size) > _LARGE:
        text = f"{layer.size[0]} x {layer.size[1]} pixels are kept whole; a tile size would cut them."
        findings.append(Finding("size", text))
    broken = [g.problem for g in groups.items if g.problem]
    findings += [Finding("files", f"{p} {r}: it will be reported and left out.") for p, r in broken[:5]]
    if len(broken) > 5:
        findings.append(Finding("files", f"{len(broken)} images in all lack a file, or have one too many."))
    mask = EntryLayer(name="mask", role="mask", dtype="uint8", gsd_m=layer.gsd_m, classes=masks.classes)
    draft = DatasetEntry(
        name=entry_name(source, name), title=entry_title(source, name),
        summary=f"Registered from a folder of {'pairs' if task == 'change' else 'images'} with masks.",
        task=cast(Task, task), classes=masks.classes,
        layers=[*(layer.model_copy(update={"name": x}) for x in images), mask],
        gsd_m=layer.gsd_m, splits=splits, layout=findings[0].text,
        reader=CHANGE_READER if task == "change" else SEGMENTATION_READER, reader_options=options,
        default_source=str(source), facts=facts_text(findings),
    )  # fmt: skip
    shown = [good[i] for i in choose([None] * len(good))]
    return Understanding(draft, findings, tuple(Example(g.name, None, tuple(g.files.items())) for g in shown))


def _layout_finding(task: str, groups: Groups) -> Finding:
    folders = ", ".join(f"{f}/" for f in groups.folders.values())
    what = "pairs of images with masks" if task == "change" else "images with masks"
    unused = f" Not used: {counted(groups.unused, 'images')} in other folders." if groups.unused else ""
    return Finding("layout", f"{len(groups.complete)} {what} in {folders}.{unused}")


def _tile_size(looked: Looked) -> int:
    """A usual size, halved until it fits into the smallest image."""
    least = min(min(h.height, h.width) for h in looked.headers)
    size = _TILE_SIZE
    while size > max(least, _LEAST_TILE):
        size //= 2
    return size


def describe_bigearthnet(source: Path, name: str | None, known: Known) -> Understanding | None:
    """BigEarthNet of either version: what the catalog knows of it, for this folder. None where it is something else."""
    older = first_folder(source, S2_FOLDERS_V1)
    if (source / S2_FOLDER).is_dir() and (source / "metadata.parquet").is_file():
        built_in = entry("bigearthnet-v2")
    elif older is not None and any((source / older).glob("*/*_labels_metadata.json")):
        built_in = entry("bigearthnet-v1")
    else:
        return None
    if known != Known():
        raise RsfmError(f"{source} is {built_in.title}, whose bands and units are known: give none.")
    findings = [
        Finding("layout", f"{built_in.title}: patches with one file per band, several labels each."),
        Finding("bands", f"{' '.join(b.name for b in built_in.bands)} of Sentinel-2, brought to 10 m."),
        Finding("unit", "reflectance, scale 1/10000: as this dataset is published."),
    ]
    if first_folder(source, (S1_FOLDER, *S1_FOLDERS_V1)):
        findings.append(
            Finding("sensor", "Sentinel-1 is there too: the option s1 = true adds it as the layer image_s1.")
        )
    draft = built_in.model_copy(
        update={
            "name": entry_name(source, name), "title": entry_title(source, name), "splits": {},
            "summary": f"Registered from a folder of {built_in.title}.", "default_source": str(source),
            "facts": facts_text(findings), "layout": findings[0].text,
        }
    )  # fmt: skip
    return Understanding(draft, findings)
