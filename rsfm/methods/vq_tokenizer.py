"""VQ tokenizer: a codebook learned by rebuilding images (van den Oord et al. 2017, arXiv 1711.00937).

The codebook follows the vectors that each code stands for by moving averages (appendix A.1 of the paper). Codes that
are hardly used are replaced by vectors of the batch: otherwise most of a codebook is never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from rsfm.data.seeding import derive_seed
from rsfm.data.source import Batch, LayerInput, PackSource
from rsfm.data.views import random_crops
from rsfm.errors import RsfmError
from rsfm.losses.gather import gather_detached, sum_over_processes
from rsfm.losses.tokens import commitment, perplexity, straight_through, token_counts
from rsfm.methods.base import LossParts, Method, Panel, Progress, Views, view_panel, view_size
from rsfm.models.tokenizer import VQTokenizer, build_tokenizer, nearest_code
from rsfm.registry.vq_tokenizer import VQTokenizerParams
from rsfm.specs import PretrainSpec, TokenizerParams
from rsfm.workspace import Workspace

#: Where the size of the codebook is left open: 8192 codes (those of BEiT's tokenizer) from so many images on.
_MANY_IMAGES = 100_000
_PIECE = 4096  # vectors compared with all codes at a time


def default_codes(images: int) -> int:
    """Codebook size for that many images."""
    return 1024 if images < _MANY_IMAGES else 8192


class VQTokenizerTraining(Method):
    """Encode, take the nearest codes, decode, compare pixels.

    Views: `image` (B, C, S, S).

    Attributes:
        usage: (V,) moving average of the number of vectors per step that each code stands for.
        sums: (V, d) moving average of the sum of these vectors; its direction is the code.
        reseeded: number of codes that the last replacement touched.
    """

    encoder: VQTokenizer

    def __init__(self, encoder: VQTokenizer, params: VQTokenizerParams, layer: str = "image", seed: int = 0) -> None:
        super().__init__()
        self.encoder, self.params, self.layer, self.seed = encoder, params, layer, seed
        # Nothing counted yet: the first vectors of a code become it, and the others are replaced after the first step.
        self.usage: Tensor
        self.sums: Tensor
        self.reseeded: Tensor
        self.register_buffer("usage", torch.zeros(len(encoder.codebook)))
        self.register_buffer("sums", torch.zeros_like(encoder.codebook))
        self.register_buffer("reseeded", torch.zeros(()))

    @classmethod
    def prepare(cls, spec: PretrainSpec, workspace: Workspace, sources: Mapping[str, PackSource]) -> dict[str, Any]:
        if spec.init.weights:
            raise RsfmError("A tokenizer starts afresh: leave init.weights empty (a codebook belongs to its averages).")
        (source,) = sources.values()
        return {"images": len(source)}

    @classmethod
    def build(cls, spec: PretrainSpec, inputs: Mapping[str, LayerInput], images: int = 0) -> Self:
        """See `Method.build`.

        Args:
            images: how many there are; decides the codebook's size where the spec leaves it open.
        """
        (layer,) = inputs.values()
        params, network = spec.params, spec.encoder
        assert isinstance(params, VQTokenizerParams)
        assert isinstance(network, TokenizerParams)
        if network.codes is None:
            network = network.model_copy(update={"codes": default_codes(images)})
        encoder = build_tokenizer(network, len(layer.bands), view_size(spec, layer), seed=spec.seed)
        method = cls(encoder, params, layer.name, spec.seed)
        rows, columns = encoder.grid
        method.remarks.append(f"{network.codes} codes; {rows}×{columns} tokens per image of {encoder.image_size} px.")
        return method

    def views(self, batch: Batch, generator: torch.Generator, progress: Progress) -> Views:
        crops = random_crops(
            batch.images[self.layer], self.encoder.image_size, scale=(self.params.crop_min_scale, 1.0),
            flips=self.params.flips, generator=generator,
        )  # fmt: skip
        return {"image": crops}

    def loss(self, views: Views) -> LossParts:
        """Squared error of the pixels plus the weighted commitment (equation 3 of the paper, without its second term:
        the codebook is not learned by gradients)."""
        encoder, image = self.encoder, views["image"]
        vectors = encoder.encode(image)
        tokens = nearest_code(vectors, encoder.codebook)
        codes = encoder.codebook[tokens]
        difference = encoder.decode(straight_through(vectors, codes), encoder.grid_of(*image.shape[2:])) - image.float()
        reconstruction = (difference * difference).mean()
        # Random codes are nothing to commit to: the vectors would all be drawn to the same few.
        committed = self.params.commitment * commitment(vectors, codes) * (self.usage.sum() > 0)
        self.pending.append({"vectors": vectors.detach().flatten(0, 1), "tokens": tokens.flatten()})
        # Over many batches: one of them may hold fewer patches than there are codes.
        counts = torch.lerp(self.usage, token_counts(tokens, len(encoder.codebook)), 1 - self.params.code_momentum)
        used = perplexity(counts)
        logs = {
            "codebook_perplexity": used, "codebook_use": used / len(encoder.codebook),
            "codes_replaced": self.reseeded.clone(), "code_cosine": (vectors.detach() * codes).sum(dim=-1).mean(),
        }  # fmt: skip
        return LossParts(reconstruction + committed, {"reconstruction": reconstruction, "commitment": committed}, logs)

    # -- the codebook ----------------------------------------------------------------------------------------------
    def after_step(self, progress: Progress) -> None:
        vectors = torch.cat([part["vectors"] for part in self.pending])
        tokens = torch.cat([part["tokens"] for part in self.pending])
        self.follow(vectors, tokens)
        # After the first step too: random codes point where no vector does, and few would ever be used.
        if (progress.step - 1) % self.params.reseed_every_steps == 0:
            self.replace_unused(gather_detached(vectors), progress.step)

    def follow(self, vectors: Tensor, tokens: Tensor) -> None:
        """One step of the moving averages over (n, d) vectors that have (n,) tokens; codes become their directions."""
        codebook, momentum = self.encoder.codebook, self.params.code_momentum
        numbers, sums = torch.arange(len(codebook), device=tokens.device), torch.zeros_like(codebook)
        for some, theirs in zip(vectors.split(_PIECE), tokens.split(_PIECE), strict=True):
            # Not index_add_: the order of its additions is not fixed on a GPU.
            sums += (theirs.unsqueeze(1) == numbers).to(some.dtype).T @ some
        counts = token_counts(tokens, len(codebook))
        self.usage.lerp_(sum_over_processes(counts), 1 - momentum)
        self.sums.lerp_(sum_over_processes(sums), 1 - momentum)
        moved = self.sums.norm(dim=1, keepdim=True) > 0
        codebook.copy_(torch.where(moved, F.normalize(self.sums, dim=1), codebook))

    def replace_unused(self, vectors: Tensor, step: int) -> None:
        """Put random ones of (n, d) vectors in the place of codes that are hardly used.

        A new code starts as if it had been used as often as all others on average.
        """
        level = self.usage.mean()
        unused = (self.usage < self.params.reseed_below * level).nonzero().squeeze(1)[: len(vectors)]
        self.reseeded.fill_(len(unused))
        # A function of seed and step, on the CPU: the same on every device, in every process and after a resume.
        generator = torch.Generator().manual_seed(derive_seed("codes", self.seed, step))
        chosen = vectors[torch.randperm(len(vectors), generator=generator)[: len(unused)].to(vectors.device)]
        self.encoder.codebook[unused] = chosen
        self.sums[unused] = chosen * level
        self.usage[unused] = level

    # -- what people see -------------------------------------------------------------------------------------------
    def views_panel(self, batch: Batch, views: Views) -> Panel:
        return view_panel(batch.images[self.layer], views["image"])

    def previews(self, views: Views) -> list[Panel]:
        image = views["image"]
        codes = self.encoder.codebook[self.encoder.tokens(image)]
        rebuilt = self.encoder.decode(codes, self.encoder.grid_of(*image.shape[2:]))
        rows = [("original", image), ("reconstruction", rebuilt)]
        return [Panel("reconstruction", "Reconstruction", rows, "Rebuilt from one token per 8 by 8 pixels.")]
