"""Continuing from weights: a run of this lab, timm's encoders, torchgeo's. Every key is used or named as left out.

Nothing is downloaded here. The first layer is the only one that may change its number of bands, and only as the spec
says: `keep` (the same bands, in any order), `inflate` (new bands start from the mean of the old ones) or `reinit`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from rsfm.bands import RGB_NM, rgb_bands
from rsfm.data.source import LayerInput
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, model_folder
from rsfm.models.export import load_encoder, state_differences
from rsfm.models.foreign.files import load_state
from rsfm.models.imagenet import timm_weights
from rsfm.models.resnet import ResNet
from rsfm.models.vit import Encoder, ViT
from rsfm.specs import InitParams
from rsfm.workspace import Workspace

_CLASSIFIERS = ("head.", "head_dist.", "fc.", "classifier.")


@dataclass
class Weights:
    """A state dict with our encoder's names, and what it expects.

    Attributes:
        first: name of the first layer's weight.
        grid: rows and columns of learned positions, where there are any.
        left_out: keys of the source that have no place in an encoder (its classifier).
    """

    title: str
    state: dict[str, Tensor]
    bands: list[str]
    first: str
    grid: tuple[int, int] | None = None
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def warm_start(encoder: Encoder, init: InitParams, layer: LayerInput, workspace: Workspace) -> tuple[dict, list[str]]:
    """The state dict that `encoder` starts from, and remarks for people.

    Raises:
        RsfmError: no such weights here, another architecture or size, bands that do not fit `init.patch_embed`, or a
            key that has no place.
    """
    weights = _find(encoder, init.weights, layer, workspace)
    wanted = encoder.state_dict()
    state = dict(weights.state)
    if init.patch_embed == "reinit":
        for name in [n for n in wanted if n.startswith(weights.first.rpartition(".")[0] + ".")]:
            state[name] = wanted[name].clone()
        how = "a new patch embedding"
    else:
        state[weights.first], how = _fit_bands(encoder, weights, layer.bands, init.patch_embed)
    if weights.grid is not None and isinstance(encoder, ViT) and "positions" in state:
        state["positions"] = resample_positions(state["positions"], weights.grid, encoder.grid, encoder.prefix_tokens)
    _account(state, wanted, weights.title)
    remarks = [
        f"Continues from {weights.title} with {how}. Heads, decoders and optimiser start anew.",
        *weights.remarks,
    ]
    if weights.left_out:
        remarks.append(f"Left out: {', '.join(weights.left_out)}.")
    return state, remarks


def _account(state: dict[str, Tensor], wanted: dict[str, Tensor], title: str) -> None:
    missing, extra, problems = state_differences(state, wanted)
    if extra:
        problems.insert(0, f"has {', '.join(extra[:8])}, which the encoder has not")
    if missing:
        problems.insert(0, f"lacks {', '.join(missing[:8])}")
    if problems:
        more = f" (and {len(problems) - 4} more)" if len(problems) > 4 else ""
        raise RsfmError(
            f"{title} does not fit the encoder: {'; '.join(problems[:4])}{more}. Set encoder.* to its architecture."
        )


# -- bands -----------------------------------------------------------------------------------------------------------


def plain_name(band: str) -> str:
    """`B1`, `b01` and `B8a` as the lab writes them: `B01`, `B8A`."""
    match = re.fullmatch(r"[Bb]0?(\d{1,2})", band)
    return f"B{int(match[1]):02d}" if match else band.upper() if re.fullmatch(r"[Bb]\d[Aa]", band) else band


def match_bands(source: Sequence[str], bands: Sequence[ModelBand]) -> list[int | None]:
    """For each of our bands, its position in the source: by name; red, green and blue also by wavelength."""
    names = [plain_name(n) for n in source]
    ours = [plain_name(b.name) for b in bands]
    if set(names) == set(RGB_NM) and not set(ours) & set(names):
        try:
            chosen = rgb_bands([b.band() for b in bands], where="The input")
        except RsfmError:
            chosen = []
        by_colour = {band: list(RGB_NM)[i] for i, band in enumerate(chosen)}
        ours = [by_colour.get(b.name, b.name) for b in bands]
    return [names.index(n) if n in names else None for n in ours]


def _fit_bands(encoder: Encoder, weights: Weights, bands: list[ModelBand], how: str) -> tuple[Tensor, str]:
    matched = match_bands(weights.bands, bands)
    unknown = [b.name for b, m in zip(bands, matched, strict=True) if m is None]
    unused = [n for i, n in enumerate(weights.bands) if i not in matched]
    if how == "keep" and (unknown or unused):
        parts = [f"no weights for {', '.join(unknown)}"] if unknown else []
        parts += [f"no input for {', '.join(unused)}"] if unused else []
        raise RsfmError(
            f"{weights.title} was made for other bands ({'; '.join(parts)}): set init.patch_embed to inflate or "
            "reinit, or choose the bands."
        )
    kernel = _bands_first(encoder, weights.state[weights.first], len(weights.bands))
    mean = kernel.mean(dim=0)
    new = torch.stack([mean if m is None else kernel[m] for m in matched])
    # As many summands as before in the mean: the response keeps its size.
    new = new * (len(weights.bands) / len(bands))
    note = "its own patch embedding" if not unknown and not unused else (
        f"its patch embedding inflated from {len(weights.bands)} to {len(bands)} bands"
        + (f" ({', '.join(unknown)} from the mean)" if unknown else "")
        + (f" ({', '.join(unused)} unused)" if unused else "")
    )  # fmt: skip
    return _bands_last(encoder, new), note


def _bands_first(encoder: Encoder, weight: Tensor, bands: int) -> Tensor:
    """The first layer's weight as (C, D, p, p)."""
    if isinstance(encoder, ViT):  # (D, p²·C), channel fastest
        side = round((weight.shape[1] / bands) ** 0.5)
        return weight.reshape(weight.shape[0], side, side, bands).permute(3, 0, 1, 2)
    return weight.transpose(0, 1)


