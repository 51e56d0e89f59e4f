"""Degradations: an operator × a severity, applied to input images before anything else sees them.

An operator is a pure function of (images, severity), deterministic, on arrays (N, C, H, W) of any number of bands.
Shapes, dtype rules and labels stay as they are: only the information content changes. Needs numpy and Pillow only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rsfm.degrade.resolution import bilinear
from rsfm.errors import RsfmError
from rsfm.specs import spec_hash


@dataclass(frozen=True)
class OperatorEntry:
    """One way to make an image worse.

    Attributes:
        severity_name, severity_unit: what the severity is, for axes: "factor", "×".
        identity: the severity at which the input comes back untouched.
        changes_gsd: whether the severity multiplies the effective ground sampling distance.
        definition: everything that fixes the result; hashed into `operator_hash`.
        function: (images (N, C, H, W), severity) -> images of the same shape.
    """

    name: str
    title: str
    paper: str
    severity_name: str
    severity_unit: str
    identity: float
    changes_gsd: bool
    definition: dict[str, str | int | float]
    function: Callable[[np.ndarray, float], np.ndarray]

    @property
    def operator_hash(self) -> str:
        """Equal for equal definitions, on every machine."""
        return spec_hash({"operator": self.name, **self.definition})

    def __call__(self, images: np.ndarray, severity: float) -> np.ndarray:
        """Apply to (N, C, H, W); at the identity severity the very same array comes back."""
        if images.ndim != 4:
            raise RsfmError(f"Degradation takes images (N, C, H, W), got shape {images.shape}.")
        return images if severity == self.identity else self.function(images, severity)

    def effective_gsd_m(self, gsd_m: float | None, severity: float) -> float | None:
        """Ground sampling distance in metres of what is left of the information; None where the grid's is unknown."""
        if gsd_m is None:
            return None
        return gsd_m * severity if self.changes_gsd else gsd_m


OPERATORS: dict[str, OperatorEntry] = {
    o.name: o
    for o in (
        OperatorEntry(
            name="bilinear",
            title="Coarser by bilinear resampling",
            paper="arXiv 2510.17014",
            severity_name="factor",
            severity_unit="×",
            identity=1,
            changes_gsd=True,
            definition={
                "down": "pil-bilinear",
                "up": "pil-bilinear",
                "where": "tile",
                "rounding": "uint8-only",
                "v": 1,
            },
            function=bilinear,
        ),
    )
}


def operator(name: str) -> OperatorEntry:
    """Look an operator up by name."""
    try:
        return OPERATORS[name]
    except KeyError:
        raise RsfmError(f"Unknown degradation {name!r}; known: {', '.join(OPERATORS)}.") from None
