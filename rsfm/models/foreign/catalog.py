"""What each of torchgeo's weights takes: bands, numbers, scaling, size.

Names, order and standardisation of the bands are torchgeo's own (`meta` and `transforms` of the weights). Of which
numbers it is the standardisation, torchgeo does not say; it follows from the data that each was trained on:

    SSL4EO-S12, CrisisLandMark, SSL4Eco   Sentinel-2 as reflectance × 10 000, Sentinel-1 in decibels (arXiv 2211.07044)
    SSL4EO-L        8 bit: 255 is reflectance 0.4 at the top of the atmosphere, 0.3 at the surface (arXiv 2306.09424)
    SatlasPretrain  Sentinel-2: true-colour image and reflectance × 10 000 up to 8160; NAIP: 8 bit; Landsat and
                    Sentinel-1: raw numbers (Normalization.md of github.com/allenai/satlas)
    SeCo            8 bit: 255 is reflectance 1, then a range for each band (datasets/ of
                    github.com/ServiceNow/seasonal-contrast)
    fMoW, EarthLoc  8-bit pictures; from reflectance they are made here as Sentinel-2's true-colour images are, and
                    so are NAIP's: a choice of this lab
    DOFA            any bands with their wavelengths, standardised over the dataset; Sentinel-1 as 3.75 µm
                    (arXiv 2403.15356, github.com/torchgeo/torchgeo/pull/3942)
    Panopticon      the same, radar by polarisation (arXiv 2503.10845)
    CROMA           12 bands of Sentinel-2 (no cirrus) or VV and VH; mean ± 2 std to 0..1 (arXiv 2311.00566)

Images are seen whole: torchgeo's centre crops would cut off what a label or a map is about, and fill small images with
zeros. Smaller images than those of training are enlarged to their size. Larger ones keep their own where the network
can take it (convolutions, Swin, and timm's ViTs, whose positions are resampled); DOFA, CROMA, Panopticon, Scale-MAE and
EarthLoc see them at the size of training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn
from torchvision.transforms import v2

from rsfm.bands import SENSORS
from rsfm.errors import RsfmError
from rsfm.models.foreign.inputs import TRUE_COLOUR_WHITE, Wanted, same_name

#: Centre wavelengths in nm, by what a member's name begins with; Landsat's panchromatic and thermal bands after USGS.
_WAVELENGTHS: dict[str, dict[str, float]] = {
    "SENTINEL2": {b.name: b.wavelength_nm or 0.0 for b in SENSORS["sentinel-2"].bands},
    "LANDSAT_TM": {b.name: b.wavelength_nm or 0.0 for b in SENSORS["landsat-7"].bands},
    "LANDSAT_ETM": {b.name: b.wavelength_nm or 0.0 for b in SENSORS["landsat-7"].bands}
    | {"B6_VCID_1": 11450.0, "B6_VCID_2": 11450.0, "B8": 710.0},
    "LANDSAT": {b.name: b.wavelength_nm or 0.0 for b in SENSORS["landsat-8"].bands}
    | {"B8": 590.0, "B10": 10895.0, "B11": 12005.0},
}
_PANCHROMATIC_NM = (590.0, 710.0)
#: SeCo's range for each band, in 8-bit numbers; beyond it values are cut off.
_SECO_RANGE = {"B4": (0.0, 129.0), "B3": (2.0, 103.0), "B2": (3.0, 88.0)}
_IMAGENET = {"B4": (0.485, 0.229), "B3": (0.456, 0.224), "B2": (0.406, 0.225)}
#: What cannot be an encoder of one image.
_REFUSED = {
    "Aurora_Weights": "it forecasts the weather from variables that no pack holds",
    "CopernicusFM_Base_Weights": "it needs the bandwidth of each band, which packs do not hold",
    "Unet_Weights": "it is a network for one segmentation task, not an encoder",
}


@dataclass(frozen=True)
class Takes:
    """What some weights take.

    Attributes:
        bands: in order; empty: any.
        scaling: how values become the network's: by each band's own mean and std, the pack's (`standardised`), or
            from mean − 2 std to mean + 2 std of the pack (`two_deviations`).
        size: pixels per side in training.
    """

    bands: tuple[Wanted, ...]
    scaling: Literal["own", "standardised", "two_deviations"]
    size: int
    alternative: tuple[Wanted, ...] = ()  # CROMA's radar


def takes(name: str, weight: Any) -> Takes:
    """What torchgeo's weights `name` take.

    Raises:
        RsfmError: they cannot encode an image here, or torchgeo does not say enough.
    """
    kind, _, member = name.partition(".")
    if kind in _REFUSED:
        raise RsfmError(f"torchgeo:{name} cannot be evaluated: {_REFUSED[kind]}.")
    if kind.startswith("DOFA"):
        return Takes((), "standardised", 224)
    if kind.startswith("Panopticon"):
        return Takes((), "standardised", 224)
    if kind.startswith("CROMA"):
        optical = [n for n in _WAVELENGTHS["SENTINEL2"] if n != "B10"]
        return Takes(
            tuple(Wanted(n, _WAVELENGTHS["SENTINEL2"][n], "reflectance") for n in optical), "two_deviations", 120,
            tuple(Wanted(n, None, "db") for n in ("VV", "VH")),
        )  # fmt: skip
    bands = list(weight.meta.get("bands") or (["R", "G", "B"] if member.startswith("FMOW_RGB") else []))
    if not bands or len(bands) != weight.meta.get("in_chans"):
        raise RsfmError(f"torchgeo does not say which bands torchgeo:{name} takes: it cannot be fed by band name.")
    steps, size = _steps(name, weight.transforms)
    dataset = weight.meta.get("dataset", "")
    wanted = tuple(_wanted(name, dataset, member, band, i, steps) for i, band in enumerate(bands))
    return Takes(wanted, "own", weight.meta.get("img_size") or weight.meta.get("image_size") or size)


def _steps(name: str, transforms: nn.Module) -> tuple[list[v2.Normalize], int]:
    """The standardisations among torchgeo's transforms, one after the other; and the size that they lead to."""
    size, steps = 224, []
    for step in transforms if isinstance(transforms, nn.Sequential) else [transforms]:
        if isinstance(step, v2.Normalize):
            steps.append(step)
        elif isinstance(step, v2.Resize | v2.CenterCrop):
            size = int(step.size[0])
        elif not isinstance(step, nn.Identity):
            raise RsfmError(
                f"torchgeo:{name} wants its images transformed by {type(step).__name__}, which is not known here."
            )
    return steps, size