def _bands_last(encoder: Encoder, kernel: Tensor) -> Tensor:
    if isinstance(encoder, ViT):
        return kernel.permute(1, 2, 3, 0).reshape(kernel.shape[1], -1).contiguous()
    return kernel.transpose(0, 1).contiguous()


def resample_positions(positions: Tensor, grid: tuple[int, int], wanted: tuple[int, int], prefix: int) -> Tensor:
    """(prefix + N, D) learned positions of one grid on another: bicubic; those of prefix tokens are kept."""
    if grid == wanted:
        return positions
    first, rest = positions[:prefix], positions[prefix:]
    square = rest.T.reshape(1, -1, *grid)
    rest = F.interpolate(square, wanted, mode="bicubic", antialias=True).flatten(2)[0].T
    return torch.cat([first, rest])


# -- sources ---------------------------------------------------------------------------------------------------------


def _find(encoder: Encoder, name: str, layer: LayerInput, workspace: Workspace) -> Weights:
    if name.startswith("timm:"):
        return _timm(encoder, name.removeprefix("timm:"), workspace)
    if name.startswith("torchgeo:"):
        return _torchgeo(encoder, name.removeprefix("torchgeo:"), workspace)
    return _run(encoder, name, layer, workspace)


def _run(encoder: Encoder, name: str, layer: LayerInput, workspace: Workspace) -> Weights:
    source, info = load_encoder(model_folder(workspace, name))
    if source.architecture != encoder.architecture:
        raise RsfmError(f"{name} is a {source.architecture}, the encoder here a {encoder.architecture}.")
    ignored = {"drop_path", "pooling"}  # hold no weights
    theirs, ours = source.config(), encoder.config()
    differ = [f"{k} {theirs[k]} there, {ours[k]} here" for k in ours if k not in ignored and theirs[k] != ours[k]]
    if differ:
        raise RsfmError(f"{name} has another encoder: {'; '.join(differ)}. Set encoder.* to the same.")
    by_name = {b.name: b for b in info.bands}
    units = [f"{b.name} ({by_name[b.name].unit} there, {b.unit} here)" for b in layer.bands
             if b.name in by_name and by_name[b.name].unit != b.unit]  # fmt: skip
    if units:
        raise RsfmError(f"{name} was trained on other units: {', '.join(units)}. The values would mean something else.")
    remarks = []
    if any(b.name in by_name and (by_name[b.name].mean, by_name[b.name].std) != (b.mean, b.std) for b in layer.bands):
        remarks.append(f"{name} was standardised with its own pack's statistics; this run uses this pack's.")
    grid = source.grid if isinstance(source, ViT) and source.params.positions == "learned" else None
    first = "patch_projection.weight" if isinstance(source, ViT) else "network.conv1.weight"
    state = {k: v.clone() for k, v in source.state_dict().items()}
    return Weights(info.title or name, state, [b.name for b in info.bands], first, grid, remarks=remarks)


