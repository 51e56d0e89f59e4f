"""From a spec to what is trained: pack, sources, method; with every check that needs no training."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

import torch

from rsfm.data.source import PackSource
from rsfm.errors import RsfmError
from rsfm.methods.base import Method
from rsfm.models.export import load_strictly
from rsfm.models.warm_start import warm_start
from rsfm.packs import Pack
from rsfm.registry import ENCODERS, load
from rsfm.registry import method as method_entry
from rsfm.specs import PretrainSpec, ResNetParams, TokenizerParams
from rsfm.train.unused import refuse_unused
from rsfm.workspace import Workspace


@dataclass
class Setup:
    """Everything a pretraining needs before the first step."""

    pack: Pack
    sources: dict[str, PackSource]  # by layer
    method: Method


def set_up(spec: PretrainSpec, workspace: Workspace, *, in_memory: bool | None = None) -> Setup:
    """Open the pack, choose the bands, build the method.

    Args:
        in_memory: as in `PackSource`.

    Raises:
        RsfmError: no such pack, split or band; statistics missing; sizes that do not go together; settings in vain.
    """
    refuse_unused(spec)
    method_class: type[Method] = load(method_entry(spec.method).target)  # type: ignore[assignment]
    pack = Pack.named(workspace, spec.dataset)
    sources = {
        layer: PackSource(pack, spec.splits, layer, spec.bands, in_memory=in_memory)
        for layer in method_class.layers(pack)
    }
    more = method_class.prepare(spec, workspace, sources)
    method = method_class.build(spec, {name: source.input for name, source in sources.items()}, **more)
    images = len(next(iter(sources.values())))
    if method.strangers > images:
        method.remarks.append(
            f"Views are contrasted among {method.strangers} images at a time, but there are {images} images: others of "
            "the same image count as strangers, which works against what is learned. More images, or a smaller batch "
            "or queue, are better."
        )
    if spec.init.weights:
        source = next(iter(sources.values()))
        state, remarks = warm_start(method.encoder, spec.init, source.input, workspace)
        for encoder in method.backbones():
            load_strictly(encoder, state, where=spec.init.weights)
        method.remarks += remarks
    elif spec.init.patch_embed != "keep":
        raise RsfmError("init.patch_embed says how to use weights: name some in init.weights.")
    return Setup(pack, sources, method)


def encoder_title(spec: PretrainSpec) -> str:
    """`vit-nano` where the size has a name, else its numbers."""
    if isinstance(spec.encoder, ResNetParams):
        return spec.encoder.layers
    if isinstance(spec.encoder, TokenizerParams):
        return "-".join(str(spec.encoder.width * factor) for factor in (1, 2, 4))
    values = spec.encoder.model_dump(include={"width", "depth", "heads", "patch_size"})
    for name, known in ENCODERS.items():
        if known == values:
            return name
    return f"ViT {spec.encoder.width}×{spec.encoder.depth}/{spec.encoder.patch_size}"


def lightning_precision(spec: PretrainSpec, device: torch.device) -> str:
    """Lightning's name of the precision: bf16 where the device has it, unless the spec says otherwise."""
    wanted = spec.runtime.precision
    if wanted == "auto":
        wanted = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return "bf16-mixed" if wanted == "bf16" else "32-true"


def autocast(spec: PretrainSpec, device: torch.device) -> torch.autocast:
    """The precision of a training, for passes outside its trainer."""
    bf16 = lightning_precision(spec, device) == "bf16-mixed"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


def require_disk(spec: PretrainSpec, method: Method, workspace: Workspace) -> int:
    """Bytes that checkpoints and the exported model will take.

    Raises:
        RsfmError: less is free.
    """
    weights = sum(p.numel() * p.element_size() for p in method.parameters())
    # A checkpoint holds the weights and the optimiser's two moments; one more than `keep` exists while it is written.
    needed = 3 * weights * (spec.runtime.keep_checkpoints + 1) + weights + 50_000_000
    free = workspace.free_bytes()
    if free < needed:
        raise RsfmError(
            f"The run needs about {needed / 1e9:.1f} GB for checkpoints in {workspace.root}, but only {free / 1e9:.1f} "
            "GB are free. Free some space or set runtime.keep_checkpoints=1."
        )
    return needed


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: otherwise each step of a CPU training pays for fresh pages again (about 5 %)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def plain_attention(method: Method) -> None:
    """Attention as matrix products: torch's fused kernel is several times slower with bf16 on a CPU (2.14, Zen 5)."""
    for module in method.modules():
        if hasattr(module, "fused_attn"):  # timm's switch
            module.fused_attn = False
