"""A plain Vision Transformer on any number of bands and any rectangular grid of patches.

Patches are flattened in the order row, column, channel (channel fastest), the order in which a masked autoencoder
predicts them, so that one `patchify` serves the encoder's input and the decoder's target. Positions are fixed 2-D
sines and cosines (Vaswani et al. 2017, in the layout of He et al. 2021), computed and never stored: an input of
another size gets the positions of the training grid evaluated in between.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from rsfm.errors import RsfmError
from rsfm.specs import EncoderParams

Grid = tuple[int, int]  # rows, columns of patches


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches.

    Args:
        images: (B, C, H, W); H and W divisible by `patch_size`.

    Returns:
        (B, N, patch_size² · C): patches row by row, values in the order row, column, channel.
    """
    b, c, h, w = images.shape
    p = patch_size
    patches = images.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 3, 5, 1)
    return patches.reshape(b, (h // p) * (w // p), p * p * c)


def unpatchify(patches: Tensor, patch_size: int, grid: Grid) -> Tensor:
    """The inverse of `patchify`: (B, N, patch_size² · C) to (B, C, H, W)."""
    b, _, length = patches.shape
    p, (rows, columns) = patch_size, grid
    c = length // (p * p)
    images = patches.reshape(b, rows, columns, p, p, c).permute(0, 5, 1, 3, 2, 4)
    return images.reshape(b, c, rows * p, columns * p)


def sincos_positions(width: int, grid: Grid, reference: Grid | None = None) -> Tensor:
    """Fixed 2-D sine-cosine position embedding: the first half encodes the column, the second half the row.

    Each half is [sin(ω₀x) … sin(ω_kx) cos(ω₀x) … cos(ω_kx)] with ω_i = 10000^(−i/(width/4)).

    Args:
        width: divisible by 4.
        reference: the grid whose coordinates are used; patch centres of `grid` are mapped into it. None: `grid`.

    Returns:
        (rows · columns, width) float32, row by row.
    """
    if width % 4:
        raise RsfmError(f"Sine-cosine positions need a width divisible by 4, got {width}.")
    quarter = width // 4
    omega = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)

    def axis(count: int, wanted: int) -> Tensor:
        return (torch.arange(count, dtype=torch.float64) + 0.5) * (wanted / count) - 0.5

    rows, columns = grid
    ref_rows, ref_columns = reference or grid
    y, x = torch.meshgrid(axis(rows, ref_rows), axis(columns, ref_columns), indexing="ij")
    halves = []
    for coordinate in (x, y):
        angles = coordinate.reshape(-1, 1) * omega
        halves += [angles.sin(), angles.cos()]
    return torch.cat(halves, dim=1).float()


def init_transformer(module: nn.Module) -> None:
    """MAE's initialisation: Xavier-uniform linear layers, zero biases, unit norms. For `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def transformer_blocks(width: int, depth: int, heads: int) -> nn.ModuleList:
    """Pre-norm blocks with an MLP of four times the width, LayerNorm epsilon 1e-6."""
    norm = partial(LayerNorm, eps=1e-6)
    return nn.ModuleList(Block(width, heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm) for _ in range(depth))


class Encoder(nn.Module):
    """What a method trains and what is exported: bands in, tokens and one feature vector out.

    Attributes:
        architecture: name in `rsfm.models.export.ARCHITECTURES`.
        in_chans: number of bands.
        image_size: pixels per side it was made for.
        feature_dim: length of the feature vector.
    """

    architecture: ClassVar[str]
    in_chans: int
    image_size: int
    feature_dim: int

    def config(self) -> dict[str, int]:
        """What `from_config` needs besides `in_chans` and `image_size`."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, int], in_chans: int, image_size: int) -> Encoder:
        """An encoder of the same shape, initialised afresh."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) standardised values to (B, feature_dim)."""
        raise NotImplementedError


class ViT(Encoder):
    """Vision Transformer (Dosovitskiy et al. 2020) with fixed positions and optional class token."""

    architecture = "vit"

    def __init__(self, params: EncoderParams, in_chans: int, image_size: int | Grid) -> None:
        super().__init__()
        self.params = params
        self.in_chans = in_chans
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = height
        self.patch_size = params.patch_size
        self.feature_dim = params.width
        self.grid = self.grid_of(height, width)
        self.patch_projection = nn.Linear(params.patch_size**2 * in_chans, params.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, params.width)) if params.class_token else None
        self.blocks = transformer_blocks(params.width, params.depth, params.heads)
        self.norm = LayerNorm(params.width, eps=1e-6)
        self.register_buffer("positions", sincos_positions(params.width, self.grid), persistent=False)
        self.apply(init_transformer)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=0.02)

    def config(self) -> dict[str, int]:
        return {name: int(value) for name, value in self.params.model_dump().items()}

    @classmethod
    def from_config(cls, config: dict[str, int], in_chans: int, image_size: int) -> ViT:
        return cls(EncoderParams.model_validate(config), in_chans, image_size)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patch tokens: 1 with a class token, else 0."""
        return 0 if self.class_token is None else 1

    def grid_of(self, height: int, width: int) -> Grid:
        """Rows and columns of patches of an image.

        Raises:
            RsfmError: a side is not divisible by the patch size.
        """
        p = self.patch_size
        if height % p or width % p or height < p or width < p:
            raise RsfmError(
                f"An image of {height}×{width} pixels cannot be cut into patches of {p}×{p}: choose an image size "
                f"divisible by {p}, or another patch_size."
            )
        return height // p, width // p

    def grid_positions(self, grid: Grid) -> Tensor:
        """(N, D) position embedding of a grid of any size, in the coordinates of the training grid."""
        if grid == self.grid:
            return self.positions
        return sincos_positions(self.feature_dim, grid, self.grid).to(self.positions)

    def forward_patches(self, patches: Tensor, grid: Grid, keep: Tensor | None = None) -> Tensor:
        """Encode patches; with `keep`, only those (the others are never looked at).

        Args:
            patches: (B, N, P) as from `patchify`.
            keep: (B, K) int64 positions of the visible patches, or None for all.

        Returns:
            (B, prefix_tokens + K, D) after the final norm, patch tokens in the order of `keep`.
        """
        positions = self.grid_positions(grid)
        if keep is None:
            tokens = self.patch_projection(patches) + positions
        else:
            visible = patches.gather(1, keep.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
            tokens = self.patch_projection(visible) + positions[keep]
        if self.class_token is not None:
            # The class token's position is all zeros.
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward_tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to (B, prefix_tokens + K, D); see `forward_patches`."""
        if x.shape[1] != self.in_chans:
            raise RsfmError(f"This encoder takes {self.in_chans} bands, got {x.shape[1]}.")
        grid = self.grid_of(x.shape[2], x.shape[3])
        return self.forward_patches(patchify(x, self.patch_size), grid, keep)

    def features(self, x: Tensor) -> Tensor:
        """Mean of the patch tokens after the final norm: (B, C, H, W) to (B, D)."""
        return self.forward_tokens(x)[:, self.prefix_tokens :].mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def build_encoder(params: EncoderParams, in_chans: int, image_size: int, seed: int | None = None) -> ViT:
    """A freshly initialised ViT.

    Args:
        seed: makes the initialisation a function of it and leaves the global random state alone; None draws from
            the global state.
    """
    if seed is None:
        return ViT(params, in_chans, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ViT(params, in_chans, image_size)
