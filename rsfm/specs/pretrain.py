"""The request for one pretraining job."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from rsfm.specs.base import LOCAL, Params


class EncoderParams(Params):
    """A plain Vision Transformer on any number of bands."""

    patch_size: int = Field(8, ge=2, le=64, title="Patch size", description="Pixels per side of one token.")
    width: int = Field(192, ge=16, le=4096, title="Width", description="Length of a token vector.")
    depth: int = Field(4, ge=1, le=64, title="Depth", description="Number of transformer blocks.")
    heads: int = Field(3, ge=1, le=64, title="Heads", description="Attention heads; must divide the width.")
    class_token: bool = Field(True, title="Class token", description="One token that stands for the whole image.")
    positions: Literal["sincos", "learned", "relative"] = Field(
        "sincos",
        title="Positions",
        description="Fixed sines and cosines, learned per place, or a learned bias per offset (BEiT).",
    )
    layer_scale: float = Field(
        0.0, ge=0, le=1, title="LayerScale", description="Initial gain of each residual branch; 0: no gains."
    )
    drop_path: float = Field(
        0.0, ge=0, lt=1, title="Drop path", description="Highest share of residual branches dropped, rising with depth."
    )
    pooling: Literal["mean", "class"] = Field(
        "mean", title="Pooling", description="Features: the mean of the patch tokens, or the class token."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EncoderParams:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.width % 4:
            raise ValueError(f"width {self.width} is not divisible by 4, which the position embedding needs")
        if self.pooling == "class" and not self.class_token:
            raise ValueError("pooling=class needs class_token=true")
        return self


class ResNetParams(Params):
    """A residual convolutional network on any number of bands."""

    layers: Literal["resnet18", "resnet34", "resnet50"] = Field("resnet50", title="Network")
    stem: Literal["imagenet", "small"] = Field(
        "imagenet",
        title="Stem",
        description="imagenet: 7×7 with stride 4 in all, for 224 px; small: 3×3 without stride, for 32 to 64 px.",
    )


class TokenizerParams(Params):
    """A convolutional network that turns each 8×8 pixels into one of a fixed number of tokens, and back."""

    patch_size: Literal[8] = Field(8, title="Patch size", description="Pixels per side of one token.")
    width: int = Field(64, ge=8, le=1024, title="Width", description="Channels of the first layer; doubled twice.")
    code_dim: int = Field(32, ge=2, le=1024, title="Code length", description="Numbers per token.")
    codes: int | None = Field(
        None, ge=2, le=65_536, title="Codebook size",
        description="Number of different tokens. Empty: 1024, and 8192 from 100 000 images on.",
    )  # fmt: skip


class OptimParams(Params):
    """Optimiser, linear warm-up, cosine to `min_lr`; all lengths in samples seen."""

    optimizer: Literal["adamw", "sgd", "lars"] = Field("adamw", title="Optimiser")
    samples: int = Field(20_000, ge=1, title="Samples", description="Training length: images seen in total.")
    batch_size: int = Field(128, ge=1, title="Batch size", description="Images per optimiser step (all devices).")
    accumulate: int = Field(1, ge=1, title="Accumulation", description="Forward passes per optimiser step.")
    base_lr: float = Field(1.5e-4, gt=0, title="Base learning rate", description="Per 256 images; scaled by batch/256.")
    min_lr: float = Field(0.0, ge=0, title="Final learning rate", description="Where the cosine ends.")
    warmup_samples: int = Field(1_000, ge=0, title="Warm-up samples", description="Linear rise of the learning rate.")
    weight_decay: float = Field(0.05, ge=0, title="Weight decay", description="Not on biases, norms and tokens.")
    weight_decay_end: float | None = Field(
        None, ge=0, title="Final weight decay", description="Where a cosine takes it; empty: it stays."
    )
    beta1: float = Field(0.9, ge=0, lt=1, title="Adam beta 1, or momentum")
    beta2: float = Field(0.95, ge=0, lt=1, title="Adam beta 2")
    grad_clip: float = Field(0.0, ge=0, title="Gradient clipping", description="Largest norm; 0 switches it off.")
    clip_norm: Literal["global", "tensor"] = Field(
        "global",
        title="Norm that is clipped",
        description="Of all gradients together, or of each parameter tensor by itself (DINO, iBOT).",
    )

    @model_validator(mode="after")
    def _lengths(self) -> OptimParams:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}")
        if self.samples < self.batch_size:
            raise ValueError(f"samples {self.samples} is less than one batch of {self.batch_size}")
        if self.warmup_samples >= self.samples:
            raise ValueError(f"warmup_samples {self.warmup_samples} must be less than samples {self.samples}")
        return self

    @property
    def peak_lr(self) -> float:
        return self.base_lr * self.batch_size / 256

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.samples // self.batch_size

    @property
    def images_per_pass(self) -> int:
        """Images of one forward pass."""
        return self.batch_size // self.accumulate


class RuntimeParams(Params):
    """Where and how it runs. Does not change the group."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", title="Device", json_schema_extra=LOCAL)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        title="Precision",
        description="auto: bf16 on a GPU that has it, fp32 on a CPU.",
        json_schema_extra=LOCAL,
    )
    threads: int = Field(
        0,
        ge=0,
        title="CPU threads",
        description="0: the slot's share of the cores.",
        json_schema_extra=LOCAL,
    )
    workers: int = Field(
        0, ge=0, title="Loader workers", description="Processes that read packs.", json_schema_extra=LOCAL
    )
    compile: bool = Field(False, title="Compile", description="torch.compile the model.", json_schema_extra=LOCAL)
    log_every_steps: int = Field(5, ge=1, title="Log every (steps)", json_schema_extra=LOCAL)
    monitor_every_steps: int = Field(
        50,
        ge=1,
        title="Monitors every (steps)",
        description="Collapse monitors, kNN and previews.",
        json_schema_extra=LOCAL,
    )
    checkpoint_every_steps: int = Field(50, ge=1, title="Checkpoint every (steps)", json_schema_extra=LOCAL)
    keep_checkpoints: int = Field(2, ge=1, title="Keep checkpoints", json_schema_extra=LOCAL)


