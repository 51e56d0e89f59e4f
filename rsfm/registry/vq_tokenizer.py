"""VQ tokenizer: settings and presets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.specs import Params, TokenizerParams


class VQTokenizerParams(Params):
    """Tokens by vector quantisation (arXiv 1711.00937), the codebook by moving averages."""

    commitment: float = Field(
        0.25, ge=0, title="Commitment", description="Weight of the distance between a vector and its code."
    )
    code_momentum: float = Field(
        0.99, ge=0, lt=1, title="Code momentum",
        description="Of the moving averages of the vectors that each code stands for.",
    )  # fmt: skip
    reseed_every_steps: int = Field(
        100, ge=1, title="Replace codes every (steps)",
        description="How often codes that are hardly used are replaced by vectors of the batch.",
    )  # fmt: skip
    reseed_below: float = Field(
        0.1, ge=0, lt=1, title="Hardly used", description="Below this share of what equally common codes would get."
    )
    crop_min_scale: float = Field(
        0.2, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop."
    )
    flips: Literal["none", "horizontal", "dihedral"] = Field(
        "dihedral", title="Flips", description="dihedral: all 8 flips and quarter turns (nadir imagery has no up)."
    )


ENTRY = MethodEntry(
    name="vq_tokenizer",
    title="VQ tokenizer",
    label="VQ tokenizer",
    family="tokenizer",
    paper="van den Oord et al. 2017, arXiv 1711.00937",
    inputs="single images, any number of bands",
    summary=(
        "Learn a codebook: each 8×8 pixels become one of a fixed number of tokens, from which the image is rebuilt. "
        "The first stage of BEiT with a self-trained VQ tokenizer: train it with an image size of 8 times that "
        "method's grid of patches."
    ),
    target="rsfm.methods.vq_tokenizer:VQTokenizerTraining",
    no_alarms=("dimensional-collapse",),  # its features are not a representation to be judged by
    params=VQTokenizerParams,
    encoder=TokenizerParams,
    healthy=(
        "The reconstruction loss starts near 1, which is what predicting the mean gives, and falls quickly at first. "
        "Codebook use (perplexity over size) rises within the first hundreds of steps and should end above 0.3; "
        "below that an alarm stands. Reconstructions keep colours and large shapes and lose fine texture. kNN and "
        "RankMe look at the mean of an image's codes: this is not a representation to be judged by."
    ),
    presets={
        "smoke": Preset(
            "Smoke (seconds on a CPU)",
            {
                "encoder": {"width": 8, "codes": 32, "code_dim": 16},
                "optim": {"samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 3e-3},
                "method_params": {"reseed_every_steps": 4},
                "runtime": SMOKE_RUNTIME,
            },
        ),
        "cpu": Preset(
            "CPU (minutes on two cores)",
            {
                "image_size": 32,  # half of what beit_vq's preset of this name sees: its 4×4 patches get 4×4 tokens
                "encoder": {"width": 32, "codes": 512},
                "optim": {
                    "samples": 30_000, "batch_size": 64, "warmup_samples": 2_000, "base_lr": 4e-3, "grad_clip": 3.0,
                },
                "method_params": {"reseed_every_steps": 25, "code_momentum": 0.95},
                "runtime": CPU_RUNTIME,
            },
        ),
        "vit-b": Preset(
            "Tokens for a ViT-B/16 at 224 px (40 passes over 100 000 images at 112 px)",
            {
                "image_size": 112,
                "optim": {
                    "samples": 4_000_000, "batch_size": 256, "warmup_samples": 100_000, "base_lr": 3e-4,
                    "grad_clip": 3.0,
                },
                "runtime": {**GPU_RUNTIME, "workers": 4},
            },
        ),
    },
)  # fmt: skip
