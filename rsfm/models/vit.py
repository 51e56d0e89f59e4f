"""A plain Vision Transformer on any number of bands and any rectangular grid of patches.

Patches are flattened in the order row, column, channel (channel fastest), the order in which a masked autoencoder
predicts them, so that one `patchify` serves the encoder's input and the decoder's target. Positions are fixed 2-D
sines and cosines (Vaswani et al. 2017, in the layout of He et al. 2021), computed and never stored; or learned per
place (Dosovitskiy et al. 2020); or a learned bias of attention per offset (BEiT, Bao et al. 2021). An input of
another size gets the positions of the training grid evaluated in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from timm.layers import LayerNorm, RelPosBias, gen_relative_position_index, resize_rel_pos_bias_table
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.data.seeding import from_seed
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


def blank_patches(images: Tensor, hidden: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) with the patches where (B, N) bool `hidden` is True set to 0, the mean. For display."""
    patches = patchify(images, patch_size).masked_fill(hidden.unsqueeze(-1), 0.0)
    return unpatchify(patches, patch_size, (images.shape[2] // patch_size, images.shape[3] // patch_size))


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


def transformer_blocks(
    width: int, depth: int, heads: int, *, drop_path: float = 0.0, layer_scale: float = 0.0
) -> nn.ModuleList:
    """Pre-norm blocks with an MLP of four times the width, LayerNorm epsilon 1e-6.

    Args:
        drop_path: share of residual branches dropped in the last block; rises linearly from 0 in the first.
        layer_scale: initial gain of the residual branches; 0: without gains.
    """
    norm = partial(LayerNorm, eps=1e-6)
    return nn.ModuleList(
        Block(
            width, heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm, init_values=layer_scale or None,
            drop_path=drop_path * number / max(depth - 1, 1),
        )
        for number in range(depth)
    )  # fmt: skip


def pyramid_blocks(depth: int, levels: int = 4) -> list[int]:
    """After which blocks (from 1) a ViT's pyramid is read: evenly spaced, the last level after the last block.

    12 blocks, 4 levels: 3, 6, 9, 12. With fewer blocks than levels some blocks serve two of them.
    """
    return [-(-depth * (level + 1) // levels) for level in range(levels)]


class Encoder(nn.Module):
    """What a method trains and what is exported: bands in, tokens and one feature vector out.

    Attributes:
        architecture: name in `rsfm.models.export.ARCHITECTURES`.
        in_chans: number of bands.
        image_size: pixels per side it was made for.
        feature_dim: length of the feature vector.
        pooling: how the feature vector comes from the tokens or the last map.
    """

    architecture: ClassVar[str]
    pooling: str
    in_chans: int
    image_size: int
    feature_dim: int

    def config(self) -> dict[str, Any]:
        """What `from_config` needs besides `in_chans` and `image_size`."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any], in_chans: int, image_size: int) -> Encoder:
        """An encoder of the same shape, initialised afresh."""
        raise NotImplementedError

    @property
    def trainable(self) -> bool:
        """Whether gradients of its features reach its weights."""
        return True

    @property
    def divisor(self) -> int:
        """What the sides of its images must be multiples of."""
        return 1

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) standardised values to (B, feature_dim)."""
        raise NotImplementedError

    def maps(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) standardised values to four maps (B, D, h, w), fine to coarse or all of one size.

        Raises:
            RsfmError: this encoder has none.
        """
        raise RsfmError(f"A {self.architecture} has no maps for a decoder: choose a ViT or a convolutional network.")

    def ends(self) -> tuple[nn.Module, nn.Module]:
        """The first and the last block: where unstable gradients show first."""
        raise NotImplementedError


class ViT(Encoder):
    """Vision Transformer (Dosovitskiy et al. 2020) with a choice of positions and an optional class token."""

    architecture = "vit"

    def __init__(self, params: EncoderParams, in_chans: int, image_size: int | Grid) -> None:
        super().__init__()
        self.params = params
        self.in_chans = in_chans
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = height
        self.patch_size = params.patch_size
        self.feature_dim = params.width
        self.pooling = "class_token" if params.pooling == "class" else "mean_patch"
        self.grid = self.grid_of(height, width)
        self.patch_projection = nn.Linear(params.patch_size**2 * in_chans, params.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, params.width)) if params.class_token else None
        self.blocks = transformer_blocks(
            params.width, params.depth, params.heads, drop_path=params.drop_path, layer_scale=params.layer_scale
        )
        self.norm = LayerNorm(params.width, eps=1e-6)
        self.apply(init_transformer)
        if self.class_token is not None:
            nn.init.normal_(self.class_token, std=0.02)
        self.relative_bias: RelPosBias | None = None
        if params.positions == "sincos":
            self.register_buffer("positions", sincos_positions(params.width, self.grid), persistent=False)
        elif params.positions == "learned":
            count = self.prefix_tokens + self.grid[0] * self.grid[1]
            self.positions = nn.Parameter(torch.empty(count, params.width))
            nn.init.trunc_normal_(self.positions, std=0.02)
        else:
            # One table for all blocks, as in BEiT.
            self.relative_bias = RelPosBias(self.grid, params.heads, prefix_tokens=self.prefix_tokens)
            nn.init.zeros_(self.relative_bias.relative_position_bias_table)

    def config(self) -> dict[str, Any]:
        return self.params.model_dump(mode="json")

    @property
    def divisor(self) -> int:
        return self.patch_size

    @classmethod
    def from_config(cls, config: dict[str, Any], in_chans: int, image_size: int) -> ViT:
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

    def grid_positions(self, grid: Grid) -> Tensor | None:
        """(N, D) position embedding of a grid of any size, in the coordinates of the training grid; None: relative."""
        if self.relative_bias is not None:
            return None
        if self.params.positions == "learned":
            positions = self.positions[self.prefix_tokens :]
            if grid == self.grid:
                return positions
            square = positions.T.reshape(1, self.feature_dim, *self.grid)
            return F.interpolate(square, grid, mode="bicubic", antialias=True).flatten(2)[0].T
        if grid == self.grid:
            return self.positions
        return sincos_positions(self.feature_dim, grid, self.grid).to(self.positions)

    def attention_bias(self, grid: Grid) -> Tensor | None:
        """(1, heads, T, T) bias of relative positions, T tokens with the class token; None: absolute positions."""
        bias = self.relative_bias
        if bias is None or grid == self.grid:
            return None if bias is None else bias.get_bias()
        rows, columns = grid
        heads, extra = self.params.heads, 3 * self.prefix_tokens
        shape = ((2 * rows - 1) * (2 * columns - 1) + extra, heads)
        table = resize_rel_pos_bias_table(bias.relative_position_bias_table, grid, shape, self.grid)
        index = gen_relative_position_index(grid, class_token=self.prefix_tokens > 0).to(table.device)
        tokens = rows * columns + self.prefix_tokens
        return table[index.reshape(-1)].view(1, tokens, tokens, heads).permute(0, 3, 1, 2).contiguous()

    def embed(
        self, patches: Tensor, grid: Grid, keep: Tensor | None = None, hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Tokens before the first block; arguments as in `forward_patches`."""
        positions = self.grid_positions(grid)
        if keep is not None:
            if positions is None:
                raise RsfmError("Relative positions need all tokens: set encoder.positions to sincos or learned.")
            patches = patches.gather(1, keep.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
            positions = positions[keep]
        tokens = self.patch_projection(patches)
        if hidden is not None:
            assert mask_token is not None
            tokens = torch.where(hidden.unsqueeze(-1), mask_token.to(tokens.dtype), tokens)
        if positions is not None:
            tokens = tokens + positions
        if self.class_token is not None:
            # With fixed positions, the class token's is all zeros.
            first = self.class_token
            if self.params.positions == "learned":
                first = first + self.positions[:1]
            # By shape, not len(): a traced graph keeps it open.
            tokens = torch.cat([first.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        return tokens

    def forward_patches(
        self, patches: Tensor, grid: Grid, keep: Tensor | None = None, hidden: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Encode patches; with `keep`, only those (the others are never looked at).

        Args:
            patches: (B, N, P) as from `patchify`.
            keep: (B, K) int64 positions of the visible patches, or None for all.
            hidden: (B, N) bool, True where `mask_token` (broadcast to (B, N, D)) takes the place of the patch's
                embedding, before positions are added; None: nowhere. Not together with `keep`.

        Returns:
            (B, prefix_tokens + K, D) after the final norm, patch tokens in the order of `keep`.
        """
        tokens = self.embed(patches, grid, keep, hidden, mask_token)
        bias = self.attention_bias(grid)
        for block in self.blocks:
            tokens = block(tokens) if bias is None else block(tokens, attn_mask=bias)
        return self.norm(tokens)

    def forward_pyramid(self, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Patch tokens as maps after some blocks (counted from 1), without the final norm.

        Returns:
            (B, D, rows, columns) for each of `blocks`, in ascending order.
        """
        grid = self.grid_of(x.shape[2], x.shape[3])
        tokens = self.embed(patchify(x, self.patch_size), grid)
        bias = self.attention_bias(grid)
        maps = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens) if bias is None else block(tokens, attn_mask=bias)
            if number in blocks:
                maps.append(tokens[:, self.prefix_tokens :].mT.reshape(len(x), self.feature_dim, *grid))
        return maps

    def forward_tokens(
        self, x: Tensor, keep: Tensor | None = None, hidden: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """(B, C, H, W) to (B, prefix_tokens + K, D); see `forward_patches`."""
        if x.shape[1] != self.in_chans:
            raise RsfmError(f"This encoder takes {self.in_chans} bands, got {x.shape[1]}.")
        grid = self.grid_of(x.shape[2], x.shape[3])
        return self.forward_patches(patchify(x, self.patch_size), grid, keep, hidden, mask_token)

    def maps(self, x: Tensor) -> list[Tensor]:
        """After blocks a quarter, half, three quarters and all of the way up; the last with the final norm."""
        blocks = pyramid_blocks(len(self.blocks))
        levels = sorted(set(blocks))  # a shallow encoder's blocks serve twice
        found = dict(zip(levels, self.forward_pyramid(x, levels), strict=True))
        found[levels[-1]] = self.norm(found[levels[-1]].movedim(1, -1)).movedim(-1, 1)
        return [found[number] for number in blocks]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters form a layer, as `timm.optim` asks for it."""
        return {
            "stem": r"^class_token|^positions|^patch_projection|^relative_bias",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def ends(self) -> tuple[nn.Module, nn.Module]:
        return self.blocks[0], self.blocks[-1]

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, T, D) tokens after the final norm to (B, D): the mean of the patch tokens, or the class token."""
        if self.pooling == "class_token":
            return tokens[:, 0]
        return tokens[:, self.prefix_tokens :].mean(dim=1)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) standardised values to (B, D); see `pool`."""
        return self.pool(self.forward_tokens(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


def build_encoder(params: EncoderParams, in_chans: int, image_size: int, seed: int | None = None) -> ViT:
    """A freshly initialised ViT. See `rsfm.models.resnet` for the convolutional one.

    Args:
        seed: makes the initialisation a function of it and leaves the global random state alone; None draws from
            the global state.
    """
    with from_seed(seed):
        return ViT(params, in_chans, image_size)
