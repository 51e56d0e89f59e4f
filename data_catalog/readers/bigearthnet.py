"""BigEarthNet: one folder per patch, one file per band at its native size, several labels per patch."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_catalog.entry import DatasetEntry, Task
from data_catalog.readers.base import BadFile, EntryReader, LeftOut, Sample, SampleKey
from data_catalog.readers.files import Header, read_raster_at
from data_catalog.readers.image_folder import TEST_SHARE, draw_test
from rsfm.errors import RsfmError
from rsfm.packs import LayerInfo
from rsfm.specs import PrepareSpec
from rsfm.workspace import Workspace

_SIDE_M = 1200.0  # of a patch
_S1 = "image_s1"
#: Names of the folders of patches, of version 2 and of version 1.
S2_FOLDER, S1_FOLDER = "BigEarthNet-S2", "BigEarthNet-S1"
S2_FOLDERS_V1, S1_FOLDERS_V1 = ("BigEarthNet-v1.0", "BigEarthNet-S2-v1.0", "S2"), ("BigEarthNet-S1-v1.0", "S1")
#: CORINE classes of version 1 -> the 19 classes; the others have no counterpart (arXiv 2105.07921).
_NINETEEN = {
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "Industrial or commercial units": ("Industrial or commercial units",),
    "Arable land": ("Non-irrigated arable land", "Permanently irrigated land", "Rice fields"),
    "Permanent crops": ("Vineyards", "Fruit trees and berry plantations", "Olive groves",
                        "Annual crops associated with permanent crops"),
    "Pastures": ("Pastures",),
    "Complex cultivation patterns": ("Complex cultivation patterns",),
    "Land principally occupied by agriculture, with significant areas of natural vegetation":
        ("Land principally occupied by agriculture, with significant areas of natural vegetation",),
    "Agro-forestry areas": ("Agro-forestry areas",),
    "Broad-leaved forest": ("Broad-leaved forest",),
    "Coniferous forest": ("Coniferous forest",),
    "Mixed forest": ("Mixed forest",),
    "Natural grassland and sparsely vegetated areas": ("Natural grassland", "Sparsely vegetated areas"),
    "Moors, heathland and sclerophyllous vegetation": ("Moors and heathland", "Sclerophyllous vegetation"),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Beaches, dunes, sands": ("Beaches, dunes, sands",),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
}  # fmt: skip
FOLDED = {corine: name for name, parts in _NINETEEN.items() for corine in parts}
DROPPED = (
    "Road and rail networks and associated land", "Port areas", "Airports", "Mineral extraction sites", "Dump sites",
    "Construction sites", "Green urban areas", "Sport and leisure facilities", "Bare rock", "Burnt areas",
    "Intertidal flats",
)  # fmt: skip


@dataclass(frozen=True)
class Patch:
    """One place: folders relative to the source, and labels where they are known without opening a file."""

    id: str
    split: str
    s2: str
    s1: str | None = None
    labels: tuple[str, ...] | None = None


class BigEarthNetReader(EntryReader):
    """Version 2: splits, labels and pairing from `metadata.parquet`.

    All bands are brought to the 120 x 120 pixels of the 10 m bands, bilinear, as torchgeo and the field do.
    Options:
        s1: also read Sentinel-1 (VV, VH) as the layer `image_s1`.
    """

    task: Task = "multilabel"
    _defaults: ClassVar[dict[str, Any]] = {"s1": False}

    def __init__(self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, workspace: Workspace) -> None:
        super().__init__(entry, spec, source, self._defaults)
        self._notes.append("Bands of 20 m and 60 m are brought to the 10 m grid (bilinear).")
        self._patches = {p.id: p for p in self._list()}
        if not self._patches:
            raise RsfmError(f"{source} holds no patch of {entry.title}.")

    def _list(self) -> Iterator[Patch]:
        import pandas as pd

        file = self.source / "metadata.parquet"
        if not file.is_file():
            raise RsfmError(f"{self.source} has no metadata.parquet, which holds the splits of {self.entry.title}.")
        columns = ["patch_id", "labels", "split", "s1_name"]
        try:
            rows = pd.read_parquet(file, columns=columns)
        except (OSError, ValueError) as error:
            raise RsfmError(f"{file} cannot be read ({error}): it needs the columns {', '.join(columns)}.") from error
        folder = self.source / S2_FOLDER
        there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        absent = 0
        for name, labels, split, s1 in rows.itertuples(index=False):
            tile = name.rsplit("_", 2)[0]
            if tile not in there:
                absent += 1
                continue
            yield Patch(
                name, {"validation": "val"}.get(split, split), f"{S2_FOLDER}/{tile}/{name}",
                f"{S1_FOLDER}/{s1.rsplit('_', 3)[0]}/{s1}" if self.options["s1"] else None, tuple(labels),
            )  # fmt: skip
        if absent:
            self._notes.append(
                f"Left out, for {S2_FOLDER} lacks their tiles: {absent:,} of the patches in the metadata."
            )

    # -- the reader's contract -----------------------------------------------------------------------------------------
    def layers(self) -> list[LayerInfo]:
        names = ["image", _S1] if self.options["s1"] else ["image"]
        layers = [self.entry.layer(name) for name in names]
        return [
            self.entry.layer_info(shape=(len(x.bands), *(x.size or (120, 120))), dtype=x.dtype, name=x.name)
            for x in layers
        ]

    def keys(self) -> list[SampleKey]:
        # A folder's time changes when a file in it comes, goes or is replaced; that stands for its 12 files.
        return [SampleKey(p.id, p.split, p.s2, (p.s1,) if p.s1 else ()) for p in self._patches.values()]

    def read(self, key: SampleKey) -> Sample:
        patch = self._patches[key.id]
        labels = self._labels(patch)
        if not labels:
            raise LeftOut(f"patches with none of the {len(self.entry.classes)} classes")
        if unknown := [x for x in labels if x not in self.entry.classes]:
            raise BadFile(patch.s2, f"has the label {unknown[0]!r}, which is not a known class")
        header, image = self._bands(patch.s2, "image")
        arrays = {"image": image}
        if self.options["s1"]:
            if patch.s1 is None:
                raise BadFile(patch.s2, "has no Sentinel-1 partner")
            arrays[_S1] = self._bands(patch.s1, _S1)[1]
        date = re.search(r"_(\d{4})(\d{2})(\d{2})T", patch.id)
        # Patches of one Sentinel-2 product have its light and haze in common: <product>_<row>_<column>.
        return Sample(
            arrays, labels=labels, scene=patch.id.rsplit("_", 2)[0], date="-".join(date.groups()) if date else None,
            crs=header.crs, transform=header.transform, gsd_m=self.entry.gsd_m,
        )  # fmt: skip

    def _labels(self, patch: Patch) -> list[str]:
        return list(patch.labels or ())

    def _bands(self, folder: str, name: str) -> tuple[Header, np.ndarray]:
        """The header of a band of the finest grid, and all bands (C, 120, 120)."""
        layer = self.entry.layer(name)
        height, width = layer.size or (120, 120)
        grid: Header | None = None
        bands = []
        for band in layer.bands:
            path = f"{folder}/{folder.rpartition('/')[2]}_{band.name}.tif"
            header, array = read_raster_at(self.source / path, path, height, width)
            native = round(_SIDE_M / band.gsd_m)
            if (header.count, header.height, header.width) != (1, native, native):
                form = f"{header.count} bands of {header.height} x {header.width} pixels"
                raise BadFile(path, f"has {form} instead of one of {native} x {native}")
            if header.dtype != layer.dtype:
                raise BadFile(path, f"holds {header.dtype} values instead of {layer.dtype}")
            grid = grid or (header if native == height else None)
            bands.append(array)
        assert grid is not None
        return grid, np.concatenate(bands)


class BigEarthNetV1Reader(BigEarthNetReader):
    """Version 1: labels in a JSON file per patch, folded to 19 classes; splits from lists, else drawn.

    Options:
        split_seed, test_share: how patches are divided where the lists bigearthnet-{train,val,test}.csv are missing.
    """

    _defaults: ClassVar[dict[str, Any]] = {"s1": False, "split_seed": 0, "test_share": TEST_SHARE}

    def _list(self) -> Iterator[Patch]:
        s2, s1 = (first_folder(self.source, names) for names in (S2_FOLDERS_V1, S1_FOLDERS_V1))
        if s2 is None:
            raise RsfmError(f"{self.source} has no folder {' or '.join(S2_FOLDERS_V1)} of {self.entry.title}.")
        if self.options["s1"] and s1 is None:
            raise RsfmError(f"{self.source} has no folder {' or '.join(S1_FOLDERS_V1)}: prepare without s1.")
        lists = {s: self.source / f"bigearthnet-{s}.csv" for s in ("train", "val", "test")}
        missing = [file.name for file in lists.values() if not file.is_file()]
        if missing and len(missing) < len(lists):
            raise RsfmError(f"{self.source} lacks {', '.join(missing)}: have all three lists, or none.")
        if not missing:
            for split, file in lists.items():
                with file.open(newline="", encoding="utf-8") as stream:
                    for row in filter(None, csv.reader(stream)):
                        yield Patch(row[0], split, f"{s2}/{row[0]}", f"{s1}/{row[1]}" if self.options["s1"] else None)
            return
        names = sorted(p.name for p in (self.source / s2).iterdir() if p.is_dir() and not p.name.startswith("."))
        test = draw_test(names, self.options["split_seed"], self.options["test_share"], least=1)
        self._notes.append(
            f"There are no lists of splits: {len(test)} of {len(names)} patches were drawn as test images (seed "
            f"{self.options['split_seed']}); neighbours may be in different splits."
        )
        partners = self._partners(s1) if self.options["s1"] and s1 else {}
        for name in names:
            partner = f"{s1}/{partners[name]}" if name in partners else None
            yield Patch(name, "test" if name in test else "train", f"{s2}/{name}", partner)

    def _partners(self, s1: str) -> dict[str, str]:
        """Sentinel-2 patch -> Sentinel-1 patch, as the metadata of the latter say."""
        found = {}
        for folder in sorted((self.source / s1).iterdir()):
            if folder.is_dir():
                try:
                    said = self._metadata(f"{s1}/{folder.name}")
                except BadFile:
                    continue  # its partner is reported
                found[str(said.get("corresponding_s2_patch"))] = folder.name
        return found

    def _labels(self, patch: Patch) -> list[str]:
        said = self._metadata(patch.s2).get("labels")
        if not isinstance(said, list):
            raise BadFile(patch.s2, "has no list of labels in its metadata")
        if unknown := [x for x in said if x not in FOLDED and x not in DROPPED]:
            raise BadFile(patch.s2, f"has the label {unknown[0]!r}, which is none of the 43 classes")
        folded = {FOLDED[x] for x in said if x in FOLDED}
        return [name for name in self.entry.classes if name in folded]

    def _metadata(self, folder: str) -> dict[str, Any]:
        path = f"{folder}/{folder.rpartition('/')[2]}_labels_metadata.json"
        try:
            said = json.loads((self.source / path).read_text("utf-8"))
        except OSError as error:
            raise BadFile(path, f"cannot be opened: {error.strerror}") from error
        except ValueError as error:
            raise BadFile(path, f"is not JSON ({error})") from error
        if not isinstance(said, dict):
            raise BadFile(path, "holds no metadata")
        return said


def first_folder(source: Path, names: Sequence[str]) -> str | None:
    """The first of these folders that is there."""
    return next((n for n in names if (source / n).is_dir()), None)