def _timm(encoder: Encoder, name: str, workspace: Workspace) -> Weights:
    _, file = timm_weights(name, workspace)
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    return _from_timm(encoder, network.state_dict(), f"timm:{name}", list(RGB_NM), getattr(network, "grid_size", None))


def _torchgeo(encoder: Encoder, name: str, workspace: Workspace) -> Weights:
    from rsfm.models.foreign.published import weight_file, weight_named

    weight = weight_named(name)
    bands = list(weight.meta.get("bands") or [])
    if len(bands) != weight.meta.get("in_chans", len(bands)):
        raise RsfmError(f"torchgeo does not say which bands {name} takes: it cannot be used by band name.")
    state = load_state(weight_file(name, weight, workspace))
    return _from_timm(encoder, state, f"torchgeo:{name}", bands, None)


def _from_timm(
    encoder: Encoder, state: dict[str, Tensor], title: str, bands: list[str], grid: tuple[int, int] | None
) -> Weights:
    left_out = [k for k in state if k.startswith(_CLASSIFIERS)]
    remarks = [
        f"{title} was trained with a normalisation of its own; this run standardises with this pack's statistics."
    ]
    state = {k: v for k, v in state.items() if k not in left_out}
    if isinstance(encoder, ResNet):
        named = {f"network.{k}": v for k, v in state.items()}
        return Weights(title, named, bands, "network.conv1.weight", None, left_out, remarks)
    if not isinstance(encoder, ViT) or "patch_embed.proj.weight" not in state:
        raise RsfmError(f"{title} is no Vision Transformer that this encoder could start from.")
    renamed = {}
    for name, value in state.items():
        if name == "patch_embed.proj.weight":  # (D, C, p, p) to (D, p·p·C), channel fastest
            renamed["patch_projection.weight"] = value.permute(0, 2, 3, 1).reshape(value.shape[0], -1).contiguous()
        elif name == "patch_embed.proj.bias":
            renamed["patch_projection.bias"] = value
        elif name == "cls_token":
            renamed["class_token"] = value
        elif name == "pos_embed":
            renamed["positions"] = value[0]
        else:
            renamed[name] = value
    if "positions" in renamed and encoder.params.positions != "learned":
        raise RsfmError(f"{title} has learned positions: set encoder.positions=learned.")
    if ("class_token" in renamed) != encoder.params.class_token:
        there = "has a" if "class_token" in renamed else "has no"
        raise RsfmError(
            f"{title} {there} class token: set encoder.class_token={str('class_token' in renamed).lower()}."
        )
    if "positions" in renamed:
        prefix, count = encoder.prefix_tokens, len(renamed["positions"])
        if grid is None:
            side = round((count - prefix) ** 0.5)
            grid = (side, side)
        if count == grid[0] * grid[1]:  # of patches only, as in DeiT III: the class token has none, which is zero
            renamed["positions"] = F.pad(renamed["positions"], (0, 0, prefix, 0))
        elif count != grid[0] * grid[1] + prefix:
            raise RsfmError(f"{title} has {count} learned positions, which are no square grid.")
    return Weights(title, renamed, bands, "patch_projection.weight", grid, left_out, remarks)
