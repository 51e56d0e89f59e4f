"""BEiT with a self-trained VQ tokenizer: settings and presets."""

from __future__ import annotations

from pydantic import Field

from rsfm.registry.entry import CPU_RUNTIME, GPU_RUNTIME, SMOKE_RUNTIME, MethodEntry, Preset
from rsfm.registry.token_mim import TokenMIMParams
from rsfm.specs import Params


class _Tokenizer(Params):
    tokenizer: str = Field(
        "", title="Tokenizer",
        description="The id of a finished run of the method vq_tokenizer, on the same bands.",
    )  # fmt: skip


class BEiTVQParams(TokenMIMParams, _Tokenizer):  # in a form, the fields of the last base come first
    """Predict the tokens of a tokenizer that was trained on unlabelled images (arXiv 2106.08254)."""


ENTRY = MethodEntry(
    name="beit_vq",
    title="BEiT with a self-trained VQ tokenizer",
    label="BEiT (own VQ tokens)",
    family="masked image modelling",
    paper="Bao et al. 2021, arXiv 2106.08254",
    inputs="single images, any number of bands; a tokenizer trained on such images",
    summary=(
        "Hide blocks of patches and predict the discrete tokens that a frozen tokenizer gives them. The tokenizer is "
        "trained beforehand on unlabelled images (method vq_tokenizer), in the place of the paper's, which was "
        "trained on images of the web: results are not comparable with the paper's."
    ),
    target="rsfm.methods.beit_vq:BEiTVQ",
    params=BEiTVQParams,
    healthy=(
        "The loss (cross-entropy) starts near ln V, V tokens in the codebook, and soon falls to the entropy of the "
        "tokens, which guessing by frequency gives. Learning begins there: token_gain, entropy minus cross-entropy in "
        "nats, must rise above zero and go on rising, and masked accuracy with it. kNN accuracy, where there are "
        "labels, is the sign of progress. Few tokens in use (codebook use below 0.3) make the task too easy. "
        "Where the share of the first eigenvalue stays above a half, features may follow brightness: try more jitter, "
        "which makes tokens harder to guess, so that token_gain is lower."
    ),
    presets={
        "smoke": Preset(
            "Smoke (seconds on a CPU)",
            {
                "encoder": {
                    "patch_size": 8, "width": 64, "depth": 2, "heads": 2, "positions": "relative", "layer_scale": 0.1,
                },
                "optim": {
                    "samples": 512, "batch_size": 32, "warmup_samples": 64, "base_lr": 8e-3, "beta2": 0.98,
                    "grad_clip": 3.0,
                },
                "runtime": SMOKE_RUNTIME,
            },
        ),
        "cpu": Preset(
            "CPU (minutes on two cores)",
            {
                # As in the paper, a patch is 16 pixels and its token comes from the image at half the size.
                "image_size": 64,
                "encoder": {
                    "patch_size": 16, "width": 192, "depth": 4, "heads": 3, "positions": "relative",
                    "layer_scale": 0.1,
                },
                "optim": {
                    "samples": 96_000, "batch_size": 64, "warmup_samples": 2_400, "base_lr": 4e-3, "beta2": 0.98,
                    "grad_clip": 3.0,
                },
                # Without it, features of RSSCN7 line up along one direction, and one run of three ends no better than
                # untrained.
                "method_params": {"jitter": 0.4},
                "runtime": CPU_RUNTIME,
            },
        ),
        "vit-b": Preset(
            "ViT-B/16 (the paper's batch of 2048, 800 epochs of ImageNet-1k's size)",
            {
                "image_size": 224,
                "encoder": {
                    "patch_size": 16, "width": 768, "depth": 12, "heads": 12, "positions": "relative",
                    "layer_scale": 0.1, "drop_path": 0.1,
                },
                "optim": {
                    "samples": 1_024_000_000, "batch_size": 2048, "warmup_samples": 12_800_000,
                    # 1.5e-3 at a batch of 2048.
                    "base_lr": 1.875e-4, "beta2": 0.98, "grad_clip": 3.0, "accumulate": 8,
                },
                "runtime": GPU_RUNTIME,
            },
        ),
    },
)  # fmt: skip
