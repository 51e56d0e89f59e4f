"""k-means-token MIM: settings and presets."""

from __future__ import annotations

import copy

from pydantic import Field, model_validator

from rsfm.registry import beit_vq
from rsfm.registry.entry import MethodEntry, Preset
from rsfm.registry.token_mim import TokenMIMParams


class KMeansMIMParams(TokenMIMParams):
    """Masked image modelling with clusters of pixel patches as tokens."""

    codes: int = Field(1024, ge=2, le=65_536, title="Clusters", description="Number of different tokens.")
    components: int = Field(
        32, ge=1, le=1024, title="Components",
        description="Principal components of the 8×8-pixel patches that the clustering looks at, whitened.",
    )  # fmt: skip
    sample_patches: int = Field(
        100_000, ge=2, le=10_000_000, title="Patches", description="Number of patches of the pack that are clustered."
    )

    @model_validator(mode="after")
    def _enough_patches(self) -> KMeansMIMParams:
        if self.sample_patches < self.codes:
            raise ValueError(f"sample_patches {self.sample_patches} is less than codes {self.codes}")
        return self


def _preset(name: str, title: str, **method_params: int) -> Preset:
    """The same settings as with learned tokens, so that runs differ by their tokens only."""
    values = copy.deepcopy(beit_vq.ENTRY.presets[name].values)
    return Preset(title, {**values, "method_params": {**values.get("method_params", {}), **method_params}})


ENTRY = MethodEntry(
    name="mim_kmeans",
    title="k-means-token MIM (BEiT-style)",
    label="k-means-token MIM",
    family="masked image modelling",
    paper="after Bao et al. 2021, arXiv 2106.08254",
    inputs="single images, any number of bands",
    summary=(
        "Hide blocks of patches and predict which cluster of pixel patches each belongs to. The clusters come from "
        "k-means over PCA-whitened 8×8-pixel patches of the same images: no tokenizer network. A control for how much "
        "a learned tokenizer matters."
    ),
    target="rsfm.methods.mim_kmeans:KMeansMIM",
    params=KMeansMIMParams,
    healthy=(
        "The loss (cross-entropy) starts near ln V, V clusters, and soon falls to the entropy of the tokens, which "
        "guessing by frequency gives. Learning begins there: token_gain, entropy minus cross-entropy in nats, must "
        "rise above zero and go on rising. kNN accuracy, where there are labels, is the sign of progress."
    ),
    presets={
        "smoke": _preset("smoke", "Smoke (seconds on a CPU)", codes=32, components=8, sample_patches=2_000),
        "cpu": _preset("cpu", "CPU (minutes on two cores)", codes=512),
        "vit-b": _preset(
            "vit-b", "ViT-B/16 (batch 2048, 800 epochs of ImageNet-1k's size)", codes=8192, sample_patches=300_000
        ),
    },
)  # fmt: skip
