"""Specs: the validated request for one job.

One pydantic object renders the form in the browser, parses the command line (`--set key=value`), names the group
of runs that differ only in their seed, and lands in `spec.json`. Units are in the field names; every field has a
title and a one-line help for the form.

A field marked `_local` does not change what is learned (where it runs, how often it logs), so it does not count
for the group.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rsfm.errors import RsfmError
from rsfm.tasks import Adaptation, Task

_LOCAL = {"group": False}


class Params(BaseModel):
    """Base of everything inside a spec: unknown keys are refused, never ignored."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


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


class RuntimeParams(Params):
    """Where and how it runs. Does not change the group."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", title="Device", json_schema_extra=_LOCAL)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        title="Precision",
        description="auto: bf16 on a GPU that has it, fp32 on a CPU.",
        json_schema_extra=_LOCAL,
    )
    threads: int = Field(
        0,
        ge=0,
        title="CPU threads",
        description="0: the slot's share of the cores.",
        json_schema_extra=_LOCAL,
    )
    workers: int = Field(
        0, ge=0, title="Loader workers", description="Processes that read packs.", json_schema_extra=_LOCAL
    )
    compile: bool = Field(False, title="Compile", description="torch.compile the model.", json_schema_extra=_LOCAL)
    log_every_steps: int = Field(5, ge=1, title="Log every (steps)", json_schema_extra=_LOCAL)
    monitor_every_steps: int = Field(
        50,
        ge=1,
        title="Monitors every (steps)",
        description="Collapse monitors, kNN and previews.",
        json_schema_extra=_LOCAL,
    )
    checkpoint_every_steps: int = Field(50, ge=1, title="Checkpoint every (steps)", json_schema_extra=_LOCAL)
    keep_checkpoints: int = Field(2, ge=1, title="Keep checkpoints", json_schema_extra=_LOCAL)


class InitParams(Params):
    """Where the encoder's weights come from."""

    weights: str = Field(
        "",
        title="Continue from",
        description="A run's id, or weights such as timm:vit_small_patch16_224; empty: a random start.",
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
        json_schema_extra=_LOCAL,
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
    method_params: dict[str, Any] = {}

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


Operator = Literal[
    "bilinear", "area", "mtf", "nearest", "native", "blur", "noise", "radiometric", "jpeg", "haze", "striping",
    "band_loss", "misregistration",
]  # fmt: skip


class FitParams(Params):
    """Training on a task: fine-tuning, and what is put on a frozen encoder for maps. AdamW, linear warm-up, cosine."""

    epochs: int = Field(20, ge=1, title="Epochs", description="Passes over the training samples.")
    batch_size: int = Field(16, ge=1, title="Batch size", description="Samples per step.")
    lr: float | None = Field(
        None, gt=0, title="Learning rate", description="Peak. Empty: 1e-3 for heads on a frozen encoder, else 1e-4."
    )
    min_lr: float = Field(0.0, ge=0, title="Final learning rate", description="Where the cosine ends.")
    warmup: float = Field(0.1, ge=0, lt=1, title="Warm-up", description="Share of the steps.")
    weight_decay: float = Field(0.05, ge=0, title="Weight decay", description="Not on biases, norms and tokens.")
    layer_decay: float = Field(
        0.75, gt=0, le=1, title="Layer decay",
        description="Fine-tuning: each layer learns at this share of the rate of the one above. 1: all alike.",
    )  # fmt: skip
    grad_clip: float = Field(0.0, ge=0, title="Gradient clipping", description="Largest norm; 0 switches it off.")
    fusion: Literal["diff", "abs", "concat"] = Field(
        "diff", title="Fusion", description="How the features of two dates meet: later − earlier, its size, or both."
    )
    decoder_width: int = Field(128, ge=8, title="Decoder width", description="Channels of the decoder's pyramid.")
    pool_width: int = Field(
        128, ge=8, title="Pooling width", description="Channels of each branch of the decoder's pyramid pooling."
    )
    flips: Literal["none", "horizontal", "dihedral"] = Field(
        "dihedral", title="Flips", description="dihedral: all 8 flips and quarter turns (nadir imagery has no up)."
    )
    crop_min_scale: float = Field(
        1.0, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop; 1: whole images."
    )
    jitter: float = Field(
        0.0, ge=0, le=1, title="Jitter", description="Half-width of random brightness, contrast and saturation."
    )
    train_degrade: bool = Field(
        False, title="Degrade while training",
        description="Each training image, of a pair the one that is degraded in the test, at a severity drawn from "
        "those of the test: the baseline that any pretraining has to beat.",
    )  # fmt: skip
    select: Literal["last", "best"] = Field(
        "last", title="Weights kept", description="best: of the epoch with the best score on the validation split."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", title="Precision", description="auto: bf16 on GPUs that have it, else fp32."
    )

    def peak_lr(self, frozen: bool) -> float:
        return self.lr or (1e-3 if frozen else 1e-4)


class EvaluateSpec(Params):
    """One model on one labelled pack, at several severities of a degradation."""

    kind: Literal["evaluate"] = "evaluate"
    model: str = Field(..., title="Model", description="A run's id, or a baseline such as random:vit-nano.")
    dataset: str = Field(..., title="Pack", description="A labelled pack.")
    preset: str = Field("", title="Preset", description="The named settings that this started from.")
    adaptations: list[Adaptation] = Field(
        [], title="Adaptations",
        description="Empty: kNN and linear probe for labels of whole images, frozen encoder + decoder for maps.",
        json_schema_extra={"blank": "What is usual for the task"},
    )  # fmt: skip
    operator: Operator = Field(
        "bilinear",
        title="Degradation",
        description="bilinear: anti-aliased down and up again, as published (arXiv 2510.17014).",
    )
    severities: list[Annotated[float, Field(ge=0, le=1000)]] = Field(
        [], title="Severities", description="Empty: the operator's own; 1, 2, 4 and 8 times coarser for resolution.",
        json_schema_extra={"blank": "The operator's own"},
    )  # fmt: skip
    degrade_target: Literal["auto", "single", "pre", "post", "both"] = Field(
        "auto", title="Degraded image", description="Of a pair: auto is the later one (post), as published."
    )
    eval_seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 1, 2],
        min_length=1,
        title="Evaluation seeds",
        description="Head initialisation, order of training, and training-subset draw.",
    )
    model_seed: int = Field(
        0, ge=0, title="Model seed", description="Initialisation of random: models; others have their own."
    )
    train_split: str = Field("train", title="Training split")
    test_split: str = Field("", title="Test split", description="Empty: test where there is one, else val.")
    train_fraction: float = Field(
        0.9,
        gt=0,
        le=1,
        title="Training share",
        description="Share of the training split that each seed draws, by class where images have one.",
    )
    bands: list[str] | None = Field(None, title="Bands", description="By name; empty: the model's own choice.")
    knn_k: int = Field(20, ge=1, title="Neighbours")
    knn_temperature: float = Field(0.07, gt=0, title="kNN temperature")
    fit: FitParams = Field(FitParams(), title="Training on the task")
    bootstrap: int = Field(1000, ge=100, le=100_000, title="Bootstrap draws")
    images_per_pass: int = Field(256, ge=1, title="Images per pass", json_schema_extra=_LOCAL)
    device: Literal["auto", "cpu", "cuda"] = Field("auto", title="Device", json_schema_extra=_LOCAL)
    threads: int = Field(0, ge=0, title="CPU threads", json_schema_extra=_LOCAL)

    def protocol_name(self, adaptation: str, task: Task) -> str:
        """The adaptation as it is named in scores: settings that are not the defaults stand behind it.

        So results of different protocols are never folded into one mean. A preset stands for its own settings.
        Training-time degradation has a column of its own.
        """
        usual = evaluate_spec(self.model, self.dataset, self.preset)
        names = ["train_split", "train_fraction", *(("knn_k", "knn_temperature") if adaptation == "knn" else ())]
        changed = [self.preset] if self.preset else []
        changed += _changed(self, usual, names)
        if task.trains(adaptation):
            names = [name for name in FitParams.model_fields if name != "train_degrade"]
            changed += _changed(self.fit, usual.fit, names)
        return f"{adaptation} ({', '.join(changed)})" if changed else adaptation

    @model_validator(mode="after")
    def _distinct(self) -> EvaluateSpec:
        for field in ("severities", "eval_seeds", "adaptations"):
            values = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names a value twice: {values}")
        return self

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        from rsfm.registry.evaluation import evaluation_values

        evaluation_values(value)
        return value


