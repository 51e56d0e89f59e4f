"""From a pack's bands to what an encoder was trained on: the right bands, in its order, in its unit and scaling.

Bands are matched by name where the wavelengths do not contradict it (B1 of Landsat is not B01 of Sentinel-2), red,
green and blue as everywhere in the lab, all others by the nearest wavelength within `tolerance_nm`; radar by
polarisation. A band that is missing is refused, never filled.

The rules between units, and there are no others:

    reflectance -> reflectance × 10 000   the numbers of Sentinel-2 products
    reflectance -> 8 bit                  255 · reflectance / white, cut off at 0 and 255; `white` is part of what is
                                          known of the weights, else refused
    reflectance, 8 bit, dB, raw numbers   as they are, where the weights were trained on the same; raw numbers mean
                                          something for one instrument only

Raw numbers without a calibration cannot become anything else, nor can 8-bit pictures become reflectance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rsfm.bands import RGB_NM, SENSORS, Band, rgb_bands, select
from rsfm.data.source import layer_input
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand
from rsfm.packs import Pack

Numbers = Literal["reflectance", "reflectance_10000", "uint8", "db", "dn"]

POLARISATIONS = ("VV", "VH", "HH", "HV")
#: Reflectance that is 255 in the true-colour images of Sentinel-2 level-1C products (ESA's product definition).
TRUE_COLOUR_WHITE = 0.3558
_COLOURS = {"r": "red", "g": "green", "b": "blue"}
_IN_WORDS: dict[str, str] = {
    "reflectance": "reflectance", "reflectance_10000": "reflectance × 10000", "uint8": "8-bit numbers",
    "db": "decibels", "dn": "raw numbers (dn)",
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """A band as some weights were trained on it.

    Attributes:
        name: as the weights' publisher calls it.
        wavelength_nm: centre; None for radar, and for what is found by name only.
        numbers: what the values were when `mean` and `std` were applied to them.
        mean, std: of the standardisation, in these numbers.
        white: for 8-bit numbers made of reflectance: the reflectance that is 255. None: not known.
        pictures: whether any 8-bit picture will do, or only numbers made with `white`.
        dataset: packs of this dataset hold these very numbers.
        low, high: numbers beyond these were cut off in training.
        sensor: whose raw numbers these are.
        by_name_only: never taken by its wavelength alone (a panchromatic band is much wider than others).
    """

    name: str
    wavelength_nm: float | None
    numbers: Numbers
    mean: float = 0.0
    std: float = 1.0
    white: float | None = None
    pictures: bool = True
    dataset: str | None = None
    low: float = -math.inf
    high: float = math.inf
    sensor: str | None = None
    by_name_only: bool = False

    @property
    def radar(self) -> bool:
        return self.name.upper() in POLARISATIONS

    @property
    def colour(self) -> str | None:
        name = _COLOURS.get(self.name.lower(), self.name.lower())
        return name if name in RGB_NM else None

    def __str__(self) -> str:
        return self.name if self.wavelength_nm is None else f"{self.name} ({self.wavelength_nm:g} nm)"


@dataclass(frozen=True)
class Feed:
    """How a pack's layer becomes what a network takes.

    Attributes:
        bands: the pack's, in the network's order; mean and std give the network's own values.
        low, high: those values are cut off here, one limit for each band.
        remarks: what is worth knowing, for people.
    """

    bands: list[ModelBand]
    low: list[float]
    high: list[float]
    remarks: list[str]


def is_radar(band: Band) -> bool:
    return band.wavelength_nm is None and (band.unit == "db" or band.name.upper() in POLARISATIONS)


def tolerance_nm(wavelength_nm: float) -> float:
    """How far a band's centre may be from the one wanted: 25 nm, from 1 µm on 50 nm, thermal 600 nm."""
    return 25.0 if wavelength_nm < 1000 else 50.0 if wavelength_nm < 3000 else 600.0


def same_name(theirs: str, ours: str) -> bool:
    """`B1`, `b01` and `SR_B1` are one name, and so are `B8a` and `B8A`."""

    def plain(name: str) -> str:
        name = name.upper().removeprefix("SR_")
        digits = name.removeprefix("B")
        return f"B{int(digits):02d}" if digits != name and digits.isdigit() else name

    return plain(theirs) == plain(ours)


