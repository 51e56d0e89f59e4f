"""Million-AID in torchgeo's layout."""

from __future__ import annotations

from pathlib import Path

from data_catalog.download import unpack
from data_catalog.readers.image_folder import ImageFolderReader, Item, image_files
from rsfm.errors import RsfmError


class MillionAIDReader(ImageFolderReader):
    """Labelled images of `train/` through `torchgeo.datasets.MillionAID`; or, for pretraining, every image.

    Options:
        labels: false takes all images of `train/` and `test/` without labels, as one training split.
    """

    def _list(self) -> list[Item]:
        for split in ("train", "test"):
            archive = self.source / f"{split}.zip"
            if archive.is_file() and not (self.source / split).is_dir():
                unpack(archive, self.source)
        if not (self.source / "train").is_dir():
            raise RsfmError(f"{self.source} has no folder train (nor train.zip), as {self.entry.title} has.")
        if not self.options["labels"]:
            return [Item(path, None, "train") for path in image_files(self.source)]
        from torchgeo.datasets import MillionAID

        items = []
        for split in MillionAID.splits:
            if not (self.source / split).is_dir():
                continue
            dataset = MillionAID(root=str(self.source), task="multi-class", split=split)
            # torchgeo lists files in the order of the file system.
            for file in sorted(dataset.files, key=lambda f: f["image"]):
                items.append(Item(Path(file["image"]).relative_to(self.source).as_posix(), file["label"][0], split))
        if not items:
            raise RsfmError(
                f"{self.source / 'train'} holds no <scene>/<class>/*.jpg: not the layout of {self.entry.title}."
            )
        return items
