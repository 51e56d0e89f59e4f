"""BEiT (Bao et al. 2021, arXiv 2106.08254) with a tokenizer that was trained on unlabelled images of the same bands.

Two stages as in the paper: the tokenizer is another run's model (method vq_tokenizer) and stays frozen. The paper's own
tokenizer was trained on images of the web, so results are not comparable with the paper's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from rsfm.bands import require_same_unit, select
from rsfm.data.source import LayerInput, PackSource
from rsfm.errors import RsfmError
from rsfm.methods.base import view_size
from rsfm.methods.token_mim import TOKEN_PIXELS, TokenMIM, TokenSource
from rsfm.model_info import ModelInfo, model_folder
from rsfm.models.export import load_encoder
from rsfm.models.tokenizer import VQTokenizer
from rsfm.registry.beit_vq import BEiTVQParams
from rsfm.specs import EncoderParams, PretrainSpec
from rsfm.workspace import Workspace

Tokenizer = tuple[VQTokenizer, ModelInfo]


class VQTokens(TokenSource):
    """Tokens of a trained tokenizer, which sees the values that it was trained on.

    Args:
        layer: how the images that arrive here are standardised.

    Raises:
        RsfmError: other bands or units than the tokenizer's.
    """

    def __init__(self, tokenizer: VQTokenizer, info: ModelInfo, layer: LayerInput) -> None:
        super().__init__()
        self.tokenizer = tokenizer.requires_grad_(False)
        self.codes = len(tokenizer.codebook)
        self.name, self.weights_hash = info.name, info.weights_hash
        where = f"Tokenizer {info.name}"
        names, wanted = [b.name for b in layer.bands], [b.name for b in info.bands]
        if set(names) != set(wanted):
            raise RsfmError(
                f"{where} was trained on the bands {', '.join(wanted)}, but this run has {', '.join(names)}."
            )
        order = select([b.band() for b in layer.bands], wanted, where=where)
        ours = [layer.bands[i] for i in order]
        for theirs, mine in zip(info.bands, ours, strict=True):
            require_same_unit(theirs.band(), mine.band(), where=where)
        # value = x · std + mean, seen as (value − mean') / std'; exactly x where the statistics are the same.
        scale = torch.tensor([a.std / b.std for a, b in zip(ours, info.bands, strict=True)])
        shift = torch.tensor([(a.mean - b.mean) / b.std for a, b in zip(ours, info.bands, strict=True)])
        for name, value in (("scale", scale.view(1, -1, 1, 1)), ("shift", shift.view(1, -1, 1, 1))):
            self.register_buffer(name, value.float(), persistent=False)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.tensor(order).argsort(), persistent=False)

    def tokens(self, images: Tensor) -> Tensor:
        return self.tokenizer.tokens(images[:, self.order] * self.scale + self.shift)

    def show(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        values = self.tokenizer.decode(self.tokenizer.codebook[tokens], grid)
        return ((values - self.shift) / self.scale)[:, self.back]

    def get_extra_state(self) -> dict[str, str]:
        return {"name": self.name, "weights_hash": self.weights_hash}

    def set_extra_state(self, state: dict[str, str]) -> None:
        if state["weights_hash"] != self.weights_hash:
            raise RsfmError(
                f"Tokenizer {self.name} is not the one that this run began with ({state['name']}): its weights differ. "
                "The run cannot go on with other tokens. Put the former model back, or start a new run."
            )


def how_to_make(spec: PretrainSpec, layer: LayerInput) -> str:
    """The command that makes a tokenizer for this run."""
    assert isinstance(spec.encoder, EncoderParams)
    size = TOKEN_PIXELS * (view_size(spec, layer) // spec.encoder.patch_size)
    bands = f" --set 'bands={json.dumps(spec.bands)}'" if spec.bands else ""
    return (
        f"Train one: rsfm pretrain --method vq_tokenizer --dataset {spec.dataset} --set image_size={size}{bands}; then "
        "give its run's id: --set tokenizer=<run id>."
    )


class BEiTVQ(TokenMIM):
    """Masked image modelling on the tokens of a frozen tokenizer."""

    @classmethod
    def prepare(cls, spec: PretrainSpec, workspace: Workspace, sources: Mapping[str, PackSource]) -> dict[str, Any]:
        params = spec.params
        assert isinstance(params, BEiTVQParams)
        (source,) = sources.values()
        if not params.tokenizer:
            raise RsfmError(f"{spec.method} needs a tokenizer. {how_to_make(spec, source.input)}")
        folder = model_folder(workspace, params.tokenizer)
        if not (folder / "model.json").is_file():
            raise RsfmError(
                f"There is no model {params.tokenizer!r} to take tokens from: the run does not exist or has not "
                f"finished. {how_to_make(spec, source.input)}"
            )
        encoder, info = load_encoder(folder)
        if not isinstance(encoder, VQTokenizer):
            raise RsfmError(
                f"Model {params.tokenizer} is not a tokenizer but an encoder of the method {info.method}. "
                f"{how_to_make(spec, source.input)}"
            )
        return {"tokenizer": (encoder, info)}

    @classmethod
    def build(
        cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput], tokenizer: Tokenizer | None = None
    ) -> Self:  # fmt: skip
        """See `Method.build`.

        Args:
            tokenizer: as from `prepare`.

        Raises:
            RsfmError: no tokenizer, or its bands, units or grid do not fit.
        """
        (layer,) = inputs.values()
        if tokenizer is None:
            raise RsfmError(f"{spec.method} needs a tokenizer. {how_to_make(spec, layer)}")
        network, info = tokenizer
        try:
            source = VQTokens(network, info, layer)
        except RsfmError as error:
            raise RsfmError(f"{error} {how_to_make(spec, layer)}") from error
        method = cls.build_with(spec, layer, source)
        if network.grid != method.encoder.grid:
            theirs, ours = ("×".join(map(str, grid)) for grid in (network.grid, method.encoder.grid))
            raise RsfmError(
                f"Tokenizer {info.name} was trained on {theirs} tokens ({info.image_size} px), but this encoder has "
                f"{ours} patches. {how_to_make(spec, layer)}"
            )
        method.remarks.append(f"Tokens of {info.name}: {source.codes} codes, trained on {info.trained_on}.")
        return method