def evaluate_spec(model: str, dataset: str, preset: str = "", settings: list[str] | None = None) -> EvaluateSpec:
    """An `EvaluateSpec` from a preset and `key=value` settings.

    Raises:
        RsfmError: an unknown preset or setting, or a value that does not fit.
    """
    from rsfm.registry.evaluation import evaluation_values

    try:
        values = evaluation_values(preset)
    except ValueError as error:
        raise RsfmError(f"{str(error)[0].upper()}{str(error)[1:]}.") from None
    data = {"kind": "evaluate", **values, "model": model, "dataset": dataset, "preset": preset}
    if settings:
        data = apply_settings(data, settings, parse_spec(data).model_dump(mode="json"))
    return parse_spec(data)  # type: ignore[return-value]


def _changed(params: Params, usual: Params, names: list[str]) -> list[str]:
    """`name=value` of those fields that are not as usual."""
    return [f"{name}={getattr(params, name)}" for name in names if getattr(params, name) != getattr(usual, name)]


class PrepareSpec(Params):
    """Turn one dataset into a pack."""

    kind: Literal["prepare"] = "prepare"
    dataset: str = Field(..., title="Dataset", description="A catalog entry's name.")
    source: str | None = Field(None, title="Folder", description="Where the data is; empty: the entry's default.")
    name: str | None = Field(None, title="Pack name", description="Empty: the dataset's name.")
    image_size: int | None = Field(
        None, ge=8, title="Image size", description="Resample images to this size; empty: keep."
    )
    tile_size: int | None = Field(None, ge=8, title="Tile size", description="Scenes are cut into tiles of this size.")
    stride: int | None = Field(None, ge=1, title="Tile stride", description="Empty: the tile size (no overlap).")
    limit: int | None = Field(None, ge=1, title="Limit", description="At most this many samples per split.")
    on_bad: Literal["skip", "refuse"] = Field("skip", title="Bad files", description="Skip and report, or stop.")
    #: What the entry's reader understands beyond this (the synthetic world: sensor, seed, counts).
    options: dict[str, Any] = {}


