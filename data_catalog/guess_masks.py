"""What the numbers or colours in unknown masks mean: from a class table where there is one, else from the masks."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_catalog.guess import Finding
from data_catalog.readers.base import BadFile
from data_catalog.readers.files import LOSSY
from data_catalog.readers.masks import Colour, one_channel, pack_colours, read_mask, unpack_colour
from data_catalog.readers.tiles import IGNORE
from rsfm.errors import RsfmError

TABLES = ("classes.csv", "classes.txt")
_LOOKED_INTO = 200
_MOST_COLOURS = 40
_MOST_INDICES = 64
_BLACK = (0, 0, 0)
#: Rows of a class table with such a name are no class.
_NO_CLASS = {"unlabelled", "unlabeled", "ignore", "ignored", "void", "unknown", "no data", "nodata", "undefined"}


@dataclass(frozen=True)
class Row:
    """One class of a table: its name, and what stands for it in the masks."""

    name: str
    value: int | None = None
    colour: Colour | None = None

    @property
    def is_class(self) -> bool:
        return self.name.strip().lower() not in _NO_CLASS


@dataclass(frozen=True)
class MaskFacts:
    """Class names, options for `MaskCoding`, and why."""

    classes: list[str]
    options: dict[str, Any]
    findings: list[Finding]


def guess_masks(folder: Path, paths: Sequence[str], usual_names: tuple[str, str]) -> MaskFacts:
    """Look at up to 200 masks.

    Args:
        usual_names: of the two classes of binary masks.

    Raises:
        RsfmError: none can be read, or they are no masks.
    """
    table, where = read_table(folder)
    chosen = list(paths[:: max(1, len(paths) // _LOOKED_INTO)])
    colours, bad = _colours_used(folder, chosen) if _is_coloured(folder, chosen, table) else (None, [])
    if colours is not None:
        classes, options, findings = _of_colours(colours, table, where)
    else:
        values, bad = _values_used(folder, chosen)
        lossy = any(Path(p).suffix.lower() in LOSSY for p in chosen)
        classes, options, findings = _of_values(values, table, where, usual_names, lossy=lossy)
    findings += [Finding("files", f"{b.path} {b.reason}: it will be reported and left out.") for b in bad[:5]]
    return MaskFacts(classes, options, findings)


def read_table(folder: Path) -> tuple[list[Row], str]:
    """The class table of a folder and its file name; nothing where there is none.

    Raises:
        RsfmError: it cannot be understood.
    """
    file = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if file is None:
        return [], ""
    text = file.read_text("utf-8-sig")
    if file.suffix == ".txt":
        rows = [Row(line.strip(), i) for i, line in enumerate(x for x in text.splitlines() if x.strip())]
    else:
        rows = [_row(file, number, row) for number, row in enumerate(csv.DictReader(text.splitlines()), start=2)]
        if all(r.value is None and r.colour is None for r in rows):
            rows = [Row(r.name, i) for i, r in enumerate(rows)]
    if not rows or any(not r.name for r in rows):
        raise RsfmError(f"{file} needs a name for each class: the column name, and value or r,g,b.")
    if len({r.name for r in rows}) < len(rows):
        raise RsfmError(f"{file} names a class twice.")
    if any(r.colour is None for r in rows) and any(r.colour is not None for r in rows):
        raise RsfmError(f"{file} gives a colour to some classes and none to others.")
    return rows, file.name


def _row(file: Path, number: int, row: dict[str, str | None]) -> Row:
    cells = {(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if isinstance(v, str)}
    try:
        said = cells.get("value") or cells.get("id") or ""
        rgb = [cells.get(c, "") for c in ("r", "g", "b")]
        colour = (int(rgb[0]), int(rgb[1]), int(rgb[2])) if all(rgb) else None
        return Row(cells.get("name", ""), int(said) if said else None, colour)
    except ValueError as error:
        raise RsfmError(f"{file}, line {number}: {error}.") from error


# -- colours -----------------------------------------------------------------------------------------------------------
def _is_coloured(folder: Path, paths: Sequence[str], table: list[Row]) -> bool:
    if table:
        return table[0].colour is not None
    for path in paths[:20]:
        try:
            one_channel(read_mask(folder / path, path, "binary"), path)
        except BadFile as error:
            if "differ" in error.reason:
                return True
    return False


def _colours_used(folder: Path, paths: Sequence[str]) -> tuple[Counter[Colour], list[BadFile]]:
    """Colour -> number of masks that hold it."""
    found: Counter[Colour] = Counter()
    bad = []
    for path in paths:
        try:
            raw = read_mask(folder / path, path, "colours")
            if raw.shape[0] not in (3, 4) or raw.dtype != np.uint8:
                raise BadFile(path, f"has {raw.shape[0]} bands of {raw.dtype}, where others hold colours")
        except BadFile as error:
            bad.append(error)
            continue
        found.update(unpack_colour(v) for v in np.unique(pack_colours(raw)).tolist())
    _require_some(found, folder, bad)
    return found, bad


def _of_colours(used: Counter[Colour], table: list[Row], where: str) -> tuple[list[str], dict[str, Any], list[Finding]]:
    options: dict[str, Any] = {"coding": "colours"}
    if not table:
        if len(used) > _MOST_COLOURS:
            raise RsfmError(
                f"The masks hold {len(used)} colours: name the classes in classes.csv (columns name,r,g,b), or save "
                "masks without loss."
            )
        colours = sorted(used)
        names = [f"colour {r},{g},{b}" for r, g, b in colours]
        text = f"colours without a class table: {len(names)} classes, named by colour (classes.csv would name them)."
        return names, options | {"colours": [list(c) for c in colours]}, [Finding("masks", text, False)]
    rows = sorted(table, key=lambda r: (r.value is None, r.value))
    classes = [r for r in rows if r.is_class]
    ignored = [r for r in rows if not r.is_class]
    ignore = [r.colour for r in ignored if r.colour]
    known = {r.colour for r in rows}
    findings = [Finding("masks", f"colours of {where}: {len(classes)} classes ({_names([r.name for r in classes])}).")]
    if ignored:
        text = f"{_names([r.name for r in ignored])} of {where} is no class: such pixels are ignored."
        findings.append(Finding("masks", text))
    if _BLACK in used and _BLACK not in known:
        ignore.append(_BLACK)
        text = f"black occurs in {used[_BLACK]} masks and is not in {where}: taken as not labelled."
        findings.append(Finding("masks", text, False))
    if strange := sorted(c for c in used if c not in known and c != _BLACK):
        findings.append(Finding("masks", f"{_few(strange)} is not in {where}: such masks will be left out.", False))
    options |= {"colours": [list(r.colour or ()) for r in classes], "ignore": [list(c) for c in ignore]}
    return [r.name for r in classes], options, findings


# -- values ------------------------------------------------------------------------------------------------------------
def _values_used(folder: Path, paths: Sequence[str]) -> tuple[Counter[int], list[BadFile]]:
    """Value -> number of masks that hold it."""
    found: Counter[int] = Counter()
    bad = []
    for path in paths:
        try:
            raw = one_channel(read_mask(folder / path, path, "binary"), path)
            values = np.unique(raw)
            if raw.dtype.kind == "f" and (not np.isfinite(values).all() or (values != np.rint(values)).any()):
                raise BadFile(path, "holds fractions, which are no classes")
        except BadFile as error:
            bad.append(error)
            continue
        found.update(int(v) for v in values)
    _require_some(found, folder, bad)
    return found, bad


def _of_values(
    used: Counter[int], table: list[Row], where: str, usual_names: tuple[str, str], *, lossy: bool
) -> tuple[list[str], dict[str, Any], list[Finding]]:
    values = sorted(used)
    if lossy:
        text = "JPEG, which blurs values: from 128 on a pixel is of class 1."
        return _binary_names(table, usual_names), {"coding": "binary"}, [Finding("masks", text)]
    binary = set(values) <= {0, 255}
    if table and not (binary and len(table) == 2 and all(r.value != 255 for r in table)):
        return _of_table(values, table, where)
    if binary or set(values) <= {0, 1}:
        text = f"{' and '.join(str(v) for v in values)}: two classes."
        return _binary_names(table, usual_names), {"coding": "binary"}, [Finding("masks", text)]
    classes = [v for v in values if v != IGNORE]
    ignore = [IGNORE] if IGNORE in values else []
    said = f"; {IGNORE} means not labelled" if ignore else ""
    if classes[0] >= 0 and classes[-1] < _MOST_INDICES and classes[-1] + 1 <= 2 * len(classes):
        count = max(2, classes[-1] + 1)
        text = f"class indices 0 to {count - 1}{said} (classes.txt would name them)."
        return [f"class {i}" for i in range(count)], {"coding": "index", "ignore": ignore}, [
            Finding("masks", text, not ignore)
        ]  # fmt: skip
    if len(classes) > IGNORE:
        raise RsfmError(f"The masks hold {len(classes)} different values: not a mask of classes.")
    text = f"the values {_few(classes)} are {len(classes)} classes{said} (classes.csv would name them)."
    options = {"coding": "values", "values": classes, "ignore": ignore}
    return [f"value {v}" for v in classes], options, [Finding("masks", text, False)]


def _of_table(values: list[int], table: list[Row], where: str) -> tuple[list[str], dict[str, Any], list[Finding]]:
    rows = sorted(table, key=lambda r: (r.value is None, r.value))
    if any(r.value is None for r in rows):
        raise RsfmError(f"{where} gives a value to some classes and none to others.")
    classes = [r for r in rows if r.is_class]
    known = {r.value for r in rows}
    ignore = [int(r.value) for r in rows if not r.is_class and r.value is not None]
    findings = [Finding("masks", f"values of {where}: {len(classes)} classes ({_names([r.name for r in classes])}).")]
    if IGNORE in values and IGNORE not in known:
        ignore.append(IGNORE)
        findings.append(Finding("masks", f"{IGNORE} is not in {where}: taken as not labelled.", False))
    if strange := [v for v in values if v not in known and v != IGNORE]:
        findings.append(Finding("masks", f"{_few(strange)} is not in {where}: such masks will be left out.", False))
    options: dict[str, Any] = {"coding": "values", "values": [r.value for r in classes], "ignore": ignore}
    return [r.name for r in classes], options, findings


def _binary_names(table: list[Row], usual: tuple[str, str]) -> list[str]:
    return [r.name for r in table] if len(table) == 2 else list(usual)


def _require_some(found: Counter[Any], folder: Path, bad: list[BadFile]) -> None:
    if not found:
        raise RsfmError(f"None of the masks in {folder} can be read: {bad[0].path} {bad[0].reason}.")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "")


def _few(values: Sequence[Any]) -> str:
    return ", ".join(str(v) for v in values[:8]) + (" …" if len(values) > 8 else "")
