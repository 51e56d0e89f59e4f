"""What an unknown file's bands and numbers mean: guesses with reasons, and whether they are certain.

Every guess can be overridden. Where the evidence fits two answers, it says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_catalog.readers.files import Header
from rsfm.bands import SENSORS, Unit, sensor
from rsfm.errors import RsfmError
from rsfm.packs import BandInfo

#: EuroSAT's file order: B8A comes last.
EUROSAT_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
_S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

#: Colour words for a sensor's bands.
_COLOURS = {
    "sentinel-2": {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08"},
    "landsat-8": {"blue": "B2", "green": "B3", "red": "B4", "nir": "B5"},
    "landsat-7": {"blue": "B1", "green": "B2", "red": "B3", "nir": "B4"},
}
#: Centre wavelengths of bands that are named by colour alone (mid-range of the colour, nm).
_GENERIC = {"blue": 480.0, "green": 560.0, "red": 660.0, "nir": 840.0, "pan": 600.0}

_FILE_NAMES = (
    (r"(^|[^a-z])S2[ABC]?[_-]", "sentinel-2"),
    (r"(^|[^a-z])S1[ABC]?[_-]", "sentinel-1"),
    (r"(^|[^a-z])L[COT]0[89]_", "landsat-8"),
    (r"(^|[^a-z])LE07_", "landsat-7"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was understood, in words."""

    subject: str  # "layout", "bands", "unit", ...
    text: str
    certain: bool = True

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" + ("" if self.certain else " [a guess]")


# -- bands -------------------------------------------------------------------------------------------------------------
def guess_sensor(paths: Sequence[str], descriptions: Sequence[str | None], readme: str) -> tuple[str | None, str]:
    """A sensor's name and the reason, or None."""
    plain = [_plain(d) for d in descriptions]
    if sum(name in _S2 for name in plain) >= 3:
        return "sentinel-2", "the band descriptions are Sentinel-2's"
    if plain and set(plain) <= {"VV", "VH"}:
        return "sentinel-1", "the band descriptions are Sentinel-1's polarisations"
    for pattern, name in _FILE_NAMES:
        if paths and sum(bool(re.search(pattern, Path(p).name, re.I)) for p in paths) > len(paths) / 2:
            return name, f"the file names begin as {SENSORS[name].title} products do"
    named = [n for n in SENSORS if n != "rgb" and re.search(n.replace("-", "[- ]?"), readme, re.I)]
    if len(named) == 1:
        return named[0], f"the README speaks of {SENSORS[named[0]].title}"
    return None, ""


def _plain(description: str | None) -> str:
    """`B6_VCID_2`, `b06 - vre2` -> `B6`, `B06`."""
    found = re.match(r"\s*(B\d{1,2}A?|VV|VH)(?![0-9A-Za-z])", (description or "").replace("_", " "), re.I)
    return found.group(1).upper() if found else (description or "").strip().lower()


def guess_bands(
    header: Header, sensor_name: str | None, gsd_m: float | None, means: np.ndarray
) -> tuple[list[BandInfo], str | None, list[Finding]]:
    """Bands in file order (in the sensor's usual unit), the sensor, and why.

    Args:
        means: (C,) mean stored value of each band over some files.
    """
    described = [_plain(d) for d in header.descriptions] if any(header.descriptions) else []
    if header.dtype == "uint8" and [d[:1] for d in described] == ["r", "g", "b"]:
        described, sensor_name = ["red", "green", "blue"], "rgb"
    if described and len(set(described)) == header.count:
        names = [_COLOURS.get(sensor_name or "", {}).get(d, d) for d in described]
        if sensor_name and all(n in {b.name for b in SENSORS[sensor_name].bands} for n in names):
            said = "" if names == described else f" ({', '.join(described)} in the file)"
            return _of_sensor(sensor_name, names), sensor_name, [
                Finding("bands", f"{' '.join(names)}: from the descriptions in the file{said}.")
            ]  # fmt: skip
        text = f"{' '.join(described)}: from the descriptions in the file."
        return _generic(described, gsd_m), sensor_name, [Finding("bands", text)]
    return _bands_by_count(header, sensor_name, gsd_m, means)


