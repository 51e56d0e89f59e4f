"""Scene classification as torchgeo lays it out: one folder per class, and a list of file names per split."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from data_catalog.download import unpack
from data_catalog.entry import DatasetEntry, RemoteFile
from data_catalog.readers.base import Sample, SampleKey
from data_catalog.readers.image_folder import LABELS, ImageFolderReader, Item, image_files
from data_catalog.resample import stretch
from rsfm.errors import RsfmError
from rsfm.specs import PrepareSpec
from rsfm.wording import counted
from rsfm.workspace import Workspace

_SPLITS = ("train", "val", "test")


class ListedFolderReader(ImageFolderReader):
    """Pixels as stored, with their georeference, in the splits of the lists. A folder with `labels.csv` works too.

    Options, given by the entry:
        images: folder of the class folders (they may also lie beside the lists); archive: what it is unpacked from.
        lists: name of a list, with {split} in it. Names are compared without their ending: EuroSAT's lists say .jpg.
        lists_required: whether class folders without lists are refused; else test images are drawn.
        stretch: whether images of another size than the entry's are stretched to it, as torchgeo does.
    """

    def __init__(self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, workspace: Workspace) -> None:
        #: With an image size, every image is resampled once, by the preparation.
        self._stretched_to = entry.layer().size if spec.image_size is None else None
        super().__init__(entry, spec, source, workspace)
        if self.options["stretch"] and self._stretched_to:
            height, width = self._stretched_to
            self._notes.append(
                f"Images of another size than {height} x {width} are stretched to it (anti-aliased bilinear)."
            )

    def _list(self) -> list[Item]:
        if (self.source / LABELS).is_file():
            return super()._list()
        lists = {s: self.source / self.options["lists"].format(split=s) for s in _SPLITS}
        missing = [file.name for file in lists.values() if not file.is_file()]
        if len(missing) == len(lists) and not self.options["lists_required"]:
            return super()._list()
        if missing:
            raise RsfmError(
                f"{self.source} lacks {', '.join(missing)}: the splits of {self.entry.title} are these lists of file "
                f"names. Fetch them: rsfm data prepare {self.entry.name} --download; or register the images with a "
                "split of your own: rsfm data add"
            )
        found = self._images()
        items: list[Item] = []
        split_of: dict[str, str] = {}
        for split, file in lists.items():
            for name in dict.fromkeys(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()):
                stem = PurePosixPath(name).stem
                if stem in split_of:
                    raise RsfmError(f"{name} is in the lists of {split_of[stem]} and of {split}: {self.source}")
                split_of[stem] = split
                path = found.get(stem) or self._expected(name)
                items.append(Item(path, PurePosixPath(path).parent.name, split))
        if unlisted := len(set(found) - set(split_of)):
            self._notes.append(f"Not used, for none of the lists names them: {counted(unlisted, 'images')}.")
        return items

    def _images(self) -> dict[str, str]:
        """Stem -> path relative to the source, of all images below the class folders."""
        folder, archive = self.source / self.options["images"], self.source / self.options["archive"]
        if not folder.is_dir() and archive.is_file():
            unpack(archive, self.source)
        if not folder.is_dir() and any((self.source / c).is_dir() for c in self.entry.classes):
            folder = self.source
        if not folder.is_dir():
            raise RsfmError(
                f"{self.source} has the lists of {self.entry.title}, but neither {self.options['images']} nor "
                f"{archive.name}: fetch it with rsfm data prepare {self.entry.name} --download"
            )
        prefix = folder.relative_to(self.source).as_posix()
        paths = [f if prefix == "." else f"{prefix}/{f}" for f in image_files(folder)]
        return {PurePosixPath(p).stem: p for p in paths}

    def _expected(self, name: str) -> str:
        """Where a file that is not there should be: classes are what file names begin with."""
        label = re.sub(r"_?\d+$", "", PurePosixPath(name).stem)
        return f"{self.options['images']}/{label}/{name}"

    def read(self, key: SampleKey) -> Sample:
        sample = super().read(key)
        image = sample.arrays["image"]
        if self.options["stretch"] and self._stretched_to and image.shape[1:] != self._stretched_to and image.size:
            sample.arrays["image"] = stretch(image, *self._stretched_to)
        return sample


# -- addresses and checksums, as torchgeo knows them -------------------------------------------------------------------
def _eurosat(name: str) -> Callable[[], list[RemoteFile]]:
    def remote_files() -> list[RemoteFile]:
        known = _torchgeo(name)
        return [
            RemoteFile(url=known.url + known.filename, name=known.filename, md5=known.md5, unpack=True),
            *(
                RemoteFile(url=known.url + file, name=file, md5=known.split_md5s[split])
                for split, file in known.split_filenames.items()
            ),
        ]

    return remote_files


def resisc45() -> list[RemoteFile]:
    known = _torchgeo("RESISC45")
    return [
        RemoteFile(url=known.url, name=known.filename, md5=known.md5, unpack=True),
        *(
            RemoteFile(url=url, name=url.rpartition("/")[2], md5=known.split_md5s[split])
            for split, url in known.split_urls.items()
        ),
    ]


def _torchgeo(name: str) -> Any:
    import torchgeo.datasets

    return getattr(torchgeo.datasets, name)


eurosat = _eurosat("EuroSAT")
eurosat_100 = _eurosat("EuroSAT100")
eurosat_spatial = _eurosat("EuroSATSpatial")
uc_merced = _eurosat("UCMerced")
