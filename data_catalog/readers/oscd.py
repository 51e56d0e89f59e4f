"""OSCD: cities as folders with one file per Sentinel-2 band, in torchgeo's layout or labels beside the images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from data_catalog.entry import RemoteFile
from data_catalog.readers.base import BadFile
from data_catalog.readers.dense import ChangeFolderReader
from data_catalog.readers.files import Header, read_raster_at
from data_catalog.readers.groups import Group
from rsfm.errors import RsfmError

_NAME = "Onera Satellite Change Detection dataset"
#: The official division: 14 cities to train on, 10 to test on.
CITIES = {
    "train": ("abudhabi", "aguasclaras", "beihai", "beirut", "bercy", "bordeaux", "cupertino", "hongkong", "mumbai",
              "nantes", "paris", "pisa", "rennes", "saclay_e"),
    "test": ("brasilia", "chongqing", "dubai", "lasvegas", "milano", "montpellier", "norcia", "rio", "saclay_w",
             "valencia"),
}  # fmt: skip
_FOLDERS = {"image_pre": "imgs_1_rect", "image_post": "imgs_2_rect"}
#: Its grid, of 10 m, is the city's; bands of 20 and 60 m are brought to it.
_GRID = "B02"
_BAND = re.compile(r"(?:^|_)(B\d\dA?|B8A)\.tif$", re.I)


class OSCDReader(ChangeFolderReader):
    """Pairs of cities with all bands at 10 m, cut into tiles that cover each city whole."""

    def _list(self) -> list[Group]:
        images = next((p for p in (self.source / f"{_NAME} - Images", self.source) if p.is_dir()), self.source)
        known = {city: split for split, cities in CITIES.items() for city in cities}
        self._bands: dict[tuple[str, str], dict[str, str]] = {}
        groups = []
        for folder in sorted(p for p in images.iterdir() if (p / _FOLDERS["image_pre"]).is_dir()):
            groups.append(self._city(folder, known.get(folder.name)))
        if not groups:
            raise RsfmError(
                f"{self.source} holds no <city>/{_FOLDERS['image_pre']} and no '{_NAME} - Images': this is not OSCD."
            )
        if missing := sorted(set(known) - {g.name for g in groups}):
            self._notes.append(f"{len(groups)} of {len(known)} cities were found; missing are {', '.join(missing)}.")
        return groups

    def _city(self, folder: Path, split: str | None) -> Group:
        city = folder.name
        files = {layer: self._relative(folder / name) for layer, name in _FOLDERS.items()}
        if split is None:
            return Group(city, "train", files, (files["image_pre"], "belongs to none of the 24 cities of OSCD"))
        beside = folder / "cm" / "cm.png"
        label = self.source / f"{_NAME} - {split.capitalize()} Labels" / city / "cm" / "cm.png"
        files["mask"] = self._relative(beside if beside.is_file() else label)
        wanted = [b.name for b in self.entry.layer("image_pre").bands]
        for layer, name in _FOLDERS.items():
            found = {m.group(1).upper(): f for f in sorted((folder / name).glob("*")) if (m := _BAND.search(f.name))}
            if lacking := [b for b in wanted if b not in found]:
                return Group(city, split, files, (files[layer], f"has no file of band {', '.join(lacking)}"))
            self._bands[city, layer] = {b: self._relative(found[b]) for b in wanted}
        return Group(city, split, files)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.source).as_posix()

    def _paths(self, group: Group) -> list[str]:
        bands = [path for layer in _FOLDERS for path in self._bands.get((group.name, layer), {}).values()]
        return [*bands, group.files.get("mask", "")]

    def _grid_file(self, group: Group, layer: str) -> str:
        return group.files[layer] if layer == "mask" else self._bands[group.name, layer][_GRID]

    def _image(self, group: Group, layer: str) -> tuple[Header, np.ndarray]:
        grid = self._header(group, layer)
        bands = []
        for path in self._bands[group.name, layer].values():
            header, band = read_raster_at(self.source / path, path, grid.height, grid.width)
            if header.count != 1:
                raise BadFile(path, f"has {header.count} bands instead of one")
            bands.append(band)
        return grid, np.concatenate(bands)

    def _date(self, group: Group) -> str | None:
        """Of the second image, from dates.txt; None where that does not say it."""
        file = self.source / Path(group.files["image_post"]).parent / "dates.txt"
        text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
        said = re.findall(r"\b(\d{4})-?(\d{2})-?(\d{2})\b", text)
        return "-".join(said[1]) if len(said) == 2 else None

    def notes(self) -> list[str]:
        return [*super().notes(), "The date is that of image_post."]


def remote_files() -> list[RemoteFile]:
    """Addresses and checksums of images and labels, as torchgeo knows them."""
    from torchgeo.datasets import OSCD

    return [RemoteFile(url=url, name=name, md5=OSCD.md5s[name], unpack=True) for name, url in OSCD.urls.items()]