def _bands_by_count(
    header: Header, sensor_name: str | None, gsd_m: float | None, means: np.ndarray
) -> tuple[list[BandInfo], str | None, list[Finding]]:
    count = header.count
    if count == 13 and sensor_name in (None, "sentinel-2"):
        return _thirteen(means)
    if count == 12 and sensor_name == "sentinel-2":
        names = [n for n in _S2 if n != "B10"]
        return _of_sensor("sentinel-2", names), "sentinel-2", [
            Finding("bands", f"{' '.join(names)}: assumed, 12 Sentinel-2 bands without B10 in numeric order.", False)
        ]  # fmt: skip
    if count == 7 and header.dtype == "uint8" and sensor_name in (None, "landsat-7"):
        names = [b.name for b in SENSORS["landsat-7"].bands]
        return _of_sensor("landsat-7", names), "landsat-7", [
            Finding("bands", f"{' '.join(names)}: assumed, seven 8-bit bands as of Landsat 7.", sensor_name is not None)
        ]  # fmt: skip
    if count == 3 and header.dtype == "uint8":
        return _of_sensor("rgb", ["red", "green", "blue"]), "rgb", [
            Finding("bands", "red green blue: three 8-bit bands.")
        ]  # fmt: skip
    if count == 2 and header.dtype.startswith("float") and sensor_name in (None, "sentinel-1"):
        return _of_sensor("sentinel-1", ["VV", "VH"]), "sentinel-1", [
            Finding("bands", "VV VH: assumed, two floating-point bands.", False)
        ]  # fmt: skip
    if count == 1:
        return _generic(["pan"], gsd_m), sensor_name, [Finding("bands", "pan: a single band without a name.", False)]
    if count == 4:
        names = ["red", "green", "blue", "nir"]
        return _generic(names, gsd_m), sensor_name, [
            Finding("bands", f"{' '.join(names)}: assumed for four bands; some sensors store blue first.", False)
        ]  # fmt: skip
    names = [f"band_{i + 1}" for i in range(count)]
    return _generic(names, gsd_m), sensor_name, [
        Finding("bands", f"{count} bands without names: called {names[0]} to {names[-1]}.", False)
    ]  # fmt: skip


def _thirteen(means: np.ndarray) -> tuple[list[BandInfo], str, list[Finding]]:
    """13 bands are Sentinel-2's, in one of two orders; B10 (cirrus) sees almost nothing and gives the order away."""
    darkest = int(np.argmin(means))
    rest = float(np.delete(means, darkest).min())
    clear = means[darkest] < 0.35 * rest
    order = _S2 if darkest == 10 else EUROSAT_ORDER
    where = "B8A last, as EuroSAT's files" if order is EUROSAT_ORDER else "B8A after B08"
    certain = bool(clear and darkest in (9, 10))
    reason = (
        f"band {darkest + 1} is by far the darkest (mean {means[darkest]:.0f}, the next {rest:.0f}), as B10 (cirrus) is"
        if certain
        else "no band stands out as B10 (cirrus), so the order is a guess"
    )
    return (
        _of_sensor("sentinel-2", order),
        "sentinel-2",
        [Finding("bands", f"{' '.join(order)} ({where}): {reason}.", certain)],
    )


def named_bands(names: Sequence[str], sensor_name: str | None, gsd_m: float | None) -> list[BandInfo]:
    """Bands that the user names, in file order."""
    if sensor_name:
        known = {b.name for b in sensor(sensor_name).bands}
        translated = [_COLOURS.get(sensor_name, {}).get(n, n) for n in names]
        if all(n in known for n in translated):
            return _of_sensor(sensor_name, translated)
        raise RsfmError(f"{sensor_name} has no band {', '.join(n for n in translated if n not in known)}.")
    if set(names) <= {"red", "green", "blue"}:
        return _of_sensor("rgb", names)
    return _generic(names, gsd_m)


def _of_sensor(name: str, bands: Sequence[str]) -> list[BandInfo]:
    return [BandInfo(**vars(band)) for band in sensor(name).stored_as(bands)]


def _generic(names: Sequence[str], gsd_m: float | None) -> list[BandInfo]:
    return [BandInfo(name=n, wavelength_nm=_GENERIC.get(n), gsd_m=gsd_m or 1.0, unit="dn") for n in names]