Spec = PretrainSpec | EvaluateSpec | PrepareSpec
KINDS: dict[str, type[Params]] = {"pretrain": PretrainSpec, "evaluate": EvaluateSpec, "prepare": PrepareSpec}


def one_line(error: ValidationError) -> str:
    """A pydantic error as one readable line."""
    parts = []
    for item in error.errors():
        place = ".".join(str(p) for p in item["loc"])
        parts.append(
            f"{place}: {item['msg'].removeprefix('Value error, ')}"
            if place
            else item["msg"].removeprefix("Value error, ")
        )
    return "; ".join(parts)


def parse_spec(data: dict[str, Any]) -> Spec:
    """Validate a spec of any kind.

    Raises:
        RsfmError: unknown kind, unknown key, or a value out of range; all problems in one line.
    """
    kind = data.get("kind")
    if kind not in KINDS:
        raise RsfmError(f"A spec needs kind = one of {', '.join(KINDS)}; got {kind!r}.")
    try:
        return KINDS[kind].model_validate(data)  # type: ignore[return-value]
    except ValidationError as error:
        raise RsfmError(f"Bad {kind} spec: {one_line(error)}.") from error


def _local_fields(model: type[BaseModel]) -> set[str]:
    return {
        name
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("group") is False
    }


def _for_group(value: Any) -> Any:
    if isinstance(value, BaseModel):
        skip = _local_fields(type(value))
        return {n: _for_group(getattr(value, n)) for n in type(value).model_fields if n not in skip}
    return value


def spec_hash(data: Any) -> str:
    """A short, stable hash of anything that is JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def group_hash(spec: Spec) -> str:
    """Equal for specs that differ only in their seeds or in where they run."""
    data = _for_group(spec)
    for key in ("seed", "model_seed", "eval_seeds"):
        data.pop(key, None)
    return spec_hash(data)


def apply_settings(data: dict[str, Any], settings: list[str], known: dict[str, Any]) -> dict[str, Any]:
    """Apply `key=value` settings to a nested spec.

    A key is a dotted path (`optim.base_lr`) or, where it is unambiguous, its last part (`base_lr`). Values are
    read as JSON, else as text.

    Args:
        data: the spec so far; not changed.
        settings: strings `key=value`.
        known: a complete spec of the same kind, to find what a key may be.

    Raises:
        RsfmError: no `=`, an unknown key, or one that fits two places.
    """
    paths: list[tuple[str, ...]] = []

    def walk(node: dict[str, Any], prefix: tuple[str, ...]) -> None:
        for key, value in node.items():
            paths.append((*prefix, key))
            if isinstance(value, dict):
                walk(value, (*prefix, key))

    walk(known, ())
    result = json.loads(json.dumps(data))
    for setting in settings:
        key, sep, text = setting.partition("=")
        if not sep:
            raise RsfmError(f"--set takes key=value, got {setting!r}.")
        wanted = tuple(key.strip().split("."))
        hits = [p for p in paths if p == wanted] or [p for p in paths if p[-len(wanted) :] == wanted]
        if not hits:
            raise RsfmError(
                f"Unknown setting {key!r}; known: {', '.join('.'.join(p) for p in paths if p[0] != 'kind')}."
            )
        if len(hits) > 1:
            raise RsfmError(f"Setting {key!r} fits {', '.join('.'.join(p) for p in hits)}: write the whole path.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        node = result
        for part in hits[0][:-1]:
            node = node.setdefault(part, {})
        node[hits[0][-1]] = value
    return result


def pretrain_spec(
    method_name: str, dataset: str, preset: str = "cpu", settings: list[str] | None = None, **values: Any
) -> PretrainSpec:
    """A pretraining spec from a method's preset, then `values` (top-level fields), then `--set` settings."""
    from rsfm.registry import method

    entry = method(method_name)
    if preset not in entry.presets:
        raise RsfmError(f"Method {method_name!r} has no preset {preset!r}; it has {', '.join(entry.presets)}.")
    data: dict[str, Any] = {
        **json.loads(json.dumps(entry.presets[preset].values)),
        "kind": "pretrain", "method": method_name, "dataset": dataset, "preset": preset, **values,
    }  # fmt: skip
    known = parse_spec(data).model_dump(mode="json")
    return parse_spec(apply_settings(data, settings or [], known))  # type: ignore[return-value]
