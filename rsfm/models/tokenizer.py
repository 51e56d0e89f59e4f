"""A convolutional tokenizer: images to a grid of discrete codes and back (VQ-VAE, van den Oord et al. 2017).

Three convolutions of stride 2 and two residual blocks, as in arXiv 1711.00937 with one more halving; codes and
vectors are ℓ2-normalised, so that the nearest code is the one of the largest cosine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.data.seeding import from_seed
from rsfm.errors import RsfmError
from rsfm.models.vit import Encoder, Grid
from rsfm.specs import TokenizerParams


class ResidualBlock(nn.Module):
    """ReLU, 3×3, ReLU, 1×1, added to the input; no normalisation: brightness is part of what a token says."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def nearest_code(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Position of the code with the largest cosine, in float32 whatever the precision around it.

    Args:
        vectors: (..., d), unit length.
        codebook: (V, d), unit length.

    Returns:
        (...) int64.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        return (vectors.detach().float() @ codebook.T).argmax(dim=-1)


class VQTokenizer(Encoder):
    """Encoder, codebook and mirror-image decoder. Each 8×8 pixels become one of `codes` tokens.

    The codebook is a buffer: it follows the vectors by moving averages (`rsfm.methods.vq_tokenizer`), not by gradients.
    """

    architecture = "vq_tokenizer"
    pooling = "mean_code"

    def __init__(self, params: TokenizerParams, in_chans: int, image_size: int) -> None:
        super().__init__()
        if params.codes is None:
            raise RsfmError("A tokenizer needs the size of its codebook: set encoder.codes.")
        self.params, self.in_chans, self.image_size = params, in_chans, image_size
        self.patch_size, self.feature_dim = params.patch_size, params.code_dim
        self.grid = self.grid_of(image_size, image_size)
        narrow, middle, wide = params.width, 2 * params.width, 4 * params.width
        self.down = nn.Sequential(
            nn.Conv2d(in_chans, narrow, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(narrow, middle, 4, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(middle, wide, 4, stride=2, padding=1),
            ResidualBlock(wide), ResidualBlock(wide), nn.ReLU(), nn.Conv2d(wide, params.code_dim, 1, bias=False),
        )  # fmt: skip
        self.up = nn.Sequential(
            nn.Conv2d(params.code_dim, wide, 1), ResidualBlock(wide), ResidualBlock(wide), nn.ReLU(),
            nn.ConvTranspose2d(wide, middle, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(middle, narrow, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(narrow, in_chans, 4, stride=2, padding=1),
        )  # fmt: skip
        self.codebook: Tensor
        self.register_buffer("codebook", F.normalize(torch.randn(params.codes, params.code_dim), dim=1))

    def config(self) -> dict[str, Any]:
        return self.params.model_dump(mode="json")

    @property
    def divisor(self) -> int:
        return self.patch_size

    @property
    def trainable(self) -> bool:
        return False  # features are entries of the codebook: no gradient passes the choice

    @classmethod
    def from_config(cls, config: dict[str, Any], in_chans: int, image_size: int) -> VQTokenizer:
        return cls(TokenizerParams.model_validate(config), in_chans, image_size)

    def ends(self) -> tuple[nn.Module, nn.Module]:
        """The first convolution, and the one that gives the vectors."""
        return self.down[0], self.down[-1]

    def grid_of(self, height: int, width: int) -> Grid:
        """Rows and columns of tokens of an image.

        Raises:
            RsfmError: a side is not divisible by 8.
        """
        p = self.patch_size
        if height % p or width % p or min(height, width) < p:
            raise RsfmError(f"A tokenizer takes images whose sides are divisible by {p}, got {height}×{width}.")
        return height // p, width // p

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) standardised values to (B, N, d) float32 vectors of unit length, row by row."""
        if x.shape[1] != self.in_chans:
            raise RsfmError(f"This tokenizer takes {self.in_chans} bands, got {x.shape[1]}.")
        self.grid_of(x.shape[2], x.shape[3])
        return F.normalize(self.down(x).flatten(2).mT.float(), dim=-1)

    def decode(self, vectors: Tensor, grid: Grid) -> Tensor:
        """(B, N, d) vectors or codes to (B, C, H, W) standardised values, float32."""
        square = vectors.mT.reshape(len(vectors), self.feature_dim, *grid)
        return self.up(square).float()

    def tokens(self, x: Tensor) -> Tensor:
        """(B, C, H, W) standardised values to (B, N) int64 tokens, row by row."""
        return nearest_code(self.encode(x), self.codebook)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) standardised values to (B, d): the mean of the image's codes."""
        return self.codebook[self.tokens(x)].mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def build_tokenizer(params: TokenizerParams, in_chans: int, image_size: int, seed: int) -> VQTokenizer:
    """A freshly initialised tokenizer, a function of `seed`; the global random state stays as it is."""
    with from_seed(seed):
        return VQTokenizer(params, in_chans, image_size)