# -- unit and scaling --------------------------------------------------------------------------------------------------
#: A land scene's brightest band has its median reflectance here (vegetation, soil and buildings in the near infrared).
_BRIGHT_MEDIAN = (0.08, 0.95)
_RULES = {"reflectance × 10000": 1e-4, "reflectance = DN / 65535": 1 / 65535}
_IN_WORDS = (
    (r"(dn\s*/\s*65535|/\s*65535|65535\s*=\s*1)", ("reflectance", 1 / 65535)),
    (r"(reflectance\s*[x×*]\s*10[ ,']?000|/\s*10[ ,']?000|scaled? by 10[ ,']?000)", ("reflectance", 1e-4)),
    (r"\braw dn\b", ("dn", 1.0)),
)  # fmt: skip


def guess_unit(
    dtype: str, values: np.ndarray, sensor_name: str | None, texts: Sequence[tuple[str, str]]
) -> tuple[Unit, float, Finding]:
    """Unit and scale of the stored numbers, and why.

    Args:
        values: (C, N) stored values of some pixels with data.
        texts: (where, text) that may say it in words: tags in the files, then a README.
    """
    if dtype == "uint8":
        return "uint8", 1.0, Finding("unit", "8-bit values 0..255, taken as they are.")
    medians = np.median(values, axis=1) if values.size else np.zeros(1)
    bright, largest = float(medians.max()), float(values.max()) if values.size else 0.0
    for where, text in texts:
        said = [(unit, scale, m.group(0)) for p, (unit, scale) in _IN_WORDS if (m := re.search(p, text, re.I))]
        if len({s[:2] for s in said}) == 1:
            unit, scale, words = said[0]
            # Water alone may be this dark; what counts against the words is that another rule would fit.
            fits = (
                unit != "reflectance"
                or _plausible(bright * scale)
                or not any(_plausible(bright * s) for s in _RULES.values())
            )
            doubt = "" if fits else f", but the brightest band's median would then be {bright * scale:.3g}"
            return (
                unit,
                scale,
                Finding("unit", f"{unit}, scale {_scale_text(scale)}: {where} says {words!r}{doubt}.", fits),
            )
    if dtype.startswith("float"):
        return _floating(values, bright)
    if sensor_name not in ("sentinel-2", "landsat-8"):
        text = f"raw digital numbers (up to {largest:.0f}): nothing says how they relate to reflectance."
        return "dn", 1.0, Finding("unit", text, False)
    fitting = {w: s for w, s in _RULES.items() if _plausible(bright * s)}
    shown = ", ".join(f"{w} would make the brightest band's median {bright * s:.2g}" for w, s in _RULES.items())
    if len(fitting) == 1:
        words, scale = next(iter(fitting.items()))
        if sensor_name == "landsat-8":
            # Level-1 digital numbers of Landsat 8 lie in the same range, so numbers alone do not settle it.
            return (
                "dn",
                1.0,
                Finding(
                    "unit", f"raw digital numbers: Landsat 8 Level-1 is not scaled to reflectance ({shown}).", False
                ),
            )
        return "reflectance", scale, Finding("unit", f"{words}: {shown}.")
    if sensor_name == "landsat-8":
        return "dn", 1.0, Finding("unit", f"raw digital numbers of Landsat 8 (up to {largest:.0f}).", False)
    if fitting:
        return "reflectance", 1e-4, Finding("unit", f"ambiguous; took × 10000, the usual one: {shown}.", False)
    return "dn", 1.0, Finding("unit", f"no known scaling fits ({shown}): taken as raw digital numbers.", False)


def _floating(values: np.ndarray, bright: float) -> tuple[Unit, float, Finding]:
    low, high = (float(v) for v in np.percentile(values, [1, 99])) if values.size else (0.0, 0.0)
    span = f"98 % of the values lie in {low:.3g}..{high:.3g}"
    if low < -3 and high < 25:
        return "db", 1.0, Finding("unit", f"decibels: {span}.")
    if low > -0.2 and high <= 1.6 and bright >= 0.01:
        return "reflectance", 1.0, Finding("unit", f"reflectance 0..1: {span}.")
    if _plausible(bright * 1e-4):
        return "reflectance", 1e-4, Finding("unit", f"reflectance × 10000 in floating point: {span}.", False)
    return "dn", 1.0, Finding("unit", f"raw numbers: {span}, which no known scaling fits.", False)


def _plausible(bright: float) -> bool:
    return _BRIGHT_MEDIAN[0] <= bright <= _BRIGHT_MEDIAN[1]


def _scale_text(scale: float) -> str:
    return f"1/{1 / scale:g}" if 0 < scale < 1 else f"{scale:g}"
