"""Degradations: an operator × a severity, applied to input images before anything else sees them.

An operator is a pure function of images, severity and sample ids, on arrays (N, C, H, W) of any number of bands.
Labels stay as they are: only the information content changes. No torch; `rsfm.degrade.device` does the same on
tensors, for jobs on a GPU.
"""

from __future__ import annotations

from rsfm.degrade import compression, geometry, optics, radiometry, resolution
from rsfm.degrade.entry import OperatorEntry
from rsfm.errors import RsfmError

__all__ = ["OPERATORS", "OperatorEntry", "operator", "severity_text"]

OPERATORS: dict[str, OperatorEntry] = {
    entry.name: entry for module in (resolution, optics, radiometry, compression, geometry) for entry in module.ENTRIES
}


def severity_text(name: str, severity: float) -> str:
    """4×, 0.5 px, 0.25: a severity with the unit of its operator; of an unknown one the number alone."""
    unit = OPERATORS[name].severity_unit if name in OPERATORS else ""
    return f"{severity:g}{'' if unit in ('', '×') else ' '}{unit}"


def operator(name: str) -> OperatorEntry:
    """Look an operator up by name."""
    try:
        return OPERATORS[name]
    except KeyError:
        raise RsfmError(f"Unknown degradation {name!r}; known: {', '.join(OPERATORS)}.") from None
