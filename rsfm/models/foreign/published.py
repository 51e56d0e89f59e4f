"""torchgeo's weights as models for evaluation: `torchgeo:<Weights.MEMBER>`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchgeo.models import get_model_weights, get_weight, list_models

from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand
from rsfm.models.foreign import inputs
from rsfm.models.foreign.catalog import Takes, takes
from rsfm.models.foreign.files import hub_cache, in_folders, load_state, not_here
from rsfm.models.foreign.model import ForeignModel
from rsfm.models.foreign.network import Network, TimmNetwork, timm_encoder
from rsfm.models.foreign.networks import (
    CLASSIFIERS,
    CROMANetwork,
    DOFANetwork,
    EarthLocNetwork,
    PanopticonNetwork,
    ScaleMAENetwork,
    SwinNetwork,
    load_all,
)
from rsfm.packs import Pack
from rsfm.workspace import Workspace

#: timm's name of the architecture of each family; torchgeo builds them with its defaults.
TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNet18_Weights": ("resnet18", {}),
    "ResNet50_Weights": ("resnet50", {}),
    "ResNet152_Weights": ("resnet152", {}),
    "ViTSmall16_Weights": ("vit_small_patch16_224", {}),
    "ViTBase16_Weights": ("vit_base_patch16_224", {}),
    "ViTLarge16_Weights": ("vit_large_patch16_224", {}),
    "ViTHuge14_Weights": ("vit_huge_patch14_224", {}),
    "ViTSmall14_DINOv2_Weights": ("vit_small_patch14_dinov2", {"img_size": 224}),
    "ViTBase14_DINOv2_Weights": ("vit_base_patch14_dinov2", {"img_size": 224}),
}
#: Sizes of the others.
SIZES: dict[str, dict[str, Any]] = {
    "Swin_V2_T_Weights": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24],
                          "stochastic_depth_prob": 0.2},
    "Swin_V2_B_Weights": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32],
                          "stochastic_depth_prob": 0.5},
    "DOFABase16_Weights": {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12},
    "DOFALarge16_Weights": {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16},
    "CROMABase_Weights": {"encoder_dim": 768, "encoder_depth": 12, "num_heads": 16},
    "CROMALarge_Weights": {"encoder_dim": 1024, "encoder_depth": 24, "num_heads": 16},
    "ScaleMAELarge16_Weights": {"patch_size": 16, "embed_dim": 1024, "depth": 24, "num_heads": 16},
    "EarthLoc_Weights": {},
}  # fmt: skip
#: DOFA's placeholder for Sentinel-1, in µm.
_DOFA_RADAR_UM = 3.75


def published() -> list[str]:
    """Names of all weights of the installed torchgeo, also of those that cannot be fed here."""
    found = []
    for model in list_models():
        try:
            found += [str(weight) for weight in get_model_weights(model)]
        except KeyError:  # an architecture without weights
            continue
    return found


def weight_named(name: str) -> Any:
    """torchgeo's entry of that name.

    Raises:
        RsfmError: there is none.
    """
    try:
        return get_weight(name)
    except ValueError as error:
        near = difflib.get_close_matches(name, published(), cutoff=0.5) or ["ViTSmall16_Weights.SENTINEL2_ALL_MOCO"]
        raise RsfmError(f"torchgeo has no weights {name!r}; they are named like {', '.join(near)}.") from error


def weight_file(name: str, weight: Any, workspace: Workspace) -> Path:
    """Where torchgeo's weights lie on this machine: under their own file name, or torchgeo's name of them.

    Raises:
        RsfmError: nowhere.
    """
    own = Path(weight.url).name
    names = [own, *(f"{name}{ending}" for ending in (".safetensors", ".pth", ".pt"))]
    file = in_folders(names, workspace)
    if file is None and (hub_cache() / own).is_file():
        file = hub_cache() / own
    if file is None:
        fetch = f"curl -L --create-dirs -o {workspace.weights / own} {weight.url}"
        raise not_here(f"torchgeo:{name}", names, workspace, hub_cache(), fetch)
    return file


def torchgeo_model(name: str, pack: Pack, workspace: Workspace, names: Sequence[str] | None = None) -> ForeignModel:
    """torchgeo's weights, fed from the pack.

    Args:
        names: the pack's bands to use; None: those that the model was trained on, or all where it takes any.

    Raises:
        RsfmError: no such weights, or not here; the pack's bands or units do not fit; a key that does not.
    """
    weight = weight_named(name)
    what, title = takes(name, weight), f"torchgeo:{name}"
    modality = "optical"
    if what.scaling == "standardised":
        feed = inputs.standardised(pack, names)
    elif what.scaling == "two_deviations":
        wanted = what.bands
        if _radar_only(pack, names):
            wanted, modality = what.alternative, "sar"
        feed = inputs.two_deviations(wanted, pack, names, title)
    else:
        feed = inputs.fed(what.bands, pack, names, title)
    file = weight_file(name, weight, workspace)
    network, remarks, settings = _network(name, what, feed.bands, modality, pack, load_state(file), str(file))
    return ForeignModel(
        network, feed, name=title, title=f"{name.replace('_Weights.', ' ')} (torchgeo)", group=title, size=what.size,
        settings={"name": name, **settings}, remarks=remarks,
    )  # fmt: skip


def _radar_only(pack: Pack, names: Sequence[str] | None) -> bool:
    bands = [b for b in pack.bands(pack.main) if names is None or b.name in names]
    return bool(bands) and all(inputs.is_radar(b) for b in bands)


def _network(
    name: str, what: Takes, bands: list[ModelBand], modality: str, pack: Pack, state: dict[str, Any], where: str
) -> tuple[Network, list[str], dict[str, Any]]:
    """The network with its weights, remarks about them, and what else decides its features."""
    kind, size = name.partition(".")[0], what.size
    if kind in TIMM:
        architecture, options = TIMM[kind]
        encoder = timm_encoder(architecture, pretrained=False, in_chans=len(bands), **options)
        # Some of torchgeo's weights end before the last norm.
        remarks = load_all(encoder, state, where=where, unused=CLASSIFIERS, optional=("norm.",))
        return TimmNetwork(encoder), remarks, {}
    if kind.startswith("Swin"):
        swin = SwinNetwork(len(bands), **SIZES[kind])
        return swin, load_all(swin, state, where=where, unused=CLASSIFIERS), {}
    if kind.startswith("DOFA"):
        waves = [_dofa_um(band, name) for band in bands]
        dofa = DOFANetwork(waves, size=size, **SIZES[kind])
        remarks = load_all(dofa, state, where=where, unused=CLASSIFIERS, optional=("fc_norm.",))
        return dofa, remarks, {"wavelengths_um": waves}
    if kind.startswith("CROMA"):
        croma = CROMANetwork(modality, size=size, **SIZES[kind])
        return croma, croma.load(state, where=where), {"modality": modality}
    if kind.startswith("Panopticon"):
        channels = [_panopticon_channel(band, name) for band in bands]
        panopticon = PanopticonNetwork(channels, size=size)
        return panopticon, panopticon.load(state, where=where), {"channels": channels}
    if kind.startswith("ScaleMAE"):
        gsd_m = _gsd_at(size, pack, name)
        scale_mae = ScaleMAENetwork(size=size, gsd_m=gsd_m, **SIZES[kind])
        # Its positions are computed; torchgeo leaves a decoder out without a word.
        remarks = load_all(
            scale_mae.encoder, state, where=where, unused=(*CLASSIFIERS, "decoder", "mask_token"),
            optional=("pos_embed",),
        )  # fmt: skip
        return scale_mae, [f"A pixel of the resized image is {gsd_m:.3g} m.", *remarks], {"gsd_m": gsd_m}
    if kind == "EarthLoc_Weights":
        earthloc = EarthLocNetwork(len(bands), size=size, **SIZES[kind])
        return earthloc, load_all(earthloc, state, where=where), {}
    raise RsfmError(f"torchgeo:{name} is of an architecture that is not known here.")


def _dofa_um(band: ModelBand, name: str) -> float:
    if inputs.is_radar(band.band()):
        return _DOFA_RADAR_UM
    if band.wavelength_nm is None:
        raise RsfmError(f"torchgeo:{name} needs the wavelength of every band, and that of {band.name} is not known.")
    return band.wavelength_nm / 1000


def _panopticon_channel(band: ModelBand, name: str) -> float:
    if band.name.upper() in inputs.POLARISATIONS and inputs.is_radar(band.band()):
        return {"VV": -1.0, "VH": -2.0, "HH": -3.0, "HV": -4.0}[band.name.upper()]
    if band.wavelength_nm is None:
        raise RsfmError(
            f"torchgeo:{name} needs the wavelength of every band, or the polarisation of a radar band (VV, VH, HH, "
            f"HV); {band.name} has neither."
        )
    return band.wavelength_nm


def _gsd_at(size: int, pack: Pack, name: str) -> float:
    """Metres per pixel of the pack's image at `size` × `size` pixels; a degraded one covers the same ground."""
    layer = pack.layer(pack.main)
    if layer.gsd_m is None:
        raise RsfmError(
            f"torchgeo:{name} is told how large a pixel is, and pack {pack.name!r} has no GSD in metres: prepare it "
            "with one."
        )
    return layer.gsd_m * (layer.shape[1] * layer.shape[2]) ** 0.5 / size