def _wanted(name: str, dataset: str, member: str, band: str, position: int, steps: list[v2.Normalize]) -> Wanted:
    """One band of a model that takes fixed bands."""
    mean, std = 0.0, 1.0
    for step in steps:  # (x − m1)/s1, then (… − m2)/s2
        mean += std * float(step.mean[position % len(step.mean)])
        std *= float(step.std[position % len(step.std)])
    instrument = next((i for i in _WAVELENGTHS if member.startswith(f"{i}_")), member.partition("_")[0])
    wavelength = next((w for n, w in _WAVELENGTHS.get(instrument, {}).items() if same_name(n, band)), None)
    want = Wanted(band, wavelength, "uint8", mean, std, by_name_only=wavelength in _PANCHROMATIC_NM)
    match dataset:
        case "SSL4EO-S12" | "CrisisLandMark" | "SSL4Eco Dataset" if instrument == "SENTINEL2":
            return replace(want, numbers="reflectance_10000")
        case "SSL4EO-S12" if instrument == "SENTINEL1":
            return replace(want, numbers="db")
        case "SSL4EO-L" if wavelength is not None and wavelength > 3000:  # of temperature, which has no unit here
            return replace(want, pictures=False, dataset="ssl4eo-l")
        case "SSL4EO-L":
            return replace(want, pictures=False, dataset="ssl4eo-l", white=0.3 if "_SR_" in member else 0.4)
        case "SatlasPretrain" if instrument == "SENTINEL2" and std == 255:
            return replace(want, white=TRUE_COLOUR_WHITE)
        case "SatlasPretrain" if instrument == "SENTINEL2":
            return replace(want, numbers="reflectance_10000", low=0.0, high=std)
        case "SatlasPretrain" if instrument == "NAIP":
            return replace(want, white=TRUE_COLOUR_WHITE)
        case "SatlasPretrain" if instrument == "LANDSAT":
            return replace(want, numbers="dn", sensor="landsat-8", low=mean, high=mean + std)
        case "SatlasPretrain" if instrument == "SENTINEL1":
            return replace(want, numbers="dn", sensor="sentinel-1", low=0.0, high=255.0)
        case "SeCo Dataset" if band in _SECO_RANGE:
            # torchgeo has the ranges in the order blue, green, red, and does not divide by 255 in the end.
            (low, high), (m, s) = _SECO_RANGE[band], _IMAGENET[band]
            return replace(
                want, mean=low + m * (high - low), std=s * (high - low), white=1.0, pictures=False, dataset="seco",
                low=low, high=high,
            )  # fmt: skip
        case "fMoW" | "fMoW Dataset":
            return replace(want, white=TRUE_COLOUR_WHITE)
        case "EarthLoc":
            return want
    raise RsfmError(
        f"torchgeo does not say in which unit torchgeo:{name} takes its bands ({dataset}): it cannot be fed."
    )
