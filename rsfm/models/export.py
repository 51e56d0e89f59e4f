"""Models on disk and models for evaluation.

A model folder holds `model.safetensors` (the encoder's weights) and `model.json` (`ModelInfo`: architecture, bands
with unit, mean and standard deviation, where it comes from); `decoder.safetensors` where a decoder for pairs of images
was trained with it, which stays here when the model is handed on. It appears in one step, and reading it accounts for
every key: nothing is skipped, nothing is guessed.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.model_package import DECODER
from rsfm.models.resnet import ResNet
from rsfm.models.tokenizer import VQTokenizer
from rsfm.models.vit import Encoder, ViT
from rsfm.specs import spec_hash
from rsfm.store.files import write_json

ARCHITECTURES: dict[str, type[Encoder]] = {cls.architecture: cls for cls in (ViT, ResNet, VQTokenizer)}


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Equal for equal names, shapes, types and values, whatever the order or the device."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def standardise(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) values in the bands' units to (value − mean) / std; what is not finite becomes 0, the mean."""
    return torch.nan_to_num((values - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)


class FeatureModel(nn.Module):
    """Anything that turns band values into one feature vector per image; always in eval mode, without gradients.

    Subclasses implement `features`, which gets standardised values.

    Attributes:
        key: content hash of weights and preprocessing: equal key, equal features.
        name: a run's id or a baseline's name; title: the label on charts.
        group: names the model in every comparison; seed: its model seed.
        bands: required input bands, by name, with unit and standardisation.
        remarks: what people should know of how it is fed.
    """

    remarks: tuple[str, ...] = ()

    def __init__(
        self, *, key: str, name: str, title: str, group: str, seed: int, bands: list[ModelBand], feature_dim: int
    ) -> None:
        super().__init__()
        self.key, self.name, self.title, self.group, self.seed = key, name, title, group, seed
        self.bands, self.feature_dim = list(bands), feature_dim
        self.register_buffer("mean", torch.tensor([b.mean for b in bands]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([b.std for b in bands]).view(1, -1, 1, 1), persistent=False)
        self._learnt: frozenset[str] = frozenset()
        self.eval()

    def train(self, mode: bool = True) -> FeatureModel:
        """Stays in eval mode: a frozen encoder must not use dropout, drop path or batch statistics."""
        return super().train(False)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) standardised values to (B, feature_dim)."""
        raise NotImplementedError

    def maps(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) standardised values to maps (B, D, h, w), fine to coarse or all of one size.

        Raises:
            RsfmError: this model has none.
        """
        raise RsfmError(f"Model {self.name} gives no maps: it cannot segment or detect change.")

    def pair_decoder(self) -> dict[str, Tensor] | None:
        """The weights of `neck` and `decoder` for pairs of images that were trained with this model, if there are any.

        Raises:
            RsfmError: they cannot be read.
        """
        return None

    @property
    def trainable(self) -> nn.Module:
        """The network whose weights fine-tuning changes.

        Raises:
            RsfmError: there is none.
        """
        raise RsfmError(f"Model {self.name} has no weights to fine-tune.")

    def freeze(self) -> None:
        """Without gradients from now on; to be called once the networks are in place."""
        self._learnt = frozenset(name for name, p in self.named_parameters() if p.requires_grad)
        self.requires_grad_(False)

    def unfreeze(self) -> None:
        """Let the `trainable` network learn what it was made to learn: positions that are fixed stay so.

        Raises:
            RsfmError: there is nothing to train.
        """
        inside = {id(p) for p in self.trainable.parameters()}
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in self._learnt and id(parameter) in inside)

    @torch.no_grad()
    def extract(self, values: Tensor) -> Tensor:
        """(B, C, H, W) values in the bands' unit, in the order of `bands`, to (B, feature_dim) float32.

        Values that are not finite count as the band's mean.

        Raises:
            RsfmError: another number of bands.
        """
        if values.ndim != 4 or values.shape[1] != len(self.bands):
            raise RsfmError(
                f"Model {self.name} takes (B, {len(self.bands)}, H, W) with bands "
                f"{', '.join(b.name for b in self.bands)}; got {tuple(values.shape)}."
            )
        return self.features(standardise(values.float(), self.mean, self.std)).float()


