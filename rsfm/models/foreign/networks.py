"""The architectures of others behind one face: bands in, one feature vector or maps out.

They are built as torchgeo builds them, and every key of their weights is used, or named as left out; a key that is
missing is refused, unless what it belongs to is not used or starts as the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torchgeo.models.copernicusfm import resize_abs_pos_embed
from torchgeo.models.croma import CROMA
from torchgeo.models.dofa import DOFA
from torchgeo.models.earthloc import EarthLoc
from torchgeo.models.panopticon import Panopticon
from torchgeo.models.scale_mae import ScaleMAE
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

from rsfm.errors import RsfmError
from rsfm.models.export import state_differences
from rsfm.models.foreign.network import Network, TimmNetwork
from rsfm.models.vit import pyramid_blocks

#: What belongs to another task than encoding.
CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.")


def load_all(
    module: nn.Module, state: Mapping[str, Any], *, where: str, unused: Sequence[str] = (), optional: Sequence[str] = ()
) -> list[str]:
    """Load weights of others; every key is used or named.

    Args:
        unused: beginnings of keys that have no place in an encoder.
        optional: beginnings of keys that may be missing: these parameters then stay as they start.

    Returns:
        Remarks about what was left out, and what was missing.

    Raises:
        RsfmError: names the keys that are missing, left over, or of another shape.
    """
    odd = sorted(k for k, v in state.items() if not isinstance(v, Tensor))
    if odd:
        raise RsfmError(f"{where} holds {', '.join(odd[:4])} beside tensors: these are not the weights expected.")
    own = module.state_dict()
    missing, extra, problems = state_differences(state, own)
    left = [k for k in extra if k.startswith(tuple(unused))]
    kept = [k for k in missing if k.startswith(tuple(optional))]
    wrong = [k for k in extra if k not in left]
    absent = [k for k in missing if k not in kept]
    if wrong:
        problems.insert(0, f"left over {_few(wrong)}")
    if absent:
        problems.insert(0, f"missing {_few(absent)}")
    if problems:
        raise RsfmError(f"{where} does not fit the architecture: {'; '.join(problems[:6])}.")
    module.load_state_dict({**{k: own[k] for k in kept}, **{k: v for k, v in state.items() if k not in left}})
    remarks = [f"Left out, as an encoder has no use for it: {_few(left)}."] if left else []
    return remarks + ([f"Not in the weights, so it stays as it starts: {_few(kept)}."] if kept else [])


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")


def as_map(tokens: Tensor) -> Tensor:
    """(B, N, D) tokens of a square grid to (B, D, √N, √N)."""
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side)).contiguous()


def block_outputs(blocks: nn.ModuleList | nn.Sequential, run: Callable[[], Any]) -> list[Tensor]:
    """What the blocks of a ViT's pyramid give while `run` is called: (B, tokens, D) each."""
    found: dict[int, Tensor] = {}

    def keep(number: int) -> Callable[..., None]:
        return lambda module, given, output: found.__setitem__(number, output)

    hooks = [block.register_forward_hook(keep(number)) for number, block in enumerate(blocks, start=1)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [found[number] for number in pyramid_blocks(len(blocks))]


class ScaleMAENetwork(TimmNetwork):
    """Scale-MAE (arXiv 2212.14532): positions in metres, so it is told how large a pixel is."""

    def __init__(self, *, size: int, gsd_m: float, **config: Any) -> None:
        norm = partial(nn.LayerNorm, eps=1e-6)
        super().__init__(ScaleMAE(res=gsd_m, img_size=size, num_classes=0, norm_layer=norm, **config))
        self.fixed = True  # its positions are computed for one number of patches


class SwinNetwork(Network, SwinTransformer):
    """torchvision's Swin v2; maps are the outputs of its four stages."""

    fixed = False

    def __init__(self, in_chans: int, **config: Any) -> None:
        super().__init__(
            patch_size=[4, 4], window_size=[8, 8], block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2,
            **config,
        )  # fmt: skip
        stem = self.features[0][0]
        self.features[0][0] = nn.Conv2d(in_chans, stem.out_channels, stem.kernel_size, stem.stride)
        self.feature_dim, self.head = self.head.in_features, nn.Identity()

    def encode(self, x: Tensor) -> Tensor:
        return self(x)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        levels = []
        for number, stage in enumerate(self.features):  # stem, stage, merging, stage, merging ...
            x = stage(x)
            if number % 2:
                levels.append(x)
        levels[-1] = self.norm(levels[-1])
        return [level.permute(0, 3, 1, 2).contiguous() for level in levels]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^features\.0\.",
            "blocks": [
                (r"^features\.(\d*[13579])\.(\d+)", None), (r"^features\.(\d*[2468])\.", (0,)), (r"^norm", (99999,)),
            ],
        }  # fmt: skip