class InitParams(Params):
    """Where the encoder's weights come from."""

    weights: str = Field(
        "",
        title="Continue from",
        description="The encoder of a finished run (its id), or weights such as timm:vit_small_patch16_224; empty: a "
        "random start.",
    )
    patch_embed: Literal["keep", "inflate", "reinit"] = Field(
        "keep",
        title="Patch embedding",
        description="keep: the bands must match; inflate: spread the old bands' weights over the new; reinit: new.",
    )


class PretrainSpec(Params):
    """Self-supervised pretraining of one encoder on one pack."""

    kind: Literal["pretrain"] = "pretrain"
    method: str = Field("mae", title="Method")
    dataset: str = Field(..., title="Pack", description="Name of a prepared pack.")
    preset: str = Field(
        "cpu",
        title="Preset",
        description="The starting point that the settings below were filled from.",
        json_schema_extra=LOCAL,
    )
    seed: int = Field(0, ge=0, lt=2**31, title="Model seed", description="Initialisation, order and views.")
    splits: list[str] = Field(["train"], title="Splits", description="Splits of the pack to learn from.")
    bands: list[str] | None = Field(None, title="Bands", description="By name; empty: all bands of the pack.")
    image_size: int | None = Field(
        None, ge=8, title="Image size", description="Pixels per side of a view; empty: the pack's."
    )
    #: Of the class that the method's entry names (`rsfm.registry.METHODS[method].encoder`).
    encoder: EncoderParams | ResNetParams | TokenizerParams = EncoderParams()
    init: InitParams = InitParams()
    optim: OptimParams = OptimParams()
    runtime: RuntimeParams = RuntimeParams()
    #: Validated against the method's own model in `rsfm.registry.METHODS[method].params`.
    method_params: dict[str, Any] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _encoder_of_method(cls, data: Any) -> Any:
        from rsfm.registry import METHODS

        entry = METHODS.get(data.get("method", cls.model_fields["method"].default)) if isinstance(data, dict) else None
        if entry is None or isinstance(data.get("encoder"), Params):
            return data  # what is wrong is said by the fields
        try:
            return {**data, "encoder": entry.encoder.model_validate(data.get("encoder", {}))}
        except ValidationError as error:
            places = [{**e, "loc": ("encoder", *e["loc"])} for e in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, places) from error  # type: ignore[arg-type]

    @model_validator(mode="after")
    def _method_params(self) -> PretrainSpec:
        from rsfm.registry import method

        params = method(self.method).params.model_validate(self.method_params)
        # Written out in full, so that spec.json stays readable when a default changes later.
        self.__dict__["method_params"] = params.model_dump(mode="json")
        return self

    @property
    def params(self) -> Params:
        """The method's own settings, typed."""
        from rsfm.registry import method

        return method(self.method).params.model_validate(self.method_params)