def match(wanted: Sequence[Wanted], pack: Pack, names: Sequence[str] | None, title: str) -> list[int]:
    """Positions of the pack's bands that `wanted` asks for, in that order.

    Args:
        names: bands that may be used; None: all. For a model of red, green and blue they are these three, in order.

    Raises:
        RsfmError: a band is missing, or of another kind.
    """
    where = f"Pack {pack.name!r}"
    stored = pack.bands(pack.main)
    colours = {w.colour for w in wanted} == set(RGB_NM) and len(wanted) == len(RGB_NM)
    if names is not None:
        chosen = select(stored, names, where=where)
        if len(names) != len(wanted):
            raise RsfmError(
                f"{title} takes {len(wanted)} bands ({', '.join(w.name for w in wanted)}) and cannot take "
                f"{', '.join(names)}: leave the bands empty."
            )
        if colours:
            _same_kind(wanted, [stored[p] for p in chosen], title, pack)
            return chosen
    else:
        chosen = list(range(len(stored)))
    _same_kind(wanted, [stored[p] for p in chosen], title, pack)
    found: dict[int, int] = {}
    if colours:
        by_colour = dict(zip(RGB_NM, rgb_bands([b for b in stored if not is_radar(b)], where=where), strict=True))
        return select(stored, [by_colour[w.colour] for w in wanted], where=where)
    for number, band in enumerate(wanted):  # by name
        here = [p for p in chosen if same_name(band.name, stored[p].name) and _may_be(band, stored[p])]
        if here and here[0] not in found.values():
            found[number] = here[0]
    for number, band in enumerate(wanted):  # by wavelength
        if number in found or band.wavelength_nm is None or band.by_name_only or band.radar:
            continue
        near = sorted(
            (abs((stored[p].wavelength_nm or 0.0) - band.wavelength_nm), p)
            for p in chosen
            if p not in found.values() and stored[p].wavelength_nm is not None and _may_be(band, stored[p])
        )
        if near:
            found[number] = near[0][1]
    missing = [str(band) for number, band in enumerate(wanted) if number not in found]
    if missing:
        raise RsfmError(
            f"{title} was trained on {', '.join(w.name for w in wanted)}, and pack {pack.name!r} has no band for "
            f"{', '.join(missing)} (by name, or within {tolerance_nm(500):g} nm; from 1 µm on {tolerance_nm(1500):g} "
            "nm). Nothing is filled in: choose a pack with these bands, or a model that takes any, such as "
            "torchgeo:DOFABase16_Weights.DOFA_MAE."
        )
    return [found[number] for number in range(len(wanted))]


def _may_be(wanted: Wanted, band: Band) -> bool:
    """Whether they are of one kind, and the wavelengths, where both are known, agree."""
    if wanted.radar or is_radar(band):
        return wanted.radar and is_radar(band)
    if wanted.wavelength_nm is None or band.wavelength_nm is None:
        return True
    return abs(wanted.wavelength_nm - band.wavelength_nm) <= tolerance_nm(wanted.wavelength_nm)


def _same_kind(wanted: Sequence[Wanted], bands: Sequence[Band], title: str, pack: Pack) -> None:
    radar = any(w.radar for w in wanted)
    if bands and all(is_radar(b) != radar for b in bands):
        kinds = ("radar", "optical") if radar else ("optical", "radar")
        raise RsfmError(
            f"{title} was trained on {kinds[0]} bands ({', '.join(w.name for w in wanted)}), and pack {pack.name!r} "
            f"has {kinds[1]} ones only ({', '.join(b.name for b in bands)}): one cannot be made of the other. Choose a "
            f"pack with {kinds[0]} images of the same places, or another model."
        )