class DOFANetwork(Network, DOFA):
    """DOFA (arXiv 2403.15356): its patch embedding is made from the wavelengths of the bands, in µm."""

    def __init__(self, wavelengths_um: Sequence[float], *, size: int, **config: Any) -> None:
        super().__init__(img_size=size, num_classes=0, **config)
        self.wavelengths_um, self.feature_dim = list(wavelengths_um), self.embed_dim

    def encode(self, x: Tensor) -> Tensor:
        return self.forward_features(x, self.wavelengths_um)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        return [as_map(tokens[:, 1:]) for tokens in block_outputs(self.blocks, lambda: self.encode(x))]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^cls_token|^pos_embed|^patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^fc_norm", (99999,))],
        }


class CROMANetwork(Network, CROMA):
    """One side of CROMA (arXiv 2311.00566): `optical` or `sar`."""

    def __init__(self, modality: str, *, size: int, **config: Any) -> None:
        super().__init__(modalities=[modality], image_size=size, **config)
        self.feature_dim = self.encoder_dim
        self.side = "s2" if modality == "optical" else "s1"

    def encode(self, x: Tensor) -> Tensor:
        encoder, head = getattr(self, f"{self.side}_encoder"), getattr(self, f"{self.side}_GAP_FFN")
        return head(encoder(imgs=x, attn_bias=self.attn_bias).mean(dim=1))

    def pyramid(self, x: Tensor) -> list[Tensor]:
        encoder = getattr(self, f"{self.side}_encoder")
        p = encoder.patch_size
        x = encoder.linear_input(rearrange(x, "b c (h i) (w j) -> b (h w) (c i j)", i=p, j=p))
        found = []
        for attention, mlp in encoder.transformer.layers:
            x = attention(x, self.attn_bias) + x
            x = mlp(x) + x
            found.append(x)
        found[-1] = encoder.transformer.norm_out(x)
        return [as_map(found[number - 1]) for number in pyramid_blocks(len(found))]

    def load(self, state: Mapping[str, Any], *, where: str) -> list[str]:
        """The file holds a state dict for each part; those of the other side are left out."""
        parts = {f"{side}_{part}" for side in ("s1", "s2") for part in ("encoder", "GAP_FFN")} | {"joint_encoder"}
        mine = [f"{self.side}_encoder", f"{self.side}_GAP_FFN"]
        if not set(mine) <= set(state) <= parts or not all(isinstance(v, Mapping) for v in state.values()):
            raise RsfmError(f"{where} is not CROMA's: it holds {_few(sorted(state))} instead of {_few(sorted(parts))}.")
        for part in mine:
            load_all(getattr(self, part), state[part], where=f"{where} ({part})")
        return [f"Left out, as it belongs to other inputs: {_few(sorted(set(state) - set(mine)))}."]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^s\d_encoder\.linear_input",
            "blocks": [
                (r"^s\d_encoder\.transformer\.layers\.(\d+)", None),
                (r"^s\d_encoder\.transformer\.norm_out|^s\d_GAP_FFN", (99999,)),
            ],
        }


class PanopticonNetwork(Network):
    """Panopticon (arXiv 2503.10845): told each band's wavelength in nm, or its polarisation as −1 to −4."""

    def __init__(self, channels: Sequence[float], *, size: int) -> None:
        super().__init__()
        self.net = Panopticon(img_size=size).model
        self.feature_dim = self.net.num_features
        self.register_buffer("channels", torch.tensor(list(channels), dtype=torch.float32), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        # A new tensor each time: torchgeo's module rounds it in place.
        return self.net({"imgs": x, "chn_ids": self.channels.repeat(len(x), 1)})

    def pyramid(self, x: Tensor) -> list[Tensor]:
        found = block_outputs(self.net.blocks, lambda: self.encode(x))
        found[-1] = self.net.norm(found[-1])
        return [as_map(tokens[:, 1:]) for tokens in found]

    def load(self, state: Mapping[str, Any], *, where: str) -> list[str]:
        """Positions of another grid (it was trained from images of 518) are resampled as torchgeo does."""
        state = dict(state)
        positions = state.get("pos_embed")
        if isinstance(positions, Tensor) and positions.ndim == 3:
            new, old = (round((n - 1) ** 0.5) for n in (self.net.pos_embed.shape[1], positions.shape[1]))
            state["pos_embed"] = resize_abs_pos_embed(positions, new, old)
        return load_all(self.net, state, where=where, unused=("mask_token",))

    @property
    def trainable(self) -> nn.Module:
        return self.net


class EarthLocNetwork(Network, EarthLoc):
    """EarthLoc (arXiv 2403.06758): one descriptor of a whole image, no maps."""

    def __init__(self, in_chans: int, *, size: int, **config: Any) -> None:
        super().__init__(in_channels=in_chans, image_size=size, pretrained=False, **config)
        self.feature_dim = self.desc_dim

    def encode(self, x: Tensor) -> Tensor:
        return self(x)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {
            "stem": r"^backbone\.(conv1|bn1)",
            "blocks": [(r"^backbone\.layer(\d+)\.(\d+)", None), (r"^aggregator|^fc", (99999,))],
        }
