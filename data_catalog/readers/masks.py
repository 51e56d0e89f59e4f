"""Masks as their authors store them, to class indices: 0/1 or 0/255, indices, other values, or colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from data_catalog.readers.base import BadFile
from data_catalog.readers.files import LOSSY, PHOTO_FORMATS, is_photo, message, read_image, require_content
from data_catalog.readers.tiles import IGNORE
from rsfm.errors import RsfmError

Kind = Literal["index", "binary", "values", "colours"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Colour = tuple[int, int, int]

_UNKNOWN = -1
#: JPEG keeps 0 and 255 apart, but not exact: from here on a pixel is of class 1.
_HALF = 128


@dataclass(frozen=True)
class MaskCoding:
    """How the numbers in a mask file name classes.

    Attributes:
        kind: `index` (the value is the class index), `binary` (0 and 1, or 0 and 255, file by file), `values` (a list
            of values, one for each class), `colours` (a list of RGB colours, one for each class).
        count: number of classes.
        values, colours: of class 0, 1, ...
        ignore: values, or colours, that mean "not labelled".
    """

    kind: Kind
    count: int
    values: tuple[int, ...] = ()
    colours: tuple[Colour, ...] = ()
    ignore: tuple[Any, ...] = ()

    @classmethod
    def of(cls, options: dict[str, Any], classes: Sequence[str], where: str) -> MaskCoding:
        """From a reader's options `coding`, `values`, `colours` and `ignore`.

        Raises:
            RsfmError: they do not fit each other, or the classes.
        """
        kind = options["coding"]
        if kind not in KINDS:
            raise RsfmError(f"Option coding of {where} must be one of {', '.join(KINDS)}, got {kind!r}.")
        if not 1 <= len(classes) <= IGNORE:
            raise RsfmError(f"The masks of {where} have {len(classes)} classes: 1 to {IGNORE} can be stored.")
        if kind == "binary" and len(classes) != 2:
            raise RsfmError(f"A binary mask has two classes, {where} has {len(classes)}.")
        for name in ("values", "colours"):
            if (kind == name) != bool(options[name]) or (kind == name and len(options[name]) != len(classes)):
                raise RsfmError(
                    f"{where} has {len(classes)} classes and coding {kind}: {len(options[name])} {name} do not fit it."
                )
        try:
            colours = tuple(_colour(c) for c in options["colours"])
            ignore = tuple(_colour(c) if kind == "colours" else int(c) for c in options["ignore"])
            values = tuple(int(v) for v in options["values"])
        except (TypeError, ValueError) as error:
            raise RsfmError(f"A value or colour of {where} cannot be read: {error}.") from error
        return cls(kind, len(classes), values, colours, ignore)

    def read(self, path: Path, shown: str) -> np.ndarray:
        """(1, H, W) uint8 class indices, `IGNORE` where nothing is labelled.

        Raises:
            BadFile: it cannot be decoded, or holds a value that is no class.
        """
        raw = read_mask(path, shown, self.kind)
        lossy = path.suffix.lower() in LOSSY
        if lossy and self.kind != "binary":
            raise BadFile(shown, "is a JPEG, which cannot hold exact class values: save it as PNG or TIFF")
        if self.kind == "colours":
            return self._of_colours(raw, shown)[None]
        single = one_channel(raw, shown)
        return (self._of_lossy(single) if lossy else self._of_values(single, shown))[None]

    def _of_lossy(self, raw: np.ndarray) -> np.ndarray:
        return (raw >= _HALF).astype(np.uint8)

    def _of_values(self, raw: np.ndarray, shown: str) -> np.ndarray:
        if raw.dtype == np.uint8:
            present = np.flatnonzero(np.bincount(raw.ravel(), minlength=256))
            table = np.full(256, _UNKNOWN, np.int16)
            table[present] = self._classes_of(present.tolist())
            found = table[raw]
        else:
            present, inverse = np.unique(raw, return_inverse=True)
            found = np.array(self._classes_of(present.tolist()), np.int16)[inverse].reshape(raw.shape)
        if (found == _UNKNOWN).any():
            self._refuse(np.unique(raw[found == _UNKNOWN]).tolist(), found, shown)
        return found.astype(np.uint8)

    def _classes_of(self, present: list[float]) -> list[int]:
        """The class of each value that a file holds; `_UNKNOWN` for none."""
        known: dict[float, int] = dict.fromkeys(self.ignore, IGNORE)
        if self.kind == "values":
            known = {value: index for index, value in enumerate(self.values)} | known
        elif self.kind == "index":
            known = {index: index for index in range(self.count)} | known
        else:
            others = [v for v in present if v not in known]
            known = ({0: 0, 255: 1} if 255 in others else {0: 0, 1: 1}) | known
        return [known.get(value, _UNKNOWN) for value in present]

    def _of_colours(self, raw: np.ndarray, shown: str) -> np.ndarray:
        if raw.shape[0] not in (3, 4) or raw.dtype != np.uint8:
            raise BadFile(shown, f"has {raw.shape[0]} bands of {raw.dtype}: not a mask of RGB colours")
        packed = pack_colours(raw)
        found = np.full(packed.shape, _UNKNOWN, np.int16)
        for index, colour in enumerate(self.colours):
            found[packed == _packed(colour)] = index
        for colour in self.ignore:
            found[packed == _packed(colour)] = IGNORE
        if (found == _UNKNOWN).any():
            self._refuse([unpack_colour(v) for v in np.unique(packed[found == _UNKNOWN]).tolist()], found, shown)
        return found.astype(np.uint8)

    def _refuse(self, values: list[Any], found: np.ndarray, shown: str) -> None:
        text = ", ".join(str(v) for v in values[:4]) + (" …" if len(values) > 4 else "")
        number = int((found == _UNKNOWN).sum())
        raise BadFile(shown, f"holds {text}, which is none of its {self.count} classes ({number} pixels)")


def read_mask(path: Path, shown: str, kind: Kind) -> np.ndarray:
    """(C, H, W) as stored. Of a palette image: its colours or grey levels where they are the code, else its indices.

    Raises:
        BadFile: it cannot be decoded.
    """
    require_content(path, shown)
    if is_photo(path):
        from PIL import Image

        try:
            with Image.open(path, formats=PHOTO_FORMATS) as image:
                if image.mode == "1" or (image.mode == "P" and kind != "colours"):
                    grey = image.mode == "P" and kind == "binary" and _is_grey(image.getpalette() or [])
                    return np.asarray(image.convert("L") if grey else image).astype(np.uint8)[None]
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadFile(shown, f"cannot be decoded: {message(error, path, shown)}") from error
    return read_image(path, shown)[1]


def one_channel(raw: np.ndarray, shown: str) -> np.ndarray:
    """(C, H, W) -> (H, W): a grey image stored with several channels is one; transparency does not count.

    Raises:
        BadFile: the channels differ.
    """
    colours = raw[: 1 if raw.shape[0] <= 2 else 3]
    if raw.shape[0] > 4 or (colours != colours[:1]).any():
        raise BadFile(shown, f"has {raw.shape[0]} bands that differ: not a mask of single values")
    return colours[0]


def pack_colours(raw: np.ndarray) -> np.ndarray:
    """(3 or 4, H, W) uint8 -> (H, W) uint32, one number per colour."""
    red, green, blue = raw[:3].astype(np.uint32)
    return red << 16 | green << 8 | blue


def unpack_colour(packed: int) -> Colour:
    return packed >> 16, packed >> 8 & 255, packed & 255


def _packed(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _colour(value: Any) -> Colour:
    red, green, blue = (int(v) for v in value)
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"{list(value)} is no RGB colour")
    return red, green, blue


def _is_grey(palette: list[int]) -> bool:
    return palette[0::3] == palette[1::3] == palette[2::3]