def fed(wanted: Sequence[Wanted], pack: Pack, names: Sequence[str] | None, title: str) -> Feed:
    """The pack's bands such that (value − mean) / std is what the weights were trained on.

    Raises:
        RsfmError: as `match`; or no rule between the pack's unit and the one of the weights.
    """
    layer = pack.layer(pack.main)
    bands, low, high, remarks = [], [], [], set()
    positions = match(wanted, pack, names, title)
    for want, info in zip(wanted, (layer.bands[p] for p in positions), strict=True):
        factor, limits, remark = _conversion(want, info.band(), pack, title)
        bands.append(
            ModelBand(
                name=info.name, wavelength_nm=info.wavelength_nm, gsd_m=info.gsd_m, unit=info.unit,
                mean=want.mean / factor, std=want.std / factor,
            )
        )  # fmt: skip
        low.append((max(want.low, limits[0]) - want.mean) / want.std)
        high.append((min(want.high, limits[1]) - want.mean) / want.std)
        if remark:
            remarks.add(remark)
    pairs = [f"{w.name} from {b.name}" for w, b in zip(wanted, bands, strict=True) if not same_name(w.name, b.name)]
    return Feed(bands, low, high, sorted(remarks) + ([f"Bands: {', '.join(pairs)}."] if pairs else []))


def _conversion(want: Wanted, band: Band, pack: Pack, title: str) -> tuple[float, tuple[float, float], str]:
    """What the pack's values are multiplied with, the limits of the result, and a remark."""
    free, byte = (-math.inf, math.inf), (0.0, 255.0)
    match (want.numbers, band.unit):
        case ("reflectance", "reflectance") | ("db", "db"):
            return 1.0, free, ""
        case ("reflectance_10000", "reflectance"):
            return 1e4, free, ""
        case ("uint8", "uint8") if want.pictures or want.dataset == pack.info.dataset:
            return 1.0, byte, ""
        case ("uint8", "reflectance") if want.white is not None:
            remark = f"Reflectance 0 to {want.white:g} becomes the 8-bit numbers 0 to 255."
            return 255.0 / want.white, byte, remark
        case ("dn", "dn") if want.sensor is not None and want.sensor == pack.layer(pack.main).sensor:
            return 1.0, free, ""
    needed = _IN_WORDS[want.numbers]
    if want.numbers == "uint8" and want.white is not None:
        needed += f" made of reflectance (255 = {want.white:g})"
    if want.numbers == "dn" and want.sensor is not None:
        needed += f" of {SENSORS[want.sensor].title if want.sensor in SENSORS else want.sensor}"
    why = {
        "dn": "raw numbers without a calibration cannot become anything else",
        "uint8": "8-bit numbers cannot become anything else: how they were made is not known",
    }.get(band.unit, "there is no rule between the two")
    raise RsfmError(
        f"{title} on pack {pack.name!r}: band {band.name} is in {_IN_WORDS[band.unit]}, but {want.name} was trained on "
        f"as {needed}, and {why}. Prepare the data in the needed unit, or choose another model."
    )


def standardised(pack: Pack, names: Sequence[str] | None) -> Feed:
    """The pack's own bands and statistics: mean 0 and standard deviation 1 over its training split."""
    bands = layer_input(pack, pack.main, names)[0].bands
    free = [math.inf] * len(bands)
    return Feed(bands, [-v for v in free], free, ["Standardised with the mean and standard deviation of the pack."])


def two_deviations(wanted: Sequence[Wanted], pack: Pack, names: Sequence[str] | None, title: str) -> Feed:
    """Mean − 2 std to mean + 2 std of the pack becomes 0 to 1, cut off there."""
    stored = pack.bands(pack.main)
    chosen = [stored[p].name for p in match(wanted, pack, names, title)]
    feed = standardised(pack, chosen)
    for want, band in zip(wanted, feed.bands, strict=True):
        if want.radar and band.unit != "db":
            raise RsfmError(
                f"{title} was trained on radar in decibels, and band {band.name} of pack {pack.name!r} is in "
                f"{_IN_WORDS[band.unit]}: prepare it in decibels."
            )
    bands = [b.model_copy(update={"mean": b.mean - 2 * b.std, "std": 4 * b.std}) for b in feed.bands]
    remark = "Mean ± 2 standard deviations of the pack become 0 to 1."
    return replace(feed, bands=bands, low=[0.0] * len(bands), high=[1.0] * len(bands), remarks=[remark])
