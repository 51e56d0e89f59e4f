"""k-means-token MIM (BEiT-style): predict the cluster that the pixels of a hidden patch belong to.

The masked image modelling of BEiT (arXiv 2106.08254) with the cheapest tokens there are: k-means over PCA-whitened
patches of the same images. A control for how much a learned tokenizer matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from rsfm.data.seeding import derive_seed
from rsfm.data.source import LayerInput, PackSource, Standardiser
from rsfm.data.views import random_crops
from rsfm.errors import RsfmError
from rsfm.methods.base import view_size
from rsfm.methods.token_mim import TOKEN_PIXELS, TokenMIM, TokenSource
from rsfm.models.vit import patchify, unpatchify
from rsfm.registry.mim_kmeans import KMeansMIMParams
from rsfm.specs import EncoderParams, PretrainSpec
from rsfm.workspace import Workspace

_PIECE = 64  # images cut into patches at a time
_ROWS = 10_000  # patches in float64 at a time


class KMeansTokens(TokenSource):
    """The nearest of V centres in the whitened principal components of 8×8-pixel patches.

    Args:
        mean: (P,) of the patches.
        axes: (P, K) principal axes.
        deviation: (K,) standard deviation along them.
        centres: (V, K) in whitened components.
    """

    def __init__(self, mean: Tensor, axes: Tensor, deviation: Tensor, centres: Tensor) -> None:
        super().__init__()
        self.codes = len(centres)
        for name, value in (("mean", mean), ("axes", axes), ("deviation", deviation), ("centres", centres)):
            self.register_buffer(name, value.float())

    def tokens(self, images: Tensor) -> Tensor:
        patches = patchify(images, TOKEN_PIXELS).float()
        components = (patches - self.mean) @ (self.axes / self.deviation)
        # ‖x − c‖² without the part that is the same for all centres.
        return (components @ self.centres.T - 0.5 * (self.centres * self.centres).sum(dim=1)).argmax(dim=-1)

    def show(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        patches = (self.centres[tokens] * self.deviation) @ self.axes.T + self.mean
        return unpatchify(patches, TOKEN_PIXELS, grid)


def fit_tokens(patches: Tensor, codes: int, components: int, seed: int) -> KMeansTokens:
    """Whiten and cluster patches; a function of the arguments.

    Args:
        patches: (n, P) standardised values, n ≥ codes.

    Raises:
        RsfmError: more components than values in a patch, or patches that vary in fewer directions.
    """
    values = patches.shape[1]
    if components > values:
        raise RsfmError(f"components {components} is more than the {values} values of a patch: lower it.")
    mean = patches.mean(dim=0, dtype=torch.float64)
    covariance = torch.zeros(values, values, dtype=torch.float64)
    for some in patches.split(_ROWS):
        centred = some - mean
        covariance += centred.T @ centred / len(patches)
    variance, axes = torch.linalg.eigh(covariance)  # ascending
    variance, axes = variance.flip(0)[:components], axes.flip(1)[:, :components]
    if variance[-1] <= 1e-9 * variance[0]:
        raise RsfmError(f"The patches vary in fewer than {components} directions: lower components.")
    deviation = variance.sqrt()
    whitened = torch.cat([((some - mean) @ (axes / deviation)).float() for some in patches.split(_ROWS)])
    # One thread: the order of additions, and with it the last bits, would depend on their number.
    with threadpool_limits(limits=1):
        fitted = MiniBatchKMeans(
            codes, random_state=derive_seed("k-means", seed) % 2**32, batch_size=4096, n_init=1, max_iter=20
        ).fit(whitened.numpy())
    return KMeansTokens(mean, axes, deviation, torch.from_numpy(fitted.cluster_centers_))


def sample_patches(spec: PretrainSpec, source: PackSource) -> Tensor:
    """(n, P) patches of random crops of random images, as the tokens of the training will see them."""
    params = spec.params
    assert isinstance(params, KMeansMIMParams)
    assert isinstance(spec.encoder, EncoderParams)
    side = view_size(spec, source.input) // spec.encoder.patch_size
    if side < 1:
        raise RsfmError(f"An image of {view_size(spec, source.input)} px holds no patch of {spec.encoder.patch_size}.")
    generator = torch.Generator().manual_seed(derive_seed("patches", spec.seed))
    standardise = Standardiser(source)

    def crops(index: Tensor) -> Tensor:
        images, _ = standardise(source[index.numpy()])
        scale = (params.crop_min_scale, 1.0)
        return random_crops(images, TOKEN_PIXELS * side, scale=scale, flips=params.flips, generator=generator)

    index = torch.randint(len(source), (math.ceil(params.sample_patches / side**2),), generator=generator)
    pieces = [patchify(crops(some), TOKEN_PIXELS).flatten(0, 1) for some in index.split(_PIECE)]
    return torch.cat(pieces)[: params.sample_patches]


class KMeansMIM(TokenMIM):
    """Masked image modelling on clusters of pixel patches. The clusters are buffers: a resumed run keeps its own."""

    @classmethod
    def prepare(cls, spec: PretrainSpec, workspace: Workspace, sources: Mapping[str, PackSource]) -> dict[str, Any]:
        (source,) = sources.values()
        return {"patches": sample_patches(spec, source)}

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput], patches: Tensor | None = None) -> Self:
        """See `Method.build`.

        Args:
            patches: as from `prepare`.
        """
        (layer,) = inputs.values()
        params = spec.params
        assert isinstance(params, KMeansMIMParams)
        assert patches is not None
        source = fit_tokens(patches, params.codes, params.components, spec.seed)
        return cls.build_with(spec, layer, source)