class EncoderModel(FeatureModel):
    """An exported or freshly initialised encoder as a feature model; `folder` is where it was exported to."""

    def __init__(self, encoder: Encoder, info: ModelInfo, folder: Path | None = None) -> None:
        super().__init__(
            key=model_key(info), name=info.name, title=info.title or info.name, group=info.group, seed=info.seed,
            bands=info.bands, feature_dim=info.feature_dim,
        )  # fmt: skip
        self.info, self.folder = info, folder
        self.encoder = encoder.eval()
        self.freeze()

    def features(self, x: Tensor) -> Tensor:
        return self.encoder.features(x)

    def maps(self, x: Tensor) -> list[Tensor]:
        return self.encoder.maps(x)

    def pair_decoder(self) -> dict[str, Tensor] | None:
        file = self.folder and self.folder / DECODER
        return _read(file) if file and file.is_file() else None

    @property
    def trainable(self) -> nn.Module:
        return self.encoder if self.encoder.trainable else super().trainable


def model_key(info: ModelInfo) -> str:
    """Content hash of everything that decides the features: weights, architecture, bands, standardisation."""
    fields = {"architecture", "encoder", "image_size", "pooling", "weights_hash"}
    bands = [{"name": b.name, "unit": b.unit, "mean": b.mean, "std": b.std} for b in info.bands]
    return spec_hash({**info.model_dump(mode="json", include=fields), "bands": bands})


def save_model(folder: Path, encoder: Encoder, info: ModelInfo, decoder: nn.Module | None = None) -> ModelInfo:
    """Write the model in one step; a model that is already there is replaced.

    Args:
        info: its `weights_hash` is filled in here.
        decoder: for pairs of images, a `neck` and a `decoder`; see `FeatureModel.pair_decoder`.

    Returns:
        The description as written.
    """
    if info.architecture != encoder.architecture or info.encoder != encoder.config():
        raise RsfmError(f"Model {info.name}: the description is not that of the encoder.")
    state = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    info = info.model_copy(update={"weights_hash": weights_hash(state)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex[:8]
    staging = folder.with_name(f".new-{folder.name}-{unique}")
    staging.mkdir()
    try:
        save_file(state, staging / "model.safetensors")
        write_json(staging / "model.json", info.model_dump(mode="json"))
        if decoder is not None:
            state = {name: t.detach().cpu().contiguous() for name, t in decoder.state_dict().items()}
            save_file(state, staging / DECODER)
        if folder.exists():
            old = folder.with_name(f".old-{folder.name}-{unique}")
            folder.rename(old)
            staging.rename(folder)
            shutil.rmtree(old)
        else:
            staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return info


def load_encoder(folder: Path) -> tuple[Encoder, ModelInfo]:
    """The encoder in `folder` on the CPU, and its description.

    Raises:
        RsfmError: missing or damaged files, an unknown architecture, keys missing or left over, a shape or the
            content hash that differs.
    """
    info = ModelInfo.read(folder)
    if info.architecture not in ARCHITECTURES:
        raise RsfmError(f"Model {info.name} has architecture {info.architecture!r}; known: {', '.join(ARCHITECTURES)}.")
    file = folder / "model.safetensors"
    state = _read(file)
    encoder = ARCHITECTURES[info.architecture].from_config(info.encoder, len(info.bands), info.image_size)
    load_strictly(encoder, state, where=str(file))
    if weights_hash(state) != info.weights_hash:
        raise RsfmError(f"{file} is not the file that model.json describes: its content hash differs.")
    return encoder, info


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise RsfmError(f"{file} cannot be read: {error}. Export the model again.") from error


def state_differences(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Keys that are missing, keys that are left over, and "<key> is <shape> instead of <shape>"."""
    misshapen = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(set(wanted) & set(state))
        if state[name].shape != wanted[name].shape
    ]
    return sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted)), misshapen


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict in which every key must fit.

    Raises:
        RsfmError: names the keys that are missing, left over, or of another shape.
    """
    missing, extra, problems = state_differences(state, module.state_dict())
    if extra:
        problems.insert(0, f"left over {', '.join(extra)}")
    if missing:
        problems.insert(0, f"missing {', '.join(missing)}")
    if problems:
        raise RsfmError(f"{where} does not fit the model: {'; '.join(problems)}.")
    module.load_state_dict(dict(state), strict=True)


def load_model(folder: Path, device: str | torch.device = "cpu") -> FeatureModel:
    """The model in `folder`, ready to extract features on `device`. Raises as `load_encoder`."""
    encoder, info = load_encoder(folder)
    return EncoderModel(encoder, info, folder).to(device)
