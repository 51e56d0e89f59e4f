"""EuroSAT with 13 bands, in torchgeo's layout or as a plain folder of the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_catalog.download import unpack
from data_catalog.entry import RemoteFile
from data_catalog.readers.image_folder import LABELS, ImageFolderReader, Item
from rsfm.errors import RsfmError


def _torchgeo_class(name: str) -> Any:
    import torchgeo.datasets

    return getattr(torchgeo.datasets, name)


class EuroSATReader(ImageFolderReader):
    """Takes file lists, classes and splits from the torchgeo class that the entry names (`torchgeo_class`).

    Pixels are read as stored (uint16, 13 bands in file order), with their georeference, which torchgeo's samples lack.
    A folder with `labels.csv` or class folders of the same files works too.
    """

    def _list(self) -> list[Item]:
        if (self.source / LABELS).is_file():
            return super()._list()
        dataset_class = _torchgeo_class(self.options["torchgeo_class"])
        lists = {s: self.source / n for s, n in dataset_class.split_filenames.items()}
        present = [split for split, file in lists.items() if file.is_file()]
        if not present:
            return super()._list()
        archive = self.source / dataset_class.filename
        if not (self.source / dataset_class.base_dir).is_dir():
            if not archive.is_file():
                raise RsfmError(
                    f"{self.source} has the lists of {self.entry.title}, but neither {dataset_class.base_dir} nor "
                    f"{dataset_class.filename}: fetch it with rsfm data prepare {self.entry.name} --download"
                )
            unpack(archive, self.source)
        items = []
        for split in present:
            dataset = dataset_class(root=str(self.source), split=split, download=False)
            if list(dataset_class.all_band_names) != [b.name for b in self.entry.bands]:
                raise RsfmError(f"torchgeo's band order for {self.entry.title} is not the catalog's: report this.")
            for path, index in dataset.samples:
                relative = Path(path).resolve().relative_to(self.source.resolve()).as_posix()
                items.append(Item(relative, dataset.classes[index], split))
        return items


def _remote(name: str) -> list[RemoteFile]:
    dataset_class = _torchgeo_class(name)
    files = [RemoteFile(url=dataset_class.url + dataset_class.filename, name=dataset_class.filename,
                        md5=dataset_class.md5, unpack=True)]  # fmt: skip
    for split, file in dataset_class.split_filenames.items():
        files.append(RemoteFile(url=dataset_class.url + file, name=file, md5=dataset_class.split_md5s[split]))
    return files


def remote_files() -> list[RemoteFile]:
    """Addresses and checksums of the full dataset, as torchgeo knows them."""
    return _remote("EuroSAT")


def remote_files_100() -> list[RemoteFile]:
    """Addresses and checksums of the 100-image subset."""
    return _remote("EuroSAT100")


def remote_files_spatial() -> list[RemoteFile]:
    """The same images with the lists that divide them by longitude."""
    return _remote("EuroSATSpatial")
